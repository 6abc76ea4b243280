"""What a likelihood of the zoo is of: observations, the same for every model, and noise that belongs to one of them.

An observation is an image of pixels in [0, 1] with uniform noise between their 256 levels (Theis et al. 2016,
arXiv:1511.01844), or a vector less its mean over its standard deviation. All models are trained on these and tell the
density of what they stand for, so their numbers compare. Models of binary images are apart: they are trained on zeros
and ones, and tell the probability of those.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod

import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.zoo.task import Kind
from gen_eval.zoo.trained import Trained

LEVELS = 256
_OF_CONTENT = 3  # stream of the noise of an observation, besides those of a sample


def to_observation(x: Tensor, noise: Tensor) -> Tensor:
    """Images in [-1, 1] to [0, 1] with noise in [0, 1) between their 256 levels: (level + noise) / 256."""
    return ((x + 1) * 127.5 + noise) / LEVELS


def to_batch(x: Tensor) -> Tensor:
    """Pixels in [0, 1] to [-1, 1], so that those within a level's cell round to the level."""
    return ((LEVELS * x - 0.5) / 127.5 - 1).clamp(-1, 1)


def to_bits(x: Tensor, noise: Tensor) -> Tensor:
    """Images in [-1, 1] to zeros and ones, by noise in [0, 1): a 1 with the probability that is the gray level."""
    return (noise < (x + 1) / 2).to(x)


def observed(x: Tensor, kind: Kind, source: torch.Generator, *, binary: bool = False) -> Tensor:
    """Observations of a batch: images with noise between their levels, or as bits, or its vectors as they are."""
    if not kind.images:
        return x
    noise = torch.rand(x.shape, generator=source).to(x)
    return to_bits(x, noise) if binary else to_observation(x, noise)


def standard_normal(like: Tensor, source: torch.Generator) -> Tensor:
    """Of the shape, type and device of another."""
    return torch.randn(like.shape, generator=source).to(like)


def normal_of_content(x: Tensor, count: int) -> Tensor:
    """Standard normal numbers for each row, a hash of what the row holds: float64 ``[b, count]`` on the CPU.

    So an estimate that needs noise depends on the image alone, and not on those beside it nor on its place among them.
    """
    rows = x.float().cpu().contiguous().numpy()
    seeds = [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:7], "little") for row in rows]
    return draws.normal(torch.tensor(seeds, dtype=torch.int64), count, _OF_CONTENT)


def to_probe(normal: Tensor, wanted: str) -> Tensor:
    """Standard normal numbers as they are, or their signs."""
    return normal if wanted == "gaussian" else torch.where(normal < 0, -1.0, 1.0).to(normal)


def require_rows(x: Tensor, of: Trained, what: str) -> None:
    """Refuse what a generator cannot tell its density, score or energy of.

    Args:
        x: ``[b, *shape]``.
        of: the generator.
        what: which of them.

    Raises:
        UsageError: if x is of another shape, no floating point, or holds NaN or infinity.
    """
    if x.shape[1:] != of.shape or not x.is_floating_point():
        raise UsageError(
            f"{of.name} has {what} of floating point [b, {', '.join(map(str, of.shape))}], "
            f"found {x.dtype} {list(x.shape)}"
        )
    if not bool(x.isfinite().all()):
        bad = ~x.flatten(1).isfinite().all(1)
        raise UsageError(
            f"{of.name} has {what} of finite numbers, found NaN or infinity in {int(bad.sum())} of {len(x)} rows "
            f"(first: row {int(bad.nonzero()[0])})"
        )


def numbers_of_none(x: Tensor) -> Tensor:
    """The log-densities of no rows, ``[0]`` float64 on the device of x: layers of other libraries refuse to tell."""
    return x.new_zeros(0, dtype=torch.float64)


class TrainedDensity(Trained):
    """A trained generator that tells how likely x is; see :class:`gen_eval.likelihood.Density`.

    Attributes:
        bound: what its number is of log p(x): a row of :data:`gen_eval.likelihood.KINDS`.
        dequantization: what of the pixels it is given, a row of :data:`gen_eval.dequantization.DEQUANTIZATIONS`.
    """

    bound: str
    dequantization: str = "uniform"

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), or what ``bound`` says of it.

        Args:
            x: pixels in [0, 1], ``[b, channels, height, width]``, with noise between their levels, or zeros and ones
                of a model of binary images; or vectors ``[b, d]``, not standardised.

        Returns:
            ``[b]`` float64, in nats, on the device of x.

        Raises:
            UsageError: if x is of another shape or not finite, leaves [0, 1], or is not binary where it has to be.
        """

    def _observations(self, x: Tensor) -> tuple[Tensor, float]:
        """As the networks take them, of their type, and the logarithm of what that does to a volume.

        Raises:
            UsageError: if x is of another shape or not finite, leaves [0, 1], or is not binary where it has to be.
        """
        require_rows(x, self, "a density")
        if not self.kind.images:
            mean, sd = (self._scaling[key].to(x) for key in ("mean", "sd"))
            volume = float(self._scaling["sd"].double().log().sum())
            return ((x - mean) / sd).to(self._device, self._dtype), volume
        if len(x) and not 0 <= float(x.min()) <= float(x.max()) <= 1:
            raise UsageError(
                f"{self.name} is a density of pixels in [0, 1], found {float(x.min()):g} to {float(x.max()):g}"
            )
        if self.dequantization == "binary" and bool(((x != 0) & (x != 1)).any()):
            raise UsageError(
                f"{self.name} tells the probability of binary images, found pixels between 0 and 1: it has no density "
                "of gray levels, and its number is compared with none"
            )
        return x.to(self._device, self._dtype), 0.0
