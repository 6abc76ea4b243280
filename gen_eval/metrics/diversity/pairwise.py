"""The mean distance between two images of a set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.metrics.kernel.kernels import energy
from gen_eval.metrics.kernel.sums import Gram
from gen_eval.metrics.rows import matched, mean_of
from gen_eval.metrics.score import Score

# Of three rows each is in two of three pairs, and their spread says nothing.
_LEAST = 4
# Rows that are handled at a time, to bound memory.
_BLOCK = 1024


def pairwise_distance(generated: Tensor, *, squared: bool = False) -> Score:
    """The mean Euclidean distance between the features of two different images, or the mean squared distance.

    It is a U-statistic (Hoeffding 1948), so it has no bias, at any n. Its standard error is that of the jackknife in
    closed form, which is not too short in expectation (Efron and Stein 1981).

    The squared distance is twice the trace of the covariance and takes one pass over the rows; the distance takes
    all pairs, in blocks.

    Args:
        generated: ``[n, d]`` rows.
        squared: whether distances are squared.

    Returns:
        ``pairwise_distance``; of each image its mean distance to the others.

    Raises:
        UsageError: if the rows are no matrix of floats.
        TooFewImages: if there are fewer than four rows.
        NumericalError: if a feature or a distance is not finite.
    """
    (rows,), n = matched(_LEAST, generated=generated), len(generated)
    to_others = (_squared_sums if squared else _sums)(rows) / (n - 1)
    value = float(to_others.mean())
    if not math.isfinite(value):
        raise NumericalError(
            "the distance between some feature rows is not finite; the features are too large"
        )
    contributions = 2 / (n - 2) * (to_others - value)  # exactly what leaving the image out takes away
    return Score(
        {"pairwise_distance": value},
        errors={"pairwise_distance": math.sqrt(float(contributions.square().sum()) * (n - 1) / n)},
        biases={"pairwise_distance": 0.0},
        contributions={"generated": contributions},
        per_image={"generated": to_others},
    )


def _sums(rows: Tensor) -> Tensor:
    """Of each row the sum of its distances to all, ``[n]``."""
    every, none = torch.arange(len(rows)), torch.arange(0)
    return -Gram(energy(), rows, rows).sums(subset=(every, none)).rows[0][0]


def _squared_sums(rows: Tensor) -> Tensor:
    """Of each row the sum of its squared distances to all, ``[n]``: n times that to the mean, and the sum of those."""
    centre = mean_of(rows)
    to_mean = torch.cat([(part - centre).square_().sum(1) for part in torch.split(rows, _BLOCK)])
    return len(rows) * to_mean + to_mean.sum()
