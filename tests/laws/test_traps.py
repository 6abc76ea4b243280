"""Traps that a metric falls into and another does not, on constructed generators: they must stay as they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.metrics.diversity.modes import mode_coverage
from gen_eval.metrics.diversity.vendi import vendi
from gen_eval.metrics.neighbors.manifold import density_coverage, precision_recall
from gen_eval.metrics.transport.exact import wasserstein

SIGMA, RADIUS = 0.3, 10.0
ANGLES = np.arange(8) * math.pi / 4
RING = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def as32(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def ring(rng, n, modes=8):
    """A ring of Gaussians of which a generator may keep the first few alone."""
    return RING[rng.integers(0, modes, n)] + SIGMA * rng.standard_normal((n, 2))


def scores(generated, reference):
    sets = as32(generated), as32(reference)
    return {**precision_recall(*sets).values, **density_coverage(*sets).values}


def modes(generated):
    return mode_coverage(
        as32(generated), torch.from_numpy(RING), torch.full((8,), SIGMA, dtype=torch.float64), reach=3.0
    ).values


def test_ten_far_outliers_lift_recall_and_not_coverage():
    """Their balls are so large that they hold the reference: 10 of 2000 rows lift recall from about .1 to .9."""
    rng = np.random.default_rng(0)
    reference, generated = rng.standard_normal((2000, 2)), 0.1 * rng.standard_normal((2000, 2))
    before = scores(generated, reference)
    generated[:10] = 8 * rng.standard_normal((10, 2))
    after = scores(generated, reference)
    assert before["recall"] < 0.15
    assert after["recall"] > 0.85
    assert after["coverage"] == pytest.approx(before["coverage"], abs=0.03)
    assert after["precision"] == pytest.approx(before["precision"], abs=0.01)


def test_ten_far_outliers_cover_no_mode():
    """Of a generator that keeps one mode of eight, recall rises to nearly all, and not the modes covered."""
    rng = np.random.default_rng(1)
    reference, generated = ring(rng, 2000), ring(rng, 2000, modes=1)
    before = scores(generated, reference), modes(generated)
    around = 2 * math.pi * np.arange(10) / 10
    generated[:10] = 4 * RADIUS * np.stack([np.cos(around), np.sin(around)], 1)
    after = scores(generated, reference), modes(generated)
    assert before[0]["recall"] == pytest.approx(1 / 8, abs=0.04)
    assert after[0]["recall"] > 0.9
    assert after[0]["coverage"] == pytest.approx(1 / 8, abs=0.04)
    assert before[1]["modes_covered"] == after[1]["modes_covered"] == 1


def test_noise_with_a_little_data_in_it_has_recall_and_little_else():
    rng = np.random.default_rng(2)
    reference, generated = rng.standard_normal((2000, 8)), 30 * rng.standard_normal((2000, 8))
    generated[:20] = rng.standard_normal((20, 8))
    found = scores(generated, reference)
    assert found["recall"] > 0.95
    assert max(found[name] for name in ("precision", "density", "coverage")) < 0.06


@pytest.mark.parametrize("kept", [5, 3, 1])
def test_a_mode_dropper_loses_recall_and_not_precision(kept):
    rng = np.random.default_rng(kept)
    generated, reference = ring(rng, 3000, kept), ring(rng, 3000)
    found = scores(generated, reference)
    assert found["precision"] > 0.96
    assert found["recall"] == pytest.approx(kept / 8, abs=0.03)
    assert found["coverage"] == pytest.approx(kept / 8, abs=0.04)
    counted = modes(generated)
    assert counted["modes_covered"] == kept
    assert counted["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.008)
    assert counted["mode_kl"] == pytest.approx(math.log(8 / kept), abs=0.02)


def test_an_inventor_of_modes_loses_precision_and_not_recall():
    rng = np.random.default_rng(4)
    found = scores(ring(rng, 3000), ring(rng, 3000, 5))
    assert found["recall"] > 0.96
    assert found["precision"] == pytest.approx(5 / 8, abs=0.03)


def test_noise_is_as_diverse_as_can_be():
    """A diversity of the generated set alone knows no quality: noise scores above the data, dropped modes below."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((10, 64))

    def data(kinds):
        return as32(centres[rng.integers(0, kinds, 1000)] + 0.1 * rng.standard_normal((1000, 64)))

    dropped, whole, noise = (
        vendi(rows).values["vendi"] for rows in (data(5), data(10), as32(rng.standard_normal((1000, 64))))
    )
    assert dropped < 0.7 * whole
    assert noise > 4 * whole


def test_the_exact_distance_between_sets_of_one_distribution_is_far_from_0_in_many_dimensions():
    """Three quarters of the distance that two rows have on average; the debiased one is none."""
    rng = np.random.default_rng(6)
    score = wasserstein(*(as32(rng.standard_normal((300, 64))) for _ in range(2)))
    assert score.values["wasserstein"] > 0.75 * math.sqrt(2 * 64)
    assert abs(score.values["debiased"]) < 3 * score.errors["debiased"] < 0.05 * score.values["wasserstein"]
