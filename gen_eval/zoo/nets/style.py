"""StyleGAN (Karras et al. 2019, arXiv:1812.04948): latents become styles, and styles say what each layer does.

Layers are modulated as in StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, 2.2): a style scales the channels that a
convolution takes, and what comes out is divided by the standard deviation to be expected, where StyleGAN itself
normalises by the one found (AdaIN). Each size adds to an image, as in 4.1 there, and all sizes are trained at once.
The discriminator is that of Progressive GAN at its last stage, as in StyleGAN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.equalised import Linear, doubled, leaky, pixel_norm, with_deviation
from gen_eval.zoo.nets.progressive import Discriminator as OfImages
from gen_eval.zoo.nets.progressive import channels, require_plain, smallest
from gen_eval.zoo.task import Kind

_ROOT_2 = math.sqrt(2)
_VECTOR_LAYERS = 3


class Modulated(nn.Module):
    """A convolution whose weights are scaled by a style for each sample.

    Args:
        inputs: channels that it takes.
        outputs: channels that it gives.
        kernel: side of the kernel, odd.
        style: components of a style.
        demodulate: whether outputs are brought back to unit variance.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.scales = Linear(style, inputs, gain=1, bias=1)
        self.scale, self.demodulate = 1 / (kernel * math.sqrt(inputs)), demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """``[b, inputs, h, w]`` and ``[b, style]`` to ``[b, outputs, h, w]``."""
        weight, scales = self.weight * self.scale, self.scales(style)
        # Scaling what goes in and what comes out is scaling the weights, without weights for each sample.
        x = F.conv2d(x * scales[..., None, None], weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            x = x * (scales.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()[..., None, None]
        return x + self.bias


class Layer(nn.Module):
    """A modulated convolution, noise of a strength that is learned from 0 on, and a rectifier.

    Args:
        inputs: channels that it takes.
        outputs: channels that it gives.
        kernel: side of the kernel, odd.
        style: components of a style.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int) -> None:
        super().__init__()
        self.conv = Modulated(inputs, outputs, kernel, style)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """``[b, inputs, h, w]``, ``[b, style]`` and ``[b, h * w]`` to ``[b, outputs, h, w]``."""
        x = self.conv(x, style)
        if noise is not None:
            x = x + self.strength * noise.view(len(x), 1, *x.shape[2:])
        return leaky(x) * _ROOT_2


class Stage(nn.Module):
    """Layers of one size, and what they add to the image.

    Args:
        before: channels that it takes.
        width: channels of its layers.
        count: number of layers.
        colours: channels of an image.
        kernel: side of the layers' kernels.
        style: components of a style.
    """

    def __init__(self, before: int, width: int, count: int, colours: int, kernel: int, style: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width if i else before, width, kernel, style) for i in range(count))
        self.to_image = Modulated(width, colours, 1, style, demodulate=False)

    def forward(self, x: Tensor, styles: Tensor, maps: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """``[b, before, h, w]``, ``[b, count, style]`` and ``[b, h * w]`` of each layer to maps and an image."""
        for layer, style, noise in zip(self.layers, styles.unbind(1), maps, strict=True):
            x = layer(x, style, noise)
        return x, self.to_image(x, styles[:, -1])


class Generator(nn.Module):
    """A mapping from latents to styles, and a synthesis from a constant by styles.

    Args:
        kind: of images, or of vectors, which are images of one pixel to it.
        architecture: its ``latent``, the size of a style too, ``width``, ``mapping_layers``, ``mapping_rate`` and
            ``mixing``.

    Attributes:
        sides: of each layer's maps, in order.
        noise_dim: a number that says where styles are mixed in training, and one of each pixel of each layer.
    """

    def __init__(self, kind: Kind, architecture: Architecture) -> None:
        super().__init__()
        require_plain(architecture)
        d = self.latent_dim = architecture.latent
        if kind.images:
            side, widths, kernel = smallest(kind), channels(architecture.width), 3
            stages = [(width, side * 2**i, min(i + 1, 2)) for i, width in enumerate(widths)]
        else:
            stages, kernel = [(architecture.width, 1, _VECTOR_LAYERS)], 1
        self.shape, self.mixing = kind.shape, architecture.mixing
        self.mapping = nn.ModuleList(
            Linear(d, d, rate=architecture.mapping_rate) for _ in range(architecture.mapping_layers)
        )
        before, side, _ = stages[0]
        self.start = nn.Parameter(torch.randn(1, before, side, side))
        self.stages = nn.ModuleList()
        for width, _, layers in stages:
            self.stages.append(Stage(before, width, layers, kind.shape[0], kernel, d))
            before = width
        self.counts = tuple(layers for _, _, layers in stages)
        self.sides = tuple(side for _, side, layers in stages for _ in range(layers))
        self.noise_dim = 1 + sum(side**2 for side in self.sides)

    def styles(self, z: Tensor) -> Tensor:
        """``[b, latent]`` to the styles of all layers, ``[b, layers, latent]``, all of them the same."""
        w = pixel_norm(z)
        for layer in self.mapping:
            w = leaky(layer(w))
        return w[:, None].expand(-1, len(self.sides), -1)

    def synthesize(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """``[b, layers, latent]`` and ``[b, noise_dim]`` to ``[b, *shape]``, images in [-1, 1]."""
        sizes = [side**2 for side in self.sides]
        maps = (None,) * len(sizes) if noise is None else torch.split(noise[:, 1:], sizes, 1)
        x, image = self.start.expand(len(styles), -1, -1, -1), styles.new_zeros(())
        at = 0
        for stage, count in zip(self.stages, self.counts, strict=True):
            if at:
                x, image = doubled(x), doubled(image)
            end = at + count
            x, added = stage(x, styles[:, at:end], maps[at:end])
            image, at = image + added, end
        return image.tanh() if len(self.shape) == 3 else image.flatten(1)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, latent]`` and ``[b, noise_dim]`` to ``[b, *shape]``; in training with mixed styles."""
        styles = self.styles(z)
        if self.training and self.mixing and noise is not None:
            styles = self._mixed(styles, noise[:, 0])
        return self.synthesize(styles, noise)

    def _mixed(self, styles: Tensor, where: Tensor) -> Tensor:
        """Later layers take the styles of the sample before, from a layer on that a normal number ``[b]`` says."""
        share, count = torch.special.ndtr(where), styles.shape[1]
        first = 1 + (share / self.mixing * (count - 1)).floor()
        other = (share < self.mixing)[:, None] & (torch.arange(count, device=where.device) >= first[:, None])
        return torch.where(other[..., None], styles.roll(1, 0), styles)


class OfVectors(nn.Module):
    """Three equalised layers, and how much their features vary within the minibatch, of vectors.

    Args:
        kind: of vectors.
        architecture: its ``width``.
    """

    def __init__(self, kind: Kind, architecture: Architecture) -> None:
        super().__init__()
        require_plain(architecture)
        width = architecture.width
        self.layers = nn.ModuleList(
            [Linear(kind.shape[0], width), Linear(width, width), Linear(width + 1, width)]
        )
        self.verdict = Linear(width, 1, gain=1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Verdict:
        """``[b, d]`` to verdicts ``[b]``, each of which depends on the batch it is in."""
        first, second, last = self.layers
        x = leaky(last(with_deviation(leaky(second(leaky(first(x)))))))
        return Verdict(self.verdict(x)[:, 0], None)


def discriminator(kind: Kind, architecture: Architecture) -> nn.Module:
    """That of the kind at hand."""
    return (OfImages if kind.images else OfVectors)(kind, architecture)
