"""The sliced Wasserstein distance: closed forms, SciPy along each line, duality, invariances, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.transport import sliced
from gen_eval.metrics.transport.exact import wasserstein
from gen_eval.metrics.transport.sliced import sliced_wasserstein

SIZES = [(30, 30), (30, 45), (40, 21), (17, 23)]


def rows(n, seed, dim=5, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def mean_absolute_component(dim):
    """E |u_1| of a unit vector."""
    return math.exp(math.lgamma(dim / 2) - math.lgamma((dim + 1) / 2)) / math.sqrt(math.pi)


# --- Known answers


@pytest.mark.parametrize("dim", [1, 2, 3, 50])
def test_a_translation(dim):
    """Along u it is |u . shift|, so p = 1 gives |shift| E|u_1| and p = 2 |shift| / sqrt(d)."""
    x, shift = rows(20, 0, dim), 2 * torch.ones(dim, dtype=torch.float64)
    for p, factor in ((1, mean_absolute_component(dim)), (2, dim**-0.5)):
        score = sliced_wasserstein(x + shift, x, p=p, projections=4000)
        error = score.values["projections_error"]
        assert score.values["sliced_wasserstein"] == pytest.approx(
            float(shift.norm()) * factor, abs=3 * error + 1e-12
        )
        assert error < 0.02 * score.values["sliced_wasserstein"]


def test_two_round_gaussians():
    """W_2^2 along u is (u . m)^2 + (s - t)^2, whose mean is |m|^2 / d + (s - t)^2."""
    x, y = rows(20_000, 0, 3), rows(15_000, 1, 3)
    score = sliced_wasserstein(1.5 * x + 1, y, p=2, projections=500)
    expected = math.sqrt(3 / 3 + 0.5**2)
    assert score.values["sliced_wasserstein"] == pytest.approx(
        expected, abs=3 * score.errors["sliced_wasserstein"]
    )
    assert score.errors["sliced_wasserstein"] < 0.03


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_in_one_dimension_it_is_scipys(n, m):
    x, y = rows(n, 0, 1), rows(m, 1, 1) * 2 + 0.5
    score = sliced_wasserstein(x, y, projections=3)
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert score.values["sliced_wasserstein"] == pytest.approx(expected, rel=1e-12)
    assert score.values["max_sliced"] == pytest.approx(expected, rel=1e-12)
    assert score.values["projections_error"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_along_given_directions_it_is_the_mean_of_scipys(n, m):
    x, y, directions = rows(n, 0), rows(m, 1) + 0.3, rows(5, 2, 9)
    units = directions / directions.norm(dim=0)
    along = [wasserstein_distance((x @ u).numpy(), (y @ u).numpy()) for u in units.T]
    score = sliced_wasserstein(x, y, projections=directions)
    assert score.values["sliced_wasserstein"] == pytest.approx(np.mean(along), rel=1e-12)
    assert score.values["max_sliced"] == pytest.approx(max(along), rel=1e-12)
    assert score.values["projections_error"] == pytest.approx(np.std(along, ddof=1) / 3, rel=1e-9)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_in_one_dimension_value_and_error_are_those_of_the_assignment(n, m, p):
    """Two ways to the same potentials, but where the quantiles of both step together: there they are not unique."""
    x, y = rows(n, 0, 1), rows(m, 1, 1) * 2 + 0.5
    line = sliced_wasserstein(x, y, p=p, projections=2)
    exact = wasserstein(x, y, p=p)
    assert line.values["sliced_wasserstein"] == pytest.approx(exact.values["wasserstein"], rel=1e-10)
    if math.gcd(n, m) == 1:
        assert line.errors["sliced_wasserstein"] == pytest.approx(exact.errors["wasserstein"], rel=1e-9)
        torch.testing.assert_close(line.contributions["generated"], exact.contributions["generated"])
        torch.testing.assert_close(line.contributions["reference"], exact.contributions["reference"])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(300, 300), (200, 300)])
def test_contributions_say_what_leaving_a_row_out_does(n, m, p):
    x, y = rows(n, 0) + 1, rows(m, 1)
    score = sliced_wasserstein(x, y, p=p, projections=200)
    without = [
        sliced_wasserstein(x[torch.arange(n) != i], y, p=p, projections=200).values["sliced_wasserstein"]
        for i in range(6)
    ]
    left_out = score.values["sliced_wasserstein"] - torch.tensor(without).double()
    scale = float(score.contributions["generated"].std())
    torch.testing.assert_close(score.contributions["generated"][:6], left_out, rtol=0.05, atol=0.05 * scale)


# --- What does not matter


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_neither_order_nor_roles_nor_a_shift_matter(n, m, p):
    x, y = rows(n, 0) + 0.4, rows(m, 1)
    score, turned, swapped, moved = (
        sliced_wasserstein(*sets, p=p, projections=20)
        for sets in ((x, y), (x.flip(0), y.roll(5, 0)), (y, x), (x + 100, y + 100))
    )
    for other in (turned, swapped, moved):
        assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-9)
        assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-9)
    torch.testing.assert_close(turned.contributions["generated"].flip(0), score.contributions["generated"])
    torch.testing.assert_close(swapped.contributions["reference"], score.contributions["generated"])


def test_blocks_do_not_matter(monkeypatch):
    x, y = rows(70, 0), rows(50, 1)
    score = sliced_wasserstein(x, y, projections=40)
    monkeypatch.setattr(sliced, "_DIRECTIONS", 7)
    monkeypatch.setattr(sliced, "_BLOCK", 16)
    monkeypatch.setattr(sliced, "_PROJECTED", 120 * 17)  # three groups of directions, none of whole blocks
    other = sliced_wasserstein(x, y, projections=40)
    assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-12)
    assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-12)


def test_the_seed_draws_the_directions():
    x, y = rows(40, 0), rows(40, 1)
    one, same, other = (sliced_wasserstein(x, y, projections=30, seed=seed) for seed in (0, 0, 1))
    assert one.values == same.values
    assert one.values["sliced_wasserstein"] != other.values["sliced_wasserstein"]


def test_equal_sets_are_no_distance_apart():
    x = rows(30, 0)
    for p in (1, 2):
        score = sliced_wasserstein(x.flip(0), x, p=p, projections=10)
        assert score.values["sliced_wasserstein"] == 0
        assert score.errors["sliced_wasserstein"] == 0


# --- What is refused


@pytest.mark.parametrize(
    ("generated", "reference", "options", "error", "message"),
    [
        (rows(3, 0), rows(9, 1), {}, TooFewImages, "at least 4 generated rows are needed, found 3"),
        (rows(9, 0), rows(9, 1, 4), {}, UsageError, r"5 \(generated\) and of 4 \(reference\) dimensions"),
        (rows(9, 0), rows(9, 1), {"p": 0.9}, UsageError, "at least 1"),
        (rows(9, 0), rows(9, 1), {"projections": 1}, UsageError, "at least 2 directions"),
        (rows(9, 0), rows(9, 1), {"projections": rows(4, 2)}, UsageError, "of 5 dimensions"),
        (rows(9, 0), rows(9, 1), {"projections": torch.zeros(5, 3)}, UsageError, "is 0"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.inf), rows(9, 1), {}, NumericalError, "row 4"),
        (rows(9, 0) * 1e200, rows(9, 1), {"p": 2}, NumericalError, "too large"),
    ],
)
def test_what_is_refused(generated, reference, options, error, message):
    with pytest.raises(error, match=message):
        sliced_wasserstein(generated, reference, **options)


def test_global_random_state_and_the_rows_are_left_alone():
    x, y = rows(20, 0), rows(20, 1)
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [x.clone(), y.clone()]
    sliced_wasserstein(x, y, projections=10)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
