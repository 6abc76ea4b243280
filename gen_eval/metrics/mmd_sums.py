"""Sums of a kernel over the pairs of two sets, in one pass over blocks of their Gram matrix.

They are all that the squared maximum mean discrepancy, its standard error and its permutation test need.

A block is a product of features about a common centre c, in the features' own precision; what the centre
takes away is put back in float64 (x.y = (x-c).(y-c) + c.x + c.y - c.c), and all that follows is float64. So
float32 features, whose products about 0 would lose the digits of a small distance, give the value that
float64 gives to 1e-6, at no more cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.kernels import Kernel
from gen_eval.stats import non_finite

# Rows and columns of a block of the Gram matrix: enough for fast products, little enough for the cache.
_BLOCK = 1000
# Below this the second-order parts of the variance have no degrees of freedom.
LEAST_ROWS = 4

Value = TypeVar("Value", float, Tensor)


def matched_rows(generated: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets, in the wider of their dtypes, once they are fit to be compared.

    Raises:
        UsageError: if they are not matrices of floats with equally many features.
        TooFewImages: if one has fewer than four rows.
        NumericalError: if a feature is NaN or infinite.
    """
    for role, rows in (("generated", generated), ("reference", reference)):
        if rows.ndim != 2 or rows.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"{role} features must be [n, d] in float32 or float64, "
                f"found shape {tuple(rows.shape)} in {str(rows.dtype).removeprefix('torch.')}"
            )
        if len(rows) < LEAST_ROWS:
            raise TooFewImages(
                f"a kernel distance needs at least {LEAST_ROWS} images in each set, the {role} set has {len(rows)}"
            )
        # A mean is quick to take, but may overflow where the features do not.
        if not bool(rows.mean(0).isfinite().all()) and not bool(rows.isfinite().all()):
            raise NumericalError(f"{role} set: {non_finite(rows)}")
    if generated.shape[1] != reference.shape[1]:
        raise UsageError(
            f"features of {generated.shape[1]} and of {reference.shape[1]} dimensions do not compare; "
            "both sets must go through the same extractor"
        )
    dtype = torch.promote_types(generated.dtype, reference.dtype)
    return generated.detach().to(dtype), reference.detach().to(dtype)


@dataclass(frozen=True)
class PairSums:
    """Sums of a kernel over pairs of rows, none of which is paired with itself.

    Args:
        rows: ``rows[p][q]`` sums, for each row of set p, over set q; ``[n]`` or ``[m]`` float64.
        squares: of the kernel's square, over the ordered pairs of the first set, over those across, and over
            the ordered pairs of the second set.
        groups: of the kernel, over the same three kinds of pairs, those within each group alone; ``[3, g]``.
    """

    rows: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    squares: tuple[float, float, float]
    groups: Tensor

    @property
    def totals(self) -> tuple[float, float, float]:
        """Over all the pairs of each kind."""
        (x_x, x_y), (_, y_y) = self.rows
        return float(x_x.sum()), float(x_y.sum()), float(y_y.sum())


class _Block(NamedTuple):
    """Some rows of one of two sets, by their numbers in the set and by their places among those that are asked for."""

    side: int
    numbers: slice | Tensor
    places: slice


class Gram:
    """The Gram matrix of two sets, which is never held but gone through a block at a time.

    Blocks overwrite one another: fresh memory would cost more than the arithmetic on it.

    Args:
        kernel: the kernel.
        x: ``[n, d]``.
        y: ``[m, d]``, of the same dtype and on the same device.
        block: rows and columns of a block.
    """

    def __init__(self, kernel: Kernel, x: Tensor, y: Tensor, *, block: int = _BLOCK) -> None:
        self._kernel = kernel
        self._sets = (x, y)
        self._left, self._right = x.new_empty(2, block, x.shape[1])
        self._values = x.new_empty(max(block * block, x.shape[1]), dtype=torch.float64)
        # The mean of both sets; any point near it would do.
        self._centre = (len(x) * x.mean(0) + len(y) * y.mean(0)) / (len(x) + len(y))
        self._offsets = (self._offsets_of(x), self._offsets_of(y))

    def _offsets_of(self, rows: Tensor) -> Tensor:
        """What each row adds to products of centred rows: c.x - c.c / 2, or |x - c|² for squared distances."""
        if self._kernel.of_distance:
            return torch.cat([part.square_().sum(1) for part in self._doubles(rows, self._centre)])
        centre = self._centre.double()
        return torch.cat([part @ centre for part in self._doubles(rows)]) - centre @ centre / 2

    def _doubles(self, rows: Tensor, centre: Tensor | None = None) -> Iterator[Tensor]:
        """The rows some at a time, less the centre if it is given, in float64."""
        size = min(len(self._left), len(self._values) // rows.shape[1])
        for part in _slices(len(rows), size):
            taken = rows[part]
            if centre is not None:
                taken = torch.sub(taken, centre, out=self._left[: len(taken)])
            yield self._values[: taken.numel()].view(taken.shape).copy_(taken)

    def selves(self) -> Tensor:
        """The kernel of each row with itself, ``[n + m]`` float64."""
        if self._kernel.of_distance:
            squares = self._values.new_zeros(sum(map(len, self._sets)))
        else:
            squares = torch.cat(
                [part.square_().sum(1) for rows in self._sets for part in self._doubles(rows)]
            )
        return self._kernel.profile(squares)

    def sums(self, *, subset: tuple[Tensor, Tensor] | None = None, members: Tensor | None = None) -> PairSums:
        """The sums over both sets or over a subset of each.

        Args:
            subset: numbers of rows of x and of y, ``[k]`` and ``[l]``.
            members: ``[n + m, g]`` bool (or ``[k + l, g]``), which rows belong to which group.

        Raises:
            NumericalError: if a sum is not finite.
        """
        n, m = (len(rows) for rows in subset or self._sets)
        if members is None:
            members = torch.empty(n + m, 0, dtype=torch.bool)
        members = members.to(self._values.device)
        chosen = (members[:n], members[n:])
        rows = tuple((self._values.new_zeros(size), self._values.new_zeros(size)) for size in (n, m))
        squares, groups = self._values.new_zeros(3), self._values.new_zeros(3, members.shape[1])
        for (p, _, i), (q, _, j), values in self._blocks(subset):
            diagonal = (p, i) == (q, j)
            rows[p][q][i] += values.sum(1)
            if not diagonal:
                rows[q][p][j] += values.sum(0)
            twice = 2 if p == q and not diagonal else 1
            squares[p + q] += twice * torch.dot(values.view(-1), values.view(-1))
            if members.shape[1]:
                ahead = linalg.product(values, chosen[q][j].double())
                groups[p + q] += twice * ahead.mul_(chosen[p][i]).sum(0)
        if not bool(squares.isfinite().all()):
            raise NumericalError(
                "the kernel is not finite between some feature rows; the features or the kernel's parameters "
                "are too large"
            )
        xx, xy, yy = squares.tolist()
        return PairSums((rows[0], rows[1]), (xx, xy, yy), groups)

    def _blocks(self, subset: tuple[Tensor, Tensor] | None) -> Iterator[tuple[_Block, _Block, Tensor]]:
        """Those on and above the diagonal of the matrix of both sets, with zeros on the diagonal itself."""
        blocks = [
            _Block(side, subset[side][places].to(self._values.device) if subset else places, places)
            for side, rows in enumerate(subset or self._sets)
            for places in _slices(len(rows), len(self._left))
        ]
        right = self._right
        for at, one in enumerate(blocks):
            # The last block is still there, as the last column of the row of blocks before.
            left = right if one is blocks[-1] else self._centred(one, self._left)
            for other in blocks[at:]:
                right = left if one is other else self._centred(other, self._right)
                values = self._kernel_of(one, other, left, right)
                yield one, other, values.fill_diagonal_(0) if one is other else values

    def _centred(self, block: _Block, memory: Tensor) -> Tensor:
        rows = self._sets[block.side]
        memory = memory[: block.places.stop - block.places.start]
        if isinstance(block.numbers, slice):
            return torch.sub(rows[block.numbers], self._centre, out=memory)
        return torch.index_select(rows, 0, block.numbers, out=memory).sub_(self._centre)

    def _kernel_of(self, one: _Block, other: _Block, left: Tensor, right: Tensor) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the sums
            products = linalg.product(left, right.T)
        values = self._values[: products.numel()].view(products.shape).copy_(products)
        if self._kernel.of_distance:
            values.mul_(-2)
        values.add_(self._offsets[one.side][one.numbers, None]).add_(self._offsets[other.side][other.numbers])
        return self._kernel.profile(values.clamp_min_(0) if self._kernel.of_distance else values)


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def unbiased(totals: tuple[Value, Value, Value], n: int, m: int) -> Value:
    """The unbiased squared MMD of n and m rows, from the sums over their three kinds of pairs."""
    xx, xy, yy = totals
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


class Variances(NamedTuple):
    """Of the uncorrelated parts that the unbiased estimate is the sum of (Hoeffding 1948).

    ``x`` and ``y`` are those of what one row says by itself, the witness function E k(z, x) - E k(z, y);
    ``xx``, ``xy`` and ``yy`` those of what is left of the kernel between two rows.
    """

    x: float
    y: float
    xx: float
    xy: float
    yy: float

    @classmethod
    def of(cls, sums: PairSums) -> Variances:
        """Estimates without bias, which may therefore be negative."""
        (x_x, x_y), (y_x, y_y) = sums.rows
        xx, yy = _within(x_x, sums.squares[0]), _within(y_y, sums.squares[2])
        xy = _across(x_y, y_x, sums.squares[1])
        n, m = len(x_x), len(y_y)
        x = float(witness(x_x, x_y, m).var()) - xx / (n - 2) - xy / m
        y = float(witness(y_y, y_x, n).var()) - yy / (m - 2) - xy / n
        return cls(x, y, xx, xy, yy)

    def of_estimate(self, n: int, m: int) -> float:
        """The variance of the estimate from n and m rows."""
        first = 4 * self.x / n + 4 * self.y / m
        second = 2 * self.xx / (n * (n - 1)) + 4 * self.xy / (n * m) + 2 * self.yy / (m * (m - 1))
        return max(first, 0) + max(second, 0)


def witness(own: Tensor, other: Tensor, others: int) -> Tensor:
    """How much more alike a row is to its own set than to the other, beside the average row; ``[n]``.

    Args:
        own: ``[n]`` sums of the kernel over the other rows of its own set.
        other: ``[n]`` sums over the other set.
        others: number of rows in the other set.
    """
    return _centred(own) / (len(own) - 2) - _centred(other) / others


def _within(rows: Tensor, squares: float) -> float:
    """Residual variance of a symmetric matrix about a constant and an effect of each row."""
    n, total = len(rows), float(rows.sum())
    about_mean = squares - total**2 / (n * (n - 1))
    effects = 2 * float(_centred(rows).square().sum()) / (n - 2)
    return (about_mean - effects) / (n * (n - 3))


def _across(rows: Tensor, columns: Tensor, squares: float) -> float:
    """Residual variance of a matrix about a constant and an effect of each row and column."""
    n, m, total = len(rows), len(columns), float(rows.sum())
    effects = float(_centred(rows).square().sum()) / m + float(_centred(columns).square().sum()) / n
    return (squares - total**2 / (n * m) - effects) / ((n - 1) * (m - 1))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()
