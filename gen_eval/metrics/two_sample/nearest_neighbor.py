"""Nearest-neighbour test: whether images are nearest to images of their own set.

The leave-one-out accuracy of the 1-NN classifier (Xu et al. 2018, arXiv:1806.07755; Lopez-Paz and Oquab 2017), which as
a two-sample test is that of Schilling 1986, JASA 81:799. It is a half where the sets are alike and 1 where they lie
apart. The two sets by themselves tell more. Collapsed modes: generated images are nearest to one another, and in many
dimensions the reference images around them are nearest to generated ones. Poor images: the other way round. Far
below a half in both: generated images repeat reference images.

To relabel the rows changes no neighbour, so the permutation test costs next to nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_eval.metrics import agresti_coull
from gen_eval.metrics.neighbors.distances import Rows, exact, prepare, width
from gen_eval.metrics.neighbors.search import neighbours
from gen_eval.metrics.score import Score
from gen_eval.metrics.two_sample import shares
from gen_eval.metrics.two_sample.pool import Pool
from gen_eval.metrics.two_sample.significance import judge, mid_p_value, permutation_p_value, require_test

# Neighbours at the same distance that share the vote; of more, some that the labels have no say in.
_TIES = 16
# Labellings looked at a time, to bound memory.
_COLUMNS = 64


def nearest_neighbor_test(
    generated: Tensor,
    reference: Tensor,
    *,
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 2020,
) -> Score:
    """The share of rows whose nearest other row is of their own set, with a p-value.

    Neighbours at exactly the same distance share the vote. The accuracy is the mean of those of the two sets, so that
    a half is expected of sets of any size that do not differ. It takes few values: ``p_value`` counts ties as far and
    is too large by that; ``mid_p_value`` counts them by half.

    The standard errors count that a row and its neighbour, and two rows with one neighbour, tend to be right together.
    Those of the two sets are up to a third too large.

    Memory is ``n + m`` times the permutations in bytes, and that of a search for neighbours.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        permutations: number of relabellings for the p-value, at least 1.
        alpha: level for ``power`` and ``detectable``.
        seed: of the permutations.

    Returns:
        ``accuracy``, its ``p_value``, ``power`` and ``detectable`` (see
        :mod:`~gen_eval.metrics.two_sample.significance`), ``mid_p_value``, and the accuracy in each set,
        ``accuracy_generated`` and ``accuracy_reference``. Of each image whether it is right, 0 to 1.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    require_test(alpha, permutations, least=1)
    pool = Pool.of(generated, reference, seed)
    who, votes = _nearest(prepare(pool.rows, pool.rows[:1])[0].alone())
    labels = pool.labellings(permutations, seed)
    sides = torch.cat([_accuracies(part, who, votes) for part in torch.split(labels, _COLUMNS, 1)], 1)
    both = sides.mean(0)
    value, null = float(both[0]), both[1:]
    right = (votes * (pool.own[who] == pool.own[:, None])).sum(1)
    errors = _errors(right, pool.own, who[:, 0])
    verdict = judge(value, null, error=errors["accuracy"], alpha=alpha)
    warnings = verdict.warnings
    if permutation_p_value(-value, -null) <= alpha:
        warnings += (
            f"an accuracy of {value:.3g} is below that of sets that do not differ: images of one set are nearest to "
            "the other's. Look for generated images that repeat reference images.",
        )
    return Score(
        {
            "accuracy": value,
            **verdict.values(),
            "mid_p_value": mid_p_value(value, null),
            "accuracy_generated": float(sides[0, 0]),
            "accuracy_reference": float(sides[1, 0]),
        },
        errors=errors,
        per_image=pool.by_role(right),
        warnings=warnings,
    )


def _nearest(rows: Rows) -> tuple[Tensor, Tensor]:
    """The nearest other rows of each, ``[n, t]`` with t the most that are equally near, and their votes."""
    found = neighbours(rows, [1], keep=_TIES)
    radius = found.radii[0]
    everyone = torch.arange(rows.n, device=radius.device)[:, None]
    # Distances are known to float32 precision; those that may be the least are measured.
    row, place = (found.squared - width(rows, rows, everyone, found.who) <= radius[:, None]).nonzero(
        as_tuple=True
    )
    tied = torch.zeros_like(found.squared)
    tied[row, place] = (exact(rows, rows, row, found.who[row, place]) == radius[row]).double()
    most = int(tied.sum(1).max())
    order = tied.argsort(dim=1, descending=True, stable=True)[:, :most]
    return found.who.gather(1, order), tied.gather(1, order) / tied.sum(1, keepdim=True)


def _accuracies(labels: Tensor, who: Tensor, votes: Tensor) -> Tensor:
    """The share of generated and of reference rows that are nearest to their own, ``[2, p]``."""
    right = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    for nearest, vote in zip(who.T, votes.T, strict=True):
        right += vote[:, None] * (labels[nearest] == labels)
    return shares.right(right, labels)


def _errors(right: Tensor, own: Tensor, nearest: Tensor) -> dict[str, float]:
    """Standard errors, from the products of deviations of all pairs of rows that share a neighbour or are neighbours.

    Args:
        right: ``[n + m]`` whether a row is right.
        own: ``[n + m]`` bool, which rows are generated.
        nearest: ``[n + m]`` the nearest other row.
    """
    parts, lacks = [], []
    for side in (own, ~own):
        size, share = int(side.sum()), float(right[side].mean())
        parts.append(torch.where(side, (right - share) / size, 0.0))
        lacks.append(agresti_coull.lack(share, size))
    return {
        "accuracy": math.sqrt(_spread((parts[0] + parts[1]) / 2, nearest) + sum(lacks) / 4),
        "accuracy_generated": math.sqrt(_spread(parts[0], nearest) + lacks[0]),
        "accuracy_reference": math.sqrt(_spread(parts[1], nearest) + lacks[1]),
    }


def _spread(deviations: Tensor, nearest: Tensor) -> float:
    """The variance of the sum of deviations, ``[n + m]``; no less than were all rows independent."""
    alone, ahead = deviations.square().sum(), deviations * deviations[nearest]
    of_shared = torch.zeros_like(deviations).index_add_(0, nearest, deviations)
    mutual = nearest[nearest] == torch.arange(len(nearest), device=nearest.device)
    # Pairs with one neighbour (and each row with itself); neighbours, twice; those who are each other's were counted
    # from both sides.
    spread = of_shared.square().sum() + 2 * ahead.sum() - ahead[mutual].sum()
    return float(torch.maximum(spread, alone))
