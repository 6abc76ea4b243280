"""Generators with a latent: what is asked of them, ways from one latent to another, and truncation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import ImagesError, NumericalError, UsageError


class Generator(Protocol):
    """Makes latents from seeds, and images from latents.

    One that knows classes is to keep to one class, or to tell the class from the seed.
    """

    def latent(self, seeds: Tensor) -> Tensor:
        """int64 ``[b]`` to floating point ``[b, d]``; each latent depends on its own seed alone."""

    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents to images ``[b, 3, h, w]`` or ``[b, 1, h, w]`` in [0, 255], uint8 or floating point.

        Of a generator with a mapping they are what the mapping gives.
        """


@runtime_checkable
class Mapped(Protocol):
    """What a generator has besides where images are made from a second latent w, as in StyleGAN."""

    def mapping(self, z: Tensor) -> Tensor:
        """``[b, d]`` to ``[b, ...]``."""


def mapping_of(generator: Generator) -> Callable[[Tensor], Tensor]:
    """The mapping from z to w.

    Raises:
        UsageError: if the generator has none.
    """
    if not isinstance(generator, Mapped):
        raise UsageError(
            f"the space w is that of a mapping, and {type(generator).__name__} has no method mapping(z): use z"
        )
    return generator.mapping


def images_of(generator: Generator, latents: Tensor, space: str = "z") -> Tensor:
    """The images of some latents, without gradients.

    Args:
        generator: makes them.
        latents: ``[b, ...]``.
        space: ``"z"``, through the mapping if the generator has one, or ``"w"``.

    Returns:
        ``[b, 3, h, w]`` in [0, 255], uint8 or float32.

    Raises:
        ImagesError: if the generator returns something else than such images.
        NumericalError: if their pixels are not finite.
    """
    with torch.no_grad():
        if space == "z" and isinstance(generator, Mapped):
            latents = generator.mapping(latents)
        images = generator.synthesize(latents)
    _require_images(images, len(latents))
    whole = images.dtype == torch.uint8
    return (images if whole else images.float()).expand(-1, 3, -1, -1)


def _require_images(images: Tensor, count: int) -> None:
    expected = f"expected [{count}, 3, h, w] in [0, 255], uint8 or floating point"
    shape = tuple(getattr(images, "shape", ()))
    if not isinstance(images, Tensor) or len(shape) != 4 or shape[0] != count or shape[1] not in (1, 3):
        raise ImagesError(f"synthesize returned {type(images).__name__} of shape {list(shape)}; {expected}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ImagesError(f"synthesize returned {images.dtype}; {expected}")
    largest = float(images.abs().max())
    if not math.isfinite(largest):
        raise NumericalError("synthesize returned pixels that are NaN or infinite: check the generator")
    if 0 < largest <= 1:
        raise ImagesError(f"synthesize returned pixels between {-largest:.3g} and {largest:.3g}; {expected}")


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 255] to the nearest whole levels."""
    return images if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The points at the shares ``t`` ``[b]`` of straight ways from ``a`` to ``b``, ``[b, ...]`` each."""
    return a + (b - a) * _beside(t, a)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The points at the shares ``t`` ``[b]`` of great circles of the unit sphere, from ``a`` to ``b`` ``[b, d]``.

    Both ends are scaled to unit length first, as in StyleGAN (Karras et al. 2019, arXiv:1812.04948).
    """
    a, b = (torch.nn.functional.normalize(x, dim=-1) for x in (a, b))
    angle = 2 * torch.atan2(
        (a - b).norm(dim=-1), (a + b).norm(dim=-1)
    )  # exact where acos is not: near 0, near pi
    across = torch.nn.functional.normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1)
    turned = _beside(t * angle, a)
    return a * turned.cos() + across * turned.sin()


INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"lerp": lerp, "slerp": slerp}


def _beside(t: Tensor, rows: Tensor) -> Tensor:
    return t.view(-1, *[1] * (rows.ndim - 1))


def truncated_normal(seeds: Tensor, dim: int, threshold: float, stream: int = 0) -> Tensor:
    """Standard normal latents whose components outside of ±threshold are drawn again, as often as it takes.

    Brock et al. 2019, arXiv:1809.11096. What redrawing ends in is drawn at once, by the inverse of the
    distribution function, so that latents of one seed at two thresholds are near each other.

    Args:
        seeds: int64 ``[b]``, 0 or more; each latent depends on its own seed alone.
        dim: components of a latent.
        threshold: above 0; infinity does not truncate.
        stream: which of a seed's independent sequences.

    Returns:
        ``[b, dim]`` float32, on the device of the seeds.

    Raises:
        UsageError: if an argument makes no sense.
    """
    if not threshold > 0 or dim < 1:
        raise UsageError(f"expected a threshold above 0 and 1 component or more, found {threshold} and {dim}")
    below = scipy.special.ndtr(-threshold)
    latents = torch.from_numpy(
        scipy.special.ndtri(below + (1 - 2 * below) * draws.uniform(seeds, dim, stream))
    )
    return latents.clamp(-threshold, threshold).float().to(seeds.device)


def truncate(w: Tensor, centre: Tensor, psi: float) -> Tensor:
    """Latents ``[b, ...]`` moved towards their centre ``[...]``: ``centre + psi (w - centre)``.

    Karras et al. 2019, arXiv:1812.04948, B.
    """
    return centre + psi * (w - centre)


def mean_latent(generator: Generator, *, n: int = 10_000, seed: int = 0, batch_size: int = 1000) -> Tensor:
    """The centre of w, the mean of ``n`` mapped latents ``[...]``, as StyleGAN estimates it.

    Raises:
        UsageError: if the generator has no mapping, or ``n`` is not positive.
    """
    mapping = mapping_of(generator)
    if n < 1:
        raise UsageError(f"the mean is of at least 1 latent, found n={n}")
    total = torch.zeros(())
    with torch.no_grad():
        for start in range(0, n, batch_size):
            seeds = torch.arange(seed + start, seed + min(start + batch_size, n))
            w = mapping(generator.latent(seeds))
            total = total.to(w.device) + w.double().sum(0)
    return (total / n).to(w.dtype)
