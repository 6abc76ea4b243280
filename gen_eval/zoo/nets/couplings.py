"""Steps of coupling flows: parts that are inverted as cheaply as they are applied, and tell how volumes change.

A part takes features ``[b, channels, ...]``, of maps or of vectors, to as many of the same shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName
from gen_eval.zoo.numbers import require_whole

COUPLINGS = ("additive", "affine")
MIXINGS = ("masks", "invertible")
_LARGEST = 2.0  # of a log-scale's size, so that no step multiplies by more than about 7
_LEAST_SD = 1e-4  # of a channel that is normalised
Network = Callable[[int, int], nn.Module]  # from channels in and channels out


@dataclass(frozen=True)
class Couplings:
    """What a coupling flow is made of.

    Args:
        coupling: what half of the channels does to the other: ``"additive"`` shifts it (NICE), ``"affine"`` scales it
            too (RealNVP).
        mixing: how halves change between couplings: by alternating ``"masks"``, or by an ``"invertible"`` matrix over
            the channels, which is a 1 x 1 convolution of maps (Glow).
        actnorm: whether each step begins with a scale and a shift of each channel, set by the first batch.
        levels: scales of maps; each halves the sides, and all but the last give half of the channels away.
        depth: steps of a level; vectors take those of all levels.
        width: channels or units of the hidden layers in couplings.

    Raises:
        UnknownName: if there is no such coupling or mixing.
        UsageError: if a number makes no sense.
    """

    coupling: str = "affine"
    mixing: str = "masks"
    actnorm: bool = False
    levels: int = 2
    depth: int = 4
    width: int = 32

    def __post_init__(self) -> None:
        for what, found, known in (("coupling", self.coupling, COUPLINGS), ("mixing", self.mixing, MIXINGS)):
            if found not in known:
                raise UnknownName(what, found, known)
        require_whole(self, levels=1, depth=1, width=1)


class Part(nn.Module, ABC):
    """An invertible map of features ``[b, channels, ...]``."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y of the shape of x, and log |det dy/dx| ``[b]``."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The x of a y."""


class Chain(Part):
    """Parts one after another."""

    def __init__(self, parts: Iterable[Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Part`."""
        total = x.new_zeros(len(x))
        for part in self.parts:
            x, log_det = part(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        """See :class:`Part`."""
        for part in reversed(self.parts):
            y = part.inverse(y)  # type: ignore[operator]
        return y


class Scale(Part):
    """A scale and a shift of each channel: y = exp(log_scale) x + shift.

    Args:
        channels: of the features.
        by_data: whether they are set by the first batch in training, so that each channel of y has mean 0 and variance
            1 on it (Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.1). Else they begin as the identity.
    """

    begun: Tensor

    def __init__(self, channels: int, *, by_data: bool) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("begun", torch.tensor(not by_data))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Part`."""
        if self.training and not self.begun:
            self._begin(x)
        y = _of_channels(self.log_scale.exp(), x) * x + _of_channels(self.shift, x)
        return y, (self.log_scale.sum() * _places(x)).expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """See :class:`Part`."""
        return (y - _of_channels(self.shift, y)) * _of_channels((-self.log_scale).exp(), y)

    @torch.no_grad()
    def _begin(self, x: Tensor) -> None:
        rows = x.transpose(0, 1).flatten(1)
        self.log_scale.copy_(-rows.std(1, correction=0).clamp(min=_LEAST_SD).log())
        self.shift.copy_(-rows.mean(1) * self.log_scale.exp())
        self.begun.fill_(True)


class Mixing(Part):
    """An invertible matrix over the channels, at each place the same; Kingma and Dhariwal 2018, section 3.2.

    W = P L (U + diag(s)), where P is a permutation that stays, L has ones on its diagonal, U has none, and s keeps its
    signs: so no step makes W singular, and log |det W| is the sum of log |s|. It begins as a random rotation.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation.float())
        self.register_buffer("sign", diagonal.sign().float())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(diagonal.abs().log().float())

    def matrix(self) -> Tensor:
        """W, ``[channels, channels]``."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower)).to(self.lower)
        upper = self.upper.triu(1) + (self.sign * self.log_scale.exp()).diag()
        return self.permutation @ lower @ upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Part`."""
        return _mixed(self.matrix(), x), (self.log_scale.sum() * _places(x)).expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """See :class:`Part`."""
        return _mixed(torch.linalg.inv(self.matrix()), y)


class Coupling(Part):
    """Some channels decide how the others are shifted, and scaled if it is affine.

    Dinh et al. 2015, arXiv:1410.8516, section 3.2; Dinh et al. 2017, arXiv:1605.08803, section 3.2.

    Args:
        mask: which channels stay as they are, bool ``[channels]``.
        network: what the others are changed by; its last layer should begin at 0, where the coupling is the identity.
        affine: whether it scales.
    """

    staying: Tensor
    changing: Tensor
    back: Tensor

    def __init__(self, mask: Tensor, network: Network, *, affine: bool) -> None:
        super().__init__()
        staying, changing = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
        for name, value in (
            ("staying", staying),
            ("changing", changing),
            ("back", torch.cat([staying, changing]).argsort()),
        ):
            self.register_buffer(name, value, persistent=False)
        self.network = network(len(staying), (2 if affine else 1) * len(changing))
        self._affine = affine

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Part`."""
        stays, changes = x[:, self.staying], x[:, self.changing]
        log_scale, shift = self._decided(stays)
        changed = changes * log_scale.exp() + shift
        log_det = log_scale.expand_as(changes).flatten(1).sum(1)
        return torch.cat([stays, changed], 1)[:, self.back], log_det

    def inverse(self, y: Tensor) -> Tensor:
        """See :class:`Part`."""
        stays, changed = y[:, self.staying], y[:, self.changing]
        log_scale, shift = self._decided(stays)
        return torch.cat([stays, (changed - shift) * (-log_scale).exp()], 1)[:, self.back]

    def _decided(self, stays: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift of the others."""
        found: Tensor = self.network(stays)
        if not self._affine:
            return found.new_zeros(()), found
        log_scale, shift = found.chunk(2, 1)
        return _LARGEST * torch.tanh(log_scale / _LARGEST), shift


def squeeze(x: Tensor) -> Tensor:
    """Each 2 x 2 square of a map becomes four channels: ``[b, c, h, w]`` to ``[b, 4 c, h / 2, w / 2]``.

    Dinh et al. 2017, section 3.6. Channel 4 i + 2 y + x is the pixel at row y and column x of squares of channel i.
    """
    return nn.functional.pixel_unshuffle(x, 2)


def unsqueeze(y: Tensor) -> Tensor:
    """The inverse of :func:`squeeze`."""
    return nn.functional.pixel_shuffle(y, 2)


def steps(count: int, masks: Callable[[int], Tensor], network: Network, made_of: Couplings) -> list[Part]:
    """Couplings one after another, with what goes before each.

    Args:
        count: how many.
        masks: which channels stay as they are in a step, bool ``[channels]``, where masks alternate; the first one is
            that of all steps where channels are mixed.
        network: of a coupling.
        made_of: all else.
    """
    parts: list[Part] = []
    for step in range(count):
        mixed = made_of.mixing == "invertible"
        mask = masks(0 if mixed else step)
        if made_of.actnorm:
            parts.append(Scale(len(mask), by_data=True))
        if mixed:
            parts.append(Mixing(len(mask)))
        parts.append(Coupling(mask, network, affine=made_of.coupling == "affine"))
    return parts


def _of_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 2))


def _places(x: Tensor) -> int:
    """Of a map; a vector has one."""
    return math.prod(x.shape[2:])


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(2)).view_as(x) if x.ndim > 2 else x @ matrix.T
