"""The Vendi score: how many images that have nothing in common would be as diverse as these.

Friedman and Dieng 2023, arXiv:2210.02410; with an order q, Pasarkar and Dieng 2024, arXiv:2310.12952. With the
eigenvalues L of K / n, for a kernel K that is 1 between an image and itself, it is the exponential of their entropy:

    VS = exp(-sum L log L)  for q = 1,    (sum L^q)^(1 / (1 - q))  for other q,    1 / max L  for q = inf.

Orders below 1 count rare kinds of images for more, orders above 1 for less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.kernel.kernels import Kernel, find_kernel
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score
from gen_eval.parallel import in_parallel

# Rows and columns of the largest matrix whose eigenvalues are taken: 800 MB, and several times that to work in.
LIMIT = 10_000
# Rows, or features, that are handled at a time.
_BLOCK = 2048
# A bias above this part of the value is no small correction, and its expansion in 1/n falls short of it.
_SMALL_BIAS = 0.1


def vendi(
    generated: Tensor, *, q: float = 1.0, kernel: str = "linear", bandwidth: float | str = "median"
) -> Score:
    """The Vendi score of a set of rows, from 1 where all are alike to n where all are orthogonal.

    It falls short of that of infinitely many images, so compare at equal n. The bias is stated by its expansion to
    the first order of 1/n, where that is below a tenth of the value; there it is right to about a fifth.
    Above, it is larger than the expansion says, and the warning gives that as the least that it is.

    The standard error is that of first order, from the eigenvectors: about the expectation at this n, 0 to 40 %
    wide where the bias is small. Where it is large the error falls short: to .8 of what it should be at q = 1, and
    to .4 at q = .5, where the small eigenvalues are most of the value. At q = inf it is up to 2.5 times too wide where
    the largest eigenvalue is not far above the next, and means nothing where they are equal.

    Memory is that of some matrices of n or d rows and columns, whichever is less; for a kernel that is named, of n.

    Args:
        generated: ``[n, d]`` rows.
        q: the order, above 0; may be infinite.
        kernel: ``"linear"``, the cosine of the angle between two rows; or a name in
            :data:`~gen_eval.metrics.kernel.kernels.KERNELS`, of the rows as they are, divided by the root of what
            it is between either row and itself.
        bandwidth: of a kernel that is named: see :func:`~gen_eval.metrics.kernel.kernels.find_kernel`.

    Returns:
        ``vendi``, and what each row adds to it.

    Raises:
        TooFewImages: if there are fewer than two rows.
        NumericalError: if a feature is not finite, a row is zero, or the kernel is no similarity.
        UsageError: if q is not positive, or there are more than :data:`LIMIT` rows and as many features.
        UnknownName: if there is no such kernel.
    """
    if not q > 0:
        raise UsageError(f"the order q must be above 0, found {q}")
    (rows,) = matched(2, generated=generated)
    if kernel == "linear":
        spectrum = _of_angles(rows)
    else:
        spectrum = _of_kernel(find_kernel(kernel, bandwidth, rows, rows[:0])[0], rows)
    entropy = _Entropy.of(spectrum.values, q)
    found = _sums(spectrum, entropy)
    n = len(rows)
    variance = float(found.slopes.var()) / n
    bias = entropy.first * found.curvature / (2 * n) + entropy.second * variance / 2
    small = abs(bias) <= _SMALL_BIAS * entropy.value
    return Score(
        {"vendi": entropy.value},
        errors={"vendi": abs(entropy.first) * math.sqrt(variance)},
        biases={"vendi": bias} if small else {},
        contributions={"generated": entropy.first / n * (found.slopes - found.slopes.mean())},
        warnings=() if small else _too_few(n, bias),
    )


# --- The eigenvalues of K / n


class _Spectrum(NamedTuple):
    """Eigenvalues of K / n that are not 0, ``[r]`` ascending, and where each image stands along their directions.

    K is of the inner products of images in some space, and its eigenvalues those of the mean of their outer products.

    Args:
        values: the eigenvalues.
        squares: from numbers of images to their squared coordinates, ``[b, r]``, whose means are the eigenvalues.
        n: number of images.
    """

    values: Tensor
    squares: Callable[[Tensor], Tensor]
    n: int

    @property
    def blocks(self) -> tuple[Tensor, ...]:
        """The numbers of all images, some at a time."""
        return torch.split(torch.arange(self.n, device=self.values.device), _BLOCK)


def _of_angles(rows: Tensor) -> _Spectrum:
    """That of the cosines between rows, from the outer or the inner products of unit rows: whichever are fewer."""
    n, dim = rows.shape
    _require_size(min(n, dim), f"{n} images of {dim} features")
    # The largest feature first, so that no square overflows.
    lengths = torch.maximum(rows.amax(1), -rows.amin(1)).double()
    empty = int((lengths == 0).sum())
    if empty:
        raise NumericalError(
            f"{empty} of {n} feature rows are zero and have no direction; check the extractor, or name a kernel"
        )
    lengths *= torch.cat([(rows[at] / lengths[at, None]).square().sum(1).sqrt() for at in _parts(n)])
    if n <= dim:
        blocks = (rows[:, part].double() / lengths[:, None] for part in _parts(dim))
        gram = _sum(lambda block: linalg.product(block, block.T), blocks, rows.device)
        return _of_gram(gram)

    def units(some: slice | Tensor) -> Tensor:
        return rows[some].double() / lengths[some, None]

    outer = _sum(lambda block: linalg.product(block.T, block), map(units, _parts(n)), rows.device)
    values, vectors = _eigenpairs(outer / n)
    return _Spectrum(values, lambda some: linalg.product(units(some), vectors).square_(), n)


def _of_kernel(kernel: Kernel, rows: Tensor) -> _Spectrum:
    """That of a kernel's values, normalised to 1 on the diagonal."""
    _require_size(len(rows), f"{len(rows)} images, and the kernel of all pairs")
    rows = rows.double()
    if kernel.of_distance:
        rows = rows - rows.mean(0)
    gram = linalg.product(rows, rows.T)
    squares = gram.diagonal().clone()
    for part in _parts(len(rows)):
        block = gram[part]
        if kernel.of_distance:
            block.mul_(-2).add_(squares[part, None]).add_(squares).clamp_min_(0)
            block.diagonal(part.start).zero_()
        block.copy_(kernel.profile(block))
    selves = gram.diagonal().clone()
    if not bool((selves > 0).all()) or not bool(gram.sum().isfinite()):
        raise NumericalError(
            "a Vendi score needs a kernel that is positive between an image and itself, and finite between all: "
            f"found {float(selves.min()):.3g}; take another kernel, such as rbf"
        )
    roots = selves.sqrt()
    return _of_gram(gram.div_(roots).div_(roots[:, None]))


def _of_gram(gram: Tensor) -> _Spectrum:
    n = len(gram)
    values, vectors = _eigenpairs(gram / n)
    return _Spectrum(values, lambda some: vectors[some].square().mul_(n * values), n)


def _eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Those whose eigenvalues are above rounding, ascending."""
    values, vectors = linalg.eigenpairs(matrix)
    rank = int((values > len(values) * torch.finfo(values.dtype).eps * values[-1]).sum())
    return values[-rank:], vectors[:, -rank:]


# --- Their entropy, and what each image adds to it


@dataclass(frozen=True)
class _Entropy:
    """The score as a function h of a sum t = sum f(L) over eigenvalues.

    Args:
        value: ``h(t)``.
        first: ``h'(t)``.
        second: ``h''(t)``.
        slopes: ``[r]``, ``f'`` of each eigenvalue.
        curvature: ``f''``.
    """

    value: float
    first: float
    second: float
    slopes: Tensor
    curvature: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, values: Tensor, q: float) -> _Entropy:
        """That of order q of the eigenvalues, ``[r]`` ascending."""
        if q == math.inf:
            top = float(values[-1])
            last = torch.zeros_like(values)
            last[-1] = 1
            return cls(1 / top, -1 / top**2, 2 / top**3, last, torch.zeros_like)
        if q == 1:
            value = math.exp(float(torch.special.entr(values).sum()))
            return cls(value, value, value, -values.log() - 1, lambda at: -1 / at)
        total, power = float(values.pow(q).sum()), 1 / (1 - q)
        if total < torch.finfo(torch.float64).tiny:
            raise UsageError(f"the order q = {q:g} is so large that powers of it vanish; take inf")
        value = total**power
        return cls(
            value,
            power * value / total,
            power * (power - 1) * value / total**2,
            q * values.pow(q - 1),
            lambda at: q * (q - 1) * at.pow(q - 2),
        )


class _Sums(NamedTuple):
    """What the images add up to.

    Args:
        slopes: ``[n]``, by how much t rises with the weight of each image.
        curvature: n times the expectation of the second-order part of t, twice.
    """

    slopes: Tensor
    curvature: float


def _sums(spectrum: _Spectrum, entropy: _Entropy) -> _Sums:
    """From one pass over the images.

    Where the mean of outer products moves by D in the basis of its eigenvectors, t moves by
    ``sum f'(L_k) D_kk + 1/2 sum f'[L_k, L_l] D_kl^2``, with the divided difference of f' (Daleckii and Krein 1965).
    """

    def work(some: Tensor) -> tuple[Tensor, Tensor]:
        squares = spectrum.squares(some)
        return squares @ entropy.slopes, linalg.product(squares.T, squares)

    slopes, spread = [], torch.diag(-spectrum.n * spectrum.values.square())
    for each, products in in_parallel(work, spectrum.blocks, spectrum.values.device):
        slopes.append(each)
        spread += products
    spread *= _divided_differences(spectrum.values, entropy)
    return _Sums(torch.cat(slopes), float(spread.sum()) / spectrum.n)


def _divided_differences(values: Tensor, entropy: _Entropy) -> Tensor:
    """``(f'(a) - f'(b)) / (a - b)`` of all pairs, ``[r, r]``; of those too close for it, ``f''`` between them."""
    apart = values[:, None] - values
    between = (values[:, None] + values) / 2
    close = apart.abs() < 1e-6 * between
    return torch.where(
        close,
        entropy.curvature(between),
        (entropy.slopes[:, None] - entropy.slopes) / torch.where(close, 1.0, apart),
    )


def _sum(work: Callable[[Tensor], Tensor], blocks: Iterator[Tensor], device: torch.device) -> Tensor:
    parts = in_parallel(work, blocks, device)
    total = next(parts)
    for part in parts:
        total += part
    return total


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def _require_size(size: int, what: str) -> None:
    if size > LIMIT:
        raise UsageError(
            f"the Vendi score of {what} takes the eigenvalues of a matrix of {size} rows, above its limit of "
            f"{LIMIT}; measure fewer images (--rows {LIMIT})"
        )


def _too_few(n: int, bias: float) -> tuple[str, ...]:
    return (
        f"too few images: the Vendi score of {n} images falls short of that of many by {-bias:.3g} at the least. "
        "Compare at equal n only; its standard error may be too short.",
    )
