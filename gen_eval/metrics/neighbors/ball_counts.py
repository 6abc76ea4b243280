"""Who is in whose ball: the pass over the distances that the manifold metrics share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UnknownName
from gen_eval.metrics.neighbors.distances import Pairs, Rows, exact, prepare, sharpened, within
from gen_eval.metrics.neighbors.search import Neighbours, near, neighbours
from gen_eval.metrics.neighbors.tiles import Shortlist

FEATURE_DTYPES = ("float32", "float16", "float16-squared")
# A query in more balls than this is in one of any half of them, so its pairs tell nothing more.
_SATURATED = 64
_ROUGH = (
    0.01  # width of a distance, in those of the farthest listed neighbour, that does not tell ranks any more
)
_FIRST = (
    12  # nearest queries of a ball that are remembered: a half of the queries holds one, but for 1 in 4,096
)
# Numbers gathered at a time to find ranks: in a CPU's cache 1.6 million pairs take .19 s, and .68 s all at once.
_GATHERED, _GATHERED_ON_GPU = 1 << 17, 1 << 24


@dataclass(frozen=True)
class Balls:
    """Which balls to draw.

    Args:
        k: the neighbour that radii go to.
        inclusive: whether the surface of a ball belongs to it: ``<=`` as in the paper, or ``<`` as in prdc.
    """

    k: int = 3
    inclusive: bool = True

    @property
    def reach(self) -> int:
        """Neighbours to know of each centre, so that its radius is known when half of the set is left out.

        Of that many, four standard deviations more than k are expected to stay.
        """
        return math.ceil(2 * self.k + 4 * math.sqrt(2 * self.k))


class Membership(NamedTuple):
    """Queries of one set in the balls of the other. The rank of a pair counts the neighbours of the centre that
    are nearer to it than the query.

    Args:
        held: ``[q]`` int64, how many balls hold each query.
        hits: ``[b]`` int64, how many queries each ball holds.
        smallest: ``[q]`` float64, the smallest radius that holds each query, in the units of the features;
            infinite outside all balls.
        neighbours: ``[b, c]`` the nearest centres of each centre, in order.
        ranks: ``[b, c]`` int64, how many queries have each rank.
        query: ``[p]`` the pairs of rank below c, less those of queries in very many balls.
        ball: ``[p]``.
        rank: ``[p]``.
        first: ``[b, f]`` the nearest queries of each centre, in order; -1 beyond the last of rank below c.
        first_rank: ``[b, f]`` their ranks.
        query_order: ``[q]`` the queries in an order that does not depend on how they came.
    """

    held: Tensor
    hits: Tensor
    smallest: Tensor
    neighbours: Tensor
    ranks: Tensor
    query: Tensor
    ball: Tensor
    rank: Tensor
    first: Tensor
    first_rank: Tensor
    query_order: Tensor


class Counts(NamedTuple):
    """What balls of one kind hold, both ways.

    Args:
        of_generated: generated images in reference balls.
        of_reference: reference images in generated balls.
        realism: ``[n]`` float64, the largest radius over distance of each generated image; ``None`` if not asked for.
    """

    of_generated: Membership
    of_reference: Membership
    realism: Tensor | None


def count(
    generated: Tensor,
    reference: Tensor,
    balls: Sequence[Balls],
    feature_dtype: str,
    engine: str,
    realism: bool,
) -> list[Counts]:
    """What balls of several kinds hold, in one pass; arguments as in :func:`.manifold.survey`."""
    sets, rounding = stored(generated, reference, feature_dtype)
    ks, keep = [kind.k for kind in balls], max(kind.reach for kind in balls)
    lists = [neighbours(rows.alone(), ks, keep=keep, engine=engine) for rows in sets]
    tallies = [
        tuple(_Tally(sets[1 - side], sets[side], lists[side], at, kind, rounding) for side in (1, 0))
        for at, kind in enumerate(balls)
    ]
    outer = [torch.stack([pair[way].outer for pair in tallies]).amax(0) for way in (0, 1)]
    race = _Realism(*sets, lists[1].radii[0]) if realism else None
    weights, engine = (race.weights, "blocks") if race else (None, engine)
    for found in near(*sets, outer[1], outer[0], weights=weights, engine=engine):
        for of_generated, of_reference in tallies:
            of_generated.add(found.by_column)
            of_reference.add(found.by_row.swapped())
        if race:
            race.add(found.lightest)
    values = race.finish() if race else None
    return [Counts(there.finish(), back.finish(), values) for there, back in tallies]


# --- Half precision


def stored(generated: Tensor, reference: Tensor, dtype: str) -> tuple[tuple[Rows, Rows], str]:
    """The sets as a protocol stores them, and how it rounds distances, for :func:`limits_of`.

    Raises:
        UnknownName: if the dtype is none of :data:`FEATURE_DTYPES`.
        NumericalError: if features do not fit it.
    """
    if dtype not in FEATURE_DTYPES:
        raise UnknownName("dtype of features", dtype, FEATURE_DTYPES)
    if dtype == "float32":
        return prepare(generated, reference), dtype
    halves = [rows.half() for rows in (generated, reference)]
    most = torch.finfo(torch.float16).max
    for rows, half in zip((generated, reference), halves, strict=True):
        if bool((half.isinf() & rows.isfinite()).any()):
            raise NumericalError(f"features above {most:.0f} do not fit float16: use feature_dtype='float32'")
    norms = [float(torch.linalg.vector_norm(half, dim=1, dtype=torch.float32).max()) for half in halves]
    if dtype == "float16-squared" and 2 * max(norms) ** 2 > most:
        return prepare(generated, reference), "float32"
    return prepare(halves[0], halves[1]), dtype


def limits_of(radii: Tensor, scale: float, inclusive: bool, rounding: str) -> Tensor:
    """The largest squared distances that count as inside, ``[b]`` float64, in the units of ``radii``.

    Rounding is monotone, so comparing rounded distances means moving the limit to the point from which they round
    to beyond the rounded radius: halfway to the next number, which itself goes to the even one.
    """
    if rounding == "float32":
        return radii if inclusive else torch.nextafter(radii, torch.full_like(radii, -1))
    squared = rounding == "float16-squared"
    size = radii.cpu().numpy() / scale**2
    rounded = (size if squared else np.sqrt(size)).astype(np.float16)
    last = rounded if inclusive else np.nextafter(rounded, np.float16(-1))
    middle = (last.astype(float) + np.nextafter(last, np.float16(np.inf)).astype(float)) / 2
    limit = np.where(last.view(np.uint16) % 2, np.nextafter(middle, -1), middle)
    limit = np.where(last < 0, -1.0, limit if squared else limit**2)
    return torch.from_numpy(limit * scale**2).to(radii.device)


# --- Tallies


class _Tally:
    """Gathers the membership of queries in balls as pairs come in."""

    def __init__(
        self, queries: Rows, centres: Rows, lists: Neighbours, at: int, kind: Balls, rounding: str
    ) -> None:
        device, radii = lists.who.device, lists.radii[at]
        self._queries, self._centres = queries, centres
        self._reach = min(kind.reach, centres.n - 1)
        self._index, self._squared = lists.who[:, : self._reach], lists.squared[:, : self._reach]
        self._limits = limits_of(radii, centres.scale, kind.inclusive, rounding)
        self._radii = radii.sqrt() / centres.scale
        self.outer = torch.maximum(self._limits, self._squared[:, -1])
        self._held = torch.zeros(queries.n, dtype=torch.long, device=device)
        self._hits = torch.zeros(centres.n, dtype=torch.long, device=device)
        self._smallest = torch.full((queries.n,), math.inf, dtype=torch.float64, device=device)
        self._ranks = torch.zeros(centres.n * self._reach, dtype=torch.long, device=device)
        self._first = Shortlist(centres.n, _FIRST, device)
        self._pairs: list[Tensor] = []

    def add(self, pairs: Pairs) -> None:
        """Take pairs of a query and a centre; each may come only once."""
        rough = pairs.upper - pairs.lower > _ROUGH * self.outer[pairs.column]
        pairs = sharpened(self._queries, self._centres, pairs, rough)
        member = within(self._queries, self._centres, pairs, self._limits[pairs.column])
        query, ball, *_ = pairs.where(member)
        self._held.scatter_add_(0, query, torch.ones_like(query))
        self._hits.scatter_add_(0, ball, torch.ones_like(ball))
        self._smallest.scatter_reduce_(0, query, self._radii[ball], "amin")

        squared = (pairs.lower + pairs.upper) / 2
        rank = self._ranked(pairs.column, squared)
        listed = (rank < self._reach).nonzero().flatten()
        query, ball, *_ = pairs.where(listed)
        rank = rank[listed]
        self._ranks.scatter_add_(0, ball * self._reach + rank, torch.ones_like(rank))
        self._first.add(ball, query, squared[listed].float())
        open_ = (self._held[query] <= _SATURATED).nonzero().flatten()
        self._pairs.append(torch.stack([part[open_].int() for part in (query, ball, rank)]))

    def _ranked(self, ball: Tensor, squared: Tensor) -> Tensor:
        """How many of the listed neighbours of each centre are nearer than ``squared``, ``[p]``: ``[p]`` int64."""
        size = max(1, (_GATHERED_ON_GPU if ball.is_cuda else _GATHERED) // self._reach)
        rank = torch.zeros_like(ball)
        # Where nearly all pairs are within, most are of rank 0.
        beyond = (self._squared[:, 0][ball] < squared).nonzero().flatten()
        for at in torch.split(beyond, size):
            rank[at] = (self._squared[ball[at]] < squared[at, None]).sum(1)
        return rank

    def finish(self) -> Membership:
        """What there is to know."""
        query, ball, rank = torch.cat(self._pairs, 1).long()
        open_ = self._held[query] <= _SATURATED
        first_rank = (self._squared[:, None] < self._first.value[:, :, None]).sum(2)
        return Membership(
            self._held,
            self._hits,
            self._smallest,
            self._index,
            self._ranks.view(-1, self._reach),
            query[open_],
            ball[open_],
            rank[open_],
            self._first.index,
            first_rank,
            self._queries.order(),
        )


class _Realism:
    """For each query the largest radius over distance, of the balls no larger than the median."""

    def __init__(self, queries: Rows, centres: Rows, radii: Tensor) -> None:
        self._queries, self._centres = queries, centres
        small = (radii <= radii.median()) & (radii > 0)
        self.weights = torch.where(small, 1 / radii, math.inf)
        self._best = torch.full((queries.n,), math.inf, dtype=torch.float64, device=radii.device)
        self._pairs: list[Pairs] = []

    def add(self, pairs: Pairs) -> None:
        """Take pairs that may be the lightest of a query."""
        self._best.scatter_reduce_(0, pairs.row, pairs.upper * self.weights[pairs.column], "amin")
        self._pairs.append(self._light(pairs))

    def _light(self, pairs: Pairs) -> Pairs:
        """Those that may be, by what is known so far."""
        return pairs.where(pairs.lower * self.weights[pairs.column] <= self._best[pairs.row])

    def finish(self) -> Tensor:
        """Zero where no ball is left, infinite for an exact copy of a centre."""
        pairs = self._light(Pairs(*map(torch.cat, zip(*self._pairs, strict=True))))
        squared = exact(self._queries, self._centres, pairs.row, pairs.column)
        best = torch.full_like(self._best, math.inf)
        best.scatter_reduce_(0, pairs.row, squared * self.weights[pairs.column], "amin")
        return best.rsqrt()
