"""How uneven a histogram is: entropy and divergence of shares that are estimated from n images.

To the second order of a Taylor series about the true shares (Miller 1955; Harris 1975). The second order is what is
left of the error where the first vanishes: where all shares are as they are compared with. There the first order
that is estimated does not vanish, but for chance; what is expected of that is taken off.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Images a bin, on average, below which errors were seen to fall short where bins are unequally full.
_FEW = 15


class Estimate(NamedTuple):
    """A number in nats with its standard error and its bias."""

    value: float
    error: float
    bias: float

    def exponential(self) -> Estimate:
        """That of ``exp(value)``."""
        value = math.exp(self.value)
        return Estimate(value, value * self.error, value * (self.bias + self.error**2 / 2))


def entropy(counts: Tensor) -> Estimate:
    """The entropy of a histogram.

    Args:
        counts: ``[k]`` float64, images in each bin.
    """
    even = torch.full_like(counts, 1 / len(counts))
    found = divergence(counts, even)
    return Estimate(math.log(len(counts)) - found.value, found.error, -found.bias)


def divergence(counts: Tensor, weights: Tensor) -> Estimate:
    """The Kullback-Leibler divergence of a histogram from given weights.

    Args:
        counts: ``[k]`` float64, images in each bin.
        weights: ``[k]`` float64, positive and of sum 1.
    """
    n, seen = float(counts.sum()), counts > 0
    shares = counts[seen] / n
    logs = (shares / weights[seen]).log()
    value = float(shares @ logs)
    variance = float(shares @ (logs - value).square())
    # Of the shares divided by their own roots, the covariance is a projection: all but one of its eigenvalues are 1.
    free = len(shares) - 1
    return Estimate(value, two_orders(variance / n, free / n**2), free / (2 * n))


def mean_entropy(mean: Tensor, cov: Tensor, n: int) -> Estimate:
    """The entropy of a mean of n distributions.

    Args:
        mean: ``[k]`` float64.
        cov: ``[k, k]`` float64, the covariance of one of the n.
        n: how many.
    """
    held = mean > torch.finfo(torch.float64).tiny
    mean, cov = mean[held], cov[held][:, held]
    logs = mean.log()
    roots = mean.sqrt()
    relative = cov / roots / roots[:, None]
    error = two_orders(float(logs @ (cov @ logs)) / n, float(relative.square().sum()) / n**2)
    return Estimate(-float(mean @ logs), error, -float(relative.trace()) / (2 * n))


def two_orders(first: float, chance: float) -> float:
    """The standard error from both orders.

    Args:
        first: the variance of first order, as estimated.
        chance: what of that is expected where there is none, ``tr (H S)^2`` of the Hessian H at the shares and their
            covariance S. The variance of second order is half of it.
    """
    return math.sqrt(max(first - chance, 0) + chance / 2)


def few_in_a_bin(n: int, bins: int) -> tuple[str, ...]:
    """A warning, where n images are too few for so many bins that are not empty."""
    if n >= _FEW * bins:
        return ()
    return (
        f"{n} images in {bins} classes or modes are few: with fewer than {_FEW} each, standard errors may be as little "
        "as .7 of what they should be",
    )
