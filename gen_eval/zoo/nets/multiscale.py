"""Networks of coupling flows: of maps at several scales, and of vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.flows import FlowNet
from gen_eval.zoo.nets.couplings import Chain, Coupling, Couplings, Scale, squeeze, steps, unsqueeze


class MultiScale(FlowNet):
    """A flow of images at several scales; Dinh et al. 2017, arXiv:1605.08803, section 3.6.

    Each level squeezes its maps, takes its steps, and gives half of the channels away to the latent: Gaussian, with
    mean and scale that the other half tells (Kingma and Dhariwal 2018, arXiv:1807.03039). All numbers of the latent
    have a scale and a shift of their own in the end (Dinh et al. 2015, arXiv:1410.8516, section 3.3).

    Args:
        shape: of an image, ``(channels, height, width)``.
        made_of: couplings, and how many.

    Raises:
        UsageError: if sides cannot be halved as often as there are levels.
    """

    def __init__(self, shape: tuple[int, ...], made_of: Couplings) -> None:
        super().__init__()
        channels, *sides = shape
        if any(side % 2**made_of.levels for side in sides):
            raise UsageError(
                f"{made_of.levels} levels halve the sides so often: they are divisible by {2**made_of.levels}, "
                f"found {sides[0]} x {sides[1]}. Choose fewer levels"
            )
        self.levels: Any = nn.ModuleList()
        self.splits: Any = nn.ModuleList()
        self._shapes: list[tuple[int, ...]] = []  # of the parts of the latent

        network = partial(convolutions, made_of.width)
        for level in range(made_of.levels):
            channels, sides = 4 * channels, [side // 2 for side in sides]
            masks = _masks_of_maps(channels, made_of.depth)
            self.levels.append(Chain(steps(made_of.depth, masks, network, made_of)))
            if level < made_of.levels - 1:
                self.splits.append(Coupling(_first(channels), network, affine=True))
                channels //= 2
            self._shapes.append((channels, *sides))
        self.prior = Scale(math.prod(shape), by_data=False)

    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        total, parts = x.new_zeros(len(x)), []
        for level, split in zip(self.levels, [*self.splits, None], strict=True):
            x, log_det = level(squeeze(x))
            total = total + log_det
            if split is not None:
                x, log_det = split(x)
                x, given = x.chunk(2, 1)
                total = total + log_det
                parts.append(given.flatten(1))
        z, log_det = self.prior(torch.cat([*parts, x.flatten(1)], 1))
        return z, total + log_det

    def from_latent(self, z: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        sizes = [math.prod(shape) for shape in self._shapes]
        *parts, x = (
            part.view(-1, *shape)
            for part, shape in zip(torch.split(self.prior.inverse(z), sizes, 1), self._shapes, strict=True)
        )
        for level, split in zip(reversed(self.levels), [None, *reversed(self.splits)], strict=True):
            if split is not None:
                x = split.inverse(torch.cat([x, parts.pop()], 1))
            x = unsqueeze(level.inverse(x))
        return x


class OfVectors(FlowNet):
    """A flow of the numbers of a sample, wherever they are.

    Args:
        shape: of a sample; an image is flattened.
        made_of: couplings, and how many.

    Raises:
        UsageError: if there is but one number, which nothing is left to decide on.
    """

    def __init__(self, shape: tuple[int, ...], made_of: Couplings) -> None:
        super().__init__()
        self._shape, dim = shape, math.prod(shape)
        if dim < 2:
            raise UsageError("a coupling changes some numbers by others: it takes 2 or more, found 1")

        network, count = partial(dense, made_of.width), made_of.levels * made_of.depth
        couplings = steps(count, lambda step: torch.arange(dim) % 2 == step % 2, network, made_of)
        # Numbers that no place orders have little in common, so the data sets the scale of each.
        self.parts = Chain([Scale(dim, by_data=True), *couplings, Scale(dim, by_data=False)])

    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        z, log_det = self.parts(x.flatten(1))
        return z, log_det

    def from_latent(self, z: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        return self.parts.inverse(z).view(-1, *self._shape)


def convolutions(width: int, inputs: int, outputs: int) -> nn.Sequential:
    """The network of a coupling of maps; Kingma and Dhariwal 2018, section 4. It begins at 0."""
    return _begun_at_0(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 3, padding=1),
    )


def dense(width: int, inputs: int, outputs: int) -> nn.Sequential:
    """The network of a coupling of vectors. It begins at 0."""
    return _begun_at_0(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def _begun_at_0(*layers: nn.Module) -> nn.Sequential:
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers)


def _first(channels: int) -> Tensor:
    """The first half of the channels."""
    return torch.arange(channels) < channels // 2


def _masks_of_maps(channels: int, depth: int) -> Callable[[int], Tensor]:
    """Which channels of squeezed maps stay in a step: those of a checkerboard of pixels, then half of the channels.

    Dinh et al. 2017, section 3.4. Pixels of a checkerboard's colour, (x + y) even, are whole channels once squeezed.
    """
    place = torch.arange(channels) % 4
    even = (place == 0) | (place == 3)

    def mask(step: int) -> Tensor:
        staying = even if step < depth / 2 else _first(channels)
        return staying if step % 2 == 0 else ~staying

    return mask
