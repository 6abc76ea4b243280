"""The mean pairwise distance: SciPy's, the jackknife, closed forms, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.diversity.pairwise import pairwise_distance

METRICS = {False: "euclidean", True: "sqeuclidean"}


def rows(n, seed, dim=5, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def value(x, squared):
    return pairwise_distance(x, squared=squared).values["pairwise_distance"]


@pytest.mark.parametrize("squared", METRICS)
@pytest.mark.parametrize("n", [4, 37])
def test_the_value_is_scipys_mean(n, squared):
    x = rows(n, 0)
    assert value(x, squared) == pytest.approx(pdist(x.numpy(), METRICS[squared]).mean(), rel=1e-12)


@pytest.mark.parametrize("squared", METRICS)
def test_error_and_contributions_are_those_of_the_jackknife(squared):
    x, n = rows(25, 0), 25
    score = pairwise_distance(x, squared=squared)
    without = np.array([value(x[torch.arange(n) != i], squared) for i in range(n)])
    jackknife = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    assert score.errors["pairwise_distance"] == pytest.approx(jackknife, rel=1e-9)
    np.testing.assert_allclose(
        score.contributions["generated"], score.values["pairwise_distance"] - without, atol=1e-10
    )


@pytest.mark.parametrize("squared", METRICS)
def test_of_each_image_the_mean_distance_to_the_others(squared):
    x = rows(12, 0)
    expected = [
        np.mean([float((x[i] - x[j]).norm()) ** (1 + squared) for j in range(12) if j != i])
        for i in range(12)
    ]
    np.testing.assert_allclose(
        pairwise_distance(x, squared=squared).per_image["generated"], expected, rtol=1e-9
    )


def test_the_mean_squared_distance_is_twice_the_trace_of_the_covariance():
    x = rows(30, 0) * torch.arange(1, 6) + 1e4
    assert value(x, True) == pytest.approx(2 * np.trace(np.cov(x.numpy().T)), rel=1e-9)


def test_round_gaussians():
    """E |x - x'| is 2 Gamma((d + 1) / 2) / Gamma(d / 2), and that of its square 2d."""
    x, d = rows(4000, 0, 3), 3
    for squared, expected in ((False, 2 * math.gamma(2) / math.gamma(1.5)), (True, 2 * d)):
        score = pairwise_distance(x, squared=squared)
        error = score.errors["pairwise_distance"]
        assert score.values["pairwise_distance"] == pytest.approx(expected, abs=3 * error)
        assert error < 0.02 * expected


@pytest.mark.parametrize("squared", METRICS)
def test_neither_order_nor_rotation_nor_translation_matter(squared):
    x, turn = rows(30, 0), torch.linalg.qr(rows(5, 5))[0]
    for other in (x.flip(0), x @ turn, x + 100):
        assert value(other, squared) == pytest.approx(value(x, squared), rel=1e-9)


@pytest.mark.parametrize("squared", METRICS)
def test_copies_are_no_distance_apart(squared):
    score = pairwise_distance(torch.full((9, 3), 7.0), squared=squared)
    assert score.values["pairwise_distance"] == 0
    assert score.errors["pairwise_distance"] == 0


@pytest.mark.parametrize("squared", METRICS)
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (rows(3, 0), TooFewImages, "at least 4 generated rows are needed, found 3"),
        (rows(9, 0)[0], UsageError, r"shape \(5,\)"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.inf), NumericalError, "row 4"),
        (rows(9, 0) * 1e200, NumericalError, "too large"),
    ],
)
def test_what_is_refused(given, error, message, squared):
    with pytest.raises(error, match=message):
        pairwise_distance(given, squared=squared)
