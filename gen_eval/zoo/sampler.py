"""The contract of every generator of the zoo, kept in one place: seeds, labels and truncation.

Sample i of ``sample(n, seed=s)`` depends on the seed ``s + i`` alone. So the first 50 of 100 samples are the 50 that
would have been drawn alone, and a generator may stand wherever a callable from seeds is taken:
``gen_eval.evaluate("fid", generated=model, n=1000, reference=...)``.

No seeds make no samples, and a density or score of no rows is one of none: what a batch is made of may be empty. To ask
``sample`` for none is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UsageError

LABELS, CONTENT, NOISE = 0, 1, 2  # streams of a seed: its label, its latent, and what a network adds besides


def room(n: int, shape: tuple[int, ...]) -> Tensor:
    """Room for so many samples of a shape: uint8 images or float32 vectors, ``[n, *shape]``, of no content yet."""
    return torch.empty(n, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)


class Sampler(ABC):
    """Makes samples from seeds.

    A generator with a likelihood also has ``log_prob`` and ``bound``, as :class:`gen_eval.likelihood.Density` says;
    one whose score is known has ``score(x)``, the gradient of the log-density, ``[n, d]`` to ``[n, d]``.

    Attributes:
        name: what to call it.
        shape: of a sample: ``(channels, height, width)`` of uint8 images, or ``(d,)`` of float32 vectors.
        classes: what each label means; empty for a generator without labels.
        truncation: what a truncation does, in words; ``None`` if the generator has none.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    truncation: str | None = None

    def sample(
        self,
        n: int,
        *,
        seed: int,
        labels: int | Sequence[int] | Tensor | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """Draw samples.

        Args:
            n: how many.
            seed: of the first one, 0 or more; sample i is that of seed ``seed + i``.
            labels: the class of each, ``[n]``, or one for all; by default each seed draws its own.
            truncation: how far to go from the mode: the smaller, the more alike; by default not truncated.

        Returns:
            ``[n, channels, height, width]`` uint8 or ``[n, d]`` float32, on the CPU.

        Raises:
            UsageError: if an argument makes no sense, or asks for labels or truncation that the generator has not.
        """
        return self(draws.seeds_from(seed, n), labels=labels, truncation=truncation)

    def __call__(
        self,
        seeds: Tensor,
        *,
        labels: int | Sequence[int] | Tensor | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """The samples of some seeds, int64 ``[b]``, which may be none; else as :meth:`sample`."""
        if truncation is not None:
            if self.truncation is None:
                raise UsageError(f"{self.name} has no truncation; found truncation={truncation:g}")
            if not truncation >= 0:
                raise UsageError(f"a truncation is 0 or more, found {truncation:g}")
        seeds = seeds.cpu()  # where all that is drawn of them is drawn
        draws.require_seeds(seeds)
        chosen = self.labels_of(seeds) if labels is None else self._labels(labels, len(seeds))
        if not len(seeds):
            return room(0, self.shape)
        with torch.no_grad():
            return self._draw(seeds, chosen, truncation)

    def labels_of(self, seeds: Tensor) -> Tensor | None:
        """The class that each seed draws where none is asked for, int64 ``[b]``; ``None`` without classes."""
        return draws.integers(seeds, len(self.classes), LABELS) if self.classes else None

    @abstractmethod
    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        """Samples of seeds ``[b]`` with labels ``[b]``, each a pure function of its own row; no gradients."""

    def _labels(self, given: Any, n: int) -> Tensor:
        if not self.classes:
            raise UsageError(f"{self.name} knows no classes, so it takes no labels")
        labels = torch.as_tensor(given).cpu()
        if labels.shape == (0,):
            labels = labels.to(torch.int64)  # an empty list has no type of its own
        if labels.is_floating_point() or labels.dtype == torch.bool or labels.ndim > 1:
            raise UsageError(f"labels are whole numbers [n], found {labels.dtype} {list(labels.shape)}")
        if labels.ndim == 1 and len(labels) != n:
            raise UsageError(f"found {len(labels)} labels for {n} samples: give one of each, or one for all")
        if len(labels.reshape(-1)) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise UsageError(f"labels of {self.name} are 0 to {len(self.classes) - 1}, found {found}")
        return labels.to(torch.int64).expand(n)
