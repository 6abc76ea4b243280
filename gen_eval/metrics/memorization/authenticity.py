"""Authenticity: how many generated images are not just training images, slightly changed."""

from __future__ import annotations

from torch import Tensor

from gen_eval.metrics.memorization.closeness import closeness, share
from gen_eval.metrics.memorization.sets import matched
from gen_eval.metrics.score import Score


def authenticity(generated: Tensor, reference: Tensor) -> Score:
    """The share of generated images that are authentic (Alaa et al. 2022, arXiv:2102.08921, section 4).

    An image is authentic if it is farther from its nearest training image than that one is from the nearest other
    training image. Fresh images of the training distribution are so to a third in one dimension, and tend to a half
    in many (see :mod:`~gen_eval.metrics.memorization.closeness`); images unlike any training image all are. So the
    value to compare with is that of held-out images, not 1.

    Training images that occur more than once count once. The published code takes their distance to the nearest
    other one as 0, so that nothing but an exact copy of them is found.

    The standard error counts the sampling of the generated images. The training set is what it is: the question is
    whether this very set was copied, and another one was not trained on.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows of the training images.

    Returns:
        ``authenticity``; of each generated image its distance to the nearest training image over the distance of
        that one to the nearest other: 0 for a copy, above 1 if it is authentic.

    Raises:
        TooFewImages: if a set has fewer than two rows, or all training rows are equal.
        NumericalError: if a feature is NaN or infinite.
        UsageError: if the dimensions differ.
    """
    near = closeness(*matched(2, generated=generated, reference=reference))
    value, error = share(near.distance > near.spacing)
    warnings = (
        (
            f"{near.repeated} of {len(near.first)} training images equal others before them, and count once: other "
            "tools find more images authentic",
        )
        if near.repeated
        else ()
    )
    return Score(
        {"authenticity": value},
        {"authenticity": error},
        biases={"authenticity": 0.0},
        per_image={"generated": near.ratio},
        warnings=warnings,
    )
