"""The training images behind those generated images that look most like copies."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics.memorization.closeness import closeness
from gen_eval.metrics.neighbors.across import nearest
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.rows import matched
from gen_eval.stats import Features


@dataclass(frozen=True)
class Suspect:
    """A generated image beside the training images nearest to it.

    Args:
        index: of the generated image.
        ratio: its distance to the nearest training image over the distance of that one to the nearest other: 0
            for an exact copy, about 1 for a fresh image.
        training: index and distance of the nearest training images, nearest first; distances are Euclidean, in
            the units of the features.
    """

    index: int
    ratio: float
    training: list[tuple[int, float]]


def nearest_training_images(generated: Features, training: Features, *, k: int, most: int) -> list[Suspect]:
    """The generated images most suspicious of being copies, most suspicious first.

    Among the rows that are kept of either set; the number is that of
    :func:`~gen_eval.metrics.memorization.authenticity.authenticity`.

    Args:
        generated: features with rows.
        training: the same.
        k: how many training images to find for each; fewer where there are fewer.
        most: how many generated images to list.

    Raises:
        UsageError: if a set has no rows, the dimensions differ, or k is not positive.
        TooFewImages: if a set has fewer than two rows, or all training rows are equal.
    """
    (rows, index), (others, training_index) = _rows("generated", generated), _rows("training", training)
    rows, others = matched(2, generated=rows, training=others)
    ratio = closeness(rows, others).ratio
    chosen = ratio.argsort(stable=True)[:most]
    queries, centres = prepare(rows[chosen], others)
    found = nearest(queries, centres, min(k, centres.n))
    distances = (found.squared.sqrt() / centres.scale).tolist()
    return [
        Suspect(
            int(index[at]),
            float(ratio[at]),
            list(zip(training_index[who].tolist(), far, strict=True)),
        )
        for at, who, far in zip(chosen.tolist(), found.who.cpu(), distances, strict=True)
    ]


def _rows(role: str, features: Features) -> tuple[Tensor, Tensor]:
    """Rows in the order of their images, ``[n, d]``, and the images' indices."""
    if features.sample is None:
        raise UsageError(
            f"nearest images need the feature rows of the {role} set, and these statistics have none"
        )
    return features.sample.in_order(), features.sample.index.sort().values
