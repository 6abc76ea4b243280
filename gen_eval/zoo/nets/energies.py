"""Logarithms f of unnormalised densities exp(f): of images by what they are rebuilt as, of vectors by layers in line.

Each falls as a square far from the data, whatever its weights: exp(f) has a finite integral, and no chain escapes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.zoo.task import Kind


def energy_net(kind: Kind, width: int, layers: int, sigma: float) -> nn.Module:
    """A module from samples ``[b, *shape]`` to f, ``[b]``.

    Args:
        kind: of the samples.
        width: units of hidden layers.
        layers: hidden layers; of vectors without any f is a quadratic form, and the density a Gaussian.
        sigma: standard deviation of the noise in images; read of images alone.
    """
    if kind.images:
        return Rebuilt(kind, width, layers, sigma)
    return Bounded(kind.shape[0], width, layers) if layers else Quadratic(kind.shape[0])


class Rebuilt(nn.Module):
    """f(x) = -|x - r(x)|² / 2 sigma² with images r(x) in [-1, 1] by fully connected layers.

    Where r is the mean of clean images given x, the slope of f is nearly the score of images with noise. A network of
    one number has to learn a curvature of 1 / sigma² along each pixel first (Salimans and Ho 2021, "Should EBMs model
    the energy or the score?").
    """

    def __init__(self, kind: Kind, width: int, layers: int, sigma: float) -> None:
        super().__init__()
        self._sigma = sigma
        pixels = torch.Size(kind.shape).numel()
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise([pixels, *[width] * layers]))
        self.last = nn.Linear(width if layers else pixels, pixels)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, h, w]`` with noise to ``[b]``."""
        flat = inner = x.flatten(1)
        for layer in self.hidden:
            inner = F.silu(layer(inner))
        apart: Tensor = flat - self.last(inner).tanh()
        return -apart.square().sum(1) / (2 * self._sigma**2)


class Bounded(nn.Module):
    """A bounded network beside the logarithm of a standard normal density."""

    def __init__(self, dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise([dim, *[width] * layers]))
        self.last = nn.Linear(width, 1, bias=False)  # a constant changes no density

    def forward(self, x: Tensor) -> Tensor:
        """``[b, d]`` to ``[b]``."""
        inner = x
        for layer in self.hidden[:-1]:
            inner = F.silu(layer(inner))
        out: Tensor = self.last(self.hidden[-1](inner).tanh())[:, 0]
        return out - x.square().sum(1) / 2


class Quadratic(nn.Module):
    """f(x) = -|A x - c|² / 2: a Gaussian of precision A'A; a standard normal at first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.eye(dim))
        self.offset = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[b, d]`` to ``[b]``."""
        return -(x @ self.factor.T - self.offset).square().sum(1) / 2
