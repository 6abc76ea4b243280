"""Mixtures of logistics on levels: what a network says of a number that has few values, such as a pixel.

Levels 0 .. L - 1 lie evenly on [-1, 1]. A level has the mass of a mixture of logistic distributions between the
middles to its neighbours; the first and the last have the tails too, so masses sum to 1 (Salimans et al. 2017,
arXiv:1701.05517, section 2.1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# Numbers that say one component: its weight, mean and scale, two of them as logarithms.
NUMBERS = 3
_LEAST_LOG_SCALE = -7.0  # a component that all but a thousandth of lies within one of 256 levels


def to_unit(level: Tensor, levels: int) -> Tensor:
    """Whole levels to their places on [-1, 1], float32."""
    return 2 * level.float() / (levels - 1) - 1


def log_mass(outputs: Tensor, level: Tensor, levels: int) -> Tensor:
    """The log-probabilities of levels, ``[b, ...]`` in nats, exact to rounding however small they are.

    Args:
        outputs: of a network, ``[b, 3 components, ...]``: logits, means and log-scales.
        level: int64 ``[b, ...]``.
        levels: how many there are.
    """
    logits, mean, rate = _components(outputs)
    x, half = (2 * level[:, None].to(outputs) / (levels - 1) - 1), 1 / (levels - 1)
    first, last = level[:, None] == 0, level[:, None] == levels - 1
    # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)); without a tail on one side, one of the factors is all that is left.
    below_upper = torch.where(last, 0.0, logsigmoid((x + half - mean) * rate))
    above_lower = torch.where(first, 0.0, logsigmoid((mean - x + half) * rate))
    between = torch.where(first | last, 0.0, torch.log(-torch.expm1(-2 * half * rate)))
    return (logits.log_softmax(1) + below_upper + above_lower + between).logsumexp(1)


def level_of(outputs: Tensor, share: Tensor, levels: int) -> Tensor:
    """The levels that the distribution function passes shares at: int64 ``[b]``, rising with them.

    Of shares that are uniform on (0, 1) they are draws.

    Args:
        outputs: ``[b, 3 components]``.
        share: ``[b]``.
        levels: how many there are.
    """
    logits, mean, rate = (each[..., None] for each in _components(outputs))
    edges = (2 * torch.arange(levels - 1).to(outputs) + 1) / (levels - 1) - 1
    passed = (logits.softmax(1) * ((edges - mean) * rate).sigmoid()).sum(1)
    return (passed < share[:, None]).sum(1)


def _components(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, means and one over the scales, ``[b, components, ...]`` each."""
    logits, mean, log_scale = outputs.chunk(NUMBERS, 1)
    return logits, mean, torch.exp(-log_scale.clamp(min=_LEAST_LOG_SCALE))
