"""A generator of the zoo that is a network: from seeds to latents, in batches of one size, to samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.latent import to_uint8, truncated_normal
from gen_eval.precision import full_precision
from gen_eval.zoo.sampler import CONTENT, NOISE, Sampler
from gen_eval.zoo.task import Kind

# A network always sees as many samples as this: kernels for other sizes would round otherwise, and a sample would
# depend on how many are drawn with it.
BATCH = 64
RESAMPLED = "components of the latent beyond ±t are drawn again"


class GeneratorNet(Protocol):
    """A module that makes samples of latents.

    Attributes:
        latent_dim: components of a latent, standard normal.
        noise_dim: standard normal numbers that it takes besides, 0 for most.
    """

    latent_dim: int
    noise_dim: int

    def __call__(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, latent_dim]``, int64 ``[b]``, ``[b, noise_dim]`` to float32 ``[b, *shape]``, scaled as batches are."""


class Trained(Sampler):
    """Samples of a network.

    It follows :class:`gen_eval.latent.Generator` too, so that path lengths and truncation curves take it.

    Args:
        name: what to call it.
        kind: what samples are.
        network: a :class:`GeneratorNet`, in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
        classes: what labels mean to the network; empty if it takes none.
        truncation: what a truncation does, in words; ``None`` if it is to be refused.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        network: nn.Module,
        scaling: Mapping[str, Tensor],
        *,
        classes: tuple[str, ...] = (),
        truncation: str | None = None,
    ) -> None:
        self.name, self.shape, self.classes, self.truncation = name, kind.shape, classes, truncation
        self.kind = kind
        self.network: GeneratorNet = network  # type: ignore[assignment]
        self._scaling = scaling
        weight = next(network.parameters(), torch.empty(0))  # a chain may have none
        self._device, self._dtype = weight.device, weight.dtype

    def latent(self, seeds: Tensor, truncation: float | None = None) -> Tensor:
        """int64 ``[b]`` to ``[b, latent_dim]`` float32.

        Raises:
            UsageError: of a truncation of 0, which leaves nothing to draw.
        """
        if truncation == 0:
            raise UsageError(f"{self.name} draws its latents within ±truncation, which must be above 0")
        bound = math.inf if truncation is None else truncation
        return truncated_normal(seeds, self.network.latent_dim, bound, stream=CONTENT)

    def synthesize(self, latents: Tensor, label: int | None = None) -> Tensor:
        """Latents ``[b, latent_dim]`` to samples, without noise: images in [0, 255] float32, or vectors.

        Args:
            latents: as :meth:`latent` draws them.
            label: the class of all; a generator with classes needs one, and :meth:`of_class` fixes it.

        Raises:
            UsageError: if a label is missing, or makes no sense.
        """
        if label is None and self.classes:
            raise UsageError(f"{self.name} knows {len(self.classes)} classes: say which, by of_class(label)")
        labels = None if label is None else self._labels(label, len(latents))
        return self._samples(torch.arange(len(latents)) % BATCH, latents, labels, None)

    def of_class(self, label: int) -> OfClass:
        """The generator kept to one class, for what asks for latents and images of latents alone."""
        self._labels(label, 1)
        return OfClass(self, label)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        samples = self._samples(seeds % BATCH, self._content(seeds, labels, truncation), labels, seeds)
        return (to_uint8(samples) if self.kind.images else samples).cpu()

    def _content(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        """What :meth:`_synthesized` is given of a seed besides its label and noise."""
        return self.latent(seeds, truncation)

    def _synthesized(self, content: Tensor, labels: Tensor | None, noise: Tensor | None) -> Tensor:
        return self.network(content, labels, noise)

    def _samples(
        self, places: Tensor, content: Tensor, labels: Tensor | None, seeds: Tensor | None
    ) -> Tensor:
        """Samples with the noise of their seeds, or with none, which is noise of 0."""

        def made(content: Tensor, labels: Tensor | None, seeds: Tensor | None) -> Tensor:
            # Noise is drawn for a batch at a time: a chain takes more of it than memory holds for all samples.
            size, noise = self.network.noise_dim, None
            if size and seeds is not None:
                noise = draws.normal(seeds, size, NOISE).to(content)
            elif size:
                noise = content.new_zeros(len(content), size)
            return self._synthesized(content, labels, noise)

        return self._unscaled(self._in_batches(made, places, content, labels, seeds))

    def _in_batches(self, function: Callable[..., Tensor], places: Tensor, *given: Tensor | None) -> Tensor:
        """What a function makes of rows ``[n, ...]``, :data:`BATCH` at a time, each at its place in a batch ``[n]``.

        Kernels round by place, so a sample that is to be the same to the last bit always has the same one.
        """
        count = len(places)
        if not count:  # a made-up row tells of what shape nothing is
            made_up = (None if each is None else each.new_zeros(1, *each.shape[1:]) for each in given)
            return self._in_batches(function, places.new_zeros(1), *made_up)[:0]
        order = places.argsort(stable=True)
        of_place = torch.bincount(places, minlength=BATCH)
        turn = torch.empty_like(places)  # which batch a row is in: one after another for those of one place
        turn[order] = torch.arange(count) - (of_place.cumsum(0) - of_place)[places[order]]
        rows = places.new_zeros(int(turn.max()) + 1, BATCH)  # the first row sits where nobody does
        rows[turn, places] = torch.arange(count)
        with full_precision(self._device.type):
            made = [
                function(*(None if each is None else each[batch].to(self._device) for each in given))
                for batch in rows
            ]
        return torch.stack(made)[turn, places]

    def _unscaled(self, x: Tensor) -> Tensor:
        if self.kind.images:
            return (x + 1) * 127.5
        return x * self._scaling["sd"].to(x) + self._scaling["mean"].to(x)


class OfClass:
    """One class of a generator that knows several, as a :class:`gen_eval.latent.Generator`.

    Args:
        sampler: the generator.
        label: which class.
    """

    def __init__(self, sampler: Trained, label: int) -> None:
        self._sampler, self._label = sampler, label

    def latent(self, seeds: Tensor) -> Tensor:
        """int64 ``[b]`` to ``[b, latent_dim]`` float32."""
        return self._sampler.latent(seeds)

    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents ``[b, latent_dim]`` to images in [0, 255] float32, without noise."""
        return self._sampler.synthesize(latents, self._label)
