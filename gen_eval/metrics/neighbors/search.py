"""Nearest neighbours within a set and pairs within reach of each other, in one interface with two engines.

``blocks`` multiplies blocks of features, through OpenBLAS on a CPU and torch on a GPU, and goes through each
tile of distances while it is still in the cache; ``faiss`` asks a flat index. Both only gather candidates; who is
nearer and what lies within is decided in :mod:`~gen_eval.metrics.neighbors.distances`, so both give the same, exact
answer.
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
from gen_eval.metrics.neighbors.distances import BLOCK, TINY, Pairs, Rows, doubles, exact, gamma, width

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


class Nearest(NamedTuple):
    """The nearest rows of another set to each row, nearest first.

    Args:
        squared: ``[n, k]`` float64, their exact squared distances.
        who: ``[n, k]`` which they are; of rows that are equally near the first comes first.
    """

    squared: Tensor
    who: Tensor


class Near(NamedTuple):
    """What one tile of distances has to say; bounds decide what remains.

    Args:
        by_row: pairs that may be within the limit of the row.
        by_column: pairs that may be within the limit of the column.
        lightest: for each row, pairs that may have the least weighted distance of these columns.
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


def nearest(a: Rows, b: Rows, k: int = 1) -> Nearest:
    """The k rows of another set that are nearest to each row, whatever the limit.

    Args:
        a: the rows asked about, n of them, prepared beside b.
        b: the rows looked among, m of them.
        k: how many to find.

    Raises:
        UsageError: if k is not positive.
        TooFewImages: if b has fewer than k rows.
    """
    if k < 1:
        raise UsageError(f"k counts neighbours from 1, found {k}")
    if b.n < k:
        raise TooFewImages(
            f"the {k} nearest images need at least {k} images to look among, the set has {b.n}"
        )
    keep, device = min(k + _SPARE, b.n), a.centred.device
    best = Shortlist(a.n, keep, device)
    tiles = [(own, other) for own in _blocks(a) for other in _blocks(b)]
    for table in linalg.in_parallel(lambda tile: _nearest_across(a, b, *tile, keep), tiles, device):
        best.merge(table)
    index, everyone = best.index.sort(1).values, torch.arange(a.n, device=device)
    found = exact(a, b, everyone.repeat_interleave(keep), index.flatten()).view_as(index)
    squared, place = found.sort(dim=1, stable=True)
    squared, who = squared[:, :k], index.gather(1, place)[:, :k]
    if keep < b.n:
        short = (best.value[:, -1] <= squared[:, -1]).nonzero().flatten()
        for part in torch.split(short, max(1, _WIDE // b.n)) if len(short) else ():
            squared[part], who[part] = _nearest_of_all(a, b, part, k)
    return Nearest(squared, who)


def _nearest_of_all(a: Rows, b: Rows, some: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest of rows for which one off their list may be as near: every row is asked, in float64."""
    everyone = torch.arange(b.n, device=some.device)
    lower = doubles(a, b, some, everyone)
    most = (lower + width(a, b, some[:, None], everyone, torch.float64)).kthvalue(k, keepdim=True).values
    i, c = (lower <= most).nonzero(as_tuple=True)
    table = torch.full_like(lower, math.inf)
    table[i, c] = exact(a, b, some[i], c)
    squared, who = table.sort(dim=1, stable=True)
    return squared[:, :k], who[:, :k]


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


def _tile(a: Rows, own: slice, b: Rows, other: slice) -> Tensor:
    """Lower bounds of the squared distances of some rows of each set."""
    tile = linalg.product(a.centred[own], b.centred[other].T)
    low_rows, low_columns = a.low(torch.float32, own), b.low(torch.float32, other)
    return torch.add(low_rows[:, None], tile, alpha=-2, out=tile).add_(low_columns)


def _at_most(tile: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Where a tile is at most ``limit``, which broadcasts. NumPy is several times faster at this than torch."""
    if tile.is_cuda:
        row, column = (tile <= limit).nonzero(as_tuple=True)
        return row, column
    found = np.flatnonzero(tile.numpy() <= limit.numpy())
    return torch.from_numpy(found // tile.shape[1]), torch.from_numpy(found % tile.shape[1])


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
        small = value < self.value[row, -1]
        self.merge(Table.of(row[small], index[small], value[small], self.value.shape[1]))

    def merge(self, table: Table) -> None:
        """Take what is small enough of a table."""
        values, order = torch.cat([self.value[table.rows], table.values], 1).sort(1)
        indices = torch.cat([self.index[table.rows], table.columns], 1).gather(1, order)
        keep = self.value.shape[1]
        self.value[table.rows], self.index[table.rows] = values[:, :keep], indices[:, :keep]


def _nearest(rows: Rows, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower bounds of the nearest others, ``[n, keep]`` ascending, who they are, and a bound for all others."""
    device, blocks = rows.centred.device, _blocks(rows)
    best = Shortlist(rows.n, keep, device)
    # Tiles on the diagonal give each row a limit, below which the others have little to add.
    for table in linalg.in_parallel(lambda own: _nearest_of_block(rows, own, keep), blocks, device):
        best.merge(table)
    jobs = (
        (own, other, best.value[own, -1].clone(), best.value[other, -1].clone())
        for at, own in enumerate(blocks)
        for other in blocks[at + 1 :]
    )
    for table in linalg.in_parallel(lambda job: _nearer(rows, keep, *job), jobs, device):
        best.merge(table)
    return best.value.double(), best.index, best.value[:, -1].double()


def _nearest_of_block(rows: Rows, own: slice, keep: int) -> Table:
    """The nearest of each row of a block within the block."""
    tile = _tile(rows, own, rows, own).fill_diagonal_(math.inf)
    values, columns = tile.topk(min(keep, len(tile)), largest=False)
    return Table(torch.arange(own.start, own.stop, device=tile.device), values, columns + own.start)


def _nearest_across(a: Rows, b: Rows, own: slice, other: slice, keep: int) -> Table:
    """The nearest rows of a block of another set to each row of a block."""
    values, columns = _tile(a, own, b, other).topk(min(keep, other.stop - other.start), largest=False)
    return Table(torch.arange(own.start, own.stop, device=columns.device), values, columns + other.start)


def _nearer(rows: Rows, keep: int, own: slice, other: slice, of_own: Tensor, of_other: Tensor) -> Table:
    """What each row of two blocks has in the other block within its limit."""
    tile = _tile(rows, own, rows, other)
    there, back = _at_most(tile, of_own[:, None]), _at_most(tile, of_other)
    one, two = (torch.cat(pair) for pair in zip(there, back, strict=True))
    value, one, two = tile[one, two], one + own.start, two + other.start
    at = len(there[0])
    row, column = torch.cat([one[:at], two[at:]]), torch.cat([two[:at], one[at:]])
    return Table.of(row, column, value, keep)


def _near(a: Rows, b: Rows, of_rows: Tensor, of_columns: Tensor, weights: Tensor | None) -> Iterator[Near]:
    ceiling_rows, ceiling_columns = _up(of_rows), _up(of_columns)
    nobody = (torch.empty(0, dtype=torch.long, device=of_rows.device),) * 2

    def look(job: tuple[slice, slice]) -> Near:
        own, other = job
        tile = _tile(a, own, b, other)
        by_row = _at_most(tile, ceiling_rows[own][:, None])
        by_column = _at_most(tile, ceiling_columns[other])
        lightest = nobody if weights is None else _lightest(a, b, tile, own, other, weights[other])
        return Near(*(_pairs(a, b, tile, own, other, *found) for found in (by_row, by_column, lightest)))

    tiles = [(own, other) for own in _blocks(a) for other in _blocks(b)]
    return linalg.in_parallel(look, tiles, of_rows.device)


def _up(limits: Tensor) -> Tensor:
    """In float32, rounded up."""
    return torch.nextafter(limits.float(), torch.tensor(math.inf, device=limits.device))


def _pairs(a: Rows, b: Rows, tile: Tensor, own: slice, other: slice, row: Tensor, column: Tensor) -> Pairs:
    lower = tile[row, column].double()
    row, column = row + own.start, column + other.start
    return Pairs(row, column, lower, lower + width(a, b, row, column))


def _lightest(
    a: Rows, b: Rows, tile: Tensor, own: slice, other: slice, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows and columns of a tile that may be the lightest of their row in it."""
    takes_part = weights.isfinite()
    # A weight held down lets in a candidate too many, never too few.
    factor = torch.where(takes_part, weights, 1.0).clamp(max=_LARGEST_WEIGHT).float()
    weighted = tile * factor + torch.where(takes_part, 0.0, math.inf).float()
    first, everyone = weighted.argmin(1), torch.arange(len(tile), device=tile.device)
    upper = tile[everyone, first] + width(a, b, everyone + own.start, first + other.start)
    row, column = _at_most(weighted, _up(upper * weights[first] * (1 + 1e-6))[:, None])
    finite = weighted[row, column].isfinite()
    return row[finite], column[finite]


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
