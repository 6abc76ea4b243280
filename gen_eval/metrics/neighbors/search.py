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
from gen_eval.metrics.neighbors.distances import TINY, Pairs, Rows, doubles, exact, gamma, width
from gen_eval.metrics.neighbors.tiles import (
    SPARE,
    WIDE,
    Shortlist,
    Table,
    at_most,
    below,
    blocks,
    rounded_up,
    tile_of,
)
from gen_eval.parallel import in_parallel

ENGINES = ("auto", "blocks", "faiss")
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
        require_neighbour(k, rows)
    keep = min(max(keep, max(ks) + SPARE), rows.n - 1)
    find = _faiss_nearest if _is_faiss(engine) else _nearest
    lower, index, beyond = find(rows, keep)
    everyone = torch.arange(rows.n, device=index.device)
    upper = lower + width(rows, rows, everyone[:, None], index)
    radii = torch.stack([_kth(rows, everyone, lower, upper, index, k) for k in ks])
    if keep < rows.n - 1:
        # Where a row off the list may be as near as the k-th, every row is asked, in float64.
        # Of one with as many copies the radii are known without.
        crowded = rows.copies.bincount()[rows.copies] > max(ks)
        radii[:, crowded] = 0.0
        short = (~crowded & (beyond <= upper.kthvalue(max(ks)).values)).nonzero().flatten()
        for part in torch.split(short, max(1, WIDE // rows.n)) if len(short) else ():
            fine = doubles(rows, rows, part, everyone)
            fine[torch.arange(len(part), device=part.device), part] = math.inf
            most = fine + width(rows, rows, part[:, None], everyone, torch.float64)
            everybody = everyone.expand_as(fine)
            radii[:, part] = torch.stack([_kth(rows, part, fine, most, everybody, k) for k in ks])
            lower[part], index[part] = fine.topk(keep, largest=False)
            upper[part] = lower[part]
    return Neighbours(radii, index, (lower + upper) / 2)


def require_neighbour(k: int, rows: Rows) -> None:
    """Refuse to look for a neighbour that the rows of a set do not have.

    Raises:
        UsageError: if k is not positive.
        TooFewImages: if the set has no more than k rows.
    """
    if k < 1:
        raise UsageError(f"k counts neighbours from 1, found {k}")
    if rows.n <= k:
        raise TooFewImages(
            f"the distance to neighbour {k} needs at least {k + 1} images, the set has {rows.n}"
        )


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
    of_rows: Tensor | None,
    of_columns: Tensor,
    *,
    weights: Tensor | None = None,
    engine: str = "auto",
) -> Iterator[Near]:
    """All pairs of two sets that may be within a limit, in one pass over the distances.

    Args:
        a: the rows, n of them.
        b: the columns, m of them.
        of_rows: ``[n]`` float64, the largest squared distance that counts for each row; ``None`` if none does.
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


def _nearest(rows: Rows, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower bounds of the nearest others, ``[n, keep]`` ascending, who they are, and a bound for all others."""
    device, parts = rows.centred.device, blocks(rows)
    best = Shortlist(rows.n, keep, device)
    # Tiles on the diagonal give each row a limit, below which the others have little to add.
    for table in in_parallel(lambda own: _nearest_of_block(rows, own, keep), parts, device):
        best.merge(table)
    jobs = (
        (own, other, best.value[own, -1].clone(), best.value[other, -1].clone())
        for at, own in enumerate(parts)
        for other in parts[at + 1 :]
    )
    for table in in_parallel(lambda job: _nearer(rows, keep, *job), jobs, device):
        best.merge(table)
    return best.value.double(), best.index, best.value[:, -1].double()


def _nearest_of_block(rows: Rows, own: slice, keep: int) -> Table:
    """The nearest of each row of a block within the block."""
    tile = tile_of(rows, own, rows, own).fill_diagonal_(math.inf)
    values, columns = tile.topk(min(keep, len(tile)), largest=False)
    return Table(torch.arange(own.start, own.stop, device=tile.device), values, columns + own.start)


def _nearer(rows: Rows, keep: int, own: slice, other: slice, of_own: Tensor, of_other: Tensor) -> Table:
    """What each row of two blocks has in the other block within its limit."""
    tile = tile_of(rows, own, rows, other)
    there, back = below(tile, of_own[:, None]), below(tile, of_other)
    one, two = (torch.cat(pair) for pair in zip(there, back, strict=True))
    value, one, two = tile[one, two], one + own.start, two + other.start
    at = len(there[0])
    row, column = torch.cat([one[:at], two[at:]]), torch.cat([two[:at], one[at:]])
    return Table.of(row, column, value, keep)


def _near(
    a: Rows, b: Rows, of_rows: Tensor | None, of_columns: Tensor, weights: Tensor | None
) -> Iterator[Near]:
    ceiling_columns = rounded_up(of_columns)
    ceiling_rows = None if of_rows is None else rounded_up(of_rows)
    nobody = (torch.empty(0, dtype=torch.long, device=of_columns.device),) * 2

    def look(job: tuple[slice, slice]) -> Near:
        own, other = job
        tile = tile_of(a, own, b, other)
        by_row = nobody if ceiling_rows is None else at_most(tile, ceiling_rows[own][:, None])
        by_column = at_most(tile, ceiling_columns[other])
        lightest = nobody if weights is None else _lightest(a, b, tile, own, other, weights[other])
        return Near(*(_pairs(a, b, tile, own, other, *found) for found in (by_row, by_column, lightest)))

    tiles = [(own, other) for own in blocks(a) for other in blocks(b)]
    return in_parallel(look, tiles, of_columns.device)


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
    row, column = at_most(weighted, rounded_up(upper * weights[first] * (1 + 1e-6))[:, None])
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


def _faiss_near(a: Rows, b: Rows, of_rows: Tensor | None, of_columns: Tensor) -> Iterator[Near]:
    none = torch.empty(0, dtype=torch.long, device=of_columns.device)
    nobody = Pairs(none, none, none.double(), none.double())
    for pairs in _faiss_within(a, b, of_columns):
        yield Near(nobody, pairs, nobody)
    for pairs in _faiss_within(b, a, of_rows) if of_rows is not None else ():
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
        index = faiss.index_cpu_to_gpus_list(index, gpus=[rows.get_device()])
    index.add(_host(rows))
    return index


def _host(rows: Tensor) -> Any:
    return rows.cpu().contiguous().numpy()
