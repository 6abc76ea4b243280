"""The exact Wasserstein distance: closed forms, linear programs, duality, invariances, refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.transport import exact
from gen_eval.metrics.transport.exact import LIMIT, wasserstein

SIZES = [(12, 12), (12, 18), (20, 8), (9, 11)]


def rows(n, seed, dim=4, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_linear_program(x, y, p):
    """The least cost over all plans, and nothing of assignments."""
    costs = cdist(x.numpy(), y.numpy()) ** p
    n, m = costs.shape
    marginals = np.concatenate([np.repeat(np.eye(n), m, 1), np.tile(np.eye(m), n)])
    shares = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(costs.ravel(), A_eq=marginals, b_eq=shares, method="highs").fun ** (1 / p)


@pytest.mark.parametrize("p", [1, 1.5, 2])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_distance_is_the_least_of_all_plans(n, m, p):
    x, y = rows(n, 0) + 0.3, rows(m, 1) * 1.4
    assert wasserstein(x, y, p=p).values["wasserstein"] == pytest.approx(by_linear_program(x, y, p), rel=1e-9)


def test_the_distance_is_the_least_of_all_pairings():
    x, y = rows(8, 0).numpy(), rows(8, 1).numpy()
    costs = cdist(x[:6], y[:6])
    least = min(costs[range(6), list(order)].mean() for order in itertools.permutations(range(6)))
    # Two rows far away that are copies of one another change no pairing, and no sum.
    far = np.full((2, 4), 1e4)
    x[6:], y[6:] = far, far
    ours = wasserstein(torch.from_numpy(x), torch.from_numpy(y)).values["wasserstein"]
    assert ours == pytest.approx(least * 6 / 8, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_in_one_dimension_it_is_scipys(n, m):
    x, y = rows(n, 0, 1), rows(m, 1, 1) + 0.5
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert wasserstein(x, y).values["wasserstein"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_a_translation_is_as_long_as_it_is(p):
    x, shift = rows(40, 0), torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    score = wasserstein(x + shift, x, p=p)
    assert score.values["wasserstein"] == pytest.approx(float(shift.norm()), rel=1e-10)
    np.testing.assert_allclose(score.per_image["generated"].mean(), shift.norm(), rtol=1e-10)


def test_equal_sets_in_another_order_are_exactly_no_distance_apart():
    x = rows(30, 0, dtype=torch.float32)
    score = wasserstein(x.flip(0), x, p=2)
    assert score.values["wasserstein"] == 0
    assert score.errors["wasserstein"] == 0


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60)])
def test_contributions_say_what_weighing_a_row_more_does(n, m, p):
    """The derivative with respect to the weight of a row, from a linear program with other weights."""
    x, y = rows(n, 0) + 0.5, rows(m, 1)
    score = wasserstein(x, y, p=p)
    costs, step = cdist(x.numpy(), y.numpy()) ** p, 1e-5
    marginals = np.concatenate([np.repeat(np.eye(n), m, 1), np.tile(np.eye(m), n)])

    def distance(weights):
        shares = np.concatenate([weights / weights.sum(), np.full(m, 1 / m)])
        return linprog(costs.ravel(), A_eq=marginals, b_eq=shares, method="highs").fun ** (1 / p)

    for i in range(4):
        nudge = step * np.eye(n)[i]
        up, down = (distance(np.ones(n) + sign * nudge) for sign in (1, -1))
        # Where the potentials are not unique the slopes on either side differ, and theirs are between.
        slopes = sorted(
            [(up - score.values["wasserstein"]) / step, (score.values["wasserstein"] - down) / step]
        )
        ours = float(score.contributions["generated"][i])
        assert slopes[0] - 1e-4 / n <= ours <= slopes[1] + 1e-4 / n


def test_potentials_are_the_mean_of_the_extreme_ones(monkeypatch):
    """Each side's highest ones that are nowhere above 0, by shortest paths through the whole matrix at a time."""
    n = 90
    costs = cdist(rows(n, 0).numpy() + 0.3, rows(n, 1).numpy())
    columns = linear_sum_assignment(costs)[1]

    def highest(apart):  # of the columns, where each row is paired with the column of its number
        found = np.zeros(n)
        for _ in range(n):
            found = np.minimum(found, (apart + (found - apart.diagonal())[:, None]).min(0))
        return found

    paired = costs[:, columns]
    v_high, u_high, own = highest(paired), highest(paired.T), paired.diagonal()
    u, v = exact._potentials(costs, np.arange(n), columns)
    np.testing.assert_allclose(u, (u_high + own - v_high) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(v[columns], (v_high + own - u_high) / 2, rtol=0, atol=1e-12)
    assert (costs - u[:, None] - v).min() > -1e-12
    monkeypatch.setattr(exact, "_CACHED", 7)
    for one, other in zip(exact._potentials(costs, np.arange(n), columns), (u, v), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_neither_order_nor_roles_matter(n, m, p):
    x, y = rows(n, 0) + 0.4, rows(m, 1)
    score, turned, swapped = (wasserstein(*sets, p=p) for sets in ((x, y), (x.flip(0), y.roll(5, 0)), (y, x)))
    assert dict(turned.values) == pytest.approx(dict(score.values), rel=1e-9)
    assert dict(turned.errors) == pytest.approx(dict(score.errors), rel=1e-9)
    assert swapped.values["wasserstein"] == pytest.approx(score.values["wasserstein"], rel=1e-12)
    assert swapped.errors["wasserstein"] == pytest.approx(score.errors["wasserstein"], rel=1e-9)
    torch.testing.assert_close(swapped.contributions["reference"], score.contributions["generated"])
    torch.testing.assert_close(turned.per_image["generated"].flip(0), score.per_image["generated"])


def test_rotation_and_translation_of_both_do_not_matter():
    x, y, turn = rows(30, 0) + 0.4, rows(24, 1), torch.linalg.qr(rows(4, 5))[0]
    score, moved = wasserstein(x, y), wasserstein(x @ turn + 100, y @ turn + 100)
    assert dict(moved.values) == pytest.approx(dict(score.values), rel=1e-9)
    assert dict(moved.errors) == pytest.approx(dict(score.errors), rel=1e-6)


def test_float32_rows_far_from_the_origin_give_the_value_of_float64():
    x, y = (rows(60, seed, 64, torch.float32) + 30 for seed in (0, 1))
    single, double = wasserstein(x, y), wasserstein(x.double(), y.double())
    assert single.values["wasserstein"] == pytest.approx(double.values["wasserstein"], rel=1e-12)


def test_halves_of_equal_sets_tell_the_floor():
    """In many dimensions nearly all of the distance is the floor, and the warning says so."""
    x, y = rows(80, 0, 200), rows(80, 1, 200)
    score = wasserstein(x, y)
    assert score.values["floor"] == pytest.approx(score.values["wasserstein"], rel=0.05)
    assert abs(score.values["debiased"]) < 3 * score.errors["debiased"]
    assert "halves of one" in score.warnings[0]
    assert not wasserstein(rows(80, 0, 2), rows(80, 1, 2) + 9).warnings


def test_the_seed_draws_the_halves_alone():
    x, y = rows(40, 0), rows(40, 1)
    one, same, other = (wasserstein(x, y, seed=seed) for seed in (0, 0, 1))
    assert one.values == same.values
    assert one.values["wasserstein"] == other.values["wasserstein"]
    assert one.values["floor"] != other.values["floor"]


@pytest.mark.parametrize(
    ("generated", "reference", "options", "error", "message"),
    [
        (rows(7, 0), rows(9, 1), {}, TooFewImages, "at least 8 generated rows are needed, found 7"),
        (rows(9, 0), rows(3, 1), {}, TooFewImages, "at least 8 reference rows are needed, found 3"),
        (rows(9, 0), rows(9, 1, 5), {}, UsageError, r"4 \(generated\) and of 5 \(reference\) dimensions"),
        (rows(9, 0), rows(9, 1), {"p": 0.5}, UsageError, "at least 1"),
        (rows(9, 0), rows(9, 1), {"p": math.nan}, UsageError, "at least 1"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.nan), rows(9, 1), {}, NumericalError, "row 4"),
        (rows(9, 0) * 1e200, rows(9, 1), {}, NumericalError, "too large"),
        (rows(1000, 0, 1), rows(999, 1, 1), {}, UsageError, r"999000 equal shares.*--rows 999"),
        (rows(LIMIT + 1, 0, 1), rows(LIMIT + 1, 1, 1), {}, UsageError, f"--rows {LIMIT}"),
    ],
)
def test_what_is_refused(generated, reference, options, error, message):
    with pytest.raises(error, match=message):
        wasserstein(generated, reference, **options)


def test_global_random_state_and_the_rows_are_left_alone():
    x, y = rows(20, 0), rows(20, 1)
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [x.clone(), y.clone()]
    wasserstein(x, y)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
