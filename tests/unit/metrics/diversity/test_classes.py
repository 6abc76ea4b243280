"""Class entropy and balance: known histograms, SciPy's tests, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, entropy

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.diversity import classes as module
from gen_eval.metrics.diversity.classes import class_balance, class_entropy


def of_counts(*counts):
    """Logits that are sure of the class of each image."""
    kinds = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return 50.0 * torch.nn.functional.one_hot(kinds, len(counts)).double()


def noisy(n, seed, classes=6):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)


# --- Entropy


def test_even_classes_are_as_many_as_there_are():
    score = class_entropy(of_counts(50, 50, 50, 50))
    assert score.values["class_entropy"] == pytest.approx(math.log(4), rel=1e-12)
    assert score.values["effective_classes"] == pytest.approx(4, rel=1e-12)
    assert score.values["soft_entropy"] == pytest.approx(math.log(4), rel=1e-9)
    assert score.values["classes_seen"] == 4
    # First order is 0: what is left is the spread of chi-square over 2n.
    assert score.errors["class_entropy"] == pytest.approx(math.sqrt(3 / 2) / 200, rel=1e-9)
    assert score.biases["class_entropy"] == pytest.approx(-3 / 400, rel=1e-9)


def test_uneven_classes():
    shares = np.array([0.7, 0.2, 0.1])
    score = class_entropy(of_counts(700, 200, 100, 0))
    assert score.values["class_entropy"] == pytest.approx(entropy(shares), rel=1e-12)
    assert score.values["classes_seen"] == 3
    variance = shares @ np.log(shares) ** 2 - entropy(shares) ** 2
    assert score.errors["class_entropy"] == pytest.approx(math.sqrt(variance / 1000), rel=0.01)
    assert score.biases["class_entropy"] == pytest.approx(-2 / 2000, rel=1e-9)
    assert float(score.contributions["generated"].sum()) == pytest.approx(0, abs=1e-12)
    assert float(score.contributions["generated"].square().sum()) == pytest.approx(variance / 1000, rel=1e-9)


def test_a_single_class_has_no_entropy():
    score = class_entropy(of_counts(0, 30, 0))
    assert score.values["class_entropy"] == pytest.approx(0, abs=1e-12)
    assert score.values["effective_classes"] == pytest.approx(1, rel=1e-12)


def test_the_soft_entropy_is_that_of_the_mean_posterior():
    logits = noisy(300, 0)
    posteriors = logits.softmax(1).numpy()
    score = class_entropy(logits)
    assert score.values["soft_entropy"] == pytest.approx(entropy(posteriors.mean(0)), rel=1e-12)
    n = 300
    without = [entropy(np.delete(posteriors, i, 0).mean(0)) for i in range(n)]
    assert score.biases["soft_entropy"] == pytest.approx(
        (n - 1) * (np.mean(without) - score.values["soft_entropy"]), rel=0.01
    )
    # Of sure posteriors both entropies are one, and so are their errors.
    sure = class_entropy(of_counts(40, 30, 20))
    for kind, tolerance in (("values", 1e-9), ("errors", 0.02), ("biases", 0.02)):
        numbers = getattr(sure, kind)
        assert numbers["soft_entropy"] == pytest.approx(numbers["class_entropy"], rel=tolerance)


def test_too_few_images_for_the_classes_are_said_to_be():
    score = class_entropy(noisy(40, 0, classes=30))
    assert not score.biases
    assert "too few images" in score.warnings[0]
    assert not class_entropy(noisy(400, 0)).warnings


def test_few_images_a_class_are_warned_of():
    assert class_entropy(of_counts(15, 10, 20, 0)).warnings == ()
    assert "44 images in 3 classes or modes are few" in class_entropy(of_counts(15, 10, 19, 0)).warnings[0]


def test_neither_order_nor_blocks_matter(monkeypatch):
    logits = noisy(100, 0)
    score = class_entropy(logits)
    monkeypatch.setattr(module, "_BLOCK", 9)
    other = class_entropy(logits.flip(0))
    assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-12)
    assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-9)


# --- Balance


def test_the_statistic_is_scipys():
    score = class_balance(of_counts(30, 20, 0, 10, 0), of_counts(15, 25, 20, 12, 0))
    table = np.array([[30, 20, 0, 10], [15, 25, 20, 12]])
    expected = chi2_contingency(table, correction=False)
    assert score.values["chi2"] == pytest.approx(expected.statistic, rel=1e-12)
    assert score.values["p_value"] == 1 / 1000
    assert expected.pvalue < 1e-4


def test_the_p_value_is_near_pearsons_where_counts_are_large():
    pair = of_counts(300, 200, 100), of_counts(280, 190, 140)
    p_value = class_balance(*pair, permutations=4000).values["p_value"]
    table = np.array([[300, 200, 100], [280, 190, 140]])
    expected = chi2_contingency(table, correction=False).pvalue
    assert p_value == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000))


def test_the_divergence_of_many_images_is_that_of_their_shares():
    score = class_balance(of_counts(5000, 3000, 2000), of_counts(2000, 2000, 6000))
    expected = entropy([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])
    assert score.values["class_kl"] == pytest.approx(expected, abs=1e-3)
    n, ratios = 10_000, np.array([2.5, 1.5, 1 / 3])
    g, r = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    variance = (g @ np.log(ratios) ** 2 - expected**2 + r @ ratios**2 - 1) / n
    assert score.errors["class_kl"] == pytest.approx(math.sqrt(variance), rel=0.01)


def test_equal_histograms_do_not_differ():
    score = class_balance(of_counts(30, 20, 10), of_counts(60, 40, 20))
    assert score.values["class_kl"] == pytest.approx(0, abs=1e-3)
    assert score.values["chi2"] == pytest.approx(0, abs=1e-12)
    assert score.values["p_value"] == 1


def test_a_class_that_the_reference_lacks_keeps_the_divergence_finite():
    values = [class_balance(of_counts(50, n), of_counts(50, 0)).values["class_kl"] for n in (1, 10, 50)]
    assert values == sorted(values)
    assert values[-1] < math.inf


def test_a_single_class_in_both():
    score = class_balance(of_counts(9, 0), of_counts(5, 0))
    assert score.values == {"class_kl": 0, "chi2": 0, "p_value": 1}


# --- What is refused


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (noisy(1, 0), TooFewImages, "at least 2 (generated|reference) rows"),
        (noisy(9, 0)[0], UsageError, r"shape \(6,\)"),
        (noisy(9, 0).index_fill(0, torch.tensor(3), math.nan), NumericalError, "row 3"),
    ],
)
def test_what_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        class_entropy(given)
    with pytest.raises(error, match=message):
        class_balance(given, noisy(9, 1))
    with pytest.raises(error, match=message):
        class_balance(noisy(9, 1), given)


def test_other_classifiers_and_no_permutations_are_refused():
    with pytest.raises(UsageError, match=r"6 \(generated\) and of 5 \(reference\) dimensions"):
        class_balance(noisy(9, 0), noisy(9, 1, classes=5))
    with pytest.raises(UsageError, match="whole number of 1 or more"):
        class_balance(noisy(9, 0), noisy(9, 1), permutations=0)
