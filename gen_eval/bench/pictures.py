"""Made-up pictures that decode, compress and resize as photographs do, by seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gen_eval.errors import UnknownName, UsageError

# No torch in here: the benchmarks that only write files shall not wait for it.

# By the name of a format: how it is saved.
FORMATS: Mapping[str, Mapping[str, Any]] = {"jpg": {"quality": 90}, "png": {}}
SMALLEST = 8  # pixels a side
_SHAPES = 400


def write_folder(folder: Path, images: int, size: int, format_: str, *, fake: bool) -> Path:
    """Write seeded images; fake ones have other colours, sizes and grain than real ones.

    Args:
        folder: made, with its parents.
        images: how many.
        size: pixels a side.
        format_: a key of :data:`FORMATS`.
        fake: which of the two kinds.

    Returns:
        The folder.

    Raises:
        UnknownName: if there is no such format.
        UsageError: if there would be no images, or they would be too small.
    """
    if format_ not in FORMATS:
        raise UnknownName("format of pictures", format_, FORMATS)
    if images < 1 or size < SMALLEST:
        raise UsageError(
            f"{images} images of {size} px cannot be made: ask for 1 image or more of {SMALLEST} px or more"
        )
    folder.mkdir(parents=True)
    seeds = np.random.SeedSequence([size, fake]).spawn(images)
    for index, seed in enumerate(seeds):
        image = dead_leaves(np.random.default_rng(seed), size, fake=fake)
        image.save(folder / f"{index:05d}.{format_}", **FORMATS[format_])
    return folder


def dead_leaves(rng: np.random.Generator, size: int, *, fake: bool) -> Image.Image:
    """Shapes that hide one another, of radii r with density 1/r^3, under 1/f grain.

    Their spectrum and edges are those of photographs (Lee, Mumford and Huang 2001, "Occlusion models for
    natural images"), and so is the size of their files.

    Args:
        rng: what is drawn from.
        size: pixels a side.
        fake: whether to take the other colours, sizes and grain.
    """
    base = rng.uniform(60, 195) + rng.normal(0, 30 if fake else 20, 3)
    image = Image.new("RGB", (size, size), _colour(base))
    draw = ImageDraw.Draw(image)
    smallest = 0.025 if fake else 0.03
    for _ in range(_SHAPES):
        radius = size * min(smallest / np.sqrt(1 - rng.uniform()), 0.5)
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        box = (x - radius, y - radius, x + radius, y + radius * rng.uniform(0.2, 1.0))
        colour = _colour(base + rng.normal(0, 45) + rng.normal(0, 25 if fake else 15, 3))
        (draw.ellipse if fake or rng.uniform() < 0.6 else draw.rectangle)(box, fill=colour)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(3, size, size))) / frequency ** (0.9 if fake else 1.0)
    grain = np.fft.irfft2(spectrum, s=(size, size))
    pixels = np.asarray(image, np.float64) + 8 * (grain / grain.std()).transpose(1, 2, 0)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colour(levels: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = np.clip(levels, 0, 255).astype(int).tolist()
    return red, green, blue
