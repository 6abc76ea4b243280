"""Kernels on feature rows, and the bandwidths they are given.

With s the bandwidth, r the Euclidean distance and d the dimension:

=================== ========================================= ===================================
polynomial          (gamma x.y + coef0)^degree                KID: gamma 1/d, coef0 1, degree 3
rbf                 exp(-r² / 2s²)                            CMMD: s = 10
laplace             exp(-r / s)                               r is Euclidean, not the L1 distance
rational-quadratic  mean over a of (1 + r² / 2as²)^-a         MMD-GAN: a = .2, .5, 1, 2, 5
energy              -r                                        MMD² is the energy distance
mixture             mean of rbf over several s                by default 1/4 to 4 medians
=================== ========================================= ===================================

A kernel written exp(-r² / h²) is ``rbf`` with s = h / √2, one written exp(-gamma r²) has s = 1 / √(2 gamma).
The energy distance is 2 E|x - y| - E|x - x'| - E|y - y'|, the square of what ``scipy.stats.energy_distance``
returns. MMD-GAN (Bińkowski et al. 2018, arXiv:1801.01401) adds its kernels up where we take their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UnknownName, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.rows import of_each

# Rows whose distances the median heuristic looks at: two million of them.
_MEDIAN_ROWS = 2000


@dataclass(frozen=True)
class Kernel:
    """A function of the inner product or of the squared Euclidean distance of two rows.

    Args:
        profile: from float64 inner products or squared distances, which it may overwrite, to the kernel.
        of_distance: whether it takes squared distances.
        of_root: whether it takes their root, beside which the rounding of a square is large at 0.
    """

    profile: Callable[[Tensor], Tensor]
    of_distance: bool = True
    of_root: bool = False


def polynomial(dim: int, *, degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> Kernel:
    """``(gamma x.y + coef0)^degree``; gamma is ``1 / dim`` if not given.

    Raises:
        UsageError: if the degree is no positive integer or a factor is not finite.
    """
    factor = 1 / dim if gamma is None else gamma
    if degree < 1 or degree != int(degree) or not math.isfinite(factor) or not math.isfinite(coef0):
        raise UsageError(
            "a polynomial kernel needs a degree of 1 or more, a finite gamma and a finite coef0; "
            f"found degree {degree}, gamma {gamma}, coef0 {coef0}"
        )
    return Kernel(lambda inner: inner.mul_(factor).add_(coef0).pow_(int(degree)), of_distance=False)


def rbf(bandwidths: Sequence[float]) -> Kernel:
    """The mean over bandwidths s of ``exp(-r² / 2s²)``."""
    rates = [-0.5 / s**2 for s in bandwidths]
    return Kernel(lambda square: _mean([(square * rate).exp_() for rate in rates]))


def laplace(bandwidth: float) -> Kernel:
    """``exp(-r / s)`` of the Euclidean distance."""
    return Kernel(lambda square: square.sqrt_().mul_(-1 / bandwidth).exp_(), of_root=True)


def rational_quadratic(bandwidth: float, alphas: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)) -> Kernel:
    """The mean over alphas a of ``(1 + r² / 2as²)^-a``."""
    rates = [(a, 0.5 / (a * bandwidth**2)) for a in alphas]
    return Kernel(lambda square: _mean([(square * rate).log1p_().mul_(-a).exp_() for a, rate in rates]))


def energy() -> Kernel:
    """``-r``."""
    return Kernel(lambda square: square.sqrt_().neg_(), of_root=True)


def _mean(kernels: list[Tensor]) -> Tensor:
    total = kernels[0]
    for kernel in kernels[1:]:
        total += kernel
    return total.div_(len(kernels))


@dataclass(frozen=True)
class Family:
    """One row of :data:`KERNELS`.

    Args:
        build: from the feature dimension and the bandwidths to the kernel.
        multiples: its bandwidths in units of the one that is asked for; none for a kernel without.
    """

    build: Callable[[int, Sequence[float]], Kernel]
    multiples: tuple[float, ...] = (1.0,)


KERNELS: Mapping[str, Family] = {
    "polynomial": Family(lambda dim, _: polynomial(dim), ()),
    "rbf": Family(lambda _, bandwidths: rbf(bandwidths)),
    "laplace": Family(lambda _, bandwidths: laplace(bandwidths[0])),
    "rational-quadratic": Family(lambda _, bandwidths: rational_quadratic(bandwidths[0])),
    "energy": Family(lambda _, __: energy(), ()),
    "mixture": Family(lambda _, bandwidths: rbf(bandwidths), (0.25, 0.5, 1.0, 2.0, 4.0)),
}


def find_kernel(
    name: str, bandwidth: float | str | Sequence[float], x: Tensor, y: Tensor
) -> tuple[Kernel, float | None]:
    """The kernel of a name in :data:`KERNELS`, and the bandwidth it was given if it has one.

    Args:
        name: the name.
        bandwidth: a number, in units of the features; ``"median"``, for :func:`median_distance`; or, for
            ``mixture``, several multiples of the median.
        x: ``[n, d]`` rows.
        y: ``[m, d]`` rows.

    Raises:
        UnknownName: if there is no such kernel.
        UsageError: if the bandwidth is not positive, or is given to a kernel that has none.
        NumericalError: if the median distance is 0 or infinite.
    """
    if name not in KERNELS:
        raise UnknownName("kernel", name, KERNELS)
    family = KERNELS[name]
    if not family.multiples:
        if bandwidth != "median":
            raise UsageError(f"the kernel '{name}' has no bandwidth; leave out the {bandwidth!r} given")
        return family.build(x.shape[1], ()), None
    if isinstance(bandwidth, (int, float)):
        unit, multiples = float(bandwidth), family.multiples
    elif bandwidth == "median":
        unit, multiples = median_distance(x, y), family.multiples
    elif isinstance(bandwidth, str) or name != "mixture":
        raise UsageError(
            f"the bandwidth of '{name}' is a number or 'median', found {bandwidth!r}; 'mixture' takes several"
        )
    else:
        unit, multiples = median_distance(x, y), tuple(bandwidth)
    bandwidths = [unit * multiple for multiple in multiples]
    if not bandwidths or not all(0 < s < math.inf for s in bandwidths):
        raise UsageError(f"a bandwidth must be positive and finite, found {bandwidth!r}")
    return family.build(x.shape[1], bandwidths), unit


def median_distance(x: Tensor, y: Tensor) -> float:
    """The median Euclidean distance between two rows of the pooled sets (Gretton et al. 2012).

    Of more than 2,000 rows it looks at as many, evenly spaced in the order of the sums of their features: a
    choice that depends neither on the order of the rows nor on the set that each is in.

    Raises:
        NumericalError: if it is 0, as it is where most rows are copies of one another, or infinite.
    """
    order = torch.cat([of_each(lambda part: part.sum(1), rows) for rows in (x, y)]).argsort()
    count = min(len(order), _MEDIAN_ROWS)
    chosen = order[torch.linspace(0, len(order) - 1, count, dtype=torch.float64).round().long()]
    rows = torch.cat([x[chosen[chosen < len(x)]], y[chosen[chosen >= len(x)] - len(x)]]).double()
    size = float(rows.square().sum(1).max().sqrt())
    rows -= rows.mean(0)
    norms = rows.square().sum(1)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the median
        squares = norms[:, None] + norms - 2 * linalg.product(rows, rows.T)
    distances = squares[tuple(torch.triu_indices(count, count, 1, device=rows.device))].clamp_min_(0).sqrt_()
    # torch's median of an even number of values is the lower of the two in the middle.
    median = float(distances.median() - (-distances).median()) / 2
    # Rounding makes that much of 0: that of the features themselves, and that of the product.
    rounding = max(torch.finfo(each.dtype).eps for each in (x, y)) * size + 1e-7 * float(norms.max().sqrt())
    if not rounding < median < math.inf:
        raise NumericalError(
            f"the median distance between feature rows is {median:.3g}, which is no bandwidth: most rows are copies "
            "of one another, or they are too large; give a bandwidth as a number"
        )
    return median
