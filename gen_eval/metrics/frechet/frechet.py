"""Fréchet distance between Gaussians fitted to two sets of features: FID and its relatives.

Heusel et al. 2017, arXiv:1706.08500. With means m and covariances S of the generated (g) and the
reference (r) features,

    d² = |m_g - m_r|² + tr S_g + tr S_r - 2 tr (S_g S_r)^(1/2).

For any factors with F'F = S the last trace is the sum of the singular values of W = F_g F_r', so no
square root of a matrix is taken, nothing turns complex and no epsilon is added. A set no larger than the
dimension is its own factor; else the Cholesky factor serves.

The singular vectors of W also give the optimal transport map between the two Gaussians, and from it the
influence of each image, the standard error and the bias, at the price of the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.frechet.gaussian import Gaussian, couple, trace_of_root, trace_of_root_by_sqrtm
from gen_eval.metrics.score import Score
from gen_eval.stats import Moments

# Routes to the value alone, without what its error and bias take.
_ALONE = {"value": trace_of_root, "sqrtm": trace_of_root_by_sqrtm}
METHODS = ("auto", "nuclear", "cholesky", *_ALONE)
_MEAN_DTYPES = {"float64": torch.float64, "float32": torch.float32}
# Where the factor of a form ends, in parts of the largest eigenvalue. It moves the bias by less than 1e-11 of it.
_CURVATURE_TOLERANCE = 1e-13
# The part of a distance from which on the rounding of means is told.
_ROUNDING_WORTH_TELLING = 1e-4
# A distance below this part of the total variance is rounding itself.
_ROUNDING = 1e-10
# Rows that are turned into coordinates at a time, to bound memory.
_BLOCK = 1024


def frechet(
    generated: Gaussian, reference: Gaussian, *, mean_dtype: str = "float64", method: str = "auto"
) -> Score:
    """The squared Fréchet distance with its standard error, its bias and the contribution of each row.

    The standard error is that of the value about its own expectation at these n. It counts the sampling
    of each set whose rows are at hand and takes the other set as fixed. It is of first order: right to a few
    percent where the sets differ and hold more images than dimensions, up to 1.4 times too wide where they
    hardly differ (first order vanishes there), and up to 1.6 times too wide below the dimension.

    Args:
        generated: moments and rows of the generated features.
        reference: moments and rows of the reference features.
        mean_dtype: precision that the means are rounded to before they are compared.
        method: a name in :data:`METHODS`. All agree where all apply. ``value`` takes less time and gives no error
            bar; nor does ``sqrtm``, the slow cross-check.

    Raises:
        TooFewImages: if a set holds fewer than two images.
        NumericalError: if the moments are not finite.
        UnknownName: if the method or dtype is unknown.
    """
    _require_sound(generated, reference)
    if mean_dtype not in _MEAN_DTYPES:
        raise UnknownName("dtype of the mean", mean_dtype, _MEAN_DTYPES)
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if method in _ALONE:
        value = _assemble(generated, reference, _ALONE[method](generated, reference), mean_dtype)
        return Score({"frechet": value}, warnings=_warnings(generated, reference, value, mean_dtype))
    coupling = couple(generated, reference, method)
    delta = _mean_gap(generated, reference, mean_dtype)
    sides = [
        _Sampling.of(generated, coupling.spectrum, coupling.of_generated, delta),
        _Sampling.of(reference, coupling.spectrum, coupling.of_reference, -delta),
    ]
    value = _assemble(generated, reference, float(coupling.spectrum.sum()), mean_dtype)
    return Score(
        {"frechet": value},
        errors=_error("frechet", sides),
        biases=_bias("frechet", sides),
        contributions={
            role: side.contributions
            for role, side in zip(("generated", "reference"), sides, strict=True)
            if side.contributions is not None
        },
        warnings=_warnings(generated, reference, value, mean_dtype),
    )


def frechet_infinity(
    generated: Gaussian,
    reference: Gaussian,
    *,
    mean_dtype: str = "float64",
    points: int = 15,
    smallest: int = 5000,
) -> Score:
    """The Fréchet distance extrapolated to infinitely many generated images.

    Chong and Forsyth 2020, arXiv:1911.07023: the bias falls as 1/n, so a line through the distances of
    growing subsets, drawn against 1/n, meets 1/n = 0 at the value without it. The subsets are nested, and
    which rows they hold depends on the image indices alone. The standard error adds the sampling of the
    images, carried exactly through the fit, to the residual of the fit.

    Args:
        generated: moments and rows of the generated features; all rows must be at hand.
        reference: moments and rows of the reference features; kept whole.
        mean_dtype: as in :func:`frechet`.
        points: number of subsets, at least 3: a line through 2 fits without an error.
        smallest: size of the smallest subset; half the images where there are fewer than twice as many.

    Returns:
        The intercept as ``frechet_inf``; beside it the distance at n, the slope of the line and, among the
        errors, that of the fit alone. The bias is what the reference's finite n still adds.

    Raises:
        TooFewImages: if half the generated images are no more than the dimension.
        UsageError: if rows are missing, or there are too few points.
    """
    require_whole("points", points, 3)
    require_whole("smallest", smallest, 1)
    n, rows = generated.n, generated.rows
    if rows is None or len(rows) != n:
        raise UsageError("the extrapolation needs every generated feature row, not moments alone")
    first = min(smallest, n // 2)
    if first <= generated.dim:
        raise TooFewImages(
            "the extrapolation draws a line through subsets of half the images and more, each of which must be "
            f"larger than the dimension, {generated.dim}: it needs {2 * generated.dim + 2} generated images, found {n}"
        )
    _require_sound(generated, reference)
    coupling = couple(generated, reference)
    delta = _mean_gap(generated, reference, mean_dtype)
    sampling = _Sampling.of(generated, coupling.spectrum, coupling.of_generated, delta)
    fixed = _Sampling.of(reference, coupling.spectrum, coupling.of_reference, -delta)
    at_n = _assemble(generated, reference, float(coupling.spectrum.sum()), mean_dtype)

    sizes = torch.linspace(first, n, points, dtype=torch.float64).round()
    values = [
        *_nested_distances(rows, sizes.long().tolist()[:-1], generated.ddof, reference, mean_dtype),
        at_n,
    ]
    fit = _Line.through(1 / sizes, torch.tensor(values, dtype=torch.float64))
    # The distances of two nested subsets share the smaller one's images: their covariance is var / larger n.
    shared = sampling.variance * n / torch.maximum(sizes[:, None], sizes)
    variance = float(fit.weights @ shared @ fit.weights) + fixed.variance
    return Score(
        {"frechet_inf": fit.intercept, "frechet": at_n, "slope": fit.slope},
        errors={
            "frechet_inf": math.sqrt(variance + fit.variance),
            "frechet": math.sqrt(sampling.variance + fixed.variance),
            "fit": math.sqrt(fit.variance),
        },
        biases=_bias("frechet_inf", [fixed]),
        warnings=(*_warnings(generated, reference, at_n, mean_dtype), *_rough(generated)),
    )


@dataclass(frozen=True)
class _Sampling:
    """What the finite size of one set does to the distance."""

    variance: float  # of the distance
    bias: float | None  # of the distance, to second order
    contributions: Tensor | None  # of each row to the distance, to first order

    @classmethod
    def of(
        cls, side: Gaussian, spectrum: Tensor, coordinates: Callable[[slice], Tensor], delta: Tensor
    ) -> _Sampling:
        """By the delta method on the functional of the distance.

        First order, the influence of a centred row c: ``2 c.delta + c'(I - T)c``, about its mean. Second
        order, the expected curvature of ``-2 tr M^(1/2)`` under the sampling of the covariance, where the
        row enters M by ``s * w`` in its eigenbasis. Sets no larger than the dimension have no such
        expansion; moments without rows are taken as those of a Gaussian.
        """
        n = side.n
        if n is None:
            return cls(0.0, None, None)
        curvature = _Curvature.of(spectrum)
        if side.rows is None:
            return cls(0.0, (side.variance + curvature.excess_of_gaussian / 2) / n, None)
        # Room for all comes first: small results between large blocks would keep the holes of these apart.
        psi = torch.empty(len(side.rows), dtype=torch.float64, device=spectrum.device)
        total = 0.0
        for start in range(0, len(side.rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            centred = side.centred(part)
            squares = coordinates(part).square_()
            psi[part] = 2 * centred @ delta + centred.square_().sum(1) - squares @ spectrum
            if side.over_determined:
                total += curvature.of_squares(squares)
        excess = total / len(psi) - curvature.trace
        bias = (side.variance + excess / 2) / n if side.over_determined else None
        return cls(float(psi.var()) / n, bias, (psi - psi.mean()) / n)


@dataclass(frozen=True)
class _Curvature:
    """The form ``Q(s) = sum of s_i s_j l_i l_j / (l_i + l_j)`` for a spectrum l, which the second order is made of.

    Its matrix is smooth, hence close to one of low rank, as a factor of which it is evaluated: rows of 2,048 squares
    take a fifteenth of the time that their products with each other would.
    """

    factor: Tensor  # ``[q, r]``
    trace: float
    total: float  # of all entries

    @classmethod
    def of(cls, spectrum: Tensor) -> _Curvature:
        sums = (spectrum[:, None] + spectrum).clamp_min(torch.finfo(spectrum.dtype).tiny)
        matrix = spectrum[:, None] * spectrum / sums
        factor, _ = linalg.pivoted_cholesky(matrix, tolerance=_CURVATURE_TOLERANCE * float(spectrum.max()))
        return cls(factor, float(matrix.trace()), float(matrix.sum()))

    @property
    def excess_of_gaussian(self) -> float:
        """The mean of Q over squares of standard normal coordinates, less the trace."""
        return self.total + self.trace

    def of_squares(self, squares: Tensor) -> float:
        """The sum of Q over rows of squared coordinates, ``[k, r]``."""
        return float(linalg.product(squares, self.factor.T).square_().sum())


@dataclass(frozen=True)
class _Line:
    """A least-squares line, with the weight that each point has in its intercept."""

    intercept: float
    slope: float
    weights: Tensor
    variance: float  # of the intercept, from the residuals

    @classmethod
    def through(cls, x: Tensor, y: Tensor) -> _Line:
        design = torch.stack([torch.ones_like(x), x], 1)
        inverse = torch.linalg.pinv(design)
        intercept, slope = (inverse @ y).tolist()
        residual = y - intercept - slope * x
        variance = residual.square().sum() / (len(x) - 2) * inverse[0].square().sum()
        return cls(intercept, slope, inverse[0], float(variance))


def _nested_distances(
    rows: Tensor, sizes: Sequence[int], ddof: int, reference: Gaussian, mean_dtype: str
) -> Iterator[float]:
    """Distances of the leading ``sizes`` rows, each moment sum growing from the one before."""
    moments = Moments.of(rows[: sizes[0]])
    for before, size in zip([sizes[0], *sizes], sizes, strict=False):
        if size > before:
            moments = moments + Moments.of(rows[before:size])
        subset = Gaussian(size, moments.mean, moments.cov(ddof), ddof=ddof)
        yield _assemble(subset, reference, trace_of_root(subset, reference), mean_dtype)


def _mean_gap(generated: Gaussian, reference: Gaussian, mean_dtype: str) -> Tensor:
    dtype = _MEAN_DTYPES[mean_dtype]
    return generated.mean.to(dtype).double() - reference.mean.to(dtype).double()


def _assemble(generated: Gaussian, reference: Gaussian, trace: float, mean_dtype: str) -> float:
    gap = _mean_gap(generated, reference, mean_dtype)
    return float(gap @ gap) + generated.variance + reference.variance - 2 * trace


def _error(name: str, sides: Sequence[_Sampling]) -> dict[str, float]:
    """The standard error, where rows of any set tell one: moments alone are not exact, just silent."""
    if all(side.contributions is None for side in sides):
        return {}
    return {name: math.sqrt(sum(side.variance for side in sides))}


def _bias(name: str, sides: Sequence[_Sampling]) -> dict[str, float]:
    known = [side.bias for side in sides if side.bias is not None]
    return {name: sum(known)} if len(known) == len(sides) else {}


def _require_sound(generated: Gaussian, reference: Gaussian) -> None:
    if generated.dim != reference.dim:
        raise UsageError(f"features of {generated.dim} and of {reference.dim} dimensions do not compare")
    for role, side in (("generated", generated), ("reference", reference)):
        if side.n is not None and side.n < 2:
            raise TooFewImages(f"a covariance needs at least 2 images, the {role} set has {side.n}")
        if not side.finite:
            raise NumericalError(
                f"the {role} moments hold NaN or infinity; check the features they were made from"
            )


def _rough(generated: Gaussian) -> tuple[str, ...]:
    if generated.n is None or generated.n >= 4 * generated.dim:
        return ()
    return (
        f"the extrapolation is rough: {generated.n} generated images are fewer than four times the feature "
        f"dimension, {generated.dim}, where the bias does not yet fall as 1/n and the error bar is too short",
    )


def _warnings(generated: Gaussian, reference: Gaussian, value: float, mean_dtype: str) -> tuple[str, ...]:
    return (*_small(generated, reference), *_rounded(generated, reference, value, mean_dtype))


def _rounded(generated: Gaussian, reference: Gaussian, value: float, mean_dtype: str) -> tuple[str, ...]:
    gap, exact = (_mean_gap(generated, reference, dtype) for dtype in (mean_dtype, "float64"))
    moved = float(gap @ gap - exact @ exact)
    rounding = _ROUNDING * (generated.variance + reference.variance)
    if abs(moved) <= max(_ROUNDING_WORTH_TELLING * abs(value), rounding):
        return ()
    return (
        f"the means are rounded to {mean_dtype} before they are compared, as the terms ask, which moves this distance "
        f"by {moved:+.2g}: the features are far from zero beside their spread. For all digits set mean_dtype=float64.",
    )


def _small(generated: Gaussian, reference: Gaussian) -> tuple[str, ...]:
    small = [
        f"the {role} set has {side.n}"
        for role, side in (("generated", generated), ("reference", reference))
        if not side.over_determined
    ]
    if not small:
        return ()
    return (
        f"too few images: {' and '.join(small)}, and with no more than the feature dimension, {generated.dim}, "
        "the covariance is singular and the distance mostly measures n. Compare only at equal n; use more images, "
        "or a metric that is unbiased at small n, such as the kernel distance (KID).",
    )
