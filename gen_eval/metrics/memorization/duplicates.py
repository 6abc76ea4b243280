"""Exact and near copies: of training images, and of one another."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics.memorization.closeness import closeness, share
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.neighbors.search import neighbours
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score


def duplicates(generated: Tensor, reference: Tensor, *, threshold: float = 0.5) -> Score:
    """The shares of generated images that copy a training image, or another generated image.

    A copy is exact where the features are equal: for pixels, where what is left of the images at the size of the
    extractor is equal; for a network, where it cannot tell them apart. It is near where it is closer to its nearest
    training image than ``threshold`` times the distance of that one to the nearest other training image; an exact
    copy is near too. A fresh image of the training distribution is a near copy with a probability of about
    ``threshold ** d`` for thresholds up to a half, with d the number of dimensions that the features fill, where
    training images lie densely (see :mod:`~gen_eval.metrics.memorization.closeness`); the yardstick is the value of
    held-out images. A generated image repeats another one where that one is as
    close, by the same measure.

    The standard errors count the sampling of the generated images; the training set is what it is. Repeats come in
    pairs, so for them n images count as n / 2. How many there are depends on n: compare at equal n.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows of the training images.
        threshold: below which part of the usual distance a copy is near, in (0, 1].

    Returns:
        ``near_copies`` and ``exact_copies`` of training images, ``near_repeats`` and ``exact_repeats`` of other
        generated images, each as a share; of each generated image its distance to the nearest training image, in
        the units of the features, and of each training image how many near copies it has.

    Raises:
        TooFewImages: if a set has fewer than two rows, or all training rows are equal.
        NumericalError: if a feature is NaN or infinite.
        UsageError: if the dimensions differ or the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold of near copies must be in (0, 1], found {threshold}")
    generated, reference = matched(2, generated=generated, reference=reference)
    near = closeness(generated, reference)
    rows, _ = prepare(generated, reference)
    other = neighbours(rows.alone(), [1], keep=1).radii[0].sqrt() / rows.scale
    hits = {
        "near_copies": near.distance < threshold * near.spacing,
        "exact_copies": near.distance == 0,
        "near_repeats": other < threshold * near.spacing,
        "exact_repeats": other == 0,
    }
    found = {name: share(hit, len(hit) / 2 if "repeats" in name else None) for name, hit in hits.items()}
    copied = torch.bincount(near.index[hits["near_copies"]], minlength=len(reference))
    return Score(
        {name: value for name, (value, _) in found.items()},
        {name: error for name, (_, error) in found.items()},
        biases={"near_copies": 0.0, "exact_copies": 0.0},
        per_image={"generated": near.distance, "reference": copied[near.first].double()},
    )
