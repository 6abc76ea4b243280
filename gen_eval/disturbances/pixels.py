"""Disturbances of single images: uint8 pixels in, uint8 pixels of the same shape out.

Each takes ``[h, w, 3]`` pixels, a strength that grows with the damage, and a generator of its own that no other
image draws from. With the same generator, a greater strength does more of the same: the noise is scaled, and an image
that was replaced stays replaced.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from gen_eval.images.protocol import Pixels

Spoil = Callable[[Pixels, float, np.random.Generator], Pixels]
_Size = tuple[int, int]  # width, height


def noise(pixels: Pixels, sd: float, rng: np.random.Generator) -> Pixels:
    """Add independent Gaussian noise, ``sd`` in levels of 255, rounded and clipped.

    A gray image stays gray: it gets one draw a pixel in place of three.
    """
    drawn = rng.standard_normal((*pixels.shape[:2], _channels(pixels)))
    return _rounded(pixels + sd * drawn)


def blur(pixels: Pixels, sd: float, rng: np.random.Generator) -> Pixels:
    """Convolve with a Gaussian, ``sd`` in pixels; the image is mirrored at its border."""
    return _rounded(ndimage.gaussian_filter(pixels.astype(np.float64), (sd, sd, 0)))


def jpeg(pixels: Pixels, loss: float, rng: np.random.Generator) -> Pixels:
    """Save as JPEG with Pillow at quality ``100 - loss``, chroma halved as by default, and load."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=round(100 - loss))
    with Image.open(file) as image:
        return np.array(image)


def rotate(pixels: Pixels, degrees: float, rng: np.random.Generator) -> Pixels:
    """Rotate counterclockwise about the centre; the corners are filled from the mirror image of the border."""
    height, width = pixels.shape[:2]
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 2  # what the kernel reaches
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "symmetric")
    turned = np.array(Image.fromarray(wide).rotate(degrees, Image.Resampling.BICUBIC))
    return np.ascontiguousarray(turned[margin : margin + height, margin : margin + width])


def resize_nearest(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Keep one pixel of ``factor * factor``, and enlarge again."""
    return _down_and_up(pixels, factor, lambda image, size: image.resize(size, Image.Resampling.NEAREST))


def resize_bilinear(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Shrink by bilinear interpolation between the four nearest pixels, and enlarge again.

    It aliases beyond a factor of 2, as the resize of most frameworks does (Parmar et al. 2022, arXiv:2104.11222); at 2
    itself it is the mean of four pixels.
    """
    return _down_and_up(pixels, factor, _interpolated)


def resize_antialiased(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Shrink by a bilinear kernel as wide as the factor asks for, and enlarge again."""
    return _down_and_up(pixels, factor, lambda image, size: image.resize(size, Image.Resampling.BILINEAR))


def outlier(pixels: Pixels, percent: float, rng: np.random.Generator) -> Pixels:
    """With a probability of ``percent`` in 100, put something that is no picture in the image's place.

    It is a chequer of saturated colours, each drawn independently; its cells are of any size from a pixel, which is
    noise, to the whole image. So the outliers lie far from the images and from one another.
    """
    if 100 * rng.random() >= percent:
        return pixels
    height, width = pixels.shape[:2]
    cell = 2 ** int(rng.integers(0, math.ceil(math.log2(max(height, width, 2))) + 1))
    cells = rng.integers(0, 2, (-(-height // cell), -(-width // cell), _channels(pixels)), dtype=np.uint8)
    chequer = (255 * cells).repeat(cell, 0).repeat(cell, 1)[:height, :width]
    return np.array(np.broadcast_to(chequer, pixels.shape), order="C")


def _down_and_up(
    pixels: Pixels, factor: float, shrink: Callable[[Image.Image, _Size], Image.Image]
) -> Pixels:
    """The way up is bicubic whatever the way down, so that kernels differ in the latter alone."""
    image = Image.fromarray(pixels)
    width, height = (max(1, round(side / factor)) for side in image.size)
    return np.array(shrink(image, (width, height)).resize(image.size, Image.Resampling.BICUBIC))


def _interpolated(image: Image.Image, size: _Size) -> Image.Image:
    across, down = image.width / size[0], image.height / size[1]
    # Pillow's resize would widen the kernel; its affine transform reads points.
    return image.transform(
        size, Image.Transform.AFFINE, (across, 0, 0, 0, down, 0), Image.Resampling.BILINEAR
    )


def _channels(pixels: Pixels) -> int:
    """How many channels differ: 1 of a gray image, else 3."""
    return 1 if bool((pixels == pixels[:, :, :1]).all()) else 3


def _rounded(values: np.typing.NDArray[np.float64]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
