"""C_T: whether generated images are nearer to the training set than held-out images are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.metrics.memorization.partition import Cells, principal, project
from gen_eval.metrics.neighbors.across import nearest
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score


class Ranking(NamedTuple):
    """Generated against held-out distances of one cell.

    Args:
        z: the Mann-Whitney U over its standard deviation where nothing differs; below 0 the generated are nearer.
        error: its standard error, whether anything differs or not.
        placement: ``[n]`` float64, the share of held-out images that are nearer than each generated one.
    """

    z: float
    error: float
    placement: np.ndarray


def data_copying(
    generated: Tensor,
    reference: Tensor,
    heldout: Tensor,
    *,
    components: int = 64,
    cells: int = 3,
    least: int = 20,
    seed: int = 2020,
) -> Score:
    """The C_T statistic (Meehan, Chaudhuri and Dasgupta 2020, arXiv:2004.05675, section 4).

    In each cell of a k-means partition of the training set, the distances of generated and of held-out images to
    the nearest training image of the cell are compared by the Mann-Whitney U; its z-score counts by the share of
    held-out images in the cell. Ties count by half, and make the standard deviation smaller (Lehmann 1975, section
    1.4). Below 0 the generated images are nearer to the training set than held-out ones: the generator copies.
    Above 0 they are farther: it underfits. Best is 0.

    Where generated and held-out images are draws of one distribution C_T is normal with mean 0. Its variance is not
    1 but the sum of the squared shares of the cells, from 1 / cells to 1: the p-value counts that. C_T grows with
    the root of n: compare at equal n.

    The standard error counts the sampling of generated and held-out images, given the training set, the cells and how
    many images fall into each (DeLong et al. 1988, Biometrics 44:837).

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows of the training images.
        heldout: ``[k, d]`` rows of real images that were not trained on.
        components: principal components of the training set to which features with more dimensions are reduced.
        cells: of the partition.
        least: cells with no more generated images than this are left out.
        seed: of the partition.

    Returns:
        ``c_t``; the ``p_value`` of so low a C_T where nothing is copied; how many ``cells`` it is made of; of each
        generated image the share of held-out images in its cell that are nearer to the training set.

    Raises:
        TooFewImages: if there are too few rows for the cells.
        NumericalError: if a feature is NaN or infinite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    if min(components, cells) < 1 or least < 0:
        raise UsageError(
            f"components and cells must be positive and least 0 or more, found {components}, {cells} and {least}"
        )
    sets = matched(max(2, cells), generated=generated, reference=reference, heldout=heldout)
    if sets[0].shape[1] > components:
        axes = principal(sets[1], min(components, len(sets[1]) - 1))
        sets = [project(rows, *axes) for rows in sets]
    places = _places(sets, cells, seed)
    kept = [cell for cell in range(cells) if int((places[0] == cell).sum()) > least]
    if not kept:
        raise TooFewImages(
            f"none of {cells} cells holds more than {least} of the {len(generated)} generated images; pass more, "
            "or use fewer cells"
        )
    placement = torch.empty(len(generated), dtype=torch.float64)
    z, variance, weights = (torch.zeros(cells, dtype=torch.float64) for _ in range(3))
    for cell in range(cells):
        inside = [place == cell for place in places]
        ranking = _rank(*(rows[here] for rows, here in zip(sets, inside, strict=True)))
        placement[inside[0].cpu()] = torch.from_numpy(ranking.placement)
        if cell in kept:
            z[cell], variance[cell], weights[cell] = ranking.z, ranking.error**2, float(inside[2].sum())
    weights /= weights.sum()
    value, spread = float(weights @ z), float(weights.square().sum().sqrt())
    return Score(
        {"c_t": value, "p_value": float(scipy.stats.norm.cdf(value / spread)), "cells": float(len(kept))},
        {"c_t": float((weights.square() @ variance).sqrt())},
        per_image={"generated": placement.to(generated.device)},
        warnings=_left_out(places[2], kept, cells),
    )


def _places(sets: list[Tensor], cells: int, seed: int) -> list[Tensor]:
    """The cell of each row of the generated, training and held-out sets."""
    found = Cells.of(sets[1], cells, seed)
    places = [found.place(rows) for rows in sets]
    for role, place in (("training", places[1]), ("held-out", places[2])):
        empty = int((torch.bincount(place, minlength=cells) == 0).sum())
        if empty:
            raise TooFewImages(f"{empty} of {cells} cells hold no {role} images; use fewer cells")
    return places


def _rank(generated: Tensor, training: Tensor, heldout: Tensor) -> Ranking:
    """Generated and held-out rows of one cell by their distance to its training rows."""
    n, m = len(generated), len(heldout)
    if not n:
        return Ranking(0.0, 0.0, np.empty(0))
    rows, centres = prepare(torch.cat([generated, heldout]), training)
    distances = nearest(rows, centres).squared[:, 0].cpu().numpy()
    ranks = scipy.stats.rankdata(distances)
    u = ranks[:n].sum() - n * (n + 1) / 2
    _, ties = np.unique(distances, return_counts=True)
    total = n + m
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1))
    deviation = math.sqrt(n * m / 12 * (total + 1 - tied))
    placement = (ranks[:n] - scipy.stats.rankdata(distances[:n])) / m
    if not deviation:  # all at one distance
        return Ranking(0.0, 0.0, placement)
    z = (u - n * m / 2 + 0.5) / deviation  # the half: the published continuity correction
    return Ranking(float(z), _spread(distances[:n], distances[n:]) * n * m / deviation, placement)


def _spread(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the share of pairs in which the first is larger.

    Each set is given two more rows, one below and one above all: where the sets do not overlap, the error would
    be 0 otherwise.
    """
    ends = np.array([-np.inf, np.inf])
    n, m = len(one) + 2, len(other) + 2
    ranks = scipy.stats.rankdata(np.concatenate([one, ends, other, ends]))
    of_one = (ranks[:n] - scipy.stats.rankdata(np.concatenate([one, ends]))) / m
    of_other = (ranks[n:] - scipy.stats.rankdata(np.concatenate([other, ends]))) / n
    return math.sqrt(of_one.var(ddof=1) / n + of_other.var(ddof=1) / m)


def _left_out(heldout: Tensor, kept: list[int], cells: int) -> tuple[str, ...]:
    if len(kept) == cells:
        return ()
    seen = sum(int((heldout == cell).sum()) for cell in kept)
    return (
        f"{cells - len(kept)} of {cells} cells, with {len(heldout) - seen} of {len(heldout)} held-out images, hold too "
        "few generated images and are left out: the generator may drop what lies there",
    )
