"""The gated PixelCNN: each number of an image by those before it, row by row, pixel by pixel, channel by channel.

van den Oord et al. 2016, arXiv:1606.05328. Two stacks of convolutions see what came before a pixel: one the rows above,
the other these and what lies to the left. Both are causal by where they are padded, and by their first inputs, which
are the image moved on by a row and by a column. The channels of a pixel follow one another in the last layers.

Apart from the paper, later kernels are dilated (van den Oord et al. 2016, arXiv:1609.03499, section 2.1), so that few
layers see far, and beside its numbers an input says where in the image it lies: digits have a place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_eval.zoo import logistics

_FIRST, _LATER = (3, 7, 3), (2, 3, 2)  # rows, columns and numbers to the left that a layer's kernels take
_DILATIONS = (1, 2, 4)  # of the later layers, in turn
_PLACE = 3  # numbers that say where a pixel lies
_LOG_SCALE = -2.0  # of components at first
_QUIET = 0.3  # the factor of the weights of the last layer


class GatedLayer(nn.Module):
    """One layer of both stacks, whose kernels end at the row and the number that they are for.

    Args:
        inputs: channels of both stacks before it.
        width: channels of both after it.
        takes: rows and columns of the kernel of the rows above, and numbers of that to the left.
        dilation: how far apart these are.
    """

    def __init__(self, inputs: int, width: int, takes: tuple[int, int, int], dilation: int = 1) -> None:
        super().__init__()
        rows, columns, left = takes
        self.inputs = inputs
        self.top, self.side, self.left = (dilation * each for each in (rows - 1, columns // 2, left - 1))
        self.above = nn.Conv2d(inputs, 2 * width, (rows, columns), dilation=dilation)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.beside = nn.Conv2d(inputs, 2 * width, (1, left), dilation=dilation)
        self.out = nn.Conv2d(width, width, 1)
        self._dilation, self._residual = dilation, inputs == width

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks ``[b, inputs, height, width]`` to the same of so many channels."""
        above = self.above(F.pad(v, (self.side, self.side, self.top, 0)))
        out: Tensor = self.out(gated(self.beside(F.pad(h, (self.left, 0))) + self.across(above)))
        return gated(above), h + out if self._residual else out

    def at_place(self, h: Tensor, across: Tensor) -> Tensor:
        """The stack of the row at one place ``[b, width]``, of ``[b, inputs, left + 1]`` up to it and ``[b, 2 width]``.

        Products of matrices take a fifth of the time of convolutions whose maps are single places.
        """
        out = _product(gated(_product(h[..., :: self._dilation].flatten(1), self.beside) + across), self.out)
        return h[..., -1] + out if self._residual else out


def gated(x: Tensor) -> Tensor:
    """Half of the channels, each opened or closed by one of the other half."""
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


def _product(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution where its kernel fits once: ``[b, inputs]`` to ``[b, outputs]``."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class PixelCNN(nn.Module):
    """A distribution of images of levels; a :class:`~gen_eval.zoo.trained.GeneratorNet`.

    Args:
        shape: ``(channels, height, width)``.
        levels: values that a number of an image has.
        width: channels of the stacks.
        layers: of them.
        components: of the mixture of logistics that a number follows.
    """

    noise_dim = 0
    seen: Tensor
    places: Tensor

    def __init__(
        self, shape: tuple[int, ...], levels: int, *, width: int, layers: int, components: int
    ) -> None:
        super().__init__()
        channels = shape[0]
        self.latent_dim, self.shape, self.levels = math.prod(shape), shape, levels
        later = [
            GatedLayer(width, width, _LATER, _DILATIONS[at % len(_DILATIONS)]) for at in range(layers - 1)
        ]
        self.layers = nn.ModuleList([GatedLayer(channels + _PLACE, width, _FIRST), *later])
        self.register_buffer("places", _places(*shape[1:]), persistent=False)
        self.hidden = nn.Conv2d(width, channels * width, 1)
        # The channels before one in its own pixel, which its hidden units see besides.
        self.before = nn.Parameter(torch.zeros(channels * width, channels))
        mask = torch.ones(channels, channels).tril(-1).repeat_interleave(width, 0)
        self.register_buffer("seen", mask, persistent=False)
        self.last = nn.Conv2d(channels * width, channels * logistics.NUMBERS * components, 1, groups=channels)
        self._begin(components)

    @torch.no_grad()
    def _begin(self, components: int) -> None:
        """Spread the components over the levels."""
        nn.init.normal_(self.before, std=0.1)
        self.last.weight.mul_(_QUIET)
        bias = self.last.bias.view(self.shape[0], logistics.NUMBERS, components)  # type: ignore[union-attr]
        bias[:, 1], bias[:, 2] = torch.linspace(-1, 1, components), _LOG_SCALE

    def outputs(self, x: Tensor) -> Tensor:
        """What is said of each number by those before it, ``[b, numbers, channels, height, width]``.

        Args:
            x: levels on [-1, 1], ``[b, channels, height, width]``.
        """
        placed = torch.cat([x, self.places.expand(len(x), -1, -1, -1)], 1)
        v, h = F.pad(placed, (0, 0, 1, 0))[:, :, :-1], F.pad(placed, (1, 0))[..., :-1]
        for layer in self.layers:
            v, h = layer(v, h)
        return self._said(h, x)

    def log_prob(self, level: Tensor) -> Tensor:
        """The log-probabilities of images of whole levels ``[b, channels, height, width]``, ``[b]`` in nats."""
        outputs = self.outputs(logistics.to_unit(level, self.levels).to(self.before))
        return logistics.log_mass(outputs, level, self.levels).flatten(1).sum(1)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Standard normal numbers, one for each of an image, to images on [-1, 1]: number by number, by inversion."""
        shares = torch.special.ndtr(z).view(-1, *self.shape)
        return logistics.to_unit(self.draw(shares), self.levels).to(z)

    @torch.no_grad()
    def draw(self, shares: Tensor) -> Tensor:
        """Whole levels by shares of their distribution functions, uniform on (0, 1), ``[b, channels, height, width]``.

        Each layer is worked out once at each place, as in one pass over the image: what came before is kept.
        """
        level = torch.zeros(shares.shape, dtype=torch.int64, device=shares.device)
        kept = _Kept(self, len(shares))
        for row in range(self.shape[1]):
            kept.begin_row(row)
            for column in range(self.shape[2]):
                h, x = kept.features(column), self.before.new_zeros(len(shares), self.shape[0])
                for channel in range(self.shape[0]):
                    said = self._said_at_place(h, x, channel)
                    found = logistics.level_of(said, shares[:, channel, row, column], self.levels)
                    level[:, channel, row, column] = found
                    x[:, channel] = logistics.to_unit(found, self.levels)
                kept.add(x, row, column)
        return level

    def _said(self, h: Tensor, x: Tensor) -> Tensor:
        """The last layers, of what is known of earlier pixels, and of the pixel, whose channels see those before."""
        before = torch.einsum("oc,bchw->bohw", self.before * self.seen, x)
        said: Tensor = self.last(F.silu(self.hidden(F.silu(h)) + before))
        return said.view(len(said), self.shape[0], -1, *said.shape[2:]).transpose(1, 2)

    def _said_at_place(self, h: Tensor, x: Tensor, channel: int) -> Tensor:
        """The same of one channel at one place: ``[b, width]`` and a pixel ``[b, channels]`` to ``[b, numbers]``."""
        hidden, last = (
            (layer.weight.flatten(1).chunk(self.shape[0])[channel], layer.bias.chunk(self.shape[0])[channel])
            for layer in (self.hidden, self.last)
            if layer.bias is not None
        )
        before = (self.before * self.seen).chunk(self.shape[0])[channel]
        return F.linear(F.silu(F.linear(F.silu(h), *hidden) + F.linear(x, before)), *last)


def _places(height: int, width: int) -> Tensor:
    """Of each pixel its row and column on [-1, 1], and a 1, which tells it from padding, ``[1, 3, height, width]``."""
    rows, columns = (torch.linspace(-1, 1, size) for size in (height, width))
    return torch.stack([*torch.meshgrid(rows, columns, indexing="ij"), torch.ones(height, width)])[None]


class _Kept:
    """The inputs of all layers as far as they are known, padded: of the rows above all, of the row this one alone."""

    def __init__(self, net: PixelCNN, count: int) -> None:
        _, height, width = net.shape
        self._places = net.places
        self._layers: list[GatedLayer] = list(net.layers)  # type: ignore[arg-type]
        empty = net.before.new_zeros
        self._above = [
            empty(count, layer.inputs, height + layer.top, width + 2 * layer.side) for layer in self._layers
        ]
        self._row = [empty(count, layer.inputs, width + layer.left) for layer in self._layers]
        self._across: list[Tensor] = []

    def begin_row(self, row: int) -> None:
        """Work out what the rows above say to this one."""
        self._across = []
        for at, layer in enumerate(self._layers):
            above = layer.above(self._above[at][:, :, row : row + layer.top + 1])
            self._across.append(layer.across(above)[:, :, 0])
            if at + 1 < len(self._layers):
                following = self._layers[at + 1]
                places = slice(following.side, self._above[at + 1].shape[3] - following.side)
                self._above[at + 1][:, :, row + following.top, places] = gated(above)[:, :, 0]
        self._row[0].zero_()

    def features(self, column: int) -> Tensor:
        """What the last layer has at a place of the row, ``[b, width]``."""
        for at, layer in enumerate(self._layers):
            known = self._row[at][..., column : column + layer.left + 1]
            h = layer.at_place(known, self._across[at][..., column])
            if at + 1 < len(self._layers):
                self._row[at + 1][..., self._layers[at + 1].left + column] = h
        return h

    def add(self, x: Tensor, row: int, column: int) -> None:
        """A pixel ``[b, channels]`` that is known by now, for the places after it: a column on and a row on."""
        first = self._layers[0]
        placed = torch.cat([x, self._places[..., row, column].expand(len(x), -1)], 1)
        beside, below = column + 1 + first.left, row + 1 + first.top
        if beside < self._row[0].shape[2]:
            self._row[0][..., beside] = placed
        if below < self._above[0].shape[2]:
            self._above[0][:, :, below, first.side + column] = placed
