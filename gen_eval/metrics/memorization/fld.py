"""FLD, the feature likelihood divergence: how likely held-out images are, given the generated ones."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UsageError
from gen_eval.metrics.memorization.mixture import Mixture
from gen_eval.metrics.rows import matched, mean_of, of_each
from gen_eval.metrics.score import Score

_BLOCK = 1024  # rows standardized at a time
_MEMORIZED = 1000.0  # an FLD from which on the published code speaks of memorization


def fld(
    generated: Tensor, reference: Tensor, heldout: Tensor, *, components: int = 10_000, seed: int = 2020
) -> Score:
    """The feature likelihood divergence (Jiralerspong et al. 2023, arXiv:2302.04440, section 3).

    A Gaussian stands about each generated image, as wide as makes the training images most likely. A generator that
    copies has narrow ones, which make held-out images unlikely. The value is 100 times the mean negative log
    likelihood of the held-out images per dimension, less that of the same with one half of the training set in the
    place of the generated images and the other half to fit it to. Features are scaled to unit variance over the
    held-out images.

    0 is as good as fresh training images; a generator whose images stand closer to what is common may be a little
    below. Copies give thousands and more, of which only that it is very large means anything.

    The standard error counts the sampling of held-out images, of the generated ones and of the training images that
    the baseline stands on, but not how the widths vary with what they are fitted to, nor the scale of the features.
    Simulated on features that vary unequally, as those of networks do, it is .8 to 1.3 times the true one, at copies
    too; on features that are all independent and alike about half of it. Where tails are heavy it falls short: of
    30 independent features of Student's t with 6 degrees of freedom, at 150, 300 and 100 images, it is three
    quarters of the true one, and intervals of 95 % hold 80 to 88 %.

    Memory is that of :meth:`Mixture.fit`.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows of the training images.
        heldout: ``[k, d]`` rows of real images that were not trained on.
        components: the most generated rows that Gaussians are put about, and training rows for the baseline; a
            uniform draw of them. The published number is that of 10,000.
        seed: of that draw, and of the halves of the training set.

    Returns:
        ``fld``, and the two terms ``nll`` and ``baseline_nll``, in nats per dimension; the ``generalization_gap``,
        100 times the same of the training images less that of the held-out ones, which is far below 0 for copies. Of
        each held-out image what it adds to the mean that FLD is.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is NaN or infinite, or varies in no held-out image.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    if components < 2:
        raise UsageError(f"FLD needs at least 2 components, found {components}")
    sets = matched(4, generated=generated, reference=reference, heldout=heldout)
    (generated, reference, heldout), dropped = _standardized(*sets)
    dim = generated.shape[1]
    rng = np.random.default_rng(seed)
    chosen = _shuffled(generated, rng)[:components]
    order = _shuffled(reference, rng)
    half = min(len(chosen), len(reference) // 2)
    model = Mixture.fit(generated[chosen], reference)
    plain = Mixture.fit(reference[order[:half]], reference[order[half:]])
    seen, base, trained = model.look(heldout), plain.look(heldout), model.look(reference).likelihoods
    terms = 100 / dim * (base.likelihoods - seen.likelihoods)
    value = float(terms.mean())
    variance = float(terms.var()) / len(terms) + (100 / dim) ** 2 * (seen.variance + base.variance)
    gap = 100 / dim * (seen.likelihoods.mean() - trained.mean())
    return Score(
        {
            "fld": value,
            "generalization_gap": float(gap),
            "nll": -float(seen.likelihoods.mean()) / dim,
            "baseline_nll": -float(base.likelihoods.mean()) / dim,
        },
        {"fld": math.sqrt(variance)},
        contributions={"heldout": (terms - value) / len(terms)},
        per_image={"heldout": terms},
        warnings=_notes(value, dropped),
    )


def _standardized(*sets: Tensor) -> tuple[list[Tensor], int]:
    """Sets at mean 0 and variance 1 of the last, float32, less the features that do not vary there, which it counts."""
    last = torch.split(sets[-1], _BLOCK)
    mean = mean_of(*last)
    varies = torch.stack([(part != last[0][0]).any(0) for part in last]).any(0)
    if not bool(varies.any()):
        raise NumericalError("no feature varies over the held-out images; check the images and the extractor")
    squares = torch.zeros_like(mean)
    for part in last:
        squares += (part - mean).square_().sum(0)
    mean, deviation = mean[varies], (squares[varies] / (len(sets[-1]) - 1)).sqrt()

    def standard(rows: Tensor) -> Tensor:
        scaled = rows.new_empty(len(rows), len(mean), dtype=torch.float32)
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            scaled[part] = (rows[part][:, varies] - mean) / deviation
        return scaled

    return [standard(rows) for rows in sets], int((~varies).sum())


def _shuffled(rows: Tensor, rng: np.random.Generator) -> Tensor:
    """The rows in a drawn order, ``[n]``, which does not depend on how they came."""
    order = of_each(lambda part: part.square().sum(1), rows).argsort(stable=True)
    return order[torch.from_numpy(rng.permutation(len(rows))).to(rows.device)]


def _notes(value: float, dropped: int) -> tuple[str, ...]:
    notes = []
    if value > _MEMORIZED:
        notes.append(
            f"an FLD of {value:.3g} says that training images were copied; how large it is says nothing more"
        )
    if dropped:
        notes.append(f"{dropped} features vary in no held-out image and are left out")
    return tuple(notes)
