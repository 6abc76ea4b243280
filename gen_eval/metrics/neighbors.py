"""Nearest neighbours within a set and pairs within reach of each other, in one interface with two engines.

``blocks`` multiplies blocks of features, through OpenBLAS on a CPU and torch on a GPU, and goes through each
tile of distances while it is still in the cache; ``faiss`` asks a flat index. Both only gather candidates; who is
nearer and what lies within is decided in :mod:`gen_eval.metrics.distances`, so both give the same, exact answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import TooFewImages, UnknownName, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.distances import BLOCK, TINY, Pairs, Rows, doubles, exact, gamma, width

ENGINES = ("auto", "blocks", "faiss")
_CUDA_BLOCK = 8192  # a GPU wants larger products than a CPU's cache holds
_SPARE = 4  # candidates kept beyond those asked for, so that rounding seldom pushes one off the list
_WIDE = 1 << 22  # float64 distances held at a time where every row is asked
_FAISS_BATCH = 256  # queries a range search answers at a time, which bounds its memory
_LARGEST_WEIGHT = 1e30


class Neighbours(NamedTuple):
    """The nearest other rows of each row.

    Args:
        radii: ``[len(ks), n]`` float64, the exact squared distance to the k-th.
        who: ``[n, c]`` the nearest c, in order to float32 precision.
        squared: ``[n, c]`` float64, their squared distances to float32 precision.
    """

    radii: Tensor
    who: Tensor
    squared: Tensor


class Near(NamedTuple):
    """What one tile of distances has to say; bounds decide what remains.

    Args:
        by_row: pairs that may be within the limit of the row.
        by_column: pairs that may be within the limit of the column.
        lightest: for each row, pairs that may have the least weighted distance of all columns.
    """

    by_row: Pairs
    by_column: Pairs
    lightest: Pairs


def neighbours(rows: Rows, ks: Sequence[int], *, keep: int, engine: str = "auto") -> Neighbours:
    """The exact distances of each row to the k-th of the others of its set, and the list of its nearest.

    Args:
        rows: a prepared set.
        ks: which neighbours the radii go to; a row is not its own, an exact copy of it is.
        keep: how many neighbours to list; fewer where the set has fewer.
        engine: a name in :data:`ENGINES`.

    Raises:
        UsageError: if a k is not positive.
        TooFewImages: if the set has no more than k rows.
    """
    for k in ks:
        if k < 1:
            raise UsageError(f"k counts neighbours from 1, found {k}")
        if rows.n <= k:
            raise TooFewImages(
                f"the distance to neighbour {k} needs at least {k + 1} images, the set has {rows.n}"
            )
    keep = min(max(keep, max(ks) + _SPARE), rows.n - 1)
    find = _faiss_nearest if _is_faiss(engine) else _nearest
    lower, index, beyond = find(rows, keep)
    everyone = torch.arange(rows.n, device=index.device)
    upper = lower + width(rows, rows, everyone[:, None], index)
    radii = torch.stack([_kth(rows, everyone, lower, upper, index, k) for k in ks])
    if keep < rows.n - 1:
        # Where a row off the list may be as near as the k-th, every row is asked, in float64.
        short = (beyond <= upper.kthvalue(max(ks)).values).nonzero().flatten()
        for part in torch.split(short, max(1, _WIDE // rows.n)) if len(short) else ():
            fine = doubles(rows, rows, part, everyone)
            fine[torch.arange(len(part), device=part.device), part] = math.inf
            most = fine + width(rows, rows, part[:, None], everyone, torch.float64)
            everybody = everyone.expand_as(fine)
            radii[:, part] = torch.stack([_kth(rows, part, fine, most, everybody, k) for k in ks])
            lower[part], index[part] = fine.topk(keep, largest=False)
            upper[part] = lower[part]
    return Neighbours(radii, index, (lower + upper) / 2)


def _kth(rows: Rows, who: Tensor, lower: Tensor, upper: Tensor, index: Tensor, k: int) -> Tensor:
    """The exact k-th smallest distance of candidates that are known as intervals, ``[r, c]``."""
    least, most = lower.kthvalue(k).values, upper.kthvalue(k).values
    nearer = upper < least[:, None]
    i, c = (~nearer & (lower <= most[:, None])).nonzero(as_tuple=True)
    table = torch.full_like(lower, math.inf)
    table[i, c] = exact(rows, rows, who[i], index[i, c])
    rank = k - 1 - nearer.sum(1)
    return table.sort(1).values.gather(1, rank[:, None])[:, 0]


def near(
    a: Rows,
    b: Rows,
    of_rows: Tensor,
    of_columns: Tensor,
    *,
    weights: Tensor | None = None,
    engine: str = "auto",
) -> Iterator[Near]:
    """All pairs of two sets that may be within a limit, in one pass over the distances.

    Args:
        a: the rows, n of them.
        b: the columns, m of them.
        of_rows: ``[n]`` float64, the largest squared distance that counts for each row.
        of_columns: ``[m]`` the same for each column.
        weights: ``[m]`` float64, what squared distances are multiplied by to find the lightest; infinite for columns
            that do not take part. Only the engine ``blocks`` serves them.
        engine: a name in :data:`ENGINES`.
    """
    if not _is_faiss(engine):
        return _near(a, b, of_rows, of_columns, weights)
    if weights is not None:
        raise UsageError("the engine faiss does not weigh distances; use blocks")
    return _faiss_near(a, b, of_rows, of_columns)


def _is_faiss(engine: str) -> bool:
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    return engine == "faiss"  # `auto` is blocks: faiss takes four times as long on a CPU (5,000 x 2048)


# --- Blocks


def _blocks(rows: Rows) -> list[slice]:
    size = _CUDA_BLOCK if rows.centred.is_cuda else BLOCK
    return [slice(start, min(start + size, rows.n)) for start in range(0, rows.n, size)]


def _tile(doubled: Tensor, low_rows: Tensor, columns: Rows, low_columns: Tensor, part: slice) -> Tensor:
    """Lower bounds of squared distances; ``doubled`` rows are times -2."""
    tile = linalg.product(doubled, columns.centred[part].T)
    return tile.add_(low_rows[:, None]).add_(low_columns[part])


def _at_most(tile: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Where a tile is at most ``limit``, which broadcasts. NumPy is several times faster at this than torch."""
    if tile.is_cuda:
        row, column = (tile <= limit).nonzero(as_tuple=True)
        return row, column
    found = np.flatnonzero(tile.numpy() <= limit.numpy())
    return torch.from_numpy(found // tile.shape[1]), torch.from_numpy(found % tile.shape[1])


def _nearest(rows: Rows, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower bounds of the nearest others, ``[n, keep]`` ascending, who they are, and a bound for all others."""
    best = Shortlist(rows.n, keep, rows.centred.device)
    low = rows.low(torch.float32)
    blocks = _blocks(rows)
    for at, own in enumerate(blocks):
        doubled = rows.centred[own] * -2
        for other in blocks[at:]:
            tile = _tile(doubled, low[own], rows, low, other)
            if other is own:
                tile.fill_diagonal_(math.inf)
            best.offer(tile, own, other)
            if other is not own:
                best.offer(tile.T, other, own)
    return best.value.double(), best.index, best.value[:, -1].double()


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

    def offer(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Take what is small enough of ``[r, c]`` values of these rows and columns."""
        limit = self.value[rows, -1]
        if bool(limit.isinf().all()) and tile.shape[1] > self.value.shape[1]:
            top = tile.contiguous().topk(self.value.shape[1], largest=False)
            self._merge(rows, top.values, top.indices + columns.start)
        else:
            row, column, value = _at_most_of(tile, limit)
            self.add(row + rows.start, column + columns.start, value)

    def add(self, row: Tensor, index: Tensor, value: Tensor) -> None:
        """Take what is small enough of ``[p]`` values of any rows."""
        small = value < self.value[row, -1]
        row, index, value = row[small], index[small], value[small]
        if len(row) == 0:
            return
        order = value.argsort()
        order = order[row[order].argsort(stable=True)]
        touched, place, counts = torch.unique_consecutive(row[order], return_inverse=True, return_counts=True)
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[place]
        kept = rank < self.value.shape[1]
        order, place, rank = order[kept], place[kept], rank[kept]
        values = torch.full((len(touched), int(rank.max()) + 1), math.inf, device=row.device)
        indices = torch.full_like(values, -1, dtype=torch.long)
        values[place, rank], indices[place, rank] = value[order], index[order]
        self._merge(touched, values, indices)

    def _merge(self, rows: Tensor | slice, values: Tensor, indices: Tensor) -> None:
        values, order = torch.cat([self.value[rows], values], 1).sort(1)
        indices = torch.cat([self.index[rows], indices], 1).gather(1, order)
        keep = self.value.shape[1]
        self.value[rows], self.index[rows] = values[:, :keep], indices[:, :keep]


def _at_most_of(tile: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values where ``[r, c]`` values are at most the limit of the row."""
    if tile.is_contiguous():
        row, column = _at_most(tile, limit[:, None])
    else:  # the transpose of a tile is searched as it lies
        column, row = _at_most(tile.T, limit)
    return row, column, tile[row, column]


def _near(a: Rows, b: Rows, of_rows: Tensor, of_columns: Tensor, weights: Tensor | None) -> Iterator[Near]:
    low_rows, low_columns = a.low(torch.float32), b.low(torch.float32)
    ceiling_rows, ceiling_columns = _up(of_rows), _up(of_columns)
    nobody = (torch.empty(0, dtype=torch.long, device=low_rows.device),) * 2
    for own in _blocks(a):
        doubled = a.centred[own] * -2
        race = None if weights is None else _Race(a, b, own, weights)
        for other in _blocks(b):
            tile = _tile(doubled, low_rows[own], b, low_columns, other)
            by_row = _at_most(tile, ceiling_rows[own][:, None])
            by_column = _at_most(tile, ceiling_columns[other])
            lightest = nobody if race is None else race.offer(tile, other)
            yield Near(*(_pairs(a, b, tile, own, other, *found) for found in (by_row, by_column, lightest)))


def _up(limits: Tensor) -> Tensor:
    """In float32, rounded up."""
    return torch.nextafter(limits.float(), torch.tensor(math.inf, device=limits.device))


def _pairs(a: Rows, b: Rows, tile: Tensor, own: slice, other: slice, row: Tensor, column: Tensor) -> Pairs:
    lower = tile[row, column].double()
    row, column = row + own.start, column + other.start
    return Pairs(row, column, lower, lower + width(a, b, row, column))


class _Race:
    """Of a block of rows, the columns of least weighted distance, tile by tile."""

    def __init__(self, a: Rows, b: Rows, own: slice, weights: Tensor) -> None:
        self._a, self._b, self._weights = a, b, weights
        self._who = torch.arange(own.start, own.stop, device=weights.device)
        self._best = torch.full((len(self._who),), math.inf, dtype=torch.float64, device=weights.device)
        takes_part = weights.isfinite()
        # A weight held down lets in a candidate too many, never too few.
        self._factor = torch.where(takes_part, weights, 1.0).clamp(max=_LARGEST_WEIGHT).float()
        self._handicap = torch.where(takes_part, 0.0, math.inf).float()

    def offer(self, tile: Tensor, other: slice) -> tuple[Tensor, Tensor]:
        """Rows and columns of the tile that may be the lightest."""
        weighted = tile * self._factor[other] + self._handicap[other]
        first = weighted.argmin(1)
        self._improve(torch.arange(len(first), device=first.device), first, tile, other)
        row, column = _at_most(weighted, _up(self._best * (1 + 1e-6))[:, None])
        finite = weighted[row, column].isfinite()
        return row[finite], column[finite]

    def _improve(self, row: Tensor, column: Tensor, tile: Tensor, other: slice) -> None:
        """Lower the best by the upper bound of one column of each row."""
        spread = width(self._a, self._b, self._who, column + other.start)
        upper = (tile[row, column] + spread) * self._weights[column + other.start]
        self._best = torch.minimum(self._best, upper)


# --- faiss


def _faiss_nearest(rows: Rows, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    index = _faiss_index("IndexFlatL2", rows.dim, rows.centred)
    found = index.search(_host(rows.centred), keep + 1)
    squared, who = (torch.from_numpy(part).to(rows.centred.device) for part in found)
    # A row finds itself, unless that many copies of it come first: then the last one goes.
    own = who == torch.arange(rows.n, device=who.device)[:, None]
    own[:, -1] |= ~own.any(1)
    squared, who = (part[~own].view(rows.n, keep) for part in (squared.double(), who))
    half = width(rows, rows, torch.arange(rows.n, device=who.device)[:, None], who) / 2
    lower, order = (squared - half).sort(1)
    beyond = squared[:, -1] - gamma(rows.dim, torch.float32) * (rows.squares + rows.squares.max()) - TINY
    return lower, who.gather(1, order), beyond


def _faiss_near(a: Rows, b: Rows, of_rows: Tensor, of_columns: Tensor) -> Iterator[Near]:
    none = torch.empty(0, dtype=torch.long, device=of_rows.device)
    nobody = Pairs(none, none, none.double(), none.double())
    for pairs in _faiss_within(a, b, of_columns):
        yield Near(nobody, pairs, nobody)
    for pairs in _faiss_within(b, a, of_rows):
        yield Near(pairs.swapped(), nobody, nobody)


def _faiss_within(queries: Rows, centres: Rows, limits: Tensor) -> Iterator[Pairs]:
    """Pairs within the limit of the centre.

    ``|q - c|² <= r`` is ``(2 q, -|q|², 1) . (c, 1, r - |c|²) >= 0``: with two more dimensions one threshold serves
    balls of all sizes. The limits are stretched by what the product may round.
    """
    slack = 4 * gamma(centres.dim, torch.float32)
    reach = limits * (1 + slack) + 4 * TINY
    ends = torch.stack([torch.ones_like(limits), reach - centres.squares * (1 - slack)], 1)
    index = _faiss_index("IndexFlatIP", centres.dim + 2, torch.cat([centres.centred, ends.float()], 1))
    for start in range(0, queries.n, _FAISS_BATCH):
        part = slice(start, start + _FAISS_BATCH)
        squares = queries.squares[part] * (1 - slack)
        ends = torch.stack([-squares, torch.ones_like(squares)], 1).float()
        counts, power, who = index.range_search(_host(torch.cat([queries.centred[part] * 2, ends], 1)), 0.0)
        device = queries.centred.device
        row = torch.from_numpy(np.repeat(np.arange(len(counts) - 1), np.diff(counts.astype(np.int64)))).to(
            device
        )
        row, column = row + start, torch.from_numpy(who).to(device)
        lower = reach[column] - torch.from_numpy(power).double().to(device)
        extra = 2 * slack * (queries.squares[row] + centres.squares[column] + limits[column]) + 8 * TINY
        yield Pairs(row, column, lower - extra / 2, lower + extra)


def _faiss_index(kind: str, dim: int, rows: Tensor) -> Any:
    """A flat index of the rows. Range searches have no GPU version, so the index of products stays on the host."""
    import faiss

    index = getattr(faiss, kind)(dim)
    if rows.is_cuda and kind == "IndexFlatL2" and faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(_host(rows))
    return index


def _host(rows: Tensor) -> Any:
    return rows.cpu().contiguous().numpy()
