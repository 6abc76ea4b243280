"""Squared distances between feature rows: fast as intervals, exact where a decision needs it.

Distances come from float32 matrix products of the features about a common centre. The rounding of a product of
d terms is at most ``gamma = (d + 16) u / (1 - (d + 16) u)`` times the two squared norms (Higham 2002, section 3.1;
16 covers the rounding of centring, norms and sums), so each distance is known as an interval. Where an interval
holds the boundary of a decision, the pair is decided again in float64 on the two rows: what comes out is what
float64 brute force gives, exact copies and ties included.

The centre decides what an answer costs, not what it is. It is the mean, unless far rows drag that away: one row a
million times as far out as the others would make the intervals of all pairs wider than their distances.

All squared distances are in units of ``Rows.scale``: features are multiplied by a power of two, which rounds
nothing, so that no square over- or underflows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UsageError
from gen_eval.metrics import linalg
from gen_eval.parallel import in_parallel
from gen_eval.stats import non_finite

BLOCK = 1280  # rows handled at a time
TINY = 1e-36  # more than the underflow of a float32 product of features up to 2
_DOUBLES, _DOUBLES_ON_GPU = 32, 8192  # rows held in float64 at a time: on a CPU they stay in the cache
_PARTS = 32  # times as much as that is the work of a thread
_SAMPLE = 32  # rows, and less than twice that, that tell what a centre is worth
_SAFE = 16  # roundings beside those of the product itself
_PAIR_CHUNK, _PAIR_CHUNK_ON_GPU = 1 << 16, 1 << 24  # numbers gathered at a time to decide pairs one by one


@dataclass(frozen=True)
class Rows:
    """One set of features, prepared beside another.

    Args:
        given: ``[n, d]`` as they came.
        centre: ``[d]`` float64, common to both sets, but of rows that are :meth:`alone`.
        scale: the power of two that features are multiplied by.
        centred: ``[n, d]`` float32, ``(given - centre) * scale``, at most 2.
        squares: ``[n]`` float64, the squared norms of ``centred``.
        from_mean: ``[n]`` float64, the same about the mean of both sets.
        copies: ``[n]`` int64, the same number for rows of either set that are equal.
    """

    given: Tensor
    centre: Tensor
    scale: float
    centred: Tensor
    squares: Tensor
    from_mean: Tensor
    copies: Tensor

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.given)

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.given.shape[1]

    def take(self, some: Tensor) -> Rows:
        """Some of the rows, ``[k]`` int64, as prepared as they are here."""
        names = ("given", "centred", "squares", "from_mean", "copies")
        return replace(self, **{name: getattr(self, name)[some] for name in names})

    def about(self, centre: Tensor) -> Rows:
        """The same rows about another centre."""
        if centre is self.centre:
            return self
        centred, squares = _centred(self.given, centre, self.scale)
        return replace(self, centre=centre, centred=centred, squares=squares)

    def alone(self) -> Rows:
        """The same rows for distances among themselves: about a centre of their own where the common one is far."""
        return self.about(_centre((self.given,), self.centre))

    def order(self) -> Tensor:
        """The rows, ``[n]`` int64, in an order that does not depend on how they came."""
        return torch.argsort(self.from_mean, stable=True)

    def low(self, dtype: torch.dtype, some: slice | Tensor) -> Tensor:
        """What the squared norm of some rows adds to the lower bound of a squared distance in this precision."""
        return (self.squares[some] * (1 - gamma(self.dim, dtype)) - TINY).to(dtype)


class Pairs(NamedTuple):
    """Pairs of a row and a column, ``[p]`` each, and float64 bounds of their squared distance."""

    row: Tensor
    column: Tensor
    lower: Tensor
    upper: Tensor

    def where(self, kept: Tensor) -> Pairs:
        """Some of them, by mask or index."""
        at = kept.nonzero().flatten() if kept.dtype == torch.bool else kept
        return Pairs(*(part.index_select(0, at) for part in self))

    def swapped(self) -> Pairs:
        """The same with rows and columns exchanged."""
        return Pairs(self.column, self.row, self.lower, self.upper)


def prepare(first: Tensor, second: Tensor) -> tuple[Rows, Rows]:
    """Two sets of feature rows, ``[n, d]`` and ``[m, d]``, ready to be compared.

    Raises:
        UsageError: if they are not rows of as many features, on one device.
        NumericalError: if a feature is NaN or infinite.
    """
    _require_rows(first, second)
    ranges = [_Range.of(rows) for rows in (first, second)]
    for rows, found in zip((first, second), ranges, strict=True):
        if not bool(found.total.isfinite().all()):
            raise NumericalError(non_finite(rows))
    mean = (ranges[0].total + ranges[1].total) / (len(first) + len(second))
    reach = max(float(torch.maximum(found.highest - mean, mean - found.lowest).max()) for found in ranges)
    scale = 2.0 ** -math.ceil(math.log2(reach)) if reach else 1.0
    one, other = (_about_mean(rows, mean, scale) for rows in (first, second))
    copies, centre = _copies(one, other), _centre((first, second), mean)
    one, other = replace(one, copies=copies[: one.n]), replace(other, copies=copies[one.n :])
    return one.about(centre), other.about(centre)


class _Range(NamedTuple):
    """Of each feature of a set, ``[d]``: float64 sums, and extremes."""

    total: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> _Range:
        """That of the rows, ``[n, d]``."""
        return functools.reduce(cls._with, map(cls._of_block, torch.split(rows, _at_once(rows))))

    @classmethod
    def _of_block(cls, rows: Tensor) -> _Range:
        return cls(rows.sum(0, dtype=torch.float64), rows.amin(0), rows.amax(0))

    def _with(self, other: _Range) -> _Range:
        return _Range(
            self.total + other.total,
            torch.minimum(self.lowest, other.lowest),
            torch.maximum(self.highest, other.highest),
        )


def _require_rows(first: Tensor, second: Tensor) -> None:
    for rows in (first, second):
        if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
            raise UsageError(
                f"features must be [n, d] rows of floating point, found shape {tuple(rows.shape)} of {rows.dtype}"
            )
    if first.shape[1] != second.shape[1]:
        raise UsageError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions do not compare")
    if first.device != second.device:
        raise UsageError(f"features on {first.device} and on {second.device}: move them to one device")


def _centre(sets: Sequence[Tensor], present: Tensor) -> Tensor:
    """The weighted median of sets where that halves most squared norms, else the present centre, ``[d]`` float64."""
    some = [rows[:: max(1, len(rows) // _SAMPLE)].double() for rows in sets]
    sizes = present.new_tensor([len(rows) for rows in sets])

    def spread(centre: Tensor) -> float:
        typical = [(rows - centre).square_().sum(1).median() for rows in some]
        return float(sizes @ torch.stack(typical))

    middle = sizes @ torch.stack([rows.median(0).values for rows in some]) / sizes.sum()
    return middle if spread(middle) < spread(present) / 2 else present


def _about_mean(rows: Tensor, mean: Tensor, scale: float) -> Rows:
    centred, squares = _centred(rows, mean, scale)
    return Rows(rows, mean, scale, centred, squares, squares, torch.empty(0, dtype=torch.long))


def _centred(rows: Tensor, centre: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The features about a centre, scaled, ``[n, d]`` float32, and their squared norms, ``[n]`` float64."""
    centred = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    squares = torch.empty(len(rows), dtype=torch.float64, device=rows.device)

    def fill(part: slice) -> None:
        block = (rows[part] - centre).mul_(scale)  # a new tensor, in float64 as the centre is
        centred[part] = block
        squares[part] = block.square_().sum(1)

    _in_parts(fill, len(rows), _at_once(rows), rows.device)
    return centred, squares


def _at_once(rows: Tensor) -> int:
    return _DOUBLES_ON_GPU if rows.is_cuda else _DOUBLES


def _in_parts(work: Callable[[slice], None], n: int, size: int, device: torch.device) -> None:
    """Do some work on all of n rows, ``size`` at a time, and many times that in a job: threads have their price."""

    def block(start: int) -> None:
        for at in range(start, min(start + _PARTS * size, n), size):
            work(slice(at, at + size))

    for _ in in_parallel(block, range(0, n, _PARTS * size), device):
        pass


def _copies(first: Rows, second: Rows) -> Tensor:
    """Numbers that rows share if they are equal.

    Copies have equal norms and are looked for among those. Where another row of that very norm stands between
    two, they get two numbers, which costs time and no more.
    """
    squares = torch.cat([first.squares, second.squares])
    order = torch.argsort(squares, stable=True)
    fresh = torch.ones(len(order), dtype=torch.long, device=order.device)
    for at in torch.split((squares[order].diff() == 0).nonzero().flatten(), BLOCK):
        one, other = _take(first, second, order[at]), _take(first, second, order[at + 1])
        fresh[at + 1] = (one != other).any(1).long()
    group = torch.empty_like(order)
    group[order] = fresh.cumsum(0)
    return group


def _take(first: Rows, second: Rows, index: Tensor) -> Tensor:
    """Rows of the two sets put end to end."""
    taken = torch.empty(len(index), first.dim, dtype=torch.float64, device=index.device)
    own = index < first.n
    taken[own] = first.given[index[own]].double()
    taken[~own] = second.given[index[~own] - first.n].double()
    return taken


def gamma(dim: int, dtype: torch.dtype) -> float:
    """The largest rounding of a squared distance in this precision, over the two squared norms."""
    unit = (dim + _SAFE) * torch.finfo(dtype).eps / 2
    return (
        unit / (1 - unit) if unit < 1 / 3 else 0.5
    )  # at a half the lower bound is (|x| - |y|)² / 2: still one


def width(a: Rows, b: Rows, i: Tensor, j: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """By how much the upper bounds of squared distances exceed the lower, float64, by broadcasting i and j."""
    return 2 * gamma(a.dim, dtype) * (a.squares[i] + b.squares[j]) + 4 * TINY


def doubles(a: Rows, b: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Lower bounds of the squared distances of all rows i to all rows j, by a float64 product."""
    x = (a.given[i] - a.centre).mul_(-2 * a.scale)
    low = a.low(torch.float64, i)[:, None]
    tiles = []
    for at in torch.split(j, BLOCK):
        y = (b.given[at] - b.centre).mul_(b.scale)
        tiles.append(linalg.product(x, y.T).add_(low).add_(b.low(torch.float64, at)))
    return torch.cat(tiles, 1)


def exact(a: Rows, b: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of the pairs of rows i and j, ``[p]`` float64. Of pairs of copies one is computed."""
    span = int(b.copies.max()) + 1
    keys, inverse = torch.unique(a.copies[i] * span + b.copies[j], return_inverse=True)
    sample = torch.empty_like(keys).scatter_(0, inverse, torch.arange(len(i), device=i.device))

    found = torch.empty(len(keys), dtype=torch.float64, device=i.device)

    def fill(part: slice) -> None:
        at = sample[part]
        gap = a.given[i[at]].double().sub_(b.given[j[at]].double()).mul_(a.scale)
        found[part] = gap.square_().sum(1)

    chunk = _PAIR_CHUNK_ON_GPU if i.is_cuda else _PAIR_CHUNK
    _in_parts(fill, len(sample), max(1, chunk // a.dim), i.device)
    return found[inverse]


def within(a: Rows, b: Rows, pairs: Pairs, limit: Tensor) -> Tensor:
    """Whether the squared distance of each pair is at most ``limit``, ``[p]`` float64. Exact."""
    yes = pairs.upper <= limit
    doubt = (~yes & (pairs.lower <= limit)).nonzero().flatten()
    if len(doubt):
        yes[doubt] = exact(a, b, pairs.row[doubt], pairs.column[doubt]) <= limit[doubt]
    return yes


def sharpened(a: Rows, b: Rows, pairs: Pairs, rough: Tensor) -> Pairs:
    """The pairs with float64 bounds where ``rough``, ``[p]`` bool, by products of the rows and columns concerned."""
    at = rough.nonzero().flatten()
    if len(at) == 0:
        return pairs
    rows, row = torch.unique(pairs.row[at], return_inverse=True)
    columns, column = torch.unique(pairs.column[at], return_inverse=True)
    lower, upper = pairs.lower.clone(), pairs.upper.clone()
    for top in range(0, len(rows), BLOCK):
        for left in range(0, len(columns), BLOCK):
            here = (row >= top) & (row < top + BLOCK) & (column >= left) & (column < left + BLOCK)
            tile = doubles(a, b, rows[top : top + BLOCK], columns[left : left + BLOCK])
            lower[at[here]] = tile[row[here] - top, column[here] - left]
    upper[at] = lower[at] + width(a, b, pairs.row[at], pairs.column[at], torch.float64)
    return Pairs(pairs.row, pairs.column, lower, upper)
