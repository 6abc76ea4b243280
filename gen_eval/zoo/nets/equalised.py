"""Layers with an equalised learning rate, and what the progressive and the style-based networks share besides."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky rectifiers
_ROOT_2 = math.sqrt(2)
_EPSILON = 1e-8
_GROUP = 4


class Linear(nn.Module):
    """A linear layer with unit weights, scaled where it runs by He's constant.

    Adam's steps do not depend on the scale of a gradient, so all layers learn equally fast, whatever their size
    (Karras et al. 2018, arXiv:1710.10196, 4.1).

    Args:
        inputs: components that it takes.
        outputs: components that it gives.
        gain: of He's constant, ``gain / sqrt(inputs)``.
        rate: factor of the learning rate; what the layer computes at first does not depend on it.
        bias: the first value of each.
    """

    def __init__(
        self, inputs: int, outputs: int, *, gain: float = _ROOT_2, rate: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = gain * rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """``[b, inputs]`` to ``[b, outputs]``."""
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Conv(nn.Module):
    """A convolution that keeps the size, with an equalised learning rate as :class:`Linear` has it.

    Args:
        inputs: channels that it takes.
        outputs: channels that it gives.
        kernel: side of the kernel, odd.
        gain: of He's constant, ``gain / sqrt(inputs kernel²)``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, gain: float = _ROOT_2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / (kernel * math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[b, inputs, h, w]`` to ``[b, outputs, h, w]``."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


def leaky(x: Tensor) -> Tensor:
    """The rectifier of all these networks."""
    return F.leaky_relu(x, SLOPE)


def pixel_norm(x: Tensor) -> Tensor:
    """Each pixel's features over their root mean square, ``[b, c, ...]`` (arXiv:1710.10196, 4.2)."""
    return x * (x.square().mean(1, keepdim=True) + _EPSILON).rsqrt()


def with_deviation(x: Tensor) -> Tensor:
    """Features and how much they vary within the minibatch, ``[b, c, ...]`` to ``[b, c + 1, ...]``.

    The standard deviation over a group of four samples, averaged over all features and pixels, stands beside each
    sample of the group as one channel more, by which a discriminator sees a generator that repeats itself
    (arXiv:1710.10196, 3). A batch that four does not divide is cut into the largest equal groups below.
    """
    b = len(x)
    group = max(size for size in range(1, min(_GROUP, b) + 1) if b % size == 0)
    rows = x.reshape(group, b // group, -1)
    variance = (rows - rows.mean(0)).square().mean(0)
    deviation = (variance + _EPSILON).sqrt().mean(1).repeat(group)
    return torch.cat([x, deviation.view(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])], 1)


def nearest(x: Tensor, factor: int = 2) -> Tensor:
    """Each pixel as a square of ``factor²`` of them, ``[b, c, h, w]``."""
    return F.interpolate(x, scale_factor=float(factor), mode="nearest") if factor > 1 else x


def doubled(x: Tensor) -> Tensor:
    """Twice the size, each pixel repeated and then blurred by (1, 2, 1) / 4 along both sides, ``[b, c, h, w]``.

    As in StyleGAN (arXiv:1812.04948, 2), but for the edges, where the outermost pixel is repeated. Written as
    weighted sums of neighbours, which have deterministic gradients everywhere.
    """
    for dim in (2, 3):
        last = x.shape[dim] - 1
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
        after = torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)
        pair = torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], dim + 1)
        x = pair.flatten(dim, dim + 1)
    return x
