"""KID against a plain loop over its subsets, on both of the ways it is computed."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.kernel.kernels import polynomial
from gen_eval.metrics.kernel.kid import kid
from gen_eval.metrics.kernel.mmd import mmd

DIM = 24
ENGINE = importlib.import_module("gen_eval.metrics.kernel.kid")  # the name is that of its function as well


def rows(n, seed, dtype=torch.float64):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def pair():
    return rows(150, 0) + 0.3, rows(120, 1)


def plain(x, y, subsets, size, seed, **options):
    """Subset by subset, in the order of torch-fidelity's draws."""
    rng, kernel = np.random.RandomState(seed), polynomial(DIM, **options)
    values = []
    for _ in range(subsets):
        chosen = [z[rng.choice(len(z), size, replace=False)] for z in (x, y)]
        values.append(mmd(*chosen, kernel=kernel).values["mmd2"])
    return np.array(values)


# The first shares one Gram matrix, the second does not: together its subsets hold fewer pairs than there are.
SHARED, SINGLE = {"subsets": 40, "subset_size": 60}, {"subsets": 5, "subset_size": 30}


def is_shared(n, m, subsets, subset_size):
    return ENGINE._share(n, m, subset_size, subsets, DIM)


@pytest.mark.parametrize("terms", [SHARED, SINGLE])
@pytest.mark.parametrize("options", [{}, {"degree": 2, "gamma": 0.1, "coef0": 0.5}])
def test_mean_and_spread_are_those_of_a_plain_loop(terms, options, pair):
    score = kid(*pair, **terms, **options, seed=3)
    expected = plain(*pair, *terms.values(), 3, **options)
    assert score.values["kid"] == pytest.approx(expected.mean(), rel=1e-10)
    assert score.values["std"] == pytest.approx(expected.std(), rel=1e-9)
    assert score.bias == 0


def test_the_estimate_of_all_rows_comes_with_a_shared_gram_matrix_alone(pair):
    assert is_shared(150, 120, **SHARED)
    assert not is_shared(150, 120, **SINGLE)
    score, full = kid(*pair, **SHARED), mmd(*pair, kernel="polynomial")
    assert score.values["kid_full"] == pytest.approx(full.values["mmd2"], rel=1e-10)
    assert score.errors["kid_full"] == pytest.approx(full.errors["mmd2"], rel=1e-10)
    assert score.errors["kid"] > score.errors["kid_full"]
    assert "kid_full" not in kid(*pair, **SINGLE).values


@pytest.mark.parametrize(
    ("n", "subsets", "shared"),
    [(1000, 100, True), (5000, 100, True), (20_000, 100, False), (5000, 10, False)],
)
def test_the_cheaper_way_is_taken(n, subsets, shared):
    assert ENGINE._share(n, n, 1000, subsets, 2048) == shared


def test_both_ways_agree(pair, monkeypatch):
    terms = {"subsets": 60, "subset_size": 50}
    shared = kid(*pair, **terms)
    monkeypatch.setattr(ENGINE, "_share", lambda *args: False)
    single = kid(*pair, **terms)
    assert single.values["kid"] == pytest.approx(shared.values["kid"], rel=1e-10)
    assert single.values["std"] == pytest.approx(shared.values["std"], rel=1e-10)
    assert single.errors["kid"] == pytest.approx(shared.errors["kid"], rel=0.1)  # from smaller Gram matrices


def test_the_error_of_one_subset_is_that_of_so_many_images(pair):
    x, y = pair
    chosen = np.random.RandomState(2020)
    alone = mmd(x[chosen.choice(150, 100, False)], y[chosen.choice(120, 100, False)], kernel="polynomial")
    score = kid(x, y, subsets=1, subset_size=100)
    assert score.values["kid"] == pytest.approx(alone.values["mmd2"], rel=1e-10)
    assert score.errors["kid"] == pytest.approx(alone.errors["mmd2"], rel=1e-6)
    assert score.values["std"] == 0


def test_subsets_of_everything_are_the_estimate_of_everything():
    x, y = rows(50, 0), rows(50, 1)
    score, full = kid(x, y, subsets=20, subset_size=50), mmd(x, y, kernel="polynomial")
    assert score.values["kid"] == pytest.approx(full.values["mmd2"], rel=1e-10)
    assert score.values["std"] == pytest.approx(0, abs=1e-12)
    assert score.errors["kid"] == pytest.approx(full.errors["mmd2"], rel=1e-10)


@pytest.mark.parametrize("terms", [SHARED, SINGLE])
def test_the_spread_of_subsets_is_the_one_the_error_counts(terms):
    """Var(one subset | images) = Var(one subset) - Var(all images), which the error says without their spread."""
    x, y = rows(150, 0) + 0.3, rows(120, 1)
    many = kid(x, y, subsets=400, subset_size=terms["subset_size"])
    few, all_rows = kid(x, y, **terms), mmd(x, y, kernel="polynomial").errors["mmd2"]
    counted = math.sqrt((few.errors["kid"] ** 2 - all_rows**2) * terms["subsets"])
    assert counted == pytest.approx(many.values["std"], rel=0.15)


def test_subsets_larger_than_a_set_are_lowered_with_a_warning(pair):
    score = kid(*pair, subsets=3)
    assert score.values["kid"] == pytest.approx(plain(*pair, 3, 120, 2020).mean(), rel=1e-10)
    (warning,) = score.warnings
    assert "subsets of 120 rows instead of 1000: there are 150 generated and 120 reference" in warning
    assert not kid(*pair, subsets=3, subset_size=120).warnings


def test_float32_rows_give_the_value_of_float64_to_a_millionth_of_a_small_distance():
    """Rows as those of Inception: not negative, far from the origin, and all but alike."""
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(size, 512, generator=generator).add(shift).relu().mul(0.5)
        for size, shift in ((600, 0.5), (500, 0.52))
    )
    for terms in ({"subsets": 30, "subset_size": 400}, {"subsets": 3, "subset_size": 200}):
        single, double = kid(x, y, **terms), kid(x.double(), y.double(), **terms)
        assert 1e-6 < abs(double.values["kid"]) < 1e-3
        assert single.values["kid"] == pytest.approx(double.values["kid"], rel=2e-6)
        assert single.values["std"] == pytest.approx(double.values["std"], rel=2e-6)


def test_seeds_decide_the_subsets_and_nothing_else_does(pair):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two, other = (kid(*pair, **SINGLE, seed=seed).values["kid"] for seed in (1, 1, 2))
    assert one == two != other
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (rows(3, 0), rows(9, 1), {}, TooFewImages, "at least 4 generated rows"),
        (
            rows(9, 0),
            rows(9, 1)[:, :5],
            {},
            UsageError,
            r"24 \(generated\) and of 5 \(reference\) dimensions",
        ),
        (rows(9, 0), rows(9, 1).index_fill(0, torch.tensor(1), math.nan), {}, NumericalError, "row 1"),
        (rows(9, 0), rows(9, 1), {"subsets": 0}, UsageError, "subsets must be 1 or more"),
        (rows(9, 0), rows(9, 1), {"subset_size": 3}, UsageError, "4 rows or more"),
        (rows(9, 0), rows(9, 1), {"degree": 0}, UsageError, "degree of 1"),
    ],
)
def test_what_makes_no_sense_is_refused(x, y, options, error, message):
    with pytest.raises(error, match=message):
        kid(x, y, **options)
