"""A generator of the zoo that maps its latents to styles, and is truncated there."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.latent import mean_latent
from gen_eval.zoo.nets.style import Generator
from gen_eval.zoo.task import Kind
from gen_eval.zoo.trained import BATCH, Trained

MOVED = "styles w are moved towards their mean, to mean + t (w - mean)"


class Styled(Trained):
    """Samples of a StyleGAN.

    It is :class:`gen_eval.latent.Mapped`: ``synthesize`` takes what ``mapping`` gives, the styles of all layers
    ``[b, layers, d]``, so that layers can be given styles of their own.

    Args:
        name: what to call it.
        kind: what samples are.
        network: in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
    """

    def __init__(self, name: str, kind: Kind, network: nn.Module, scaling: Mapping[str, Tensor]) -> None:
        super().__init__(name, kind, network, scaling, truncation=MOVED)
        self._net = cast(Generator, network)
        self._moved = torch.ones(len(self._net.sides), 1, dtype=torch.bool)  # layers that a truncation is for

    @cached_property
    def centre(self) -> Tensor:
        """Styles that truncation moves to, ``[layers, d]``: the mean of those of the first 10,000 seeds."""
        return mean_latent(self)

    def mapping(self, z: Tensor) -> Tensor:
        """``[b, latent_dim]`` to the styles of all layers, ``[b, layers, d]``."""
        return self._in_batches(self._net.styles, torch.arange(len(z)) % BATCH, z)

    def low_resolution_only(self, side: int) -> Styled:
        """The same generator, truncated in layers of so many pixels a side and fewer alone.

        What is coarse is then like the mean, and details are as varied as ever (Karras et al. 2019,
        arXiv:1812.04948, B).

        Raises:
            UsageError: if there is no layer of that side.
        """
        if side not in self._net.sides:
            known = ", ".join(map(str, sorted(set(self._net.sides))))
            raise UsageError(f"layers of {self.name} have sides of {known}, found {side}")
        other = copy.copy(self)
        other._moved = torch.tensor([[each <= side] for each in self._net.sides])
        other.truncation = f"{MOVED}, in layers of {side} pixels a side and fewer"
        return other

    def _content(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        styles = self._in_batches(self._net.styles, seeds % BATCH, self.latent(seeds))
        if truncation is None:
            return styles
        # Not gen_eval.latent.truncate: styles that are not to move would be rounded.
        psi = torch.where(self._moved, truncation, 1.0).to(styles)
        return torch.lerp(self.centre, styles, psi)

    def _synthesized(self, content: Tensor, labels: Tensor | None, noise: Tensor | None) -> Tensor:
        return self._net.synthesize(content, noise)
