"""The density-ratio trick: a classifier that tells the sets apart knows the ratio of their densities.

If D(x) is the probability that x is a reference row, both sets being as likely, then
reference(x) / generated(x) = D / (1 - D) (Sugiyama, Suzuki and Kanamori 2012; Goodfellow et al. 2014,
arXiv:1406.2661). Its logit is the log-ratio.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_eval.metrics.divergence.calibration import recalibration, reliability
from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.metrics.divergence.variational import LearnedRatio, learn_ratio
from gen_eval.metrics.networks import Difference, Training
from gen_eval.metrics.score import Score

# The variational bound of JS is log 2 less the log loss of a classifier: to learn one is to learn the other.
_CLASSIFIER = DIVERGENCES["js"]


def density_ratio(
    generated: Tensor,
    reference: Tensor,
    *,
    folds: int = 5,
    steps: int = 1500,
    width: int = 64,
    seed: int = 2020,
) -> Score:
    """All the divergences that a classifier's ratio of densities makes of the two sets, and the ratios.

    The divergence f of the ratio r is put into its own variational bound, T = f'(r), which is a lower bound on
    D_f(reference || generated) in expectation, and has a standard error as
    :func:`gen_eval.metrics.divergence.variational.f_divergence` says. It is also the plug-in estimate, the mean of
    f(r) over generated rows, less its first-order error. The plain plug-in estimate is given as well, without a
    standard error: it is as wrong as the ratio is, to either side, which its own terms do not show. Where the two
    are far apart, believe neither.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        folds: parts of the rows; each is judged by a classifier that learned from the others.
        steps: the most steps of training.
        width: units of each of the two hidden layers.
        seed: of the folds and the classifiers.

    Returns:
        By divergence, ``js`` first, the bound, and the plug-in estimate as ``NAME_plug_in``; ``mean_ratio``, the mean
        of r over generated rows, which is 1 for the true ratio. Of each image log r by a classifier that has
        not seen it: above 0 where images like it are commoner among the reference.

    Raises:
        TooFewImages: if a set has fewer than ``4 * folds`` rows.
        NumericalError: if a feature is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    learned = learn_ratio(generated, reference, _CLASSIFIER, Training(folds, steps, width, seed))
    ratio = torch.exp(learned.on_generated)
    values, errors, warnings = {}, {}, []
    for row in (_CLASSIFIER, *(row for row in DIVERGENCES.values() if row is not _CLASSIFIER)):
        name = row.name.replace("-", "_")
        # T is f' of the ratio itself: what a network needs in order to learn has no part here.
        bound = Difference.of(
            learned.pair, row.conjugate(row.optimal(learned.on_generated)), row.optimal(learned.on_reference)
        )
        values[name], errors[name] = bound.value, bound.error
        warnings += [each for each in learned.warnings(row, bound) if each not in warnings]
        values[f"{name}_plug_in"] = float(row.f(ratio).mean())
    values["mean_ratio"] = float(ratio.mean())
    return Score(
        values,
        errors=errors,
        contributions=learned.bound(_CLASSIFIER).contributions,
        per_image=_by_role(learned),
        warnings=tuple(warnings),
    )


def jensen_shannon(
    generated: Tensor,
    reference: Tensor,
    *,
    folds: int = 5,
    steps: int = 1500,
    width: int = 64,
    seed: int = 2020,
) -> Score:
    """The Jensen-Shannon divergence that a discriminator shows, in nats, and how well it is calibrated.

    It is log 2 less the held-out log loss, that is log 2 + (E_reference log D + E_generated log(1 - D)) / 2: a
    lower bound in expectation, with the standard error of its terms, the networks taken as given. What a
    discriminator loses by being too sure or too timid is had back by recalibrating its logits, with a slope and
    an intercept from the images that told it when to stop: ``recalibrated`` is a lower bound as well.

    Arguments and errors are those of :func:`density_ratio`.

    Returns:
        ``jensen_shannon``; ``recalibrated`` and ``calibration_gap``, what that adds; ``log_loss``, log 2 for a
        discriminator that knows nothing; the fields of
        :class:`~gen_eval.metrics.divergence.calibration.Reliability`; and ``calibration_slope`` and
        ``calibration_intercept`` of all held-out logits, 1 and 0 if they are right. Of each image the logit, as
        :func:`density_ratio` has it.
    """
    learned = learn_ratio(generated, reference, _CLASSIFIER, Training(folds, steps, width, seed))
    bound, again = learned.bound(_CLASSIFIER), _recalibrated(learned).bound(_CLASSIFIER)
    slope, intercept = recalibration(learned.on_generated, learned.on_reference)
    return Score(
        {
            "jensen_shannon": bound.value,
            "recalibrated": again.value,
            "calibration_gap": again.value - bound.value,
            "log_loss": math.log(2) - bound.value,
            **reliability(learned.on_generated, learned.on_reference)._asdict(),
            "calibration_slope": slope,
            "calibration_intercept": intercept,
        },
        errors={"jensen_shannon": bound.error, "recalibrated": again.error, "log_loss": bound.error},
        contributions=bound.contributions,
        per_image=_by_role(learned),
        warnings=learned.warnings(_CLASSIFIER, bound),
    )


def _by_role(learned: LearnedRatio) -> dict[str, Tensor]:
    """The log-ratios in the caller's order."""
    pair = learned.pair
    return {
        "generated": pair.generated.in_order(learned.on_generated),
        "reference": pair.reference.in_order(learned.on_reference),
    }


def _recalibrated(learned: LearnedRatio) -> LearnedRatio:
    """The same with the logits of each network mapped by what its rows to stop by say."""
    pair = learned.pair
    held_out = [learned.on_generated.clone(), learned.on_reference.clone()]
    stopping = [learned.log_ratio(side, lag=1) for side in pair]
    for fold in range(learned.fit.folds):
        told = [
            values[(side.fold - 1) % learned.fit.folds == fold]
            for values, side in zip(stopping, pair, strict=True)
        ]
        moved = recalibration(*told)
        for values, side in zip(held_out, pair, strict=True):
            values[side.fold == fold] = moved(values[side.fold == fold])
    return LearnedRatio(learned.fit, learned.limit, *held_out)
