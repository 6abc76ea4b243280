"""Fully connected nets, of images and of vectors, as in the first GAN (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

import math

from torch import nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.heads import Discriminator, Head
from gen_eval.zoo.nets.layers import SLOPE, Block, Conditioning, Generator, Layers, Norm, orthogonal
from gen_eval.zoo.task import Kind


def generator(kind: Kind, architecture: Architecture) -> Generator:
    """A generator of hidden layers of ``2 * width`` units, each normalised; of images bounded by tanh.

    Raises:
        UsageError: if self-attention is asked for.
    """
    _require_no_attention(architecture)
    make = Layers(orthogonal, architecture.spectral == "both")
    conditioning = Conditioning(kind, architecture, architecture.layers)
    units, size = 2 * architecture.width, conditioning.first
    blocks = []
    for told in conditioning.told:
        norm = Norm(units, architecture.norm, told, flat=True)
        blocks.append(Block(make.linear(size, units), norm))
        size = units
    return Generator(architecture, conditioning, blocks, last_layer(size, kind, make))


def last_layer(inputs: int, kind: Kind, make: Layers) -> nn.Module:
    """From ``[b, inputs]`` to samples."""
    bound = nn.Tanh() if kind.images else nn.Identity()
    return nn.Sequential(make.linear(inputs, math.prod(kind.shape)), bound, nn.Unflatten(1, kind.shape))


def discriminator(kind: Kind, architecture: Architecture) -> Discriminator:
    """A discriminator of hidden layers of ``2 * width`` units and leaky ReLU.

    With spectral normalisation its gradient has a norm of 1 or less everywhere, of ``gain`` or less on vectors;
    of twice that with a projection, whose two terms are normalised each.

    Raises:
        UsageError: if self-attention is asked for.
    """
    _require_no_attention(architecture)
    make = Layers(orthogonal, architecture.spectral != "none")
    units = 2 * architecture.width
    first = nn.Sequential(nn.Flatten(), make.linear(math.prod(kind.shape), units), nn.LeakyReLU(SLOPE))
    others = []
    for _ in range(architecture.layers - 1):
        norm = nn.BatchNorm1d(units) if architecture.discriminator_norm == "batch" else nn.Identity()
        others.append(nn.Sequential(make.linear(units, units), norm, nn.LeakyReLU(SLOPE)))
    return Discriminator(first, others, Head(units, kind, architecture, make))


def _require_no_attention(architecture: Architecture) -> None:
    if architecture.attention:
        raise UsageError(
            "self-attention is between the places of a feature map, and net 'mlp', which also stands in for "
            "convolutional nets on vectors, has none: choose attention=False, or images and a convolutional net"
        )
