"""Networks that are told how much noise is in what they see: a small U-Net of images, layers in line of vectors."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.task import Kind

_TOLD = 64  # components of what blocks are told of the level
_FREQUENCIES = 8
_GROUPS = 8  # of channels that are normalised together


def noise_net(kind: Kind, width: int, layers: int, extra: int = 0) -> nn.Module:
    """A module from samples ``[b, *shape]`` and what is told of their noise ``[b]`` to ``[b, *shape]``.

    Args:
        kind: of the samples.
        width: channels at half the side of images, twice as many at a quarter; hidden layers on vectors have four times
            as many units.
        layers: hidden layers on vectors.
        extra: further channels of images for each of theirs, put behind them.

    Raises:
        UsageError: if images have sides that are no multiples of 4, or a width that does not fall into groups.
    """
    return UNet(kind, width, extra) if kind.images else Layers(kind, 4 * width, layers)


class Level(nn.Module):
    """What a network is told of a level of noise: sines and cosines of a number within about (-2, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi / 2 * 2 ** (torch.arange(_FREQUENCIES) / 2))
        self.layer = nn.Linear(2 * _FREQUENCIES, _TOLD)

    def forward(self, level: Tensor) -> Tensor:
        """``[b]`` to ``[b, told]``."""
        angles = level[:, None] * self.frequencies
        return F.silu(self.layer(torch.cat([angles.sin(), angles.cos()], 1)))


class Layers(nn.Module):
    """Fully connected layers, each moved by the level."""

    def __init__(self, kind: Kind, units: int, layers: int) -> None:
        super().__init__()
        (dim,) = kind.shape
        self.level = Level()
        sizes = [dim, *[units] * layers]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.moves = nn.ModuleList(nn.Linear(_TOLD, units) for _ in range(layers))
        self.last = _silent(nn.Linear(sizes[-1], dim))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """``[b, d]`` and ``[b]`` to ``[b, d]``."""
        told = self.level(level)
        for layer, move in zip(self.hidden, self.moves, strict=True):
            x = F.silu(layer(x) + move(told))
        out: Tensor = self.last(x)
        return out


class Block(nn.Module):
    """Two convolutions beside a shortcut, the second one scaled and moved by the level."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.before, self.between = nn.GroupNorm(_GROUPS, inputs), nn.GroupNorm(_GROUPS, outputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = _silent(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.styles = nn.Linear(_TOLD, 2 * outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """``[b, inputs, h, w]`` and ``[b, told]`` to ``[b, outputs, h, w]``."""
        gain, bias = self.styles(told)[:, :, None, None].chunk(2, 1)
        inner = self.first(F.silu(self.before(x)))
        inner = F.silu(torch.addcmul(bias, self.between(inner), 1 + gain))
        out: Tensor = self.shortcut(x) + self.second(inner)
        return out


class UNet(nn.Module):
    """Blocks at half and at a quarter of the side of images, joined across (Ronneberger et al. 2015, arXiv:1505.04597).

    Squares of 2 x 2 pixels are channels of one place: convolutions at the full side would take most of the time.
    """

    def __init__(self, kind: Kind, width: int, extra: int = 0) -> None:
        super().__init__()
        channels, height, across = kind.shape
        if height % 4 or across % 4 or width % _GROUPS:
            raise UsageError(
                f"a U-Net halves sides twice and its width falls into {_GROUPS} groups: expected multiples of 4 and "
                f"of {_GROUPS}, found {height} x {across} pixels and width {width}"
            )
        self.level = Level()
        seen = 4 * channels * (1 + extra)
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(seen, width, 3, padding=1))
        self.down = Block(width, width)
        self.coarser = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(Block(2 * width, 2 * width) for _ in range(2))
        self.finer = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = Block(2 * width, width)
        last = _silent(nn.Conv2d(width, 4 * channels, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(_GROUPS, width), nn.SiLU(), last, nn.PixelShuffle(2))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """``[b, c (1 + extra), h, w]`` and ``[b]`` to ``[b, c, h, w]``."""
        told = self.level(level)
        across = self.down(self.enter(x), told)
        x = self.coarser(across)
        for block in self.middle:
            x = block(x, told)
        x = self.finer(F.interpolate(x, size=across.shape[2:], mode="nearest"))
        x = self.up(torch.cat([x, across], 1), told)
        out: Tensor = self.leave(x)
        return out


def _silent(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """A layer that gives 0 at first, so that a network starts as its shortcuts."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
