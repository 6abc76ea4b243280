"""Convolutional nets with two doublings (Radford et al. 2016, arXiv:1511.06434)."""

from __future__ import annotations

from torch import nn

from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.attention import SelfAttention
from gen_eval.zoo.nets.heads import Discriminator, Head
from gen_eval.zoo.nets.layers import (
    SLOPE,
    Block,
    Conditioning,
    Generator,
    Layers,
    Norm,
    coarse_maps,
    narrow_normal,
)
from gen_eval.zoo.task import Kind


def generator(kind: Kind, architecture: Architecture) -> Generator:
    """A generator of transposed convolutions, ReLU and tanh: ``width`` maps, half as many, the image."""
    make = Layers(narrow_normal, architecture.spectral == "both")
    conditioning = Conditioning(kind, architecture, blocks=2)
    coarse, fine = architecture.width, architecture.width // 2
    norms = [
        Norm(c, architecture.norm, told) for c, told in zip((coarse, fine), conditioning.told, strict=True)
    ]
    attention = SelfAttention(fine, make) if architecture.attention else nn.Identity()
    blocks = [
        Block(coarse_maps(conditioning.first, coarse, kind, make), norms[0]),
        Block(make.doubling_conv(coarse, fine), norms[1], attention),
    ]
    last = nn.Sequential(make.doubling_conv(fine, kind.shape[0]), nn.Tanh())
    return Generator(architecture, conditioning, blocks, last)


def discriminator(kind: Kind, architecture: Architecture) -> Discriminator:
    """A discriminator of convolutions of stride 2 and leaky ReLU, without batch normalisation on its first layer."""
    make = Layers(narrow_normal, architecture.spectral != "none")
    channels, height, width = kind.shape
    coarse, fine = architecture.width, architecture.width // 2
    first = nn.Sequential(make.conv(channels, fine, 4, stride=2), nn.LeakyReLU(SLOPE))
    attention = SelfAttention(fine, make) if architecture.attention else nn.Identity()
    norm = nn.BatchNorm2d(coarse) if architecture.discriminator_norm == "batch" else nn.Identity()
    second = nn.Sequential(make.conv(fine, coarse, 4, stride=2), norm, nn.LeakyReLU(SLOPE), nn.Flatten())
    features = coarse * (height // 4) * (width // 4)
    return Discriminator(first, [attention, second], Head(features, kind, architecture, make))
