"""How near each image is to a training image, beside how near that one is to its own kind.

The yardstick is local: where the training images lie densely, a fresh image is near one of them too. With r the
distance of an image to its nearest training image t, and s the distance of t to the nearest other training image,
r / s does not depend on the scale of the features or on the density.

Where n training images and a fresh one come from one density in d dimensions, the probability that r / s is below q
tends, as n grows, to 1 / (1 + k), where k is the volume of the ball of radius 1 / q about t less what it shares with
the unit ball about the fresh image, in units of the latter: around t nothing but t lies within s, and around the fresh
image nothing lies within r. For q <= 1/2 this is q^d. For q = 1 it is at least a half and tends to it with d.

That is a limit in n at a fixed d, of neighbourhoods so small that the density is even across them. Features of many
dimensions are nowhere near it. Training images that are near to many others stand closer to their own kind than a fresh
image does to them: of Gaussians in 64 dimensions r / s is above 1 for about .8 of fresh images, at n = 500 and at 3,000
alike. So what fresh images have is to be measured on held-out ones, not taken from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gen_eval.errors import TooFewImages
from gen_eval.metrics import agresti_coull
from gen_eval.metrics.neighbors.across import nearest
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.neighbors.search import neighbours


@dataclass(frozen=True)
class Closeness:
    """What is nearest to each of n images among m training images.

    Training images that are equal count once, or none of them would have any room around it.

    Args:
        distance: ``[n]`` float64, to the nearest training image; 0 for an exact copy of one, and only then.
        index: ``[n]`` which that is, the first of those that are equal.
        spacing: ``[n]`` float64, the distance of that one to the nearest other training image.
        first: ``[m]`` for each training image the first that equals it.
    """

    distance: Tensor
    index: Tensor
    spacing: Tensor
    first: Tensor

    @property
    def ratio(self) -> Tensor:
        """``distance / spacing``, ``[n]`` float64: 0 for a copy, and for a fresh image of the order of 1."""
        return self.distance / self.spacing

    @property
    def repeated(self) -> int:
        """How many training images equal one before them."""
        return int((self.first != torch.arange(len(self.first), device=self.first.device)).sum())


def closeness(rows: Tensor, training: Tensor) -> Closeness:
    """How near each row is to the training set; exact, in blocks.

    Beside copies of the features memory is that of a few blocks of distances.

    Args:
        rows: ``[n, d]``, of float32 or float64, as :func:`~gen_eval.metrics.rows.matched` gives them.
        training: ``[m, d]``.

    Raises:
        TooFewImages: if fewer than two training rows differ.
    """
    # In the order of their features, so that it does not matter in which they came.
    distinct, group = torch.unique(training, dim=0, return_inverse=True)
    if len(distinct) < 2:
        raise TooFewImages(
            f"the {len(training)} training images are one and the same; at least 2 must differ"
        )
    place = torch.arange(len(training), device=training.device)
    first = torch.full((len(distinct),), len(training), device=training.device)
    first.scatter_reduce_(0, group, place, "amin")
    queries, centres = prepare(rows, distinct)
    found = nearest(queries, centres)
    who = found.who[:, 0]
    spacing = neighbours(centres.alone(), [1], keep=1).radii[0][who].sqrt() / centres.scale
    return Closeness(found.squared[:, 0].sqrt() / centres.scale, first[who], spacing, first[group])


def share(hits: Tensor, draws: float | None = None) -> tuple[float, float]:
    """The share of images of which something is true, and its standard error, which is not 0 where all or none are.

    Args:
        hits: ``[n]`` bool.
        draws: how many independent draws the images count as; n by default.
    """
    value = float(hits.double().mean())
    draws = len(hits) if draws is None else draws
    return value, math.sqrt(agresti_coull.variance(value, draws))
