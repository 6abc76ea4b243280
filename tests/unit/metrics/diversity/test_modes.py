"""Mode coverage on a ring of Gaussians whose modes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.diversity import modes as module
from gen_eval.metrics.diversity.modes import mode_coverage

SIGMA = 0.3
ANGLES = torch.arange(8) * math.pi / 4
RING = 10 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1).double()
SCALES = torch.full((8,), SIGMA, dtype=torch.float64)


def draw(kinds, seed, width=SIGMA):
    generator = torch.Generator().manual_seed(seed)
    return RING[kinds] + width * torch.randn(len(kinds), 2, generator=generator, dtype=torch.float64)


def turns(n, known=8):
    return torch.arange(n) % known


@pytest.mark.parametrize("kept", [8, 5, 1])
def test_a_generator_that_keeps_some_modes(kept):
    """Within three standard deviations are 1 - exp(-4.5) of a Gaussian in the plane."""
    score = mode_coverage(draw(turns(4000, kept), 0), RING, SCALES, reach=3.0)
    assert score.values["modes_covered"] == kept
    assert score.values["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.006)
    assert score.values["mode_kl"] == pytest.approx(math.log(8 / kept), abs=0.02)
    assert score.values["mode_entropy"] == pytest.approx(math.log(kept), abs=0.02)
    assert score.values["missed_by_chance"] < 1e-9
    assert score.errors["modes_covered"] < 1e-9


def test_noise_is_of_low_quality():
    rows = draw(turns(4000), 0, width=2 * SIGMA)
    score = mode_coverage(rows, RING, SCALES, reach=3.0)
    near = cdist(rows.numpy(), RING.numpy()).min(1) / SIGMA
    assert score.values["high_quality"] == pytest.approx(float((near <= 3).mean()), abs=1e-12)
    assert score.values["high_quality"] < 0.8
    np.testing.assert_allclose(score.per_image["generated"], near, rtol=1e-9)
    assert mode_coverage(draw(turns(99), 0) + 50, RING, SCALES).values["modes_covered"] == 0


def test_reach_is_in_units_of_each_scale():
    rows = torch.tensor([[1.0, 0], [9.0, 0]]).double()
    centres, scales = torch.tensor([[0.0, 0], [10.0, 0]]).double(), torch.tensor([1.0, 0.25]).double()
    score = mode_coverage(rows, centres, scales, reach=2.0)
    assert score.per_image["generated"].tolist() == [1, 4]
    assert (score.values["modes_covered"], score.values["high_quality"]) == (1, 0.5)
    # A row belongs to the mode that it is nearest to in units of the scale: 5.1 is one of the wide mode.
    wide = mode_coverage(rows + 4.1, centres, torch.tensor([8.0, 0.25]).double())
    assert wide.values["mode_kl"] == pytest.approx(math.log(2))


def test_weights_say_how_often_each_mode_should_be_hit():
    weights = torch.arange(1.0, 9).double()
    counts = (100 * weights).long()
    score = mode_coverage(draw(torch.arange(8).repeat_interleave(counts), 0), RING, SCALES, weights=weights)
    assert score.values["mode_kl"] == pytest.approx(0, abs=2e-3)
    assert score.values["mode_entropy"] == pytest.approx(entropy(weights.numpy()), abs=0.01)
    assert score.values["modes_covered"] == 8


def test_modes_are_missed_by_chance_in_few_rows():
    """At 16 rows of even modes, 8 (1 - 1/8)^16 are expected to be missed."""
    near = 0.1 * SIGMA
    score = mode_coverage(draw(turns(16), 0, near), RING, SCALES)
    assert score.values["missed_by_chance"] == pytest.approx(8 * (7 / 8) ** 16, rel=1e-12)
    missed = [
        8 - mode_coverage(draw(torch.from_numpy(kinds), 0, near), RING, SCALES).values["modes_covered"]
        for kinds in np.random.default_rng(0).integers(0, 8, (300, 16))
    ]
    assert np.mean(missed) == pytest.approx(8 * (7 / 8) ** 16, abs=4 * np.std(missed) / math.sqrt(300))


def test_errors_of_shares_are_not_zero_where_all_rows_are_good():
    score = mode_coverage(draw(turns(40), 0, 0.01), RING, SCALES)
    assert score.values["high_quality"] == 1
    assert 0.01 < score.errors["high_quality"] < 0.1


def test_few_rows_a_mode_are_warned_of():
    assert mode_coverage(draw(turns(120), 0), RING, SCALES).warnings == ()
    (warning,) = mode_coverage(draw(turns(119), 0), RING, SCALES).warnings
    assert "119 images in 8 classes or modes are few" in warning
    assert mode_coverage(draw(turns(119, 4), 0), RING, SCALES).warnings == ()  # of those that are hit


def test_neither_order_nor_blocks_nor_a_shift_matter(monkeypatch):
    rows = draw(turns(100), 0)
    score = mode_coverage(rows, RING, SCALES)
    monkeypatch.setattr(module, "_BLOCK", 9)
    other = mode_coverage(rows.flip(0) + 1000, RING.flip(0) + 1000, SCALES)
    assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-12)
    assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-9)


ROWS = draw(turns(20), 0)


@pytest.mark.parametrize(
    ("rows", "centres", "scales", "options", "error", "message"),
    [
        (ROWS[:1], RING, SCALES, {}, TooFewImages, "at least 2 generated rows"),
        (ROWS, RING[:0], SCALES[:0], {}, TooFewImages, "at least 1 centres rows are needed, found 0"),
        (ROWS, torch.zeros(8, 3), SCALES, {}, UsageError, "2 and centres of 3 dimensions"),
        (ROWS, RING, SCALES[:7], {}, UsageError, "expected 8 scales"),
        (ROWS, RING, SCALES * 0, {}, UsageError, "all positive"),
        (ROWS, RING, SCALES, {"weights": torch.arange(8.0)}, UsageError, "expected 8 weights"),
        (ROWS, RING, SCALES, {"reach": 0.0}, UsageError, "reach must be positive"),
        (ROWS.index_fill(0, torch.tensor(4), math.nan), RING, SCALES, {}, NumericalError, "row 4"),
        (ROWS, RING.index_fill(0, torch.tensor(2), math.inf), SCALES, {}, NumericalError, "row 2"),
    ],
)
def test_what_is_refused(rows, centres, scales, options, error, message):
    with pytest.raises(error, match=message):
        mode_coverage(rows, centres, scales, **options)
