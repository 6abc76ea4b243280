"""Samples of a generator as pixels: images as they are, points of the plane, and what a network attends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gen_eval.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gen_eval.images.protocol import Pixels
    from gen_eval.zoo import Sampler
    from gen_eval.zoo.trained import Trained

    from .pictures import Extent, Row

# Okabe and Ito's colours for all eyes.
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0))
_PLACES = (
    (0.5, 0.5),
    (0.25, 0.25),
    (0.25, 0.75),
    (0.75, 0.25),
    (0.75, 0.75),
)  # down and across, of the sides


def require_shown(sampler: Sampler) -> None:
    """Refuse samples that no picture shows.

    Raises:
        UsageError: if they are vectors of more or less than 2 components.
    """
    if len(sampler.shape) != 3 and sampler.shape != (2,):
        raise UsageError(
            f"{sampler.name} makes vectors of {sampler.shape[0]} components: images and points of the plane are drawn"
        )


def pixels_of(images: Tensor) -> list[Pixels]:
    """uint8 ``[n, 1 or 3, h, w]`` as ``[h, w, 3]`` each."""
    return list(images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).contiguous().numpy())


def plane_of(points: Tensor, extent: Extent) -> Pixels:
    """Points ``[n, 2]`` as a picture of the plane."""
    from .pictures import plane

    return plane(points.double().numpy(), extent)


def attended(sampler: Trained, rows: int, seed: int) -> list[Row]:
    """Images with five points marked, each beside five maps of what the points attend to.

    Raises:
        UsageError: if the network has no self-attention.
    """
    import torch

    from gen_eval.zoo.nets.attention import attention_map

    from .pictures import Row

    seeds = torch.arange(seed, seed + rows)
    images = sampler(seeds)
    assert isinstance(sampler.network, torch.nn.Module)
    maps = attention_map(sampler.network, sampler.latent(seeds), sampler.labels_of(seeds))
    width = sampler.shape[2] // 2  # of the map that looks
    drawn = []
    for image, of_image, each in zip(pixels_of(images), maps, seeds.tolist(), strict=True):
        marked, shown = image.copy(), []
        for (down, across), colour in zip(_PLACES, _COLOURS, strict=True):
            y, x = int(down * len(of_image) / width), int(across * width)
            marked[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = colour
            shown.append(_tinted(image, of_image[y * width + x], colour))
        drawn.append(Row([marked, *shown], f"seed {each}", apart=1))
    return drawn


def _tinted(image: Pixels, attention: Tensor, colour: tuple[int, int, int]) -> Pixels:
    """An image in faint gray, and over it a coarser map ``[keys]``, full where it is largest."""
    import numpy as np

    coarse = round((image.shape[0] * image.shape[1] / len(attention)) ** 0.5)  # pixels of a key's side
    share = (attention / attention.max()).view(image.shape[0] // coarse, -1).numpy()
    share = share.repeat(coarse, axis=0).repeat(coarse, axis=1)[..., None]
    gray = image.mean(axis=2, keepdims=True) * 0.4
    tinted: Pixels = np.rint((1 - share) * gray + share * np.array(colour)).astype(np.uint8)
    return tinted
