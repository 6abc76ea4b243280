"""What classes a classifier sees in a set, and whether it sees them as often as in another.

The class of an image is that of its largest logit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_eval.metrics import linalg
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.diversity.histogram import Estimate, entropy, few_in_a_bin, mean_entropy, two_orders
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score
from gen_eval.parallel import in_parallel

Counts = NDArray[np.int64]

# Images whose posteriors are held at a time.
_BLOCK = 2048
# A bias of more nats is no small correction, and its expansion in 1/n falls short of it.
_SMALL_BIAS = 0.1


def class_entropy(logits: Tensor) -> Score:
    """The entropy of the histogram of classes, in nats: from 0 to the logarithm of the number of classes.

    The entropy of n images falls short of that of many, by about (classes seen - 1) / 2n (Miller 1955). That is
    stated as its bias where it is below .1 nats. The standard error is of second order, so that it holds
    where all classes are equally frequent as well. Of fewer than fifteen images a class, unequally frequent, it is
    .8 to .95 of the spread, and intervals of 95 % hold 85 to 91 %: a warning says so.

    Args:
        logits: ``[n, classes]``; log-probabilities serve as well.

    Returns:
        ``class_entropy``; its exponential, the number of equally frequent classes of that entropy, as
        ``effective_classes``; the number of ``classes_seen``, which has no standard error, as it cannot tell of
        classes not seen; and ``soft_entropy``, that of the mean posterior.

    Raises:
        UsageError: if the logits are no matrix of floats.
        TooFewImages: if there are fewer than two images.
        NumericalError: if a logit is NaN or infinite.
    """
    (logits,) = matched(2, generated=logits)
    n, classes = len(logits), logits.argmax(1)
    counts = torch.bincount(classes, minlength=logits.shape[1]).double()
    hard = entropy(counts)
    estimates = {
        "class_entropy": hard,
        "effective_classes": hard.exponential(),
        "soft_entropy": mean_entropy(*_moments(logits), n),
    }
    small = abs(hard.bias) <= _SMALL_BIAS
    surprise = -(counts[classes] / n).log()
    return Score(
        {name: found.value for name, found in estimates.items()}
        | {"classes_seen": float((counts > 0).sum())},
        errors={name: found.error for name, found in estimates.items()},
        biases={name: found.bias for name, found in estimates.items()} if small else {},
        contributions={"generated": (surprise - hard.value) / n},
        warnings=few_in_a_bin(n, int((counts > 0).sum())) if small else _too_few(n, hard),
    )


def class_balance(
    generated: Tensor, reference: Tensor, *, permutations: int = 999, seed: int = 2020
) -> Score:
    """By how much the classes of two sets differ in how often they are seen.

    Every class that is seen in either set is given half an image more in both, without which a class that the
    reference lacks would make the divergence infinite. Two sets of one distribution are apart by about
    (classes - 1) / 2 * (1/n + 1/m), which is stated as the bias where it is below .1 nats. The standard
    error is of second order.

    Args:
        generated: ``[n, classes]`` logits.
        reference: ``[m, classes]`` logits.
        permutations: number of random divisions of the pooled images that the p-value is made from.
        seed: of these.

    Returns:
        ``class_kl``, the Kullback-Leibler divergence of the generated histogram from the reference, in nats; Pearson's
        ``chi2`` between the two; and the ``p_value`` of it under permutations, which is exact at any n.

    Raises:
        UsageError: if the logits are no matrices of floats of as many classes, or permutations are fewer than 1.
        TooFewImages: if a set has fewer than two images.
        NumericalError: if a logit is NaN or infinite.
    """
    generated, reference = matched(2, generated=generated, reference=reference)
    require_whole("permutations", permutations, 1)
    g, r = (torch.bincount(z.argmax(1), minlength=z.shape[1]).cpu().numpy() for z in (generated, reference))
    g, r = g[g + r > 0], r[g + r > 0]
    found = _smoothed_divergence(g, r)
    chi2 = _chi2(g, g + r)
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(g + r, g.sum(), size=permutations, method="marginals")
    as_far = int((_chi2(drawn, g + r) >= chi2 * (1 - 1e-12)).sum())  # ties but for rounding count
    small = found.bias <= _SMALL_BIAS
    return Score(
        {"class_kl": found.value, "chi2": float(chi2), "p_value": (1 + as_far) / (1 + permutations)},
        errors={"class_kl": found.error},
        biases={"class_kl": found.bias} if small else {},
        warnings=() if small else _too_few(min(g.sum(), r.sum()), found),
    )


def _smoothed_divergence(generated: Counts, reference: Counts) -> Estimate:
    """The divergence of two histograms of classes, none of which is empty in both, to second order."""
    n, m = (float(counts.sum()) for counts in (generated, reference))
    g, r = ((counts + 0.5) / (counts + 0.5).sum() for counts in (generated, reference))
    ratios = g / r
    value = float(g @ np.log(ratios))
    first = g @ (np.log(ratios) - value) ** 2 / n + r @ (ratios - 1) ** 2 / m
    crossed = ratios.sum() - g @ ratios
    chance = (len(g) - 1) / n**2 + 2 * crossed / (n * m) + (ratios @ ratios - 2 * g @ ratios + 1) / m**2
    bias = (len(g) - 1) / (2 * n) + (ratios.sum() - 1) / (2 * m)
    return Estimate(value, two_orders(float(first), float(chance)), float(bias))


def _chi2(generated: Counts, both: Counts) -> NDArray[np.float64]:
    """Pearson's statistic of homogeneity, of counts ``[..., k]`` in one of two sets out of those in both."""
    share = generated.sum(-1, keepdims=True) / both.sum()
    statistic: NDArray[np.float64] = ((generated - share * both) ** 2 / (share * (1 - share) * both)).sum(-1)
    return statistic


def _moments(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the posteriors, ``[k]`` and ``[k, k]`` float64."""

    def work(part: Tensor) -> tuple[Tensor, Tensor]:
        posteriors = part.double().softmax(1)
        return posteriors.sum(0), linalg.product(posteriors.T, posteriors)

    n, classes = logits.shape
    total = torch.zeros(classes, dtype=torch.float64, device=logits.device)
    products = total.new_zeros(classes, classes)
    for sums, squares in in_parallel(work, torch.split(logits, _BLOCK), logits.device):
        total += sums
        products += squares
    mean = total / n
    return mean, (products / n - torch.outer(mean, mean)) * (n / (n - 1))


def _too_few(n: int, found: Estimate) -> tuple[str, ...]:
    return (
        f"too few images: {n} of them put the histogram of classes off by {found.bias:+.2g} nats or more. "
        "Compare at equal n only.",
    )
