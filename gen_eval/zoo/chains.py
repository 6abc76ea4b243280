"""Generators that are Langevin dynamics: of anything whose score is known, a world or a network.

>>> from gen_eval.zoo.worlds import Mixture
>>> ring = Mixture.ring()
>>> climbed = Langevin(ring, step_size=0.005, steps=100, start_sd=2.0, noise=False)
>>> ring.modes_covered(climbed.sample(100, seed=0), reach=0.1).high_quality
1.0
"""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.langevin import langevin
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.task import Kind
from gen_eval.zoo.trained import Trained


class Scored(Protocol):
    """What chains can follow."""

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, ``[b, *shape]`` to the same; of each row by itself."""


class Chain(nn.Module):
    """Langevin dynamics from Gaussian noise; a :class:`~gen_eval.zoo.trained.GeneratorNet`.

    A latent is where a chain starts, over ``start_sd``; the noise of its steps follows in turn.

    Args:
        target: whose score is followed.
        shape: of a sample.
        step_size: eta, as :func:`~gen_eval.zoo.langevin.langevin` takes it.
        steps: how many.
        start_sd: the standard deviation of where chains start.
        noise: whether steps are noisy; without noise chains climb to modes.

    Raises:
        UsageError: if a number makes no sense.
    """

    def __init__(
        self,
        target: Scored,
        shape: tuple[int, ...],
        *,
        step_size: float,
        steps: int,
        start_sd: float,
        noise: bool = True,
    ) -> None:
        super().__init__()
        self.target, self.shape = target, shape
        self.step_size, self.steps, self.start_sd = step_size, steps, start_sd
        require_whole(self, steps=0)
        require_positive(self, "step_size", "start_sd")
        self.latent_dim = math.prod(shape)
        self.noise_dim = steps * self.latent_dim if noise else 0

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, d]`` and ``[b, steps d]`` to where chains end, ``[b, *shape]``; without noise, where they climb to."""
        of_step = None if noise is None else noise.view(len(z), self.steps, *self.shape).unbind(1).__getitem__
        end = langevin(
            self.target.score,
            self.start_sd * z.view(-1, *self.shape),
            step_size=self.step_size,
            steps=self.steps,
            noise=of_step,
        )
        return end.to(z)  # the scores of worlds are float64


class Langevin(Trained):
    """Samples of vectors by Langevin dynamics, each chain from its own start with its own noise.

    ``synthesize`` makes of a start where it climbs to without noise.

    Args:
        target: a :class:`~gen_eval.zoo.sampler.Sampler` of vectors with a score.
        step_size: eta.
        steps: of a chain.
        start_sd: the standard deviation of where chains start, about the origin.
        noise: whether steps are noisy.
        name: what to call it; by default after the target.

    Raises:
        UsageError: if the target has no score or makes no vectors, or a number makes no sense.
    """

    def __init__(
        self,
        target: Scored,
        *,
        step_size: float,
        steps: int,
        start_sd: float,
        noise: bool = True,
        name: str | None = None,
    ) -> None:
        shape: tuple[int, ...] = getattr(target, "shape", ())
        of = getattr(target, "name", type(target).__name__)
        if not hasattr(target, "score") or len(shape) != 1:
            raise UsageError(f"Langevin dynamics follow the score of vectors [d], which {of} has not")
        chain = Chain(target, shape, step_size=step_size, steps=steps, start_sd=start_sd, noise=noise)
        super().__init__(name or f"langevin-{of}", Kind(shape), chain, {})

    def _unscaled(self, x: Tensor) -> Tensor:
        return x
