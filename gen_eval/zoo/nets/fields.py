"""Vector fields that change with time: what the derivative of a continuous flow is.

All take and give flat rows ``[b, d]``, and start at 0, where a flow is the identity.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.traces import exact_trace
from gen_eval.zoo.task import Kind


class VectorField(nn.Module, ABC):
    """A velocity for every time and place.

    Attributes:
        closed: whether the trace of its Jacobian is known in closed form, so that it costs hardly anything.
    """

    closed = False

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Velocities ``[b, d]`` at a time, without axes, and places ``[b, d]``."""

    def with_trace(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the trace of the Jacobian at each place, ``[b]``."""
        return exact_trace(self, t, x)


class ConcatSquash(nn.Module):
    """A layer whose outputs are gated and shifted by the time: layer(x) sigmoid(a t + b) + c t.

    The layer of Grathwohl et al. 2019, arXiv:1810.01367, in their code.

    Args:
        layer: from ``[b, ...]`` to ``[b, outputs, ...]``.
        outputs: its channels.
    """

    def __init__(self, layer: nn.Module, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.gate = nn.Linear(1, outputs)
        self.shift = nn.Linear(1, outputs, bias=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """``[b, outputs, ...]`` of a time, without axes, and ``[b, ...]``."""
        out = self.layer(x)
        time = t.to(out).view(1)
        shape = (-1, *[1] * (out.ndim - 2))
        return torch.addcmul(self.shift(time).view(shape), out, self.gate(time).sigmoid().view(shape))


class FreeForm(VectorField):
    """Concat-squash layers with tanh between them: any Jacobian at all (Grathwohl et al. 2019).

    Args:
        layers: that change with the time; the last one's weights are set to 0.
        shape: of a row as they take it.
    """

    def __init__(self, layers: list[ConcatSquash], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers, self._shape = nn.ModuleList(layers), shape
        for parameter in layers[-1].layer.parameters():
            nn.init.zeros_(parameter)
        nn.init.zeros_(layers[-1].shift.weight)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """See :class:`VectorField`."""
        out = x.view(-1, *self._shape)
        for at, layer in enumerate(self.layers):
            out = layer(t, out.tanh() if at else out)
        return out.reshape(x.shape)


def dense(kind: Kind, width: int, layers: int) -> FreeForm:
    """A free-form field of so many hidden layers, fully connected."""
    size = math.prod(kind.shape)
    sizes = [size, *[width] * layers, size]
    return FreeForm([ConcatSquash(nn.Linear(*pair), pair[1]) for pair in pairwise(sizes)], (size,))


def convolutional(kind: Kind, width: int, layers: int) -> FreeForm:
    """A free-form field of so many hidden layers of 3 x 3 convolutions, at half the side of images.

    Raises:
        UsageError: if rows are no images, or a side is odd.
    """
    if not kind.images or kind.shape[1] % 2 or kind.shape[2] % 2:
        raise UsageError(
            f"convolutions take images whose sides are even, found {' x '.join(map(str, kind.shape))}: take a dense "
            "field"
        )
    channels = kind.shape[0]
    sizes = [4 * channels, *[width] * layers, 4 * channels]
    convs = [nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(sizes)]
    first = nn.Sequential(nn.PixelUnshuffle(2), convs[0])
    last = nn.Sequential(convs[-1], nn.PixelShuffle(2))
    hidden = [ConcatSquash(layer, width) for layer in (first, *convs[1:-1])]
    return FreeForm([*hidden, ConcatSquash(last, channels)], kind.shape)


class Planar(VectorField):
    """The sum of units u tanh(w'x + b), each gated and shifted by the time; its trace is that of u'w (1 - tanh²).

    Chen et al. 2018, arXiv:1806.07366, section 4: many units at linear cost, and gates.

    Args:
        dims: of x.
        width: units.
    """

    closed = True

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.w = nn.Linear(dims, width)
        self.u = nn.Parameter(torch.zeros(width, dims))
        self.times = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2 * width))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """See :class:`VectorField`."""
        return self.with_trace(t, x)[0]

    def with_trace(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`VectorField`."""
        gate, shift = self.times(t.to(x).view(1)).chunk(2)
        u = gate.sigmoid()[:, None] * self.u
        found = torch.tanh(self.w(x) + shift)
        return found @ u, (1 - found.square()) @ (u * self.w.weight).sum(1)
