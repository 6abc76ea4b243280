"""What all nets are built of: initialised layers, normalisation by class, and the frame of a generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.spectral import spectrally_normalised
from gen_eval.zoo.task import Kind

SLOPE = 0.2  # of leaky ReLU below 0, as in DCGAN


@dataclass(frozen=True)
class Layers:
    """Makes the layers of a network: weights drawn alike, biases 0, spectrally normalised or not.

    Args:
        start: draws a weight in place.
        spectral: whether weights are divided by their largest singular value.
    """

    start: Callable[[Tensor], Any]
    spectral: bool = False

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        """``[b, inputs]`` to ``[b, outputs]``."""
        return self._made(nn.Linear(inputs, outputs))

    def conv(self, inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
        """``[b, inputs, h, w]`` to ``[b, outputs, h / stride, w / stride]``."""
        return self._made(nn.Conv2d(inputs, outputs, size, stride, padding=(size - 1) // 2))

    def doubling_conv(self, inputs: int, outputs: int) -> nn.Module:
        """A transposed convolution: ``[b, inputs, h, w]`` to ``[b, outputs, 2 h, 2 w]``."""
        return self._made(nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1))

    def embedding(self, entries: int, components: int) -> nn.Module:
        """int64 ``[b]`` to ``[b, components]``."""
        return self._made(nn.Embedding(entries, components))

    def _made(self, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding) -> nn.Module:
        self.start(layer.weight)
        if not isinstance(layer, nn.Embedding) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        return spectrally_normalised(layer) if self.spectral else layer


def narrow_normal(weight: Tensor) -> None:
    """Draw a weight from N(0, .02²), as in DCGAN (Radford et al. 2016, arXiv:1511.06434)."""
    nn.init.normal_(weight, std=0.02)


def orthogonal(weight: Tensor) -> None:
    """Draw a weight as an orthogonal matrix, as in BigGAN (Brock et al. 2019, arXiv:1809.11096)."""
    nn.init.orthogonal_(weight)


class Norm(nn.Module):
    """Batch normalisation of a generator's layer: plain, conditional or none.

    If conditional, gain and bias are linear in a condition; both maps start at 0, where the layer is plain batch
    normalisation. They are not spectrally normalised, as a matrix of 0 cannot be.

    Args:
        channels: of the layer.
        norm: a name of :data:`gen_eval.zoo.nets.architecture.NORMS`.
        told: components of the condition; read only if conditional.
        flat: whether features are ``[b, channels]`` rather than maps ``[b, channels, h, w]``.
    """

    def __init__(self, channels: int, norm: str, told: int, *, flat: bool = False) -> None:
        super().__init__()
        batch = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels, affine=norm == "batch")
        self.batch = nn.Identity() if norm == "none" else batch
        self.styles: nn.Linear | None = None
        if norm == "conditional":
            self.styles = nn.Linear(told, 2 * channels, bias=False)
            nn.init.zeros_(self.styles.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features ``[b, channels, ...]`` of samples with conditions ``[b, told]``, normalised."""
        x = self.batch(x)
        if self.styles is None:
            return x
        gain, bias = self.styles(condition).view(*condition.shape[:1], -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(x + bias, gain, x)


class Conditioning(nn.Module):
    """Divides a latent and a label among the first layer of a generator and the conditions of its blocks.

    With conditional normalisation the label goes to the blocks: one-hot, which gives each its own table of gains and
    biases, or as an embedding that they share; with skip-z together with the block's chunk of the latent (Brock et
    al. 2019, arXiv:1809.11096). Otherwise an embedding of the label is put beside the latent, as in AC-GAN. Embeddings
    start with a length of about 1: longer ones drown the latent, and each class collapses to a few samples.

    Attributes:
        first: components that the first layer takes.
        told: components of the condition of each block, ``[blocks]``.

    Args:
        kind: what samples are.
        architecture: of the generator.
        blocks: how many.

    Raises:
        UsageError: if the latent has fewer components than there are chunks.
    """

    def __init__(self, kind: Kind, architecture: Architecture, blocks: int) -> None:
        super().__init__()
        classes = len(kind.classes) if architecture.learns_classes else 0
        chunks = blocks + 1 if architecture.skip_z else 1
        if architecture.latent < chunks:
            raise UsageError(
                f"skip_z splits the latent into {chunks} chunks, and it has {architecture.latent} components"
            )
        self.classes, self.blocks, self.chunks = classes, blocks, chunks
        self.by_norm = architecture.norm == "conditional"
        embedded = classes > 0 and (architecture.shared_embedding or not self.by_norm)
        self.embedding = nn.Embedding(classes, architecture.embedding) if embedded else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=architecture.embedding**-0.5)
        code = architecture.embedding if embedded else classes
        chunk, *others = (len(part) for part in torch.arange(architecture.latent).tensor_split(chunks))
        self.first = chunk if self.by_norm else chunk + code
        self.told = [(code if self.by_norm else 0) + other for other in others or [0] * blocks]

    def forward(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, Sequence[Tensor]]:
        """``[b, latent]`` and int64 ``[b]`` to ``[b, first]`` and, for each block, ``[b, told]``."""
        if (labels is None) == (self.classes > 0):
            takes = f"one of {self.classes} labels for each sample" if self.classes else "no labels"
            raise UsageError(
                f"this generator takes {takes}; found {None if labels is None else list(labels.shape)}"
            )
        first, *others = z.tensor_split(self.chunks, 1)
        empty = z[:, :0]
        code = empty if labels is None else self._code(labels).to(z.dtype)
        if not self.by_norm:
            return torch.cat([first, code], 1), [empty] * self.blocks
        return first, [torch.cat([code, other], 1) for other in others or [empty] * self.blocks]

    def _code(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.classes) if self.embedding is None else self.embedding(labels)


class Block(nn.Module):
    """A layer of a generator, its normalisation, ReLU, and what follows, if anything.

    Args:
        layer: with weights.
        norm: of what it gives.
        after: such as self-attention.
    """

    def __init__(self, layer: nn.Module, norm: Norm, after: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.norm, self.after = layer, norm, after or nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features of samples with conditions ``[b, told]`` to features."""
        out: Tensor = self.after(F.relu(self.norm(self.layer(x), condition)))
        return out


class Generator(nn.Module):
    """A :class:`gen_eval.zoo.trained.GeneratorNet` of blocks that are told of the label.

    Args:
        architecture: of the generator.
        conditioning: divides latent and label.
        blocks: from features and a condition to features.
        last: from features to samples.
        first: from what the conditioning leaves to features; by default they are that.
    """

    noise_dim = 0

    def __init__(
        self,
        architecture: Architecture,
        conditioning: Conditioning,
        blocks: Sequence[nn.Module],
        last: nn.Module,
        first: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = architecture.latent
        self.conditioning, self.first = conditioning, first or nn.Identity()
        self.blocks, self.last = nn.ModuleList(blocks), last

    def features(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """What the last layer takes."""
        start, conditions = self.conditioning(z, labels)
        x: Tensor = self.first(start)
        for block, condition in zip(self.blocks, conditions, strict=True):
            x = block(x, condition)
        return x

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, latent_dim]`` and int64 ``[b]`` to ``[b, *shape]``; there is no noise."""
        samples: Tensor = self.last(self.features(z, labels))
        return samples


def coarse_maps(inputs: int, channels: int, kind: Kind, make: Layers) -> nn.Module:
    """From ``[b, inputs]`` to maps ``[b, channels, h / 4, w / 4]``: images are two doublings away."""
    coarse = (channels, kind.shape[1] // 4, kind.shape[2] // 4)
    return nn.Sequential(make.linear(inputs, math.prod(coarse)), nn.Unflatten(1, coarse))
