"""Pictures that the command line draws: images beside the numbers that they stand for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gen_eval.errors import UsageError

from .outputs import require_file, writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image, ImageDraw, ImageFont

    from gen_eval.images.protocol import Pixels

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
    Extent = tuple[tuple[float, float], tuple[float, float]]

FORMATS = (".png", ".jpg", ".jpeg", ".webp")

_INK, _FAINT, _PAPER = (25, 25, 25), (110, 110, 110), (255, 255, 255)
_MARGIN, _GAP = 24, 8
_LEGIBLE, _LARGEST = 96, 256  # pixels that a cell measures about, and at most
_SIDE = 8192  # pixels that a grid measures at most: more, and viewers give up
_PLANE, _BIN, _POINT = 256, 2, (0, 62, 122)  # pixels of a panel and of a bin of it; the ink of points


@dataclass(frozen=True)
class Row:
    """Images of one set, and what stands beside them.

    Args:
        pixels: uint8 ``[h, w, 3]`` each.
        title: the set.
        number: what was measured, printed large.
        note: a line in small print.
        captions: what stands below each image.
        apart: how many of the images stand apart from those after them.
    """

    pixels: Sequence[Pixels]
    title: str
    number: str = ""
    note: str = ""
    captions: Sequence[str] = ()
    apart: int = 0


def require_picture(out: Path) -> None:
    """Refuse a path that no picture can be written to, before the work is done.

    Raises:
        UsageError: if its extension names no format, it is a folder, or its folder does not exist.
    """
    require_file(out, FORMATS)


def free_name(out: Path) -> Path:
    """The path, or where there is such a file the first that is free of ``name-2.png``, ``name-3.png``, ..."""
    names = (out.with_stem(f"{out.stem}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([out], names) if not path.exists())


def draw_grid(pixels: Sequence[Pixels], captions: Sequence[str], out: Path) -> None:
    """Draw images in a grid, each with its caption below.

    Args:
        pixels: uint8 ``[h, w, 3]`` each; sizes may differ.
        captions: as many.
        out: the file to write; its extension chooses the format.

    Raises:
        UsageError: if there is nothing to draw, or ``out`` cannot be written.
    """
    from PIL import Image, ImageDraw

    require_picture(out)
    if not pixels:
        raise UsageError(f"there are no images to draw into {out}")
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    cell = _cell(pixels, columns)
    font = _font(max(9, min(14, cell // 7)))
    line = _height(font) + _GAP
    pitch = (cell + _GAP, cell + _GAP + line)
    canvas = Image.new(
        "RGB",
        (2 * _MARGIN + columns * pitch[0] - _GAP, 2 * _MARGIN + rows * pitch[1] - 2 * _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for place, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        left = _MARGIN + place % columns * pitch[0]
        top = _MARGIN + place // columns * pitch[1]
        _paste(canvas, image, (left, top), cell)
        draw.text((left + cell / 2, top + cell + _GAP / 2), caption, _INK, font, anchor="ma")
    _save(canvas, out)


def draw_rows(rows: Sequence[Row], title: str, terms: str, out: Path) -> None:
    """Draw sets of images below one another, with their numbers beside them.

    Args:
        rows: the sets, from the top.
        title: what the picture shows.
        terms: what the numbers were measured on, in small print at the foot.
        out: the file to write; its extension chooses the format.

    Raises:
        UsageError: if ``out`` cannot be written.
    """
    from PIL import Image, ImageDraw

    require_picture(out)
    heading, name, number, small = _font(22), _font(18), _font(26), _font(14)
    cell = _cell(
        [image for row in rows for image in row.pixels], max(len(rows), *(len(row.pixels) for row in rows))
    )
    pitch, top = cell + _GAP, _MARGIN + 48
    below = _height(small) + _GAP if any(row.captions for row in rows) else 0
    text = _place(max(rows, key=lambda row: len(row.pixels)), None, pitch) + _GAP
    beside = max(
        max(name.getlength(r.title), number.getlength(r.number), small.getlength(r.note)) for r in rows
    )
    width = max(text + beside, _MARGIN + heading.getlength(title), _MARGIN + small.getlength(terms))
    size = (round(width) + _MARGIN, top + len(rows) * (pitch + below + _GAP) + 28 + _MARGIN)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), title, _INK, heading, anchor="la")
    for row in rows:
        for place, image in enumerate(row.pixels):
            _paste(canvas, image, (_place(row, place, pitch), top), cell)
        for place, caption in enumerate(row.captions):
            middle = (_place(row, place, pitch) + cell / 2, top + cell + _GAP / 2)
            draw.text(middle, caption, _FAINT, small, anchor="ma")
        lines = [(row.title, name, _INK), (row.number, number, _INK), (row.note, small, _FAINT)]
        _stack(draw, [line for line in lines if line[0]], text, top + cell / 2)
        top += pitch + below + _GAP
    draw.text((_MARGIN, top + 12), terms, _FAINT, small, anchor="la")
    _save(canvas, out)


def extent_of(points: npt.NDArray[np.float64], margin: float = 0.05) -> Extent:
    """A square that holds nearly all of some points ``[n, 2]``, with a margin as a share of its side."""
    import numpy as np

    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    half = (0.5 + margin) * max(float((high - low).max()), 1e-6)
    (x, y) = ((low + high) / 2).tolist()
    return (x - half, x + half), (y - half, y + half)


def plane(points: npt.NDArray[np.float64], extent: Extent) -> Pixels:
    """A picture of points: the more of them in a place, the darker it is. What lies outside is not shown.

    Args:
        points: ``[n, 2]``.
        extent: from left to right, and from bottom to top.

    Returns:
        uint8 ``[256, 256, 3]``, framed.
    """
    import numpy as np

    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=_PLANE // _BIN, range=extent)
    filled = counts[counts > 0]
    full = np.quantile(filled, 0.95) if len(filled) else 1.0
    # A single point is seen, and a crowd is no more than full ink.
    share = np.where(counts > 0, 0.2 + 0.8 * np.sqrt(np.minimum(counts / full, 1)), 0).T[::-1]
    share = share.repeat(_BIN, axis=0).repeat(_BIN, axis=1)[..., None]
    pixels: Pixels = np.rint((1 - share) * np.array(_PAPER) + share * np.array(_POINT)).astype(np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 200
    return pixels


def _place(row: Row, at: int | None, pitch: int) -> int:
    """Where an image of a row starts from the left; ``None`` for what comes after all of them."""
    at = len(row.pixels) if at is None else at
    return _MARGIN + at * pitch + (_MARGIN if 0 < row.apart <= at else 0)


def _stack(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[tuple[str, Font, tuple[int, int, int]]],
    left: float,
    middle: float,
) -> None:
    """Write lines below one another, centred on a height."""
    heights = [_height(font) + 4 for _, font, _ in lines]
    top = middle - sum(heights) / 2
    for (line, font, colour), height in zip(lines, heights, strict=True):
        draw.text((left, top), line, colour, font, anchor="la")
        top += height


def _cell(pixels: Sequence[Pixels], abreast: int) -> int:
    """The side of a square that holds every image; tiny ones enlarged by a whole number to be legible."""
    side: int = max(max(image.shape[:2]) for image in pixels)
    return min(side * max(1, round(_LEGIBLE / side)), max(16, min(_LARGEST, _SIDE // abreast - _GAP)))


def _paste(canvas: Image.Image, pixels: Pixels, corner: tuple[int, int], cell: int) -> None:
    """Fit an image into a square: enlarged pixel by pixel, so that nothing is shown that is not there."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    longest = max(picture.size)
    if longest <= cell:
        scale = cell // longest
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    else:
        width, height = (max(1, round(side * cell / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas.paste(picture, (corner[0] + (cell - picture.width) // 2, corner[1] + (cell - picture.height) // 2))


def _font(size: int) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _height(font: Font) -> int:
    return math.ceil(font.getbbox("Ag|")[3])


def _save(canvas: Image.Image, out: Path) -> None:
    with writing(out):
        canvas.save(out)
