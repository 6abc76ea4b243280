"""The density-ratio trick, and what a discriminator's probabilities are worth."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from gen_eval.metrics.divergence.calibration import recalibration, reliability
from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.metrics.divergence.ratio import density_ratio, jensen_shannon
from gen_eval.metrics.divergence.variational import f_divergence

SHORT = {"steps": 300, "folds": 3, "width": 16}


def rows(n, seed, dim=2, shift=0.0, scale=1.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * scale + shift


def logits_of(n, m, sure=1.0):
    """Logits that are right if ``sure`` is 1: of N(1, 1) as the reference and N(0, 1) as the generated set."""
    draws = torch.Generator().manual_seed(n)
    fake, real = (torch.randn(size, generator=draws, dtype=torch.float64) for size in (n, m))
    return sure * (fake - 0.5), sure * (real + 0.5)


@pytest.fixture(scope="module")
def pair():
    # Folds of equal sizes: what is averaged over them is averaged over images.
    return rows(498, 0, shift=0.7), rows(399, 1)


@pytest.fixture(scope="module")
def ratio(pair):
    return density_ratio(*pair, **SHORT)


@pytest.fixture(scope="module")
def shannon(pair):
    return jensen_shannon(*pair, **SHORT)


# --- Ratios


def test_the_ratio_is_that_of_reference_to_generated(pair, ratio):
    """Its sign: an image where the reference is denser has a positive logarithm."""
    for rows_of, role in zip(pair, ("generated", "reference"), strict=True):
        true = 0.7**2 - 0.7 * rows_of.sum(1).double()
        found = ratio.per_image[role]
        assert float(torch.corrcoef(torch.stack([true, found]))[0, 1]) > 0.9
        assert float((found - true).square().mean().sqrt()) < 0.35
    assert (
        float(ratio.per_image["reference"].mean()) > 0.2 > -0.2 > float(ratio.per_image["generated"].mean())
    )


def test_bounds_are_those_of_the_ratio_and_plug_ins_the_mean_of_f(ratio):
    fake, real = (ratio.per_image[role] for role in ("generated", "reference"))
    for row in DIVERGENCES.values():
        name = row.name.replace("-", "_")
        assert ratio.values[f"{name}_plug_in"] == pytest.approx(float(row.f(fake.exp()).mean()))
        t = row.optimal(real), row.optimal(fake)
        assert ratio.values[name] == pytest.approx(float(t[0].mean() - row.conjugate(t[1]).mean()))
        assert 0 < ratio.errors[name] < ratio.values[name]
    assert ratio.values["mean_ratio"] == pytest.approx(1, abs=0.15)


# N(0.7, 1)² against N(0, 1)², by name: |shift|² = 0.98.
TRUTH = {
    "kl": 0.49,
    "reverse_kl": 0.49,
    "pearson": math.exp(0.98) - 1,
    "squared_hellinger": 2 - 2 * math.exp(-0.98 / 8),
    "total_variation": math.erf(math.sqrt(0.98) / 2 / math.sqrt(2)),
}


@pytest.mark.parametrize("name", TRUTH)
def test_bounds_are_near_the_truth(name, ratio):
    """Within what chance leaves, and a few percent of what the classifier has not learned."""
    assert abs(ratio.values[name] - TRUTH[name]) < 2 * ratio.errors[name] + 0.05 * TRUTH[name]


def test_values_are_told_by_their_names(ratio):
    assert next(iter(ratio.values)) == "js"
    assert set(ratio.errors) == {name.replace("-", "_") for name in DIVERGENCES}


# --- Jensen-Shannon


def test_it_is_the_bound_of_the_table_and_log_two_less_the_log_loss(pair, shannon, ratio):
    value = shannon.values["jensen_shannon"]
    assert value == f_divergence(*pair, divergence="js", **SHORT).values["f_divergence"]
    assert value == pytest.approx(ratio.values["js"], rel=1e-12)
    assert value == pytest.approx(math.log(2) - shannon.values["log_loss"])
    fake, real = (shannon.per_image[role] for role in ("generated", "reference"))
    by_hand = math.log(2) + (torch.sigmoid(real).log().mean() + torch.sigmoid(-fake).log().mean()) / 2
    assert value == pytest.approx(float(by_hand))


def test_a_discriminator_that_stops_in_time_is_calibrated(shannon):
    values = shannon.values
    assert values["calibration_slope"] == pytest.approx(1, abs=0.2)
    assert values["expected_calibration_error"] < 2.5 * values["error_by_chance"]
    assert abs(values["calibration_gap"]) < shannon.errors["jensen_shannon"]
    assert values["recalibrated"] == pytest.approx(values["jensen_shannon"] + values["calibration_gap"])
    assert values["brier"] < 0.25


def test_equal_sets_show_no_divergence():
    score = jensen_shannon(rows(300, 5), rows(300, 6), **SHORT)
    assert abs(score.values["jensen_shannon"]) < 3 * score.errors["jensen_shannon"]


# --- Calibration


def test_the_brier_score_equals_that_of_scikit_learn():
    fake, real = logits_of(300, 200)
    found = reliability(fake, real)
    labels = [0] * 300 + [1] * 200
    weights = [0.5 / 300] * 300 + [0.5 / 200] * 200
    probabilities = torch.sigmoid(torch.cat([fake, real])).numpy()
    assert found.brier == pytest.approx(brier_score_loss(labels, probabilities, sample_weight=weights))


def test_the_calibration_error_of_probabilities_that_are_right_is_that_by_chance():
    found = [reliability(*logits_of(400 + at, 300)) for at in range(60)]
    errors = torch.tensor([each.expected_calibration_error for each in found])
    chance = torch.tensor([each.error_by_chance for each in found])
    assert float(errors.mean() / chance.mean()) == pytest.approx(1, abs=0.1)


def test_the_calibration_error_of_one_that_is_too_sure_is_larger():
    """By hand: all say 0.9, and three in four are right."""
    logit = torch.full((30,), math.log(9), dtype=torch.float64)
    found = reliability(torch.cat([-logit, -logit, -logit, logit]), torch.cat([logit, logit, logit, -logit]))
    assert found.expected_calibration_error == pytest.approx(0.15, abs=0.01)


def test_slope_and_intercept_equal_those_of_scikit_learn():
    fake, real = logits_of(3000, 2000, sure=2.5)
    slope, intercept = recalibration(fake, real)
    weights = [0.5 / 3000] * 3000 + [0.5 / 2000] * 2000
    model = LogisticRegression(C=1e9, tol=1e-10)
    model.fit(
        torch.cat([fake, real])[:, None].numpy(),
        [0] * 3000 + [1] * 2000,
        sample_weight=[5000 * w for w in weights],
    )
    # Labels are softened by a few thousandths.
    assert slope == pytest.approx(float(model.coef_[0, 0]), rel=0.02)
    assert intercept == pytest.approx(float(model.intercept_[0]), abs=0.01)
    assert slope == pytest.approx(1 / 2.5, rel=0.1)


def test_recalibration_of_logits_that_part_the_sets_is_finite():
    far = torch.linspace(1, 2, 40, dtype=torch.float64)
    slope, intercept = recalibration(-far, far)
    assert 0 < slope < 100
    assert abs(intercept) < 1e-3
