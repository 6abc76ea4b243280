"""Authenticity: how many generated images are not just training images, slightly changed."""

from __future__ import annotations

from torch import Tensor

from gen_eval.metrics.memorization.closeness import closeness, share
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score


def authenticity(generated: Tensor, reference: Tensor) -> Score:
    """The share of generated images that are authentic (Alaa et al. 2022, arXiv:2102.08921, section 4).

    An image is authentic if it is farther from its nearest training image than that one is from the nearest other
    training image. Images unlike any training image all are. Of fresh images of the training distribution it depends
    on the distribution and on n how many are: a third on a line, but .8 of Gaussians in 64 dimensions, and of the
    held-out images of CIFAR-10 through Inception (see :mod:`~gen_eval.metrics.memorization.closeness`). So the
    yardstick is the value of held-out images beside it, neither a half nor 1.

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
