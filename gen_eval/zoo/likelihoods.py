"""What a decoder says of x, p(x | z): from what its network puts out to a log-likelihood, a mean and a draw.

A likelihood works on observations: pixels in [0, 1], with uniform noise between their levels, or standardised vectors;
one of them on zeros and ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName

# Of the continuous Bernoulli: nearer to 0 than this its differences cancel, and series take their place.
_NEAR = 0.25
# The least standard deviation of a Gaussian: data on a line or a plane would have a density without bound.
FLOOR = 1e-3


class Likelihood(nn.Module):
    """A distribution of the components of x, independent of each other, by one number of each.

    Attributes:
        density: whether ``log_prob`` is a density or a probability of x, so that the model has a likelihood.
        binary: whether x is zeros and ones, drawn of the gray levels, and ``log_prob`` their log-probability.
    """

    density: bool = True
    binary: bool = False

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """``[b, ...]``, and of the network the same, to ``[b]`` in nats."""
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        """The mean of x, of the shape of the outputs."""
        raise NotImplementedError

    def draw(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """One x for standard normal ``noise`` of the shape of the outputs, rising with it."""
        raise NotImplementedError


class ContinuousBernoulli(Likelihood):
    """Density ``C(λ) λ^x (1 - λ)^(1 - x)`` on [0, 1]; the outputs are its logits η, so that it is exp(η x - A(η)).

    Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845.
    """

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """See :class:`Likelihood`."""
        return (outputs * x - log_normaliser(outputs)).flatten(1).sum(1)

    def mean(self, outputs: Tensor) -> Tensor:
        """The slope of the log-normaliser: 1 / (1 - exp(-η)) - 1 / η."""
        far = torch.where(outputs.abs() < _NEAR, 1.0, outputs)
        squared = outputs.clamp(-_NEAR, _NEAR).square()
        series = 0.5 + outputs * (1 / 12 - squared * (1 / 720 - squared * (1 / 30240 - squared / 1209600)))
        return torch.where(outputs.abs() < _NEAR, series, -1 / torch.expm1(-far) - 1 / far)

    def draw(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """By inversion of the distribution function."""
        falling = -outputs.abs().clamp(min=1e-8)  # where it is stable; what rises is its mirror image
        share = torch.special.ndtr(torch.where(outputs > 0, -noise, noise))
        x = torch.log1p(share * torch.expm1(falling)) / falling
        return torch.where(outputs > 0, 1 - x, x)


def log_normaliser(logits: Tensor) -> Tensor:
    """A(η) = log((exp(η) - 1) / η), the logarithm of the integral of exp(η x) over [0, 1]; 0 at 0.

    It equals η / 2 + log(sinh(η / 2) / (η / 2)), of which the second part is taken as a series near 0.
    """
    size = logits.abs()
    near = size < _NEAR
    far = torch.where(near, 1.0, size)
    squared = (logits.clamp(-_NEAR, _NEAR) / 2).square()
    series = squared * (1 / 6 - squared * (1 / 180 - squared * (1 / 2835 - squared / 37800)))
    stable = logits.clamp(min=0) + torch.log(-torch.expm1(-far)) - torch.log(far)
    return torch.where(near, logits / 2 + series, stable)


class Gaussian(Likelihood):
    """A Gaussian around the outputs; all components share one standard deviation, which is learnt.

    Rybkin, Daniilidis and Levine 2021, arXiv:2006.13202. With a linear decoder it is probabilistic PCA.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_excess = nn.Parameter(torch.zeros(()))

    @property
    def sd(self) -> Tensor:
        """The standard deviation, above :data:`FLOOR`."""
        return FLOOR + self.log_excess.exp()

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """See :class:`Likelihood`."""
        sd = self.sd
        return (-((x - outputs) / sd).square() / 2 - sd.log() - math.log(2 * math.pi) / 2).flatten(1).sum(1)

    def mean(self, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs

    def draw(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """See :class:`Likelihood`."""
        return outputs + self.sd * noise


class Bernoulli(Likelihood):
    """The cross-entropy of grey levels, as if they were probabilities: an objective, and no density of them."""

    density = False

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """The objective: ``x log λ + (1 - x) log(1 - λ)`` of logits."""
        return (outputs * x - nn.functional.softplus(outputs)).flatten(1).sum(1)

    def mean(self, outputs: Tensor) -> Tensor:
        """The probability of a 1."""
        return outputs.sigmoid()

    def draw(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Zeros and ones."""
        return torch.where(torch.special.ndtr(-noise) < outputs.sigmoid(), 1.0, 0.0).to(outputs)


class Binary(Bernoulli):
    """The probability of zeros and ones, which no density of gray levels compares with."""

    density, binary = True, True


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "binary": Binary,
}


def find_likelihood(name: str) -> type[Likelihood]:
    """A row of :data:`LIKELIHOODS`.

    Raises:
        UnknownName: if there is no such row.
    """
    if name not in LIKELIHOODS:
        raise UnknownName("likelihood", name, LIKELIHOODS)
    return LIKELIHOODS[name]
