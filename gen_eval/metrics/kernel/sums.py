"""Sums of a kernel over the pairs of two sets, in one pass over blocks of their Gram matrix.

They are all that the squared maximum mean discrepancy, its standard error and its permutation test need.

A block is a product of features about a common centre c, in the features' own precision; what the centre
takes away is put back in float64 (x.y = (x-c).(y-c) + c.x + c.y - c.c), and all that follows is float64. So
float32 features, whose products about 0 would lose the digits of a small distance, give the value that
float64 gives to 1e-6, at no more cost. Kernels of the distance itself, Laplace's and the energy's, would lose more
where rows repeat or nearly do, as the root of rounding is large: small distances they are given from float64.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.metrics import linalg
from gen_eval.metrics.kernel.kernels import Kernel
from gen_eval.parallel import in_parallel

# Rows and columns of a block of the Gram matrix: enough for fast products, little enough for a CPU's cache.
_BLOCK, _BLOCK_ON_GPU = 1000, 4096
_ROWS_OF_CENTRE = 256  # of each set
# Squared distances below this part of the squared distances to the centre are too rough in float32 to take a root of.
# Where all rows repeat, what is computed again takes as long as all the rest; where none do, it is nothing.
_SMALL = 2.0**-10
# Below this the second-order parts of the variance have no degrees of freedom.
LEAST_ROWS = 4

Value = TypeVar("Value", float, Tensor)


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

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(range(self.places.start, self.places.stop))


class _BlockSums(NamedTuple):
    """Of one block of the Gram matrix: over each row, over each column, of the squares, and within each group."""

    rows: Tensor
    columns: Tensor
    squares: Tensor
    groups: Tensor


class _Memory:
    """Where one block is computed after another: fresh memory would cost more than the arithmetic on it.

    Args:
        block: rows and columns of a block of the Gram matrix.
        row: ``[d]`` a row, for its dtype and device.
    """

    def __init__(self, block: int, row: Tensor) -> None:
        self.left, self.right = row.new_empty(2, block, len(row))
        self.values = row.new_empty(max(block * block, len(row)), dtype=torch.float64)
        self.in_right: _Block | None = None


class Gram:
    """The Gram matrix of two sets, which is never held but gone through a block at a time.

    Args:
        kernel: the kernel.
        x: ``[n, d]``.
        y: ``[m, d]``, of the same dtype and on the same device.
        block: rows and columns of a block; by default what suits the device.
    """

    def __init__(self, kernel: Kernel, x: Tensor, y: Tensor, *, block: int | None = None) -> None:
        self._kernel = kernel
        self._sets = (x, y)
        self._block = block or (_BLOCK_ON_GPU if x.is_cuda else _BLOCK)
        self._idle: deque[_Memory] = deque()
        # Any point among the rows would do, but for the mean: one far row would take it away from all others.
        some = [rows[:: max(1, len(rows) // _ROWS_OF_CENTRE)] for rows in (x, y)]
        self._centre = torch.cat(some).median(0).values
        self._offsets = (self._offsets_of(x), self._offsets_of(y))

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._centre.device

    @contextmanager
    def _memory(self) -> Iterator[_Memory]:
        """What no other thread is using."""
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = _Memory(self._block, self._centre)
        try:
            yield memory
        finally:
            self._idle.append(memory)

    def _offsets_of(self, rows: Tensor) -> Tensor:
        """What each row adds to products of centred rows: c.x - c.c / 2, or |x - c|² for squared distances."""
        if self._kernel.of_distance:
            return torch.cat([part.square_().sum(1) for part in self._doubles(rows, self._centre)])
        centre = self._centre.double()
        return torch.cat([part @ centre for part in self._doubles(rows)]) - centre @ centre / 2

    def _doubles(self, rows: Tensor, centre: Tensor | None = None) -> Iterator[Tensor]:
        """The rows some at a time, less the centre if it is given, in float64."""
        with self._memory() as memory:
            size = min(self._block, len(memory.values) // rows.shape[1])
            for part in _slices(len(rows), size):
                taken = rows[part]
                if centre is not None:
                    taken = torch.sub(taken, centre, out=memory.left[: len(taken)])
                yield memory.values[: taken.numel()].view(taken.shape).copy_(taken)

    def selves(self) -> Tensor:
        """The kernel of each row with itself, ``[n + m]`` float64."""
        if self._kernel.of_distance:
            squares = self._offsets[0].new_zeros(sum(map(len, self._sets)))
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
        members = members.to(self.device)
        chosen = (members[:n], members[n:])
        zeros = self._offsets[0].new_zeros
        rows = tuple((zeros(size), zeros(size)) for size in (n, m))
        squares, groups = zeros(3), zeros(3, members.shape[1])
        blocks = self._blocks(subset)
        # On and above the diagonal of the matrix of both sets, which is symmetric.
        strips = [blocks[at:] for at in range(len(blocks))]
        done = in_parallel(lambda strip: self._strip(strip, chosen), strips, self.device)
        for strip, each in zip(strips, done, strict=True):
            p, _, i = strip[0]
            for (q, _, j), found in zip(strip, each, strict=True):
                diagonal = (p, i) == (q, j)
                rows[p][q][i] += found.rows
                if not diagonal:
                    rows[q][p][j] += found.columns
                twice = 2 if p == q and not diagonal else 1
                squares[p + q] += twice * found.squares
                groups[p + q] += twice * found.groups
        if not bool(squares.isfinite().all()):
            raise NumericalError(
                "the kernel is not finite between some feature rows; the features or the kernel's parameters "
                "are too large"
            )
        xx, xy, yy = squares.tolist()
        return PairSums((rows[0], rows[1]), (xx, xy, yy), groups)

    def _blocks(self, subset: tuple[Tensor, Tensor] | None) -> list[_Block]:
        return [
            _Block(side, subset[side][places].to(self.device) if subset else places, places)
            for side, rows in enumerate(subset or self._sets)
            for places in _slices(len(rows), self._block)
        ]

    def _strip(self, blocks: Sequence[_Block], members: tuple[Tensor, Tensor]) -> list[_BlockSums]:
        """The sums of the first block of rows against itself and against each of the others."""
        one = blocks[0]
        # Room for all comes first: small results between large blocks would keep the holes of these apart.
        sums = [self._room(one.size, other.size, members[0].shape[1]) for other in blocks]
        with self._memory() as memory:
            # The last block of all is often still there, as the last of another strip.
            left = memory.right[: one.size] if memory.in_right is one else self._centred(one, memory.left)
            for other, found in zip(blocks, sums, strict=True):
                right = left
                if other is not one:
                    right, memory.in_right = self._centred(other, memory.right), other
                values = self._kernel_of(one, other, left, right, memory.values)
                if other is one:
                    values.fill_diagonal_(0)
                ahead = linalg.product(values, members[other.side][other.places].double())
                torch.sum(ahead.mul_(members[one.side][one.places]), 0, out=found.groups)
                torch.dot(values.view(-1), values.view(-1), out=found.squares)
                torch.sum(values, 1, out=found.rows)
                torch.sum(values, 0, out=found.columns)
        return sums

    def _room(self, rows: int, columns: int, groups: int) -> _BlockSums:
        new = self._offsets[0].new_empty
        return _BlockSums(new(rows), new(columns), new(()), new(groups))

    def _centred(self, block: _Block, memory: Tensor) -> Tensor:
        rows, memory = self._sets[block.side], memory[: block.size]
        if isinstance(block.numbers, slice):
            return torch.sub(rows[block.numbers], self._centre, out=memory)
        return torch.index_select(rows, 0, block.numbers, out=memory).sub_(self._centre)

    def _kernel_of(self, one: _Block, other: _Block, left: Tensor, right: Tensor, memory: Tensor) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the sums
            products = linalg.product(left, right.T)
        values = memory[: products.numel()].view(products.shape).copy_(products)
        own, others = self._offsets[one.side][one.numbers], self._offsets[other.side][other.numbers]
        if self._kernel.of_distance:
            values.mul_(-2)
        values.add_(own[:, None]).add_(others)
        if self._kernel.of_distance:
            values.clamp_min_(0)
        if self._kernel.of_root and left.dtype == torch.float32:
            self._sharpen(values, one, other)
        return self._kernel.profile(values)

    def _sharpen(self, values: Tensor, one: _Block, other: _Block) -> None:
        """Squared distances once more from a float64 product, of all rows and columns that have small ones."""
        if one is other:
            values.fill_diagonal_(math.inf)
        own, others = (self._offsets[block.side][block.numbers] for block in (one, other))
        i = (values.amin(1) < _SMALL * (own + others.max())).nonzero().flatten()
        small = values[i] < _SMALL * (own[i, None] + others)
        j = small.any(0).nonzero().flatten()
        if not len(j):
            return
        x, y = (
            self._sets[block.side][block.numbers][some].double().sub_(self._centre)
            for block, some in ((one, i), (other, j))
        )
        again = linalg.product(x, y.T).mul_(-2).add_(x.square().sum(1)[:, None]).add_(y.square().sum(1))
        row, column = small[:, j].nonzero(as_tuple=True)
        values[i[row], j[column]] = again[row, column].clamp_min_(0)


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
