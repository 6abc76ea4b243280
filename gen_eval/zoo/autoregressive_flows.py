"""Autoregressive flows, whose layers are those of zuko: MAF, IAF and neural splines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.lazy import LazyComposedTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.flows import Flow, FlowNet
from gen_eval.zoo.nets.couplings import Scale
from gen_eval.zoo.numbers import require_whole
from gen_eval.zoo.task import Kind

TRANSFORMS = ("affine", "spline")
DIRECTIONS = ("density", "sampling")
# The slow direction divides by slopes, number after number: with the 1e-3 of zuko a few samples in a hundred blow up.
_LEAST_SLOPE = 0.1


@dataclass(frozen=True)
class AutoregressiveFlow(Flow):
    """A flow each of whose layers transforms a number by those before it, in an order drawn for the layer.

    One direction takes one pass of a layer's network, the other one pass for each number or block of them, in turn.
    Masked autoregressive flows (Papamakarios et al. 2017, arXiv:1705.07057) tell a density at once and sample slowly;
    inverse ones (Kingma et al. 2016, arXiv:1606.04934) sample at once, and tell a density, so train, slowly. Neural
    splines (Durkan et al. 2019, arXiv:1906.04032) replace the affine map of a number by one of rational quadratics.

    Args:
        transform: of a number: ``"affine"`` or ``"spline"``.
        fast: the direction of one pass: ``"density"`` (MAF) or ``"sampling"`` (IAF).
        layers: how many; every other one has the order of that before it, reversed.
        width: units of each of the two hidden layers.
        passes: the most blocks of numbers that there may be, each transformed by the blocks before it: so many passes
            the slow direction takes; 2 makes couplings. By default as many as there are hidden units, which could not
            tell more of them apart; each number is a block of its own where there are fewer numbers.
        bins: of a spline.

    Raises:
        UnknownName: if there is no such transform or direction.
        UsageError: if a number makes no sense.
    """

    family: ClassVar[str] = "autoregressive-flow"
    transform: str = "affine"
    fast: str = "density"
    layers: int = 4
    width: int = 64
    passes: int | None = None
    bins: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, found, known in (
            ("transform", self.transform, TRANSFORMS),
            ("direction", self.fast, DIRECTIONS),
        ):
            if found not in known:
                raise UnknownName(what, found, known)
        require_whole(self, layers=1, width=2, bins=2)
        if self.passes is not None:
            require_whole(self, passes=2)
            if self.passes > self.width:
                raise UsageError(
                    f"{self.width} hidden units tell at most {self.width} blocks apart, found passes={self.passes}: "
                    "choose fewer, or a larger width"
                )

    def net(self, kind: Kind) -> FlowNet:
        """See :class:`gen_eval.zoo.flows.Flow`."""
        return AutoregressiveNet(kind.shape, self)


class AutoregressiveNet(FlowNet):
    """The layers of an autoregressive flow.

    Args:
        shape: of a sample; an image is flattened.
        made_of: all else.
    """

    def __init__(self, shape: tuple[int, ...], made_of: AutoregressiveFlow) -> None:
        super().__init__()
        self._shape, dim = shape, math.prod(shape)
        order = torch.arange(dim)
        layers = []
        for layer in range(made_of.layers):
            order = dim - 1 - order if layer % 2 else torch.randperm(dim)
            layers.append(_layer(order, made_of))
        self.layers: Any = LazyComposedTransform(*layers)
        # Splines change what lies within 5 of 0 alone.
        self.scale = Scale(dim, by_data=True)
        self._inverse = made_of.fast == "sampling"

    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        x, of_scale = self.scale(x.flatten(1))
        z, of_layers = self._transform().call_and_ladj(x)
        return z, of_scale + of_layers

    def from_latent(self, z: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        x = self.scale.inverse(self._transform().inv(z))
        return x.view(-1, *self._shape)

    def _transform(self) -> Any:
        """From x to z."""
        found = self.layers()
        return found.inv if self._inverse else found


def _layer(order: Tensor, made_of: AutoregressiveFlow) -> MaskedAutoregressiveTransform:
    dim, bins = len(order), made_of.bins
    # Were there more blocks than hidden units, the masks of zuko would let all units see the first blocks alone.
    size = math.ceil(dim / min(made_of.passes or made_of.width, dim))
    univariate: Any = partial(MonotonicAffineTransform, slope=_LEAST_SLOPE)
    shapes: list[tuple[int, ...]] = [(), ()]
    if made_of.transform == "spline":
        univariate, shapes = MonotonicRQSTransform, [(bins,), (bins,), (bins - 1,)]
    return MaskedAutoregressiveTransform(
        dim,
        passes=math.ceil(dim / size),
        order=order,
        univariate=univariate,
        shapes=shapes,
        hidden_features=(made_of.width, made_of.width),
    )
