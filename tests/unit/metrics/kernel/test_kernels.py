"""Kernels against scikit-learn and SciPy, bandwidths against a plain median."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from gen_eval.errors import NumericalError, UnknownName, UsageError
from gen_eval.metrics.kernel.kernels import (
    KERNELS,
    energy,
    find_kernel,
    laplace,
    median_distance,
    polynomial,
    rational_quadratic,
    rbf,
)

DIM = 5


def rows(n, seed=0, dtype=torch.float64):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gram(kernel, x, y):
    argument = cdist(x, y, "sqeuclidean") if kernel.of_distance else x.numpy() @ y.numpy().T
    return kernel.profile(torch.from_numpy(argument)).numpy()


def scikit_rbf(s):
    return lambda x, y: rbf_kernel(x, y, gamma=0.5 / s**2)


@pytest.mark.parametrize(
    ("kernel", "oracle"),
    [
        (polynomial(DIM), lambda x, y: polynomial_kernel(x, y, degree=3)),
        (
            polynomial(DIM, degree=2, gamma=0.3, coef0=-0.5),
            lambda x, y: polynomial_kernel(x, y, degree=2, gamma=0.3, coef0=-0.5),
        ),
        (rbf([1.7]), scikit_rbf(1.7)),
        (rbf([0.5, 1.0, 3.0]), lambda x, y: np.mean([scikit_rbf(s)(x, y) for s in (0.5, 1.0, 3.0)], 0)),
        (laplace(1.3), lambda x, y: np.exp(-cdist(x, y) / 1.3)),
        (rational_quadratic(1.3, [0.7]), lambda x, y: (1 + cdist(x, y) ** 2 / (1.4 * 1.3**2)) ** -0.7),
        (
            rational_quadratic(2.0),
            lambda x, y: np.mean(
                [(1 + cdist(x, y) ** 2 / (8 * a)) ** -a for a in (0.2, 0.5, 1, 2, 5)], axis=0
            ),
        ),
        (energy(), lambda x, y: -cdist(x, y)),
    ],
)
def test_kernels_equal_their_formula(kernel, oracle):
    x, y = rows(7), rows(9, 1)
    np.testing.assert_allclose(gram(kernel, x, y), oracle(x.numpy(), y.numpy()), rtol=1e-12)


def test_the_conventions_of_the_lecture_and_of_cmmd_map_to_the_bandwidth():
    x, y = rows(7), rows(9, 1)
    squares = cdist(x, y, "sqeuclidean")
    np.testing.assert_allclose(gram(rbf([3 / math.sqrt(2)]), x, y), np.exp(-squares / 3**2), rtol=1e-12)
    np.testing.assert_allclose(gram(rbf([10]), x, y), np.exp(-squares / (2 * 10**2)), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_row_of_the_table_is_a_positive_definite_kernel_between_distributions(name):
    x = rows(40)
    values = gram(find_kernel(name, "median", x, rows(10, 1))[0], x, x)
    np.testing.assert_allclose(values, values.T)
    centring = np.eye(40) - 1 / 40  # the energy kernel is so about a mean alone
    assert np.linalg.eigvalsh(centring @ values @ centring).min() > -1e-9


@pytest.mark.parametrize(("n", "m"), [(6, 7), (6, 6), (30, 1)])
def test_the_median_is_that_of_all_pairs_of_the_pooled_rows(n, m):
    x, y = rows(n), rows(m, 1) + 1
    assert median_distance(x, y) == pytest.approx(np.median(pdist(torch.cat([x, y]).numpy())), rel=1e-12)


def test_the_median_of_many_rows_looks_at_some_and_does_not_depend_on_their_order_or_set():
    x, y = rows(3000), rows(2500, 1) + 1
    median = median_distance(x, y)
    assert median == pytest.approx(np.median(pdist(torch.cat([x, y]).numpy())), rel=0.02)
    mixed = torch.cat([x, y])[torch.randperm(5500, generator=torch.Generator().manual_seed(0))]
    assert median_distance(mixed[:100], mixed[100:]) == pytest.approx(median, rel=1e-12)


def test_bandwidths_are_numbers_the_median_or_multiples_of_it():
    x, y = rows(20), rows(20, 1)
    median = median_distance(x, y)

    def built(name, bandwidth):
        kernel, unit = find_kernel(name, bandwidth, x, y)
        return gram(kernel, x, y), unit

    for name, bandwidth, expected, unit in (
        ("rbf", "median", rbf([median]), median),
        ("rbf", 3, rbf([3.0]), 3.0),
        ("laplace", 2.5, laplace(2.5), 2.5),
        ("mixture", "median", rbf([median * k for k in (0.25, 0.5, 1, 2, 4)]), median),
        ("mixture", 2.0, rbf([2 * k for k in (0.25, 0.5, 1, 2, 4)]), 2.0),
        ("mixture", (0.5, 3), rbf([median * 0.5, median * 3]), median),
        ("energy", "median", energy(), None),
    ):
        values, used = built(name, bandwidth)
        np.testing.assert_allclose(values, gram(expected, x, y), rtol=1e-12)
        assert used == unit


@pytest.mark.parametrize(
    ("name", "bandwidth", "message"),
    [
        ("rbf", 0, "must be positive and finite, found 0"),
        ("rbf", math.inf, "must be positive and finite"),
        ("rbf", math.nan, "must be positive and finite"),
        ("rbf", "mean", "a number or 'median', found 'mean'"),
        ("rbf", (1, 2), "'mixture' takes several"),
        ("mixture", (), "must be positive"),
        ("mixture", (1, -2), "must be positive"),
        ("polynomial", 1.0, "has no bandwidth"),
        ("energy", (1, 2), "has no bandwidth"),
    ],
)
def test_bandwidths_that_make_no_sense_are_refused(name, bandwidth, message):
    with pytest.raises(UsageError, match=message):
        find_kernel(name, bandwidth, rows(5), rows(5, 1))


@pytest.mark.parametrize(
    "options", [{"degree": 0}, {"degree": 1.5}, {"gamma": math.nan}, {"coef0": math.inf}]
)
def test_polynomials_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match="a polynomial kernel needs"):
        polynomial(DIM, **options)


def test_unknown_kernels_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'laplace'"):
        find_kernel("laplacian", "median", rows(5), rows(5, 1))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_copies_of_one_row_have_no_median(offset):
    x = rows(1).expand(20, DIM) + offset
    with pytest.raises(NumericalError, match="give a bandwidth"):
        median_distance(x, rows(5))
