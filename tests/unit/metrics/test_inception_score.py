"""The Inception Score: closed forms, a second computation by numpy, and what is said of it and refused."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.inception_score import inception_score

DETAILS = ("whole", "kl", "diversity", "sharpness")


def drawn(n, classes, seed=0, scale=2.0):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def one_hot(n, classes, margin=1000.0):
    """Every class equally often, each image sure of its own."""
    return margin * torch.nn.functional.one_hot(torch.arange(n) % classes, classes).double()


def by_numpy(logits, parts):
    """The score of each part, from the definition, and the mean and standard deviation of them."""
    shifted = logits.double().numpy()
    posterior = np.exp(shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True))
    scores = [
        math.exp((posterior[part] * np.log(posterior[part] / posterior[part].mean(0))).sum(1).mean())
        for part in parts
    ]
    return np.mean(scores), np.std(scores)


# --- Closed forms


def test_sure_and_balanced_images_score_the_number_of_classes():
    score = inception_score(one_hot(5000, 10), shuffle=False)
    for name in ("inception_score", "whole", "diversity"):
        assert score.values[name] == pytest.approx(10, rel=1e-12)
    assert score.values["sharpness"] == pytest.approx(1, rel=1e-12)
    assert score.values["kl"] == pytest.approx(math.log(10), rel=1e-12)
    assert score.values["std"] == pytest.approx(0, abs=1e-12)


def test_shuffled_splits_of_sure_images_are_a_little_less_balanced():
    value = inception_score(one_hot(50_000, 10)).values["inception_score"]
    assert value == pytest.approx(10 - 10 * 9 / (2 * 5000), abs=0.005)  # each split misses 9 / 2n nats


def test_noisy_one_hot_posteriors():
    # A symmetric channel: the right class with probability .8 + .2 / 10, else one of the others.
    right, other = 0.82, 0.02
    logits = torch.full((100, 10), math.log(other), dtype=torch.float64)
    logits[torch.arange(100), torch.arange(100) % 10] = math.log(right)
    entropy = -right * math.log(right) - 9 * other * math.log(other)
    score = inception_score(logits, splits=1)
    assert score.values["inception_score"] == pytest.approx(math.exp(math.log(10) - entropy), rel=1e-12)
    assert score.values["diversity"] == pytest.approx(10, rel=1e-12)
    assert score.values["sharpness"] == pytest.approx(math.exp(-entropy), rel=1e-12)


def test_equal_posteriors_score_one_whatever_they_are():
    score = inception_score(drawn(1, 7).expand(60, 7))
    assert score.values["inception_score"] == pytest.approx(1, rel=1e-12)
    assert score.values["whole"] == pytest.approx(1, rel=1e-12)
    assert score.errors["inception_score"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_the_score_is_between_one_and_the_number_of_classes(scale):
    score = inception_score(drawn(600, 20, scale=scale))
    assert 1 <= score.values["inception_score"] <= 20
    assert score.values["diversity"] <= 20
    assert 1 / 20 <= score.values["sharpness"] <= 1


# --- Against numpy, and between its own parts


@pytest.mark.parametrize("n", [500, 505, 20, 39])
def test_splits_are_of_one_size_to_within_an_image(n):
    logits = drawn(n, 6)
    order = np.random.RandomState(2020).permutation(n)
    mean, std = by_numpy(logits[order], [slice(i * n // 10, (i + 1) * n // 10) for i in range(10)])
    score = inception_score(logits)
    assert score.values["inception_score"] == pytest.approx(mean, rel=1e-12)
    assert score.values["std"] == pytest.approx(std, rel=1e-9)


def test_a_split_size_leaves_the_rest_to_the_last():
    logits = drawn(1100, 6)
    mean, std = by_numpy(logits, [slice(0, 500), slice(500, 1000), slice(1000, 1100)])
    score = inception_score(logits, split_size=500, shuffle=False)
    assert score.values["inception_score"] == pytest.approx(mean, rel=1e-12)
    assert score.values["std"] == pytest.approx(std, rel=1e-9)
    assert score.errors["inception_score"] > 0


def test_one_split_is_the_whole():
    score = inception_score(drawn(300, 6), splits=1)
    assert score.values["inception_score"] == pytest.approx(score.values["whole"], rel=1e-12)
    assert score.errors["inception_score"] == pytest.approx(score.errors["whole"], rel=1e-9)
    assert score.biases["inception_score"] == pytest.approx(score.biases["whole"], rel=1e-6)
    assert score.values["std"] == 0


def test_the_whole_is_diversity_times_sharpness():
    values = inception_score(drawn(700, 30)).values
    assert tuple(values) == ("inception_score", "std", *DETAILS)
    assert values["whole"] == pytest.approx(values["diversity"] * values["sharpness"], rel=1e-12)
    assert values["kl"] == pytest.approx(math.log(values["whole"]), rel=1e-12)


def test_log_probabilities_serve_as_logits():
    logits = drawn(300, 6).double()
    assert inception_score(logits.log_softmax(1)).values == pytest.approx(inception_score(logits).values)


def test_the_seed_deals_other_splits():
    logits = drawn(300, 6)
    one, other = (inception_score(logits, seed=seed).values for seed in (2020, 2021))
    assert one["inception_score"] != other["inception_score"]
    assert one["whole"] == pytest.approx(other["whole"], rel=1e-12)


def test_order_matters_to_the_splits_alone():
    logits = drawn(3000, 6)
    one, other = inception_score(logits), inception_score(logits.flip(0))
    for name in DETAILS:
        assert other.values[name] == pytest.approx(one.values[name], rel=1e-12)
        assert other.errors[name] == pytest.approx(one.errors[name], rel=1e-9)
    gap = other.values["inception_score"] - one.values["inception_score"]
    assert 0 < abs(gap) < one.errors["inception_score"]
    assert other.errors["inception_score"] == pytest.approx(one.errors["inception_score"], rel=0.15)


def test_blocks_do_not_matter(monkeypatch):
    logits = drawn(305, 6)
    one = inception_score(logits)
    engine = importlib.import_module(
        "gen_eval.metrics.inception_score"
    )  # the package has the function's name
    monkeypatch.setattr(engine, "_BLOCK", 1000)
    other = inception_score(logits)
    assert other.values == pytest.approx(one.values, rel=1e-12)
    assert other.errors == pytest.approx(one.errors, rel=1e-9)
    torch.testing.assert_close(other.per_image["generated"], one.per_image["generated"])


# --- Errors, biases, contributions


def leave_one_out(logits, **options):
    """Value, standard error, bias and contributions of the whole, by measuring the set without each image."""
    n, value = len(logits), by_numpy(logits, [slice(None)])[0]
    without = np.array(
        [by_numpy(torch.cat([logits[:i], logits[i + 1 :]]), [slice(None)])[0] for i in range(n)]
    )
    return (n - 1) / n * ((without - without.mean()) ** 2).sum(), (n - 1) * (without.mean() - value), without


def test_errors_and_biases_of_the_whole_are_the_jackknifes():
    logits = drawn(40, 5)
    score = inception_score(logits, splits=1)
    variance, bias, without = leave_one_out(logits)
    assert score.errors["whole"] == pytest.approx(math.sqrt(variance), rel=1e-9)
    assert score.biases["whole"] == pytest.approx(bias, rel=1e-9)
    np.testing.assert_allclose(score.contributions["generated"], without.mean() - without, atol=1e-12)


def test_contributions_to_the_mean_over_splits_are_in_image_order():
    logits = drawn(60, 5)
    order = np.random.RandomState(2020).permutation(60)
    score = inception_score(logits, splits=3)
    for part in (order[:20], order[20:40], order[40:]):
        without = leave_one_out(logits[part])[2]
        np.testing.assert_allclose(
            score.contributions["generated"][part], (without.mean() - without) / 3, atol=1e-12
        )


def test_the_divergence_of_an_image_is_its_part_in_kl():
    logits = drawn(200, 5)
    score = inception_score(logits)
    divergence = score.per_image["generated"]
    posterior = logits.double().softmax(1)
    expected = (posterior * (posterior / posterior.mean(0)).log()).sum(1)
    torch.testing.assert_close(divergence, expected)
    assert float(divergence.mean()) == pytest.approx(score.values["kl"], rel=1e-12)


def test_the_error_bar_is_that_of_the_divergences_where_first_order_is_enough():
    # The influence of an image on kl is its divergence about the mean.
    score = inception_score(drawn(5000, 5))
    expected = float(score.per_image["generated"].std()) / math.sqrt(5000)
    assert score.errors["kl"] == pytest.approx(expected, rel=0.01)
    first_order = score.values["inception_score"] * expected
    assert score.errors["inception_score"] == pytest.approx(first_order, rel=0.15)


def test_the_bias_is_that_of_the_entropy_of_few_images():
    # To second order log IS falls short by the variance of the posterior over twice its mean, summed.
    logits = drawn(5000, 5)
    posterior = logits.double().softmax(1)
    expected = -float((posterior.var(0) / posterior.mean(0)).sum()) / (2 * 5000)
    assert inception_score(logits).biases["kl"] == pytest.approx(expected, rel=0.01)


def test_smaller_splits_err_and_fall_short_more():
    logits = drawn(2000, 5)
    few, many = (inception_score(logits, splits=splits) for splits in (2, 50))
    assert many.biases["inception_score"] == pytest.approx(25 * few.biases["inception_score"], rel=0.2)
    assert many.values["inception_score"] < few.values["inception_score"]


def test_splits_smaller_than_the_number_of_classes_are_warned_about():
    score = inception_score(drawn(400, 50))
    (warning,) = score.warnings
    assert "splits of 40 for 50 classes" in warning
    assert "at least" in warning
    assert "inception_score" not in score.biases  # it cannot be told
    assert score.biases["whole"] < 0
    assert not inception_score(drawn(40, 50)).biases


def test_enough_images_are_not_warned_about():
    score = inception_score(drawn(500, 50))
    assert score.warnings == ()
    assert score.biases["inception_score"] < score.biases["whole"] < 0


# --- What is refused


@pytest.mark.parametrize(("n", "options"), [(9, {}), (19, {}), (101, {"split_size": 50})])
def test_a_split_of_one_image_is_refused(n, options):
    with pytest.raises(TooFewImages, match="each split needs at least 2 images"):
        inception_score(drawn(n, 4), **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_refused(bad):
    logits = drawn(50, 4)
    logits[7, 1] = bad
    with pytest.raises(NumericalError, match="1 of 50 feature rows hold NaN or infinity .first: row 7"):
        inception_score(logits)


@pytest.mark.parametrize("options", [{"splits": 0}, {"split_size": 1}])
def test_nonsense_splits_are_refused(options):
    with pytest.raises(UsageError, match="expected at least 1 split, of at least 2 images"):
        inception_score(drawn(50, 4), **options)


@pytest.mark.parametrize("shape", [(50,), (0, 4), (5, 4, 3)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match=r"logits must be \[n, classes\]"):
        inception_score(torch.zeros(shape))
