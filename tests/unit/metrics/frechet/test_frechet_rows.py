"""What the rows tell beyond the Fréchet distance: contributions, their standard error, the extrapolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.metrics.frechet.frechet import frechet, frechet_infinity
from gen_eval.metrics.frechet.gaussian import Gaussian, couple
from gen_eval.stats import Moments, Sample


def as64(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def known(mean, cov):
    """A Gaussian known exactly: the moments of infinitely many images."""
    return Gaussian(None, as64(mean), as64(cov))


def fitted(rows, *, ddof=1):
    rows = torch.as_tensor(rows)
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(ddof), rows, ddof)


def with_rows(side, rows):
    return Gaussian(side.n, side.mean, side.cov, rows)


def value(generated, reference, **options):
    return frechet(generated, reference, **options).values["frechet"]


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def cloud(n, d, seed, *, shift=0.0, decades=1.0):
    """Rows with a correlated covariance whose standard deviations span ``decades / 2`` powers of ten."""
    rng = np.random.default_rng(seed)
    scales = 10 ** -np.linspace(0, decades / 2, d)
    return (rng.standard_normal((n, d)) * scales) @ rotation(d, seed) + shift


D = 12
CASES = {
    "full rank": (cloud(60, D, 1, shift=0.3), cloud(50, D, 2)),
    "large offset": (cloud(60, D, 1, shift=1000.3), cloud(50, D, 2, shift=1000)),
    "few generated": (cloud(7, D, 1), cloud(50, D, 2)),
    "few reference": (cloud(50, D, 1), cloud(7, D, 2)),
    "few of both": (cloud(7, D, 1), cloud(5, D, 2)),
    "n = d + 1": (cloud(D + 1, D, 1), cloud(D + 1, D, 2)),
    "twelve decades": (cloud(60, D, 1, decades=12), cloud(50, D, 2, decades=12)),
}


# --- Contributions and their standard error


def weighted_distance(generated, weights, reference):
    """The distance to a weighted set, with ddof 0, by numpy alone: two eigendecompositions."""
    weights = weights / weights.sum()
    mean = weights @ generated
    cov = (generated - mean).T * weights @ (generated - mean)
    other, spread = reference.mean(0), np.cov(reference, rowvar=False, ddof=0)
    # The nuclear norm of the weighted factors is exact for sets of any rank.
    factors = np.sqrt(weights)[:, None] * (generated - mean), (reference - other) / math.sqrt(len(reference))
    trace = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    return (mean - other) @ (mean - other) + np.trace(cov) + np.trace(spread) - 2 * trace


@pytest.mark.parametrize("method", ["nuclear", "cholesky"])
@pytest.mark.parametrize(
    "case", ["full rank", "large offset", "few generated", "few reference", "few of both", "n = d + 1"]
)
def test_a_contribution_is_the_slope_as_the_image_gains_weight(case, method):
    generated, reference = CASES[case]
    score = frechet(fitted(generated, ddof=0), fitted(reference, ddof=0), method=method)
    step = 1e-5
    for role, ours, others, distance in (
        ("generated", generated, reference, weighted_distance),
        ("reference", reference, generated, weighted_distance),
    ):
        contribution = score.contributions[role].numpy()
        assert len(contribution) == len(ours)
        for image in range(min(len(ours), 5)):
            up, down = np.ones((2, len(ours)))
            up[image] += step
            down[image] -= step
            slope = (distance(ours, up, others) - distance(ours, down, others)) / (2 * step)
            assert contribution[image] == pytest.approx(
                slope, rel=1e-4, abs=1e-5 * np.abs(contribution).max()
            )


@pytest.mark.parametrize("case", ["full rank", "few generated", "few of both", "twelve decades"])
def test_contributions_are_about_their_mean(case):
    score = frechet(*(fitted(rows) for rows in CASES[case]))
    for contribution in score.contributions.values():
        assert abs(float(contribution.sum())) < 1e-9 * float(contribution.abs().sum())


def test_a_second_copy_of_an_image_moves_the_distance_by_its_contribution():
    generated, reference = cloud(4000, 4, 1, shift=0.2), fitted(cloud(3000, 4, 2))
    before = frechet(fitted(generated), reference)
    contribution = before.contributions["generated"]
    for image in (int(contribution.argmax()), int(contribution.argmin())):
        after = value(fitted(np.concatenate([generated, generated[[image]]])), reference)
        change = after - before.values["frechet"]
        assert change == pytest.approx(float(contribution[image]), rel=0.02)


def test_an_outlier_contributes_most():
    generated = cloud(500, D, 1)
    generated[123] += 20
    contribution = frechet(fitted(generated), fitted(cloud(400, D, 2))).contributions["generated"]
    assert int(contribution.argmax()) == 123
    assert float(contribution[123]) > 10 * float(contribution.sort().values[-2])


@pytest.mark.parametrize("case", ["full rank", "few of both"])
def test_the_standard_error_is_the_spread_of_the_contributions(case):
    generated, reference = (fitted(rows) for rows in CASES[case])
    score = frechet(generated, reference)
    variance = sum(
        float((contribution * len(contribution)).var()) / len(contribution)
        for contribution in score.contributions.values()
    )
    assert score.errors["frechet"] == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_a_set_known_exactly_adds_no_error():
    rows, exact = fitted(cloud(500, D, 1)), known(np.zeros(D), np.eye(D))
    both = frechet(rows, fitted(cloud(400, D, 2))).errors["frechet"]
    one = frechet(rows, exact)
    assert 0 < one.errors["frechet"] < both
    assert set(one.contributions) == {"generated"}


def test_part_of_the_rows_gives_an_error_bar_for_all_of_them():
    rows = torch.from_numpy(cloud(8000, D, 1, shift=0.2))
    whole, reference = fitted(rows), known(np.zeros(D), np.eye(D))
    part = with_rows(whole, Sample.of(rows, torch.arange(8000), 2000).rows)
    assert value(part, reference) == value(whole, reference)
    assert frechet(part, reference).errors["frechet"] == pytest.approx(
        frechet(whole, reference).errors["frechet"], rel=0.08
    )
    assert len(frechet(part, reference).contributions["generated"]) == 2000


# --- Extrapolation


def test_the_extrapolation_is_the_line_through_nested_subsets():
    rows, reference = torch.from_numpy(cloud(600, 6, 1, shift=0.2)), fitted(cloud(700, 6, 2))
    score = frechet_infinity(fitted(rows), reference, points=4, smallest=150)
    sizes = [150, 300, 450, 600]
    values = [value(fitted(rows[:size]), reference) for size in sizes]
    slope, intercept = np.polyfit(1 / np.array(sizes), values, 1)
    assert score.values["frechet_inf"] == pytest.approx(intercept, rel=1e-9)
    assert score.values["slope"] == pytest.approx(slope, rel=1e-9)
    assert score.values["frechet"] == pytest.approx(values[-1], rel=1e-12)
    assert next(iter(score.values)) == "frechet_inf"


def test_the_extrapolation_follows_ddof_and_the_dtype_of_the_mean():
    rows, other = cloud(600, 6, 1, shift=1000.2), cloud(700, 6, 2, shift=1000)
    sizes = [300, 450, 600]
    sides = [fitted(rows, ddof=0), fitted(other, ddof=0)]
    score = frechet_infinity(*sides, points=3, mean_dtype="float32")
    values = [value(fitted(rows[:size], ddof=0), sides[1], mean_dtype="float32") for size in sizes]
    assert score.values["frechet_inf"] == pytest.approx(
        np.polyfit(1 / np.array(sizes), values, 1)[1], rel=1e-8
    )


def test_the_extrapolation_errs_more_than_the_value_at_n():
    score = frechet_infinity(fitted(cloud(600, 6, 1)), fitted(cloud(700, 6, 2)))
    assert score.errors["frechet_inf"] > score.errors["frechet"] > 0
    assert score.errors["frechet_inf"] > score.errors["fit"] > 0


def test_the_extrapolation_needs_twice_the_dimension():
    reference = known(np.zeros(D), np.eye(D))
    frechet_infinity(fitted(cloud(2 * D + 2, D, 1)), reference)
    with pytest.raises(TooFewImages, match=f"needs {2 * D + 2} generated images, found {2 * D + 1}"):
        frechet_infinity(fitted(cloud(2 * D + 1, D, 1)), reference)


@pytest.mark.parametrize("options", [{"points": 2}, {"points": 0}, {"points": 2.5}, {"smallest": 0}])
def test_a_line_that_has_no_error_is_refused(options):
    side = fitted(cloud(100, 3, 1))
    with pytest.raises(UsageError, match=next(iter(options))):
        frechet_infinity(side, side, **options)


def test_the_extrapolation_needs_all_rows():
    side = fitted(cloud(100, 3, 1))
    for short in (with_rows(side, None), with_rows(side, side.rows[:99])):
        with pytest.raises(UsageError, match="needs every generated feature row"):
            frechet_infinity(short, side)


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "moments"])
@pytest.mark.parametrize("decades", [0.5, 6.0])
def test_the_second_order_is_that_of_all_products_of_squared_coordinates(decades, rows):
    # Of a set of n: (tr S + (sum of K_ij E w_i² w_j² - tr K) / 2) / n, with K_ij = l_i l_j / (l_i + l_j).
    sides = [fitted(cloud(n, 12, seed, decades=decades)) for n, seed in ((300, 1), (200, 2))]
    coupling = couple(*sides)
    lengths = coupling.spectrum
    form = lengths[:, None] * lengths / (lengths[:, None] + lengths)
    expected = 0.0
    for side, coordinates in zip(sides, (coupling.of_generated, coupling.of_reference), strict=True):
        squares = coordinates(slice(None)) ** 2
        gaussian = 1 + 2 * torch.eye(12, dtype=torch.float64)
        fourth = squares.T @ squares / len(squares) if rows else gaussian
        expected += float(side.cov.trace() + ((form * fourth).sum() - form.trace()) / 2) / side.n
    score = frechet(*(side if rows else with_rows(side, None) for side in sides))
    assert score.bias == pytest.approx(expected, rel=1e-10)
