"""Tiles of distances between blocks of two sets, and lists of the smallest values in them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.metrics import linalg
from gen_eval.metrics.neighbors.distances import BLOCK, Rows

SPARE = 4  # candidates kept beyond those asked for, so that rounding seldom pushes one off the list
# More values than these come to the lists in turns, of which the first keep out most of the others: 1.6 million of
# 1,280 rows take 70 ms, and 220 ms all at once.
_MANY, _TURNS = 1 << 18, 7
WIDE = 1 << 22  # float64 distances held at a time where every row is asked
_BLOCK_ON_GPU = 8192  # a GPU wants larger products than a CPU's cache holds
_BYTES_A_PAIR = 350  # that tables of neighbours take where all pairs of a tile are near: an estimate


def block_size(rows: Rows) -> int:
    """Rows and columns of a tile."""
    if not rows.centred.is_cuda:
        return BLOCK
    memory = torch.cuda.get_device_properties(rows.centred.device).total_memory
    return min(_BLOCK_ON_GPU, math.isqrt(memory // 2 // _BYTES_A_PAIR))


def blocks(rows: Rows, some: range | None = None) -> list[slice]:
    """The rows of a set, or evenly spaced ones of them, as many at a time as a tile has."""
    some, size = range(rows.n) if some is None else some, block_size(rows)
    parts = (some[at : at + size] for at in range(0, len(some), size))
    return [slice(part.start, part.stop, part.step) for part in parts]


def tile_of(a: Rows, own: slice | Tensor, b: Rows, other: slice) -> Tensor:
    """Lower bounds of the squared distances of some rows of each set, ``[r, c]`` float32."""
    tile = linalg.product(a.centred[own], b.centred[other].T)
    low_rows, low_columns = a.low(torch.float32, own), b.low(torch.float32, other)
    return torch.add(low_rows[:, None], tile, alpha=-2, out=tile).add_(low_columns)


def at_most(tile: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Where a tile is at most ``limit``, which broadcasts. NumPy is several times faster at this than torch."""
    if tile.is_cuda:
        row, column = (tile <= limit).nonzero(as_tuple=True)
        return row, column
    found = np.flatnonzero(tile.numpy() <= limit.numpy())
    return torch.from_numpy(found // tile.shape[1]), torch.from_numpy(found % tile.shape[1])


def below(tile: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Where a tile is less than ``limit``: of copies, of which a list is full, none."""
    return at_most(tile, torch.nextafter(limit, torch.full_like(limit, -math.inf)))


def rounded_up(limits: Tensor) -> Tensor:
    """In float32, rounded up."""
    return torch.nextafter(limits.float(), torch.tensor(math.inf, device=limits.device))


class Table(NamedTuple):
    """Small values of some rows, and the columns they came from.

    Args:
        rows: ``[t]`` the rows, each once.
        values: ``[t, c]``, infinite beyond the last of a row.
        columns: ``[t, c]``.
    """

    rows: Tensor
    values: Tensor
    columns: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, value: Tensor, keep: int) -> Table:
        """The smallest of ``[p]`` float32 values in any order, as many as ``keep`` of each row."""
        # One sort by row and value: but for the sign, floats are in the order of their bits.
        bits = value.view(torch.int32)
        order = ((row << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF))).argsort()
        rows, place, counts = torch.unique_consecutive(row[order], return_inverse=True, return_counts=True)
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[place]
        kept = rank < keep
        order, place, rank = order[kept], place[kept], rank[kept]
        values = torch.full((len(rows), int(rank.max()) + 1 if len(rank) else 0), math.inf, device=row.device)
        columns = torch.full_like(values, -1, dtype=torch.long)
        values[place, rank], columns[place, rank] = value[order], column[order]
        return cls(rows, values, columns)


class Shortlist:
    """The smallest values met so far for each of n rows, ascending, and where they came from.

    Args:
        n: number of rows.
        keep: how many values to keep of each.
        device: where they are kept.
    """

    def __init__(self, n: int, keep: int, device: torch.device) -> None:
        self.value = torch.full((n, keep), math.inf, device=device)
        self.index = torch.full((n, keep), -1, device=device)

    def add(self, row: Tensor, index: Tensor, value: Tensor) -> None:
        """Take what is small enough of ``[p]`` values of any rows."""
        turns = _TURNS if len(row) > _MANY else 1
        for turn in range(turns):
            small = value[turn::turns] < self.value[row[turn::turns], -1]
            at = turn + turns * small.nonzero().flatten()
            self.merge(Table.of(row[at], index[at], value[at], self.value.shape[1]))

    def merge(self, table: Table) -> None:
        """Take what is small enough of a table."""
        values, order = torch.cat([self.value[table.rows], table.values], 1).sort(1)
        indices = torch.cat([self.index[table.rows], table.columns], 1).gather(1, order)
        keep = self.value.shape[1]
        self.value[table.rows], self.index[table.rows] = values[:, :keep], indices[:, :keep]
