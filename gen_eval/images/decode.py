"""Encoded bytes and Pillow images to uint8 RGB, with a note on whatever that changes.

Pixels are those of ``Image.open(path).convert("RGB")``, as in every other tool, save that 16-bit gray is
scaled to 8 bits where Pillow would clip it. 16-bit colour keeps its high bytes, as Pillow reads it. The
EXIF orientation is not applied: nobody else does.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from gen_eval.images.protocol import Pixels

# Naming the formats keeps a file that only calls itself .png away from Pillow's rarer readers: the one for
# EPS would run Ghostscript on it.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

_WIDE_MODES = ("I", "F")  # and "I;16", "I;16B" ...: one channel of more than 8 bits
_COLORS = {"1": "gray", "L": "gray", "LA": "gray", "La": "gray", "P": "palette", "PA": "palette"}
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore what Pillow warns of (large images, odd EXIF blocks) while the block runs, in all threads.

    ``warnings.catch_warnings`` would put back the whole list of filters at the end, undoing what other
    threads and the consumer of a running pass changed meanwhile; this adds and removes one filter only.
    """
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _QUIET)
    try:
        yield
    finally:
        # Looked up anew, and maybe gone: a catch_warnings of the caller may have ended in between.
        with suppress(ValueError):
            cast("list[Any]", warnings.filters).remove(_QUIET)


def open_lazily(file: io.BytesIO | io.BufferedIOBase) -> Image.Image:
    """Identify an encoded image by its header; no pixel is decoded yet.

    Raises:
        ValueError: if it is in none of :data:`FORMATS`.
    """
    try:
        return Image.open(cast("io.BytesIO", file), formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(8)
        found = f"it begins with {head!r}" if head else "it is empty (0 bytes)"
        raise ValueError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file: {found}") from None


def decode(data: bytes) -> tuple[Pixels, str | None]:
    """Decode one encoded image.

    Args:
        data: the content of an image file.

    Returns:
        uint8 [h, w, 3], and a note on what decoding changed.

    Raises:
        Exception: whatever Pillow raises on a file that is broken or cut short; ``ValueError`` where the
            file is in no known format, or its values have no agreed meaning in 8 bits.
    """
    with open_lazily(io.BytesIO(data)) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> tuple[Pixels, str | None]:
    """Turn a Pillow image into RGB pixels; the image itself is left as it is.

    Returns:
        uint8 [h, w, 3], and a note on what the conversion changed.

    Raises:
        ValueError: if the values do not fit 16 bits, are floats, or are in a mode without a way to RGB.
    """
    wide = image.mode in _WIDE_MODES or image.mode.startswith("I;16")
    # Pillow has no mode for 16-bit colour and reads its high bytes: within 1 of scaling, worth a note.
    high_bytes = not wide and _has_16_bit_channels(image)
    pixels = _from_wide(image) if wide else _from_8_bits(image)
    notes = ["16-bit scaled to 8", "gray to RGB"] if wide else _mode_notes(image)
    if high_bytes:
        notes.insert(0, "16-bit colour to its high bytes")
    if getattr(image, "is_animated", False):
        notes.insert(0, f"first frame of {getattr(image, 'n_frames', 'several')}")
    return pixels, ", ".join(notes) or None


def _has_16_bit_channels(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a channel, asked before the pixels are loaded."""
    return any(";16" in str(argument) for tile in getattr(image, "tile", ()) for argument in tile[3:])


def _from_8_bits(image: Image.Image) -> Pixels:
    image.load()  # a palette knows its transparency only after this
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours; Pillow warns about the direct way
    # Converting would copy RGB once more. np.array copies too: np.asarray would be read-only.
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _mode_notes(image: Image.Image) -> list[str]:
    notes = [] if image.mode == "RGB" else [f"{_COLORS.get(image.mode, image.mode)} to RGB"]
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        notes.append("alpha dropped")
    return notes


def _from_wide(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is unknown: save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its values run from {low} to {high}, beyond 16 bits: save it with 8 or 16 bits")
    gray = ((values + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255: rounds to the nearest
    return np.repeat(gray[:, :, None], 3, axis=2)
