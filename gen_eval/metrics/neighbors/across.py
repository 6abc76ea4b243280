"""The nearest rows of one set to rows of another, exact; the columns may be gone through in parts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.metrics.neighbors.distances import Rows, doubles, exact, width
from gen_eval.metrics.neighbors.tiles import (
    SPARE,
    WIDE,
    Shortlist,
    Table,
    below,
    block_size,
    blocks,
    tile_of,
)
from gen_eval.parallel import in_parallel


class Nearest(NamedTuple):
    """The nearest rows of another set to each row, nearest first.

    Args:
        squared: ``[n, k]`` float64, their exact squared distances.
        who: ``[n, k]`` which they are; of rows that are equally near the first comes first.
    """

    squared: Tensor
    who: Tensor


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
    scan, everyone = _scanned(a, b, k)
    return scan.finish(everyone)


def nearest_set(a: Rows, b: Rows, k: int) -> Tensor:
    """Which rows :func:`nearest` finds, ``[n, k]`` in no order: a distance is worked out where rounding could matter.

    Arguments and errors are those of :func:`nearest`.
    """
    scan, everyone = _scanned(a, b, k)
    return scan.who(everyone)


def _scanned(a: Rows, b: Rows, k: int) -> tuple[Scan, Tensor]:
    """All columns gone through for all rows, and the places of these."""
    if k < 1:
        raise UsageError(f"k counts neighbours from 1, found {k}")
    if b.n < k:
        raise TooFewImages(
            f"the {k} nearest images need at least {k} images to look among, the set has {b.n}"
        )
    everyone = torch.arange(a.n, device=a.centred.device)
    scan = Scan(a, everyone, b, k)
    scan.over(everyone, range(b.n))
    return scan, everyone


class Scan:
    """What is nearest to some rows among the columns gone through so far.

    Rows are named by their places in ``some``, ``[s]``.

    Args:
        a: the set of the rows.
        some: ``[s]`` int64, which rows of it.
        b: the set of the columns, prepared beside a or the same.
        k: how many to find; b has as many rows at least.
    """

    def __init__(self, a: Rows, some: Tensor, b: Rows, k: int) -> None:
        self._a, self._b, self._some, self._k = a, b, some, k
        self._keep = min(k + SPARE, b.n)
        self._best = Shortlist(len(some), self._keep, some.device)

    def over(self, places: Tensor, columns: range) -> None:
        """Go through columns that were not yet, for some of the rows, ``[p]`` int64, each once."""
        jobs = (
            (own, other, self._best.value[own, -1].clone())
            for own in torch.split(places, block_size(self._b))
            for other in blocks(self._b, columns)
        )
        for table in in_parallel(lambda job: self._look(*job), jobs, self._some.device):
            self._best.merge(table)

    def _look(self, places: Tensor, other: slice, limit: Tensor) -> Table:
        """What a block of columns has for some rows below the last of their lists."""
        tile = tile_of(self._a, self._some[places], self._b, other)
        if bool(limit.isinf().any()):  # nothing to compare with yet
            values, column = tile.topk(min(self._keep, tile.shape[1]), largest=False)
            return Table(places, values, other.start + other.step * column)
        row, column = below(tile, limit[:, None])
        value = tile[row, column]
        return Table.of(places[row], other.start + other.step * column, value, self._keep)

    def upper(self, places: Tensor) -> Tensor:
        """Upper bounds of the squared distance to the k-th nearest, of all columns too, ``[p]`` float64."""
        value, index = self._best.value[places].double(), self._best.index[places]
        most = value + width(self._a, self._b, self._some[places, None], index.clamp_min(0))
        return most.kthvalue(self._k).values

    def finish(self, places: Tensor) -> Nearest:
        """The exact answer, once all columns were gone through for these rows."""
        some, index = self._some[places], self._best.index[places].sort(1).values
        found = exact(self._a, self._b, some.repeat_interleave(self._keep), index.flatten()).view_as(index)
        squared, place = found.sort(dim=1, stable=True)
        squared, who = squared[:, : self._k], index.gather(1, place)[:, : self._k]
        if self._keep < self._b.n:
            short = (self._best.value[places, -1] <= squared[:, -1]).nonzero().flatten()
            for part in torch.split(short, max(1, WIDE // self._b.n)) if len(short) else ():
                squared[part], who[part] = _nearest_of_all(self._a, self._b, some[part], self._k)
        return Nearest(squared, who)

    def who(self, places: Tensor) -> Tensor:
        """Whose distances :meth:`finish` gives, ``[p, k]``, in no order."""
        some, (index, order) = self._some[places], self._best.index[places].sort(1)
        lower = self._best.value[places].gather(1, order).double()
        upper = lower + width(self._a, self._b, some[:, None], index)
        least, most = lower.kthvalue(self._k).values, upper.kthvalue(self._k).values
        sure = upper < least[:, None]
        open_ = ~sure & (lower <= most[:, None])
        closed = sure.sum(1) + open_.sum(1) == self._k  # as many as are asked for
        i, c = (open_ & ~closed[:, None]).nonzero(as_tuple=True)
        rank = torch.where(sure | open_, -1.0, math.inf).double()
        rank[i, c] = exact(self._a, self._b, some[i], index[i, c])
        who = index.gather(1, rank.sort(dim=1, stable=True).indices[:, : self._k])
        if self._keep < self._b.n:  # where one off the list may be as near, distances decide
            short = self._best.value[places, -1] <= most
            who[short] = self.finish(places[short]).who
        return who


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
