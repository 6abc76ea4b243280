"""Gaussians fitted to features, and the coupling between two of them that the Fréchet distance needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics import linalg

# Largest relative error of the trace, by its own estimate, that the eigenvalue route may leave.
_TRACE_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Gaussian:
    """The first two moments of a set of features, and as many of its rows as are at hand.

    Args:
        n: number of images behind the moments; ``None`` if unknown.
        mean: ``[d]`` float64.
        cov: ``[d, d]`` float64.
        rows: ``[k, d]``, a uniform subset of the features; all of them if ``k == n``; ``None`` if unknown.
        ddof: what was subtracted from n in the covariance.
    """

    n: int | None
    mean: Tensor
    cov: Tensor
    rows: Tensor | None = None
    ddof: int = 1

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
    """The coupling by the method named, or by the one that suits the sets.

    Args:
        generated: the one Gaussian.
        reference: the other.
        method: ``"nuclear"`` for the singular values of W, exact for sets of any rank; ``"cholesky"`` for the
            eigenvalues of W'W, which falls back to the former where a covariance is too near singular for it;
            ``"auto"`` for singular values where a set is no larger than the dimension, else as ``"cholesky"``.
    """
    if method == "nuclear" or (method == "auto" and (generated.low_rank or reference.low_rank)):
        return _couple_by_singular_values(generated, reference)
    return _couple_by_eigenvalues(generated, reference) or _couple_by_singular_values(generated, reference)


def trace_of_root(generated: Gaussian, reference: Gaussian) -> float:
    """``tr (S_g S_r)^(1/2)`` alone: as :func:`couple` finds it, without the vectors where they cost."""
    if not (generated.low_rank or reference.low_rank):
        lower = linalg.cholesky(generated.cov)
        if lower is not None:
            squares = linalg.eigenvalues(_sandwich(lower, reference.cov))
            if _keeps_digits(squares):
                return float(squares.clamp_min(0).sqrt().sum())
    return float(_couple_by_singular_values(generated, reference).spectrum.sum())


def trace_of_root_by_sqrtm(generated: Gaussian, reference: Gaussian) -> float:
    """The same by ``scipy.linalg.sqrtm``, as the field's first tools: slow, and independent of the rest.

    Both covariances are first restricted to the range of the one of lower rank. That leaves the trace as
    it is, and spares the square root of a singular matrix, which sqrtm finds to half the digits at best.
    """
    factors = [linalg.pivoted_cholesky(side.cov).factor for side in (generated, reference)]
    _, _, basis = linalg.singular_triplets(min(factors, key=len))
    inside = [linalg.product(linalg.product(basis, side.cov), basis.T) for side in (generated, reference)]
    return linalg.sqrtm_trace(linalg.product(*inside))


def _couple_by_eigenvalues(generated: Gaussian, reference: Gaussian) -> Coupling | None:
    """W'W through a Cholesky factor; ``None`` where a covariance is too near singular for that."""
    lower = linalg.cholesky(generated.cov)
    if lower is None:
        return None
    squares, vectors = linalg.eigenpairs(_sandwich(lower, reference.cov))
    if not _keeps_digits(squares):
        return None
    spectrum = squares.clamp_min(0).sqrt()
    whiten = linalg.solve_lower(lower, vectors, transposed=True)
    carry = linalg.triangular_product(lower, vectors) / spectrum
    return Coupling(
        spectrum,
        lambda part: linalg.product(generated.centred(part), whiten),
        lambda part: linalg.product(reference.centred(part), carry),
    )


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


def _couple_by_singular_values(generated: Gaussian, reference: Gaussian) -> Coupling:
    factor_g, coordinates_g = _factor(generated)
    factor_r, coordinates_r = _factor(reference)
    u, spectrum, vt = linalg.singular_triplets(linalg.product(factor_g, factor_r.T))
    return Coupling(
        spectrum,
        lambda part: linalg.product(coordinates_g(part), u),
        lambda part: linalg.product(coordinates_r(part), vt.T),
    )


def _factor(side: Gaussian) -> tuple[Tensor, Callable[[slice], Tensor]]:
    """A factor F ``[r, d]``, and the map from a part of the rows c to a ``[k, r]`` with ``F'a = c``."""
    if side.low_rank:
        centred = side.centred()
        scale = math.sqrt(len(centred) - side.ddof)
        # The centred rows are the factor itself, so row i has the i-th unit vector for its coordinates.
        unit = torch.eye(len(centred), dtype=torch.float64, device=centred.device) * scale
        return centred / scale, lambda part: unit[part]
    factor, pivots = linalg.pivoted_cholesky(side.cov)
    if not bool(factor.any()):  # all rows are the same
        return factor, lambda part: side.centred(part)[:, :1] * 0
    triangle = factor[:, pivots].T.contiguous()
    return factor, lambda part: linalg.solve_lower(triangle, side.centred(part)[:, pivots].T).T
