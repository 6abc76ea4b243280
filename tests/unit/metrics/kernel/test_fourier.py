"""The MMD by random frequencies: what it is an estimate of, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, UsageError
from gen_eval.metrics.kernel import fourier
from gen_eval.metrics.kernel.fourier import FourierSums
from gen_eval.metrics.kernel.kernels import laplace
from gen_eval.metrics.kernel.mmd import mmd

DIM, S = 5, 2.0


def rows(n, seed, shift=0.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, DIM)) + shift)


@pytest.fixture
def pair():
    return rows(60, 0, 0.6), rows(45, 1)


def test_totals_equal_a_double_loop(pair):
    """At each frequency, of the very waves that were drawn."""
    x, y = pair
    sums = FourierSums.of(x, y, S, 40, seed=7)
    waves = torch.from_numpy(np.random.default_rng(7).standard_normal((40, DIM))) / S
    for total, (a, b), alone in zip(sums.totals, ((x, x), (x, y), (y, y)), (60, 0, 45), strict=True):
        expected = ((a[:, None] - b) @ waves.T).cos().sum((0, 1)) - alone
        torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.simulation
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_the_mean_over_draws_of_waves_is_the_value_of_the_kernel(estimator, pair):
    exact = mmd(*pair, bandwidth=S, estimator=estimator)
    values = np.array(
        [
            mmd(*pair, bandwidth=S, estimator=estimator, frequencies=50, seed=seed).values["mmd2"]
            for seed in range(400)
        ]
    )
    assert abs(values.mean() - exact.values["mmd2"]) < 3 * values.std() / math.sqrt(len(values))
    assert exact.values["mmd2"] > 20 * values.std() / math.sqrt(len(values))


def test_many_waves_give_value_error_bias_and_contributions_of_the_kernel(pair):
    exact = mmd(*pair, bandwidth=S, estimator="biased")
    found = mmd(*pair, bandwidth=S, estimator="biased", frequencies=40_000)
    assert found.values["mmd2"] == pytest.approx(exact.values["mmd2"], rel=0.02)
    assert found.errors["mmd2"] == pytest.approx(exact.errors["mmd2"], rel=0.03)
    assert found.biases["mmd2"] == pytest.approx(exact.biases["mmd2"], rel=0.02)
    assert found.values["bandwidth"] == S
    for role, numbers in found.contributions.items():
        expected = exact.contributions[role]
        torch.testing.assert_close(numbers, expected, rtol=0, atol=0.03 * float(expected.abs().max()))


def test_two_gaussians_in_closed_form():
    """x - y is normal: E k = (s² / (s² + v))^(d/2) exp(-gap² / 2 (s² + v)), v its variance in each direction."""
    gap = 0.8

    def expected(variance, shift):
        total = S**2 + variance
        return (S**2 / total) ** (DIM / 2) * math.exp(-DIM * shift**2 / 2 / total)

    truth = expected(2 * 1.3**2, 0) + expected(2, 0) - 2 * expected(1 + 1.3**2, gap)
    score = mmd(1.3 * rows(9_000, 0) + gap, rows(6_000, 1), bandwidth=S, frequencies=1_500)
    assert abs(score.values["mmd2"] - truth) < 3 * score.errors["mmd2"]
    assert truth > 15 * score.errors["mmd2"]


def test_blocks_and_single_precision_change_nothing_but_rounding(pair, monkeypatch):
    before = mmd(*pair, bandwidth=S, frequencies=64)
    monkeypatch.setattr(fourier, "_BLOCK", 7)
    assert mmd(*pair, bandwidth=S, frequencies=64).values["mmd2"] == pytest.approx(before.values["mmd2"])
    far = [(z + 100).float() for z in pair]  # the centre is taken off first
    rounded = mmd(*far, bandwidth=S, frequencies=64)
    assert rounded.values["mmd2"] == pytest.approx(before.values["mmd2"], rel=1e-4)
    assert rounded.errors["mmd2"] == pytest.approx(before.errors["mmd2"], rel=1e-4)


def test_of_many_rows_a_part_tells_the_second_order_of_the_error(monkeypatch):
    pair = rows(800, 0), rows(700, 1)
    whole = mmd(*pair, bandwidth=S, frequencies=500).errors["mmd2"]
    monkeypatch.setattr(fourier, "_PAIRED", 100)
    assert mmd(*pair, bandwidth=S, frequencies=500).errors["mmd2"] == pytest.approx(whole, rel=0.15)


def test_scale_and_unit_length_are_those_of_the_kernel(pair):
    options = {"bandwidth": 0.7, "frequencies": 100}
    plain, scaled = mmd(*pair, **options), mmd(*pair, **options, scale=1000)
    assert scaled.values["mmd2"] == pytest.approx(1000 * plain.values["mmd2"])
    assert scaled.errors["mmd2"] == pytest.approx(1000 * plain.errors["mmd2"])
    units = [z / z.norm(dim=1, keepdim=True) for z in pair]
    assert mmd(*pair, **options, normalize=True).values == mmd(*units, **options).values


def test_another_seed_draws_other_waves_and_nothing_global_is_touched(pair):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (mmd(*pair, frequencies=50, seed=seed).values["mmd2"] for seed in (1, 1, 2))
    assert one == again != other
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequencies": 29}, "whole number of 30 or more, found 29"),
        ({"frequencies": 100.0}, "whole number of 30 or more, found 100.0"),
        ({"frequencies": 100, "kernel": "laplace"}, "kernel 'rbf' alone, found 'laplace'"),
        ({"frequencies": 100, "kernel": laplace(1.0)}, "kernel 'rbf' alone"),
        ({"frequencies": 100, "permutations": 100}, "leave frequencies or permutations out"),
    ],
)
def test_refusals(options, message, pair):
    with pytest.raises(UsageError, match=message):
        mmd(*pair, **options)


def test_phases_that_overflow_are_refused(pair):
    with pytest.raises(NumericalError, match="too large"):
        mmd(pair[0] * 1e200, pair[1], bandwidth=1e-120, frequencies=50)
