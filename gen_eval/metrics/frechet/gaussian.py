"""Gaussians fitted to features, and the coupling between two of them that the Fréchet distance needs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics import linalg

# Largest relative error of the trace, by its own estimate, that the eigenvalue route may leave.
_TRACE_TOLERANCE = 1e-10


class Gaussian:
    """The first two moments of a set of features, and as many of its rows as are at hand.

    Args:
        n: number of images behind the moments; ``None`` if unknown.
        mean: ``[d]`` float64.
        cov: ``[d, d]`` float64; or what makes it, which is called once, if it is ever asked for.
        rows: ``[k, d]``, a uniform subset of the features; all of them if ``k == n``; ``None`` if unknown.
        ddof: what was subtracted from n in the covariance.
    """

    def __init__(
        self,
        n: int | None,
        mean: Tensor,
        cov: Tensor | Callable[[], Tensor],
        rows: Tensor | None = None,
        ddof: int = 1,
    ) -> None:
        self.n, self.mean, self.rows, self.ddof = n, mean, rows, ddof
        self._cov = cov

    @property
    def cov(self) -> Tensor:
        """The covariance, ``[d, d]`` float64."""
        if not isinstance(self._cov, Tensor):
            self._cov = self._cov()
        return self._cov

    @functools.cached_property
    def variance(self) -> float:
        """The trace of the covariance, which is not made for it where the rows are no more than the dimension."""
        return float(self.factor.square().sum() if self.low_rank else self.cov.trace())

    @functools.cached_property
    def factor(self) -> Tensor:
        """Of a set of low rank, a factor F ``[n, d]`` with ``F'F`` = covariance: the centred rows, scaled."""
        return self.centred().div_(self.scale)

    @property
    def scale(self) -> float:
        """What divides the centred rows in :attr:`factor`."""
        assert self.n is not None  # of all rows at hand it is known
        return math.sqrt(self.n - self.ddof)

    @property
    def finite(self) -> bool:
        """Whether the moments hold neither NaN nor infinity. No covariance is larger than the variances."""
        if not bool(self.mean.isfinite().all()):
            return False
        return math.isfinite(self.variance) if self.low_rank else bool(self.cov.isfinite().all())

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def low_rank(self) -> bool:
        """Whether the rows are all at hand and no more than the dimension."""
        return self.rows is not None and len(self.rows) == self.n and not self.over_determined

    @property
    def over_determined(self) -> bool:
        """Whether there are more images than dimensions, as far as is known."""
        return self.n is None or self.n > self.dim

    def centred(self, part: slice = slice(None)) -> Tensor:
        """A part of the rows about the mean, ``[k, d]`` float64."""
        if self.rows is None:
            raise UsageError("these moments came without feature rows")
        return self.rows[part].to(torch.float64, copy=True).sub_(self.mean)


class Gaussians(Mapping[str, Gaussian]):
    """Gaussians by name, each made when it is asked for: of many classes no more than one covariance need be held.

    Args:
        sizes: the number of images of each.
        make: from a name to its Gaussian.
    """

    def __init__(self, sizes: Mapping[str, int], make: Callable[[str], Gaussian]) -> None:
        self.sizes, self._make = sizes, make

    def __getitem__(self, name: str) -> Gaussian:
        if name not in self.sizes:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self.sizes  # without making it

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Coupling:
    """The singular value decomposition of ``W = F_g F_r'``, for factors with ``F'F`` = covariance.

    A centred row c of the generated set has coordinates w such that ``sum(spectrum * w²) = c'Tc``, with T
    the optimal transport map from the generated to the reference Gaussian; over the set w has unit
    covariance. The same holds for reference rows and the map back.

    Args:
        spectrum: ``[r]`` singular values; their sum is ``tr (S_g S_r)^(1/2)``.
        of_generated: a part of the generated rows to their coordinates, ``[k, r]``.
        of_reference: the same for the reference rows.
    """

    spectrum: Tensor
    of_generated: Callable[[slice], Tensor]
    of_reference: Callable[[slice], Tensor]


def couple(generated: Gaussian, reference: Gaussian, method: str = "auto") -> Coupling:
    """The coupling, by factors of the kind named.

    Args:
        generated: the one Gaussian.
        reference: the other.
        method: ``"cholesky"`` for Cholesky factors, pivoted where a covariance is too near singular for plain ones;
            ``"nuclear"`` for the centred rows of sets no larger than the dimension, else pivoted factors; ``"auto"``
            for the rows of such sets, else as ``"cholesky"``.
    """
    factor_g, onto_g = _factor(generated, method)
    factor_r, onto_r = _factor(reference, method)
    u, spectrum, vt = linalg.singular_triplets(linalg.product(factor_g, factor_r.T))
    return Coupling(spectrum, onto_g(u), onto_r(vt.T))


def trace_of_root(generated: Gaussian, reference: Gaussian) -> float:
    """``tr (S_g S_r)^(1/2)`` alone: as :func:`couple` finds it, without the vectors where they cost."""
    if not (generated.low_rank or reference.low_rank):
        lower = linalg.cholesky(generated.cov)
        if lower is not None:
            squares = linalg.eigenvalues(_sandwich(lower, reference.cov))
            if _keeps_digits(squares):
                return float(squares.clamp_min(0).sqrt().sum())
    factor_g, factor_r = (_factor(side, "auto")[0] for side in (generated, reference))
    return float(linalg.singular_triplets(linalg.product(factor_g, factor_r.T))[1].sum())


def trace_of_root_by_sqrtm(generated: Gaussian, reference: Gaussian) -> float:
    """The same by ``scipy.linalg.sqrtm``, as the field's first tools: slow, and independent of the rest.

    Both covariances are first restricted to the range of the one of lower rank. That leaves the trace as
    it is, and spares the square root of a singular matrix, which sqrtm finds to half the digits at best.
    """
    factors = [linalg.pivoted_cholesky(side.cov).factor for side in (generated, reference)]
    basis = torch.linalg.qr(min(factors, key=len).T).Q.T
    inside = [linalg.product(linalg.product(basis, side.cov), basis.T) for side in (generated, reference)]
    return linalg.sqrtm_trace(linalg.product(*inside))


def _sandwich(lower: Tensor, cov: Tensor) -> Tensor:
    """``lower.T @ cov @ lower``."""
    half = linalg.triangular_product(lower, cov, transposed=True)
    inner = linalg.triangular_product(lower, half.T.contiguous(), transposed=True)
    return (inner + inner.T) / 2


def _keeps_digits(squares: Tensor) -> bool:
    """Whether square roots of these eigenvalues are precise enough, each with an error of eps * largest."""
    largest = float(squares[-1])
    if not largest > 0:
        return False
    noise = torch.finfo(squares.dtype).eps * largest
    if float(squares[0]) <= noise:
        return False
    roots = squares.sqrt()
    return float((noise / (2 * roots)).sum() / roots.sum()) < _TRACE_TOLERANCE


# From a basis ``[r, q]`` to what takes a part of the rows to its coordinates in it, ``[k, q]``.
_Onto = Callable[[Tensor], Callable[[slice], Tensor]]


def _factor(side: Gaussian, method: str) -> tuple[Tensor, _Onto]:
    """A factor F ``[r, d]``, and the way to the coordinates ``a @ basis`` of rows c, where ``F'a = c``."""
    if side.low_rank and method != "cholesky":
        # The centred rows are the factor itself, so row i has the i-th unit vector for its coordinates.
        return side.factor, lambda basis: lambda part: basis[part] * side.scale
    lower = None if method == "nuclear" else linalg.cholesky(side.cov)
    # Of a singular matrix a plain factor comes out by chance, with the root of rounding where there should be 0.
    if lower is not None and _is_safe(lower, side.cov):
        return lower.T, _through(side, lower)
    factor, pivots = linalg.pivoted_cholesky(side.cov)
    return factor, _through(side, factor[:, pivots].T.contiguous(), pivots)


def _is_safe(lower: Tensor, cov: Tensor) -> bool:
    """Whether the pivots of a Cholesky factor are well above rounding."""
    rounding = len(cov) * torch.finfo(cov.dtype).eps * float(cov.diagonal().max())
    return float(lower.diagonal().min()) ** 2 > 100 * rounding


def _through(side: Gaussian, triangle: Tensor, columns: Tensor | slice = slice(None)) -> _Onto:
    """The way for a factor whose chosen columns are the transposed triangle."""
    if not bool(triangle.any()):  # all rows are the same
        return lambda basis: lambda part: side.centred(part)[:, :1] * 0 @ basis

    def onto(basis: Tensor) -> Callable[[slice], Tensor]:
        whiten = linalg.solve_lower(triangle, basis, transposed=True)
        return lambda part: linalg.product(side.centred(part)[:, columns], whiten)

    return onto
