"""Coupled nets: one generator and one discriminator for each of two domains, which share their semantic layers.

Liu and Tuzel 2016, arXiv:1606.07536. The generators share all layers but the last, the discriminators all but the
first, so one latent means the same in both domains though no pair of samples is ever seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets import dcgan, mlp
from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.heads import Discriminator
from gen_eval.zoo.nets.layers import Generator
from gen_eval.zoo.task import Kind

DOMAINS = ("original", "negative")


class CoupledGenerator(nn.Module):
    """Two generators with all layers in common but the last.

    Args:
        one: gives the shared layers, and the last one of domain 0.
        other: gives the last one of domain 1.
    """

    noise_dim = 0

    def __init__(self, one: Generator, other: Generator) -> None:
        super().__init__()
        self.latent_dim = one.latent_dim
        self.lasts = nn.ModuleList([one.last, other.last])
        one.last = nn.Identity()
        self.shared = one

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, latent_dim]`` and domains 0 or 1, int64 ``[b]``, to ``[b, *shape]``; there is no noise."""
        features = self.shared(z)
        return _of_domain(labels, [last(features) for last in self.lasts])


class CoupledDiscriminator(nn.Module):
    """Two discriminators with all layers in common but the first.

    Args:
        one: gives the shared layers, and the first one of domain 0.
        other: gives the first one of domain 1.
    """

    def __init__(self, one: Discriminator, other: Discriminator) -> None:
        super().__init__()
        self.firsts = nn.ModuleList([one.first, other.first])
        one.first = nn.Identity()
        self.shared = one

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Verdict:
        """Samples ``[b, *shape]`` of domains 0 or 1, int64 ``[b]``, to a verdict."""
        features = _of_domain(labels, [first(x) for first in self.firsts])
        verdict: Verdict = self.shared(features)
        return verdict


def _of_domain(domains: Tensor | None, made: list[Tensor]) -> Tensor:
    """Rows of what was made for both domains: no row's arithmetic depends on the domains of the others."""
    if domains is None:
        raise UsageError("a coupled net needs the domain of each sample, 0 or 1: give labels [b]")
    original, negative = made
    return torch.where(domains.view(-1, *[1] * (original.ndim - 1)) == 0, original, negative)


def generator(kind: Kind, architecture: Architecture) -> CoupledGenerator:
    """Coupled generators: of images those of net "dcgan", of vectors those of "mlp".

    Raises:
        UsageError: if classes are asked for: labels are domains.
    """
    _require_no_classes(architecture)
    net = dcgan if kind.images else mlp
    return CoupledGenerator(net.generator(kind, architecture), net.generator(kind, architecture))


def discriminator(kind: Kind, architecture: Architecture) -> CoupledDiscriminator:
    """Coupled discriminators: of images those of net "dcgan", of vectors those of "mlp".

    Raises:
        UsageError: if classes are asked for: labels are domains.
    """
    _require_no_classes(architecture)
    net = dcgan if kind.images else mlp
    return CoupledDiscriminator(net.discriminator(kind, architecture), net.discriminator(kind, architecture))


def _require_no_classes(architecture: Architecture) -> None:
    if architecture.learns_classes:
        raise UsageError(
            "the labels of net 'coupled' are its two domains, not classes: "
            f"choose norm='batch' or 'none' and head='none', found {architecture.norm!r} and {architecture.head!r}"
        )
