"""The value of the Fréchet distance: closed forms, 60 digits, invariances, parameters, and what is refused."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.frechet.frechet import METHODS, frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.stats import Moments

TOLERANCE = 1e-8  # relative, of every method on every case


def as64(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def known(mean, cov):
    """A Gaussian known exactly: the moments of infinitely many images."""
    return Gaussian(None, as64(mean), as64(cov))


def fitted(rows, *, keep=True, ddof=1):
    rows = torch.as_tensor(rows)
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(ddof), rows if keep else None, ddof)


def value(generated, reference, **options):
    return frechet(generated, reference, **options).values["frechet"]


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def cloud(n, d, seed, *, shift=0.0, decades=1.0):
    """Rows with a correlated covariance whose standard deviations span ``decades / 2`` powers of ten."""
    rng = np.random.default_rng(seed)
    scales = 10 ** -np.linspace(0, decades / 2, d)
    return (rng.standard_normal((n, d)) * scales) @ rotation(d, seed) + shift


# --- Closed forms


def test_diagonal_covariances():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.25])
    mean = np.array([1.0, -2.0, 0.5])
    expected = (mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for method in METHODS:
        assert value(known(mean, np.diag(a)), known(0 * mean, np.diag(b)), method=method) == pytest.approx(
            expected, rel=1e-12
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [1, 2, 8, 64])
def test_full_covariances_by_their_transport_map(method, d):
    # x -> T x + t carries N(m, S) to N(T m + t, T S T), and is optimal for any symmetric positive T. The
    # distance is then E|x - T x - t|²: no square root of a matrix in sight.
    rng = np.random.default_rng(d)
    a, b = rng.standard_normal((2, d, 2 * d))
    cov, transport = a @ a.T / d, b @ b.T / d
    mean, shift = rng.standard_normal((2, d))
    residual = np.eye(d) - transport
    gap = residual @ mean - shift
    expected = gap @ gap + np.trace(residual @ cov @ residual)
    image = known(transport @ mean + shift, transport @ cov @ transport)
    assert value(known(mean, cov), image, method=method) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_equal_covariances_leave_the_distance_of_the_means(method):
    cov = np.cov(cloud(100, 8, 0), rowvar=False)
    assert value(known(np.full(8, 3.0), cov), known(np.zeros(8), cov), method=method) == pytest.approx(
        72, rel=1e-12
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["alike", "reversed"])
def test_commuting_covariances_over_twelve_decades(method, order):
    d = 48
    basis = rotation(d)
    a = 10.0 ** -np.linspace(0, 12, d)
    b = 2 * (a if order == "alike" else a[::-1])
    generated, reference = ((basis * spectrum) @ basis.T for spectrum in (a, b))
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = value(known(np.zeros(d), generated), known(np.zeros(d), reference), method=method)
    # Multiplied, the spectra span 24 decades where float64 holds 16: each root that drowns costs the
    # cross-check sqrt(1e-16) of the largest. The other methods never multiply the covariances.
    assert found == pytest.approx(expected, rel=1e-7 if method == "sqrtm" else TOLERANCE)


# --- All methods against 60 digits


def oracle(generated, reference):
    """The distance of the sets of rows in 60 digits, from the definition."""
    with mpmath.workdps(60):
        (gap_g, cov_g), (gap_r, cov_r) = (_moments_in_60_digits(rows) for rows in (generated, reference))
        root = _root(cov_r)
        trace = sum(_roots_of_eigenvalues(root * cov_g * root))
        gap = gap_g - gap_r
        spread = sum((cov_g + cov_r)[i, i] for i in range(cov_g.rows))
        return float((gap.T * gap)[0] + spread - 2 * trace)


def _moments_in_60_digits(rows):
    rows = mpmath.matrix(np.asarray(rows, np.float64).tolist())
    n = rows.rows
    mean = (mpmath.ones(1, n) * rows / n).T
    centred = rows - mpmath.ones(n, 1) * mean.T
    return mean, centred.T * centred / (n - 1)


def _roots_of_eigenvalues(symmetric):
    return [mpmath.sqrt(max(x, 0)) for x in mpmath.eigsy(symmetric, eigvals_only=True)]


def _root(symmetric):
    values, vectors = mpmath.eigsy(symmetric)
    return vectors * mpmath.diag([mpmath.sqrt(max(x, 0)) for x in values]) * vectors.T


def duplicated(rows):
    """Every other feature stands twice: half the covariance's eigenvalues are zero, and no Cholesky exists."""
    half = rows[:, : rows.shape[1] // 2]
    return np.concatenate([half, half], 1)


def constant(rows):
    """Some features never change, like dead channels behind a ReLU."""
    rows = rows.copy()
    rows[:, ::3] = 0.25
    return rows


D = 12
CASES = {
    "full rank": (cloud(60, D, 1, shift=0.3), cloud(50, D, 2)),
    "full rank, float32 rows": (cloud(60, D, 1, shift=0.3).astype("f4"), cloud(50, D, 2).astype("f4")),
    "large offset": (cloud(60, D, 1, shift=1000.3), cloud(50, D, 2, shift=1000)),
    "few generated": (cloud(7, D, 1), cloud(50, D, 2)),
    "few reference": (cloud(50, D, 1), cloud(7, D, 2)),
    "few of both": (cloud(7, D, 1), cloud(5, D, 2)),
    "two of each": (cloud(2, D, 1), cloud(2, D, 2)),
    "n = d": (cloud(D, D, 1), cloud(D, D, 2)),
    "n = d + 1": (cloud(D + 1, D, 1), cloud(D + 1, D, 2)),
    "n = d + 2": (cloud(D + 2, D, 1), cloud(50, D, 2)),
    "duplicated features in both": (duplicated(cloud(60, D, 1)), duplicated(cloud(50, D, 2))),
    "duplicated features in generated": (duplicated(cloud(60, D, 1)), cloud(50, D, 2)),
    "duplicated features in reference": (cloud(60, D, 1), duplicated(cloud(50, D, 2))),
    "constant features in both": (constant(cloud(60, D, 1)), constant(cloud(50, D, 2))),
    "constant features in generated": (constant(cloud(60, D, 1)), cloud(50, D, 2)),
    "constant features in reference": (cloud(60, D, 1), constant(cloud(50, D, 2))),
    "six decades": (cloud(60, D, 1, decades=6), cloud(50, D, 2, decades=6)),
    "twelve decades": (cloud(60, D, 1, decades=12), cloud(50, D, 2, decades=12)),
    "twelve decades against one": (cloud(60, D, 1, decades=12), cloud(50, D, 2)),
    "few of twelve decades": (cloud(7, D, 1, decades=12), cloud(50, D, 2, decades=12)),
}


@pytest.fixture(scope="module")
def truth():
    return {name: oracle(*rows) for name, rows in CASES.items()}


@pytest.mark.parametrize("keep", [True, False], ids=["rows", "moments"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_every_method_agrees_with_60_digits(case, method, keep, truth):
    generated, reference = (fitted(rows, keep=keep) for rows in CASES[case])
    assert value(generated, reference, method=method) == pytest.approx(truth[case], rel=TOLERANCE)
    assert value(reference, generated, method=method) == pytest.approx(truth[case], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("n", "m"), [(200, 150), (65, 65), (64, 64), (30, 150), (150, 30), (30, 25)], ids=str
)
def test_methods_agree_at_a_larger_dimension(n, m):
    generated, reference = fitted(cloud(n, 64, 1, decades=6)), fitted(cloud(m, 64, 2, decades=6))
    values = {method: value(generated, reference, method=method) for method in METHODS}
    for method in METHODS:
        assert values[method] == pytest.approx(values["nuclear"], rel=TOLERANCE), method


# --- Invariances


PAIRS = {name: CASES[name] for name in ("full rank", "few generated", "few of both", "twelve decades")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_the_distance_to_itself_is_zero(case, method):
    side = fitted(CASES[case][0])
    # The terms cancel to the rounding of the trace, and no further; sqrtm rounds as said above.
    rounding = 1e-8 if method == "sqrtm" else 1e-12
    assert abs(value(side, side, method=method)) <= rounding * float(side.cov.trace())


@pytest.mark.parametrize("case", PAIRS)
def test_translation_rotation_and_order_of_rows_do_not_matter(case):
    generated, reference = PAIRS[case]
    expected = value(fitted(generated), fitted(reference))
    turn, shift = rotation(D, 7), np.arange(D)
    order = np.random.default_rng(0).permutation(len(generated))
    moved = (fitted((rows + shift) @ turn) for rows in (generated, reference))
    assert value(*moved) == pytest.approx(expected, rel=TOLERANCE)
    assert value(fitted(generated[order]), fitted(reference)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("case", PAIRS)
def test_scaling_scales_the_distance_by_its_square(case):
    generated, reference = (fitted(rows) for rows in PAIRS[case])
    larger = [fitted(rows * 1e3) for rows in PAIRS[case]]
    assert value(*larger) == pytest.approx(1e6 * value(generated, reference), rel=TOLERANCE)
    assert frechet(*larger).errors["frechet"] == pytest.approx(
        1e6 * frechet(generated, reference).errors["frechet"], rel=1e-6
    )


@pytest.mark.parametrize("case", PAIRS)
def test_swapping_the_sets_swaps_what_is_said_of_them(case):
    generated, reference = (fitted(rows) for rows in PAIRS[case])
    one, other = frechet(generated, reference), frechet(reference, generated)
    assert one.values["frechet"] == pytest.approx(other.values["frechet"], rel=TOLERANCE)
    assert one.errors["frechet"] == pytest.approx(other.errors["frechet"], rel=1e-6)
    for role, swapped in (("generated", "reference"), ("reference", "generated")):
        np.testing.assert_allclose(
            one.contributions[role],
            other.contributions[swapped],
            rtol=1e-6,
            atol=1e-9 * float(one.contributions[role].abs().max()),
        )


@pytest.mark.parametrize("case", ["full rank", "few generated", "few of both", "duplicated features in both"])
def test_moments_alone_give_the_same_value_without_an_error_bar(case):
    with_rows, without = (
        frechet(*(fitted(rows, keep=keep) for rows in CASES[case])) for keep in (True, False)
    )
    assert without.values["frechet"] == pytest.approx(with_rows.values["frechet"], rel=TOLERANCE)
    assert with_rows.errors["frechet"] > 0
    assert not without.contributions


# --- Parameters


def test_ddof_divides_the_covariances():
    generated, reference = CASES["full rank"]
    for ddof in (0, 1):
        a, b = (rows - rows.mean(0) for rows in (generated, reference))
        gap = generated.mean(0) - reference.mean(0)
        cov_a, cov_b = a.T @ a / (len(a) - ddof), b.T @ b / (len(b) - ddof)
        trace = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real).sum()
        expected = gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * trace
        for method in METHODS:
            sides = (fitted(rows, ddof=ddof) for rows in (generated, reference))
            assert value(*sides, method=method) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("method", ["nuclear", "cholesky"])
def test_ddof_holds_for_sets_smaller_than_the_dimension(method):
    generated, reference = CASES["few of both"]
    a, b = ((rows - rows.mean(0)) / math.sqrt(len(rows)) for rows in (generated, reference))
    gap = generated.mean(0) - reference.mean(0)
    expected = gap @ gap + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    assert value(fitted(generated, ddof=0), fitted(reference, ddof=0), method=method) == pytest.approx(
        expected, rel=1e-10
    )


def test_mean_dtype_rounds_the_means_alone():
    generated, reference = (fitted(rows) for rows in CASES["large offset"])
    gap64 = generated.mean - reference.mean
    gap32 = generated.mean.float().double() - reference.mean.float().double()
    expected = value(generated, reference) - float(gap64 @ gap64) + float(gap32 @ gap32)
    found = value(generated, reference, mean_dtype="float32")
    assert found == pytest.approx(expected, rel=1e-9)
    assert abs(found - value(generated, reference)) > 1e-6  # at this offset float32 shows


@pytest.mark.parametrize(("n", "m"), [(7, 60), (60, 7), (7, 8)])
def test_too_few_images_are_named_with_what_to_use_instead(n, m):
    (warning,) = frechet(fitted(cloud(n, D, 1)), fitted(cloud(m, D, 2))).warnings
    assert "too few images" in warning
    assert "kernel distance" in warning
    assert (f"the generated set has {n}" in warning) == (n <= D)
    assert (f"the reference set has {m}" in warning) == (m <= D)


def test_enough_images_are_not_warned_about():
    assert frechet(fitted(cloud(D + 1, D, 1)), fitted(cloud(60, D, 2))).warnings == ()


def test_nothing_is_said_of_the_bias_where_it_cannot_be_told():
    enough = fitted(cloud(60, D, 1))
    assert frechet(enough, fitted(cloud(60, D, 2))).bias > 0
    assert frechet(enough, fitted(cloud(7, D, 2))).bias is None
    assert frechet(enough, known(np.zeros(D), np.eye(D))).bias is None


# --- What is refused


def test_one_image_is_too_few():
    one = Gaussian(1, torch.zeros(2).double(), torch.zeros(2, 2).double())
    two = fitted(cloud(5, 2, 0))
    with pytest.raises(TooFewImages, match="at least 2 images, the generated set has 1"):
        frechet(one, two)
    with pytest.raises(TooFewImages, match="at least 2 images, the reference set has 1"):
        frechet(two, one)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["mean", "cov"])
def test_moments_that_are_not_finite_are_refused(where, value, method):
    sound, broken = fitted(cloud(20, 3, 0)), fitted(cloud(20, 3, 1))
    getattr(broken, where).view(-1)[0] = value
    with pytest.raises(NumericalError, match="the generated moments hold NaN or infinity"):
        frechet(broken, sound, method=method)
    with pytest.raises(NumericalError, match="the reference moments hold NaN or infinity"):
        frechet(sound, broken, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep", [True, False], ids=["rows", "moments"])
def test_a_set_of_one_image_repeated_is_measured_or_refused_but_never_nan(method, keep):
    still, moving = fitted(np.ones((60, 3)), keep=keep), fitted(cloud(50, 3, 1), keep=keep)
    try:
        found = value(still, moving, method=method)
    except NumericalError as error:
        assert "all feature rows are the same" in str(error)
    else:
        gap = still.mean - moving.mean
        assert found == pytest.approx(float(gap @ gap + moving.cov.trace()), rel=TOLERANCE)


def test_unknown_names_are_refused_with_the_nearest():
    side = fitted(cloud(20, 3, 0))
    with pytest.raises(UnknownName, match="unknown method 'cholesk': did you mean 'cholesky'"):
        frechet(side, side, method="cholesk")
    with pytest.raises(UnknownName, match="unknown dtype of the mean 'float16'.*known: float32, float64"):
        frechet(side, side, mean_dtype="float16")


def test_other_dimensions_are_refused():
    with pytest.raises(UsageError, match="features of 3 and of 4 dimensions"):
        frechet(fitted(cloud(20, 3, 0)), fitted(cloud(20, 4, 0)))


@pytest.mark.parametrize("method", ["auto", "value"])
def test_it_says_where_rounded_means_move_the_distance(method):
    sides = [fitted(cloud(300, 8, seed).astype(np.float32)) for seed in (1, 2)]
    far = [fitted((cloud(300, 8, seed) + 1e5).astype(np.float32)) for seed in (1, 2)]
    assert not frechet(*sides, mean_dtype="float32", method=method).warnings
    assert not frechet(*far, method=method).warnings
    rounded = frechet(*far, mean_dtype="float32", method=method)
    moved = rounded.values["frechet"] - value(*far)
    assert f"moves this distance by {moved:+.2g}:" in "".join(rounded.warnings)


def test_the_value_alone_warns_of_few_images_too():
    sides = [fitted(cloud(6, 8, seed)) for seed in (1, 2)]
    assert frechet(*sides, method="value").warnings == frechet(*sides).warnings != ()


@pytest.mark.parametrize("method", [each for each in METHODS if each != "sqrtm"])
def test_large_features_of_few_images_are_no_infinities(method):
    sides = [fitted((cloud(n, 8, seed) * 1e20).astype(np.float32)) for n, seed in ((5, 1), (6, 2))]
    smaller = [fitted(side.rows.double() / 1e20) for side in sides]
    assert value(*sides, method=method) == pytest.approx(1e40 * value(*smaller), rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_singular_covariances_without_rows_keep_their_digits(method):
    # A plain Cholesky factor of them comes out by chance: in about half of these cases.
    for seed in range(20):
        x, y = cloud(8, 8, seed), cloud(24, 8, seed + 100)
        truth = value(fitted(x), fitted(y), method="nuclear")
        found = value(fitted(x, keep=False), fitted(y, keep=False), method=method)
        assert found == pytest.approx(truth, rel=1e-11)


def test_sets_that_hardly_differ_say_nothing_of_rounded_means():
    rows = cloud(300, 8, 1, shift=3.0).astype(np.float32)
    other = rows.copy()
    other[0] += 1e-6
    assert not frechet(fitted(rows), fitted(other), mean_dtype="float32").warnings
