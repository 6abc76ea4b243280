"""Which queries lie in any ball of a set, exactly, without the radii of all of them.

One ball that holds a query tells that it is inside, and the likeliest are asked first; a query is outside once the
bounds of all balls rule it out, as they do for most at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gen_eval.metrics.neighbors.distances import TINY, Pairs, Rows, width, within
from gen_eval.metrics.neighbors.radii import Radii
from gen_eval.metrics.neighbors.tiles import Shortlist, Table, at_most, blocks, tile_of
from gen_eval.parallel import in_parallel

_LISTED = 16  # balls of each query that are looked at first
_GROWTH = 32  # times as many of those queries that they leave open
_MOST = 1 << 24  # pairs listed at a time, which bounds memory
_MARGIN = 1e-6  # more than what a product of float32 numbers rounds


def inside(queries: Rows, centres: Rows, radii: Radii) -> Tensor:
    """Whether each query lies in a ball, ``[q]`` bool.

    Args:
        queries: the rows asked about.
        centres: those that the balls stand around, prepared beside them.
        radii: of the balls; what is learnt of them on the way stays there.
    """
    device = queries.centred.device
    found = torch.zeros(queries.n, dtype=torch.bool, device=device)
    left, listed = torch.arange(queries.n, device=device), _LISTED
    while len(left):
        listed = min(listed, centres.n)
        unsure = []
        for part in torch.split(left, max(1, _MOST // listed)):
            held, full = _decide(queries.take(part), centres, radii, listed)
            found[part] = held
            unsure.append(part[full & ~held])
        # A list that is full may have left balls out.
        left = torch.cat(unsure) if listed < centres.n else left[:0]
        listed *= _GROWTH
    return found


def _decide(queries: Rows, centres: Rows, radii: Radii, listed: int) -> tuple[Tensor, Tensor]:
    """Whether one of the likeliest balls holds each query, and whether there may be more balls than were listed."""
    candidates = _candidates(queries, centres, radii, listed)
    held, full = torch.zeros_like(candidates.full), candidates.full
    pairs, place = candidates.pairs, candidates.place
    start, span = 0, 1
    while len(pairs.row):
        chosen = (place >= start) & (place < start + span)
        if bool(chosen.any()):
            balls, ball = torch.unique(pairs.column, return_inverse=True)
            least = torch.full((len(balls),), math.inf, dtype=torch.float64, device=balls.device)
            least.scatter_reduce_(0, ball, pairs.lower, "amin")
            asked = torch.unique(ball[chosen])
            radii.settle(balls[asked], least[asked])
        limit, known = radii.limit[pairs.column], radii.exact[pairs.column]
        at = known.nonzero().flatten()
        held[pairs.row[at[within(queries, centres, pairs.where(at), limit[at])]]] = True
        open_ = ~held[pairs.row] & ~known & (pairs.lower <= limit)
        pairs, place = pairs.where(open_), place[open_]
        start, span = start + span, 2 * span
    return held, full


class _Candidates(NamedTuple):
    """Balls that may hold queries.

    Args:
        pairs: of a query and a ball.
        place: ``[p]`` int64, of the ball among those of the query, the likeliest first.
        full: ``[q]`` bool, whether the list of a query is full, so that there may be others.
    """

    pairs: Pairs
    place: Tensor
    full: Tensor


def _candidates(queries: Rows, centres: Rows, radii: Radii, listed: int) -> _Candidates:
    """The balls whose limits go farthest beyond each query, as a share of its distance."""
    limit, device = radii.limit, queries.centred.device
    # Nothing is in a ball without an inside, and a ball of no radius holds what is at no distance.
    factor = torch.where(limit < 0, math.inf, 1 / limit.clamp_min(TINY)).float()
    best = Shortlist(queries.n, listed, device)

    def look(job: tuple[slice, slice, Tensor]) -> Table:
        own, other, worst = job
        share = tile_of(queries, own, centres, other).clamp_min_(0)
        share.mul_(factor[other]).nan_to_num_(nan=math.inf)
        row, column = at_most(share, worst.clamp_max(1 + _MARGIN)[:, None])
        return Table.of(row + own.start, column + other.start, share[row, column], listed)

    jobs = ((own, other, best.value[own, -1].clone()) for own in blocks(queries) for other in blocks(centres))
    for table in in_parallel(look, jobs, device):
        best.merge(table)
    row, place = best.value.isfinite().nonzero(as_tuple=True)
    column = best.index[row, place]
    lower = best.value[row, place].double() * limit[column].clamp_min(TINY)
    upper = lower * (1 + _MARGIN) + width(queries, centres, row, column)
    return _Candidates(Pairs(row, column, lower * (1 - _MARGIN), upper), place, best.value[:, -1].isfinite())
