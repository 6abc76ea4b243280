"""Standard errors of precision, recall, density and coverage that count the sampling of both sets.

Given the balls, the images asked about are independent draws: that part is binomial. The balls are drawn too, and no
formula gives their part, so it is seen by halving: the balls of one random half of the set against those of the
other, each with radii among its own half. The two are independent samples, so the squared difference of their values
is on average twice the variance at half the size, which is four times that at the full size. (A jackknife would count
what only p images together bring about p times, and with nearest neighbours that is most of it.) All halvings are
read from one pass over the distances: a query of rank r is inside a ball of one half if fewer than k of the
centre's r nearest neighbours are in that half.

The images asked about add noise to the difference, for they are finitely many: with e the difference of what
is said of each, ``((sum e)² - sum e²) / (n (n - 1))`` is free of it. Coverage has no such split: there both sets are
halved together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from gen_eval.metrics import agresti_coull
from gen_eval.metrics.neighbors.ball_counts import Membership
from gen_eval.parallel import in_parallel

_SPLITS = 64
_AT_ONCE = 8  # splits handled together, which bounds memory


class _Spread(NamedTuple):
    """Variances that come from the balls, and the density of half the balls."""

    inside: float
    density: float
    half_density: float


class Variances(NamedTuple):
    """What the draw of both sets does to the values, as far as it is seen: near 0 and 1 it is :func:`padded`.

    Args:
        precision: the part that comes from the balls; drawing the images asked about adds a binomial one.
        recall: the same.
        density_queries: the part that comes from the images asked about.
        density_balls: the part that comes from the balls.
        coverage: all of it.
    """

    precision: float
    recall: float
    density_queries: float
    density_balls: float
    coverage: float

    @classmethod
    def of(cls, k: int, of_generated: Membership, of_reference: Membership) -> Variances | None:
        """Those of two sets; arguments as of :func:`standard_errors`.

        Returns:
            ``None`` if half of a set has no k-th neighbours.
        """
        n, m = len(of_generated.held), len(of_reference.held)
        if min(n, m) // 2 <= k:
            return None
        sides = _halves(of_generated.query_order, 0), _halves(of_reference.query_order, 1)
        there = _ball_spread(k, of_generated, sides[1])
        back = _ball_spread(k, of_reference, sides[0])
        held = of_generated.held.double()
        density = float(held.mean()) / k
        growth = max(1.0, density / there.half_density) if there.half_density else 1.0
        return cls(
            there.inside,
            back.inside,
            float(held.var()) / k**2 / n,
            there.density * growth**2,
            _coverage_variance(k, of_generated, *sides),
        )


def standard_errors(k: int, of_generated: Membership, of_reference: Membership) -> dict[str, float]:
    """Standard errors of ``precision``, ``recall``, ``density`` and ``coverage`` about their own expectation.

    Args:
        k: the neighbour that radii go to.
        of_generated: generated images in reference balls.
        of_reference: reference images in generated balls.

    Returns:
        By name; nothing if half of a set has no k-th neighbours.
    """
    n, m = len(of_generated.held), len(of_reference.held)
    parts = Variances.of(k, of_generated, of_reference)
    if parts is None:
        return {}
    precision, recall, coverage = (
        int((count > 0).sum()) / len(count)
        for count in (of_generated.held, of_reference.held, of_generated.hits)
    )
    plain = precision * (1 - precision) / n + parts.precision
    density = float(of_generated.held.double().mean()) / k
    inside = density / precision if precision else 1.0
    variances = {
        "precision": padded(precision, plain, n),
        "recall": padded(recall, recall * (1 - recall) / m + parts.recall, m),
        "density": parts.density_queries
        + parts.density_balls
        + inside**2 * (padded(precision, plain, n) - plain),
        "coverage": padded(coverage, parts.coverage, m),
    }
    return {name: math.sqrt(variance) for name, variance in variances.items()}


def padded(share: float, variance: float, n: int) -> float:
    """The variance of a share near 0 or 1, where what was seen makes it too small, down to nothing.

    It gains the :func:`gen_eval.metrics.agresti_coull.lack` of as many draws as would have this variance (Korn and
    Graubard 1998), but no fewer than half of n. Away from 0 and 1 that is next to nothing.
    """
    own = share * (1 - share)
    draws = min(max(own / variance, n / 2), n) if own and variance else n
    return variance + agresti_coull.lack(share, draws)


def _halves(order: torch.Tensor, seed: int) -> np.ndarray:
    """``[n, splits]`` true for a random half of the images, drawn by rank in ``order``."""
    generator = torch.Generator().manual_seed(seed)
    order, n = order.cpu(), len(order)
    sides = torch.zeros(n, _SPLITS, dtype=torch.bool)
    for split in range(_SPLITS):
        sides[order[torch.randperm(n, generator=generator)[: n // 2]], split] = True
    return sides.numpy()


def _over_splits(work: Callable[[slice], tuple[float, ...]]) -> list[float]:
    """The sums of what ``work`` says of some splits at a time."""
    parts = (slice(start, start + _AT_ONCE) for start in range(0, _SPLITS, _AT_ONCE))
    each = in_parallel(work, parts, torch.device("cpu"))
    return [math.fsum(values) for values in zip(*each, strict=True)]


def _open(k: int, neighbours: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """``[b, c, s]`` whether a query of each rank is in the ball drawn in its half, of ``sides`` ``[b, s]``."""
    beside = np.take(sides, neighbours, axis=0) == sides[:, None]
    nearer = beside.cumsum(1, dtype=np.min_scalar_type(neighbours.shape[1])) - beside
    open_: np.ndarray = nearer < k
    return open_


def _ball_spread(k: int, of: Membership, sides: np.ndarray) -> _Spread:
    """Variances of the share inside and of the density that drawing the balls causes, ``sides`` of the balls."""
    queries, (balls, listed) = len(of.held), of.neighbours.shape
    query, ball, rank, neighbours = (
        part.cpu().numpy() for part in (of.query, of.ball, of.rank, of.neighbours)
    )
    ones = np.ones(len(query), np.float32)
    pairs = scipy.sparse.csr_array((ones, (query, ball * listed + rank)), (queries, balls * listed))
    ranks = of.ranks.cpu().numpy().ravel().astype(np.float64)

    def of_splits(part: slice) -> tuple[float, float, float]:
        side = np.ascontiguousarray(sides[:, part])
        open_ = _open(k, neighbours, side)
        halves = [(open_ & half[:, None]).reshape(balls * listed, -1) for half in (side, ~side)]
        one, other = (pairs @ half.astype(np.float32) for half in halves)
        in_one, in_other = (ranks @ half for half in halves)
        share = (one > 0).astype(np.float64) - (other > 0)
        return (
            float((share.sum(0) ** 2 - (share**2).sum(0)).sum()),
            float(((in_one - in_other) ** 2 - ((one - other) ** 2).sum(0)).sum()),
            float((in_one + in_other).sum()),
        )

    inside, density, total = _over_splits(of_splits)
    scale = 4 * _SPLITS * queries * (queries - 1)
    return _Spread(
        max(inside / scale, 0.0), max(density / scale / k**2, 0.0), total / 2 / _SPLITS / queries / k
    )


def _coverage_variance(k: int, of: Membership, query_sides: np.ndarray, ball_sides: np.ndarray) -> float:
    """The variance of coverage, both sets halved."""
    first, rank, neighbours = (part.cpu().numpy() for part in (of.first, of.first_rank, of.neighbours))
    listed, every = neighbours.shape[1], np.arange(len(first))

    def of_splits(part: slice) -> tuple[float, float]:
        own, queries = (np.ascontiguousarray(sides[:, part]) for sides in (ball_sides, query_sides))
        open_ = _open(k, neighbours, own)
        waiting, covered = np.ones_like(own), np.zeros_like(own)
        for at in range(first.shape[1]):
            reached = (first[:, at] >= 0) & (rank[:, at] < listed)
            nearest = waiting & (queries[first[:, at]] == own) & reached[:, None]
            covered |= nearest & open_[every, np.minimum(rank[:, at], listed - 1)]
            waiting &= ~nearest
        one, other = (covered & own).sum(0) / own.sum(0), (covered & ~own).sum(0) / (~own).sum(0)
        return float(((one - other) ** 2).sum()), float((one + other).sum())

    squares, total = _over_splits(of_splits)
    share, half = float((of.hits > 0).double().mean()), total / 2 / _SPLITS
    # Half the images cover a little more or less, and a share varies as p (1 - p).
    growth = max(1.0, share * (1 - share) / (half * (1 - half))) if 0 < half < 1 else 1.0
    return squares / _SPLITS / 4 * growth
