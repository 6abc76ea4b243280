"""Images and vectors as a model with a likelihood takes them.

Pixels are levels. A density over them grows without bound where a model puts spikes on the levels, so noise fills
the gaps (Theis et al. 2016, arXiv:1511.01844). A model of binary images is given zeros and ones drawn of the levels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import ImagesError, UsageError
from gen_eval.images import Images, stream
from gen_eval.images.protocol import Pixels
from gen_eval.passing import default_workers
from gen_eval.sources import Vectors

LEVELS = 256
# What x, which a model is given, is of the pixels.
DEQUANTIZATIONS = {
    "uniform": "pixels with uniform noise between levels; bounds the log-probability of levels from below",
    "variational": "levels, with noise between that the model draws; bounds their log-probability from below",
    "none": "what was measured: levels of a discrete model, or vectors",
    "binary": "zeros and ones, drawn with the probability of the gray level: log-probability of binary images",
}
# Where x is no pixel of a space with a scale of its own.
UNSCALED = ("none", "binary")
# Steps of the noise between two levels: with those of 256 levels they fill the 24 bits of a float32, so that noise
# never rounds to the next level.
_STEPS = 2**15


@dataclass(frozen=True)
class Batch:
    """What a model is given, and what is known of where it is from.

    Args:
        x: ``[b, channels, h, w]`` or ``[b, d]``.
        content: bytes that the digest of the set is made from.
        notes: how many images decoding changed, by what it changed.
    """

    x: Tensor
    content: bytes
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Uniform:
    """Pixels with noise between their levels, that of image i from ``seed`` and i alone.

    Args:
        interval: where pixels go: the lower edge of level 0 and the upper edge of level 255.
        seed: from 0 on.

    Raises:
        UsageError: if the interval does not rise, or the seed is negative.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.interval
        if not -math.inf < low < high < math.inf or self.seed < 0:
            raise UsageError(
                f"expected an interval that rises and a seed from 0 on, found {self.interval} and {self.seed}"
            )

    @property
    def scale(self) -> float:
        """Levels to a unit of the interval's space."""
        return LEVELS / (self.interval[1] - self.interval[0])

    def __call__(self, planes: Pixels, index: int) -> Tensor:
        """uint8 ``[channels, h, w]`` of image ``index`` to float32."""
        low, high = self.interval
        steps = np.random.default_rng([self.seed, index]).integers(0, _STEPS, planes.shape)
        between = (planes + (steps + 0.5) / _STEPS) / LEVELS
        return torch.from_numpy(low + (high - low) * between).float()


@dataclass(frozen=True)
class Binary:
    """Zeros and ones: a 1 with the probability that is the gray level, that of image i from ``seed`` and i alone.

    Salakhutdinov and Murray 2008, ICML, drew the binary MNIST of the literature so, once; so these bits are of the same
    distribution, and not the same.

    Args:
        seed: from 0 on.

    Raises:
        UsageError: if the seed is negative.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"expected a seed from 0 on, found {self.seed}")

    def __call__(self, planes: Pixels, index: int) -> Tensor:
        """uint8 ``[channels, h, w]`` of image ``index`` to float32."""
        steps = np.random.default_rng([self.seed, index]).integers(0, LEVELS - 1, planes.shape)
        return torch.from_numpy(steps < planes).float()


def levels(planes: Pixels, index: int) -> Tensor:
    """uint8 ``[channels, h, w]`` to the same as int64: 0 .. 255."""
    return torch.from_numpy(planes.astype(np.int64))


def batches_of_vectors(vectors: Vectors, size: int) -> Iterator[Batch]:
    """Vectors as they are, ``size`` at a time."""
    every = vectors.rows
    head = repr((tuple(every.shape), every.dtype)).encode()
    for rows in torch.split(every, size):
        yield Batch(rows, head + rows.cpu().contiguous().numpy().tobytes())
        head = b""


def batches_of_images(
    images: Images, prepare: Callable[[Pixels, int], Tensor], channels: int | None, size: int
) -> Iterator[Batch]:
    """Images of one size, ``size`` at a time.

    Args:
        images: the set.
        prepare: :class:`Uniform`, :class:`Binary` or :func:`levels`.
        channels: 1 or 3; ``None`` for 1 if the first image is gray, whatever it is stored as.
        size: images in a batch.

    Raises:
        ImagesError: if images are of several sizes, cannot be read, or have colours where one channel is expected.
    """
    shape: tuple[int, ...] = ()
    chunks = stream(
        images,
        range(len(images)),
        batch_size=size,
        workers=default_workers(),
        prepare=lambda pixels: pixels,
        skip_corrupt=False,
    )
    for chunk in chunks:
        inputs = []
        for index, pixels in zip(chunk.index.tolist(), chunk.items, strict=True):
            channels, shape = channels or (1 if _is_gray(pixels) else 3), shape or pixels.shape
            _require_alike(f"{images.name} {images.label(index)}", pixels, shape, channels)
            inputs.append(prepare(pixels[:, :, :channels].transpose(2, 0, 1), index))
        yield Batch(torch.stack(inputs), b"".join(chunk.digests), chunk.notes)


def _is_gray(pixels: Pixels) -> bool:
    return bool((pixels[:, :, 1:] == pixels[:, :, :1]).all())


def _require_alike(name: str, pixels: Pixels, shape: tuple[int, ...], channels: int) -> None:
    if channels == 1 and not _is_gray(pixels):
        raise ImagesError(
            f"{name} has colours where gray was expected; pass channels=3, as the first image may be gray by chance"
        )
    if pixels.shape != shape:
        raise ImagesError(
            f"{name} is {pixels.shape[0]}x{pixels.shape[1]} and the first image {shape[0]}x{shape[1]}; likelihoods "
            "need images of one size"
        )
