"""Disturbances of whole sets: a set is split once, and every disturbed set is made of the same clean part."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from gen_eval.disturbances.pixels import Spoil
from gen_eval.errors import TooFewImages, UsageError
from gen_eval.images.protocol import Broken, Decoded, Images
from gen_eval.progress import Progress
from gen_eval.stats import Sample
from gen_eval.threads import in_order

_BLOCK = 64  # images that a thread looks at before it takes the next ones
PARTS = 4  # the parts of a split


@dataclass(frozen=True)
class Disturbance:
    """One row of :data:`gen_eval.disturbances.table.DISTURBANCES`.

    Exactly one of ``pixels`` and ``choose`` is given.

    Args:
        name: what it is called.
        meaning: what it does, in a line.
        unit: of its strength; 0 of it leaves every image as it is, and more is worse.
        strengths: from hardly to plainly visible.
        most: the greatest strength that it has.
        least: the smallest besides 0.
        pixels: what it does to one image.
        choose: the images that its set is made of, by their places in the set that was split.
        needs_classes: whether it asks for the class of each image.
    """

    name: str
    meaning: str
    unit: str
    strengths: tuple[float, ...]
    most: float = math.inf
    least: float = 0.0
    pixels: Spoil | None = None
    choose: Callable[[Split, float, int], Sequence[int]] | None = None
    needs_classes: bool = False

    def require(self, strength: float) -> None:
        """Refuse a strength that it does not have.

        Raises:
            UsageError: says which it has.
        """
        if strength == 0 or (self.least <= strength <= self.most and math.isfinite(strength)):
            return
        most = " or more" if math.isinf(self.most) else f" to {self.most:g}"
        raise UsageError(f"{self.name} {strength:g}: expected {self.least:g}{most} ({self.unit})")

    def of(self, parts: Split, strength: float, seed: int = 0) -> Images:
        """The clean part of a set that was split, disturbed.

        Args:
            parts: the set.
            strength: in ``unit``; 0 gives the clean part itself.
            seed: of every draw, 0 or more.

        Raises:
            UsageError: if it does not have that strength, or asks for classes and they are unknown.
            TooFewImages: if there are too few images to make the set of.
        """
        if self.choose is None or strength == 0:
            return Disturbed(parts.clean, self, strength, seed)
        self.require(strength)
        return Subset(parts.images, self.choose(parts, strength, seed), f"{self.name} {strength:g}")


class Subset:
    """Some images of a set.

    Args:
        images: the set.
        indices: which of its images, in which order.
        name: what to call them.
    """

    def __init__(self, images: Images, indices: Sequence[int], name: str) -> None:
        self.name = name
        self.thread_safe = images.thread_safe
        self._images, self.indices = images, tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def label(self, index: int) -> str:
        """The name that the image has in the set."""
        return self._images.label(self.indices[index])

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Read some images."""
        return self._images.read([self.indices[index] for index in indices])

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing: the set is looked through once, before it is split."""
        return []

    def content(self, progress: Progress) -> str:
        """Digest of the images, in order. They are read for it, once."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """That of each image; of a broken one, that of the reason."""
        blocks = (range(at, min(at + _BLOCK, len(self))) for at in range(0, len(self), _BLOCK))
        workers = (os.cpu_count() or 1) if self.thread_safe else 0
        with closing(in_order(self._digest, blocks, workers)) as results:
            return tuple(digest for block in results for digest in block)

    def _digest(self, index: int) -> bytes:
        (image,) = self.read([index])
        return image.reason.encode() if isinstance(image, Broken) else image.digest


class Disturbed:
    """Images under a disturbance, made as they are read: image i depends on ``seed`` and i alone.

    Args:
        images: the clean ones.
        disturbance: one of single images.
        strength: in its unit; 0 gives the images themselves, to the byte.
        seed: of its draws, 0 or more.

    Raises:
        UsageError: if the disturbance does not have that strength, or is one of whole sets.
    """

    def __init__(self, images: Images, disturbance: Disturbance, strength: float, seed: int = 0) -> None:
        disturbance.require(strength)
        if strength and disturbance.pixels is None:
            raise UsageError(
                f"{disturbance.name} is no disturbance of single images: make the set by its of()"
            )
        if seed < 0:
            raise UsageError(f"the seed of a disturbance is 0 or more, found {seed}")
        self.name = f"{disturbance.name} {strength:g}" if strength else images.name
        self.thread_safe = images.thread_safe
        everything = range(len(images))
        self._clean = images if isinstance(images, Subset) else Subset(images, everything, images.name)
        self._spoil = disturbance.pixels if strength else None
        self._strength, self._seed = float(strength), seed
        self._recipe = f"{disturbance.name} {self._strength!r} seed {seed}"

    def __len__(self) -> int:
        return len(self._clean)

    def label(self, index: int) -> str:
        """The name of the clean image."""
        return self._clean.label(index)

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Read and disturb some images."""
        clean = self._clean.read(indices)
        return [self._disturbed(image, index) for image, index in zip(clean, indices, strict=True)]

    def _disturbed(self, image: Decoded | Broken, index: int) -> Decoded | Broken:
        if self._spoil is None or isinstance(image, Broken):
            return image
        pixels = self._spoil(image.pixels, self._strength, np.random.default_rng([self._seed, index]))
        return Decoded(pixels, self._digest(image.digest, index), image.note)

    def _digest(self, clean: bytes, index: int) -> bytes:
        """Of the clean image and of what is done to it, which is known before it is done."""
        return hashlib.sha256(clean + f"{self._recipe} image {index}".encode()).digest()

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing: the clean images are looked through before they are disturbed."""
        return []

    def content(self, progress: Progress) -> str:
        """Digest of the clean images, in order, and of what is done to each."""
        digests = self._clean.digests
        if self._spoil is not None:
            digests = tuple(self._digest(clean, index) for index, clean in enumerate(digests))
        return hashlib.sha256(b"".join(digests)).hexdigest()


@dataclass(frozen=True)
class Split:
    """The parts that a set is split into. No image is in two of them.

    Args:
        images: the set.
        reference: what the others are measured against.
        clean: what is disturbed.
        heldout: for measures that ask for real images besides the reference.
        spare: places of the images left, at least as many as in each other part.
        classes: the class of each image of the set; ``None`` where they are unknown.
    """

    images: Images
    reference: Subset
    clean: Subset
    heldout: Subset
    spare: tuple[int, ...]
    classes: Sequence[str] | None = None


def split(images: Images, n: int, classes: Sequence[str] | None = None) -> Split:
    """Split a set by the hash of the index, as samples are drawn: by nothing that an image shows.

    Args:
        images: the set.
        n: images in each of its parts.
        classes: of each image of the set, where they are known.

    Raises:
        TooFewImages: if it has fewer than :data:`PARTS` times ``n`` images.
    """
    if n < 1:
        raise UsageError(f"n is {n}; expected the number of images in each part, at least 1")
    if len(images) < PARTS * n:
        raise TooFewImages(
            f"{images.name} has {len(images)} images, and {PARTS} parts of {n} are needed (reference, clean, held-out "
            f"and spare): ask for at most n = {len(images) // PARTS}"
        )
    order = Sample.of(torch.zeros(len(images), 1), torch.arange(len(images)), None).index.tolist()

    def part(place: int, name: str) -> Subset:
        return Subset(images, order[place * n : (place + 1) * n], f"{images.name}, {name}")

    return Split(
        images,
        reference=part(0, "reference"),
        clean=part(1, "clean"),
        heldout=part(2, "held-out"),
        spare=tuple(order[3 * n :]),
        classes=classes,
    )
