"""Scores learnt by score matching at one level of noise, or at none, and sampled by Langevin dynamics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.chains import Chain
from gen_eval.zoo.langevin import Score
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import require_rows, standard_normal, to_probe
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.score_matching import denoising, exact, sliced, sliced_vr
from gen_eval.zoo.task import Batch, Kind, Player, Task
from gen_eval.zoo.trained import Trained

SCORE = "score"
_DENOISING = "denoising"
# From a score, samples, standard normal numbers of their shape and sigma to the objective of each.
OBJECTIVES: dict[str, Callable[[Score, Tensor, Tensor, float], Tensor]] = {
    "exact": lambda score, x, noise, sigma: exact(score, x),
    "sliced": lambda score, x, noise, sigma: sliced(score, x, to_probe(noise, "rademacher")),
    "sliced-vr": lambda score, x, noise, sigma: sliced_vr(score, x, to_probe(noise, "rademacher")),
    _DENOISING: denoising,
}


@dataclass(frozen=True)
class ScoreMatching:
    """A score of vectors.

    Args:
        objective: a row of :data:`OBJECTIVES`.
        sigma: standard deviation of the noise of ``"denoising"``, over that of each component of the data; what is
            learnt is the score of data with so much noise. 0 for the others, which learn that of the data itself.
        width: units of hidden layers.
        layers: hidden layers.
        sampling_steps: steps of Langevin dynamics to a sample, from a Gaussian with the mean and sds of the data.
        step_size: their size eta, of vectors over their sds. Modes narrower than its square root come out too wide.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UnknownName: if there is no such objective.
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "score-matching"
    objective: str = "exact"
    sigma: float = 0.0
    width: int = 128
    layers: int = 2
    sampling_steps: int = 500
    step_size: float = 0.005
    rate: float = 1e-3
    batch: int = 256
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UnknownName("objective", self.objective, OBJECTIVES)
        require_whole(self, width=1, layers=1, sampling_steps=1, batch=1, steps=1)
        require_positive(self, "step_size", "rate", *(("sigma",) if self.objective == _DENOISING else ()))
        if self.objective != _DENOISING and self.sigma != 0:
            raise UsageError(
                f"sigma is the noise of '{_DENOISING}', and objective '{self.objective}' adds none: "
                f"expected 0, found {self.sigma:g}"
            )

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`; images are refused."""
        if kind.images:
            raise UsageError(
                "one score does not make images: they fill no volume, so between them it is hardly learnt, and chains "
                "get lost there; nor is an exact trace of so many components at hand. Choose a model of many levels of "
                "noise, such as ncsn or edm, or vectors"
            )
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; a :class:`LearntScore`."""
        net: ScoreNet = modules[SCORE]  # type: ignore[assignment]
        return LearntScore(
            name, Kind(kind.shape), net, scaling, step_size=self.step_size, steps=self.sampling_steps
        )


class ScoreNet(nn.Module):
    """A score of standardised vectors.

    The network is bounded and stands beside the score of a standard normal. So far from the data, where nothing is
    learnt, the sum points inwards, and no chain escapes. Its second derivatives, by which it is trained, are smooth.
    """

    def __init__(self, kind: Kind, recipe: ScoreMatching) -> None:
        super().__init__()
        (dim,) = kind.shape
        sizes = [dim, *[recipe.width] * recipe.layers]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], dim)

    def score(self, x: Tensor) -> Tensor:
        """``[b, d]`` to the same."""
        inner = x
        for layer in self.hidden[:-1]:
            inner = F.silu(layer(inner))
        out: Tensor = self.last(self.hidden[-1](inner).tanh()) - x
        return out


class _Task:
    """The score, moved by its objective; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (SCORE,)

    def __init__(self, recipe: ScoreMatching, kind: Kind) -> None:
        self._recipe, self._net = recipe, ScoreNet(kind, recipe)
        self.modules = nn.ModuleDict({SCORE: self._net})
        self.players: Sequence[Player] = (Player(SCORE, self._loss, (SCORE,), recipe.rate, (0.9, 0.999)),)

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        noise = standard_normal(batch.x, source)
        found = OBJECTIVES[self._recipe.objective](self._net.score, batch.x, noise, self._recipe.sigma)
        return found.mean(), {}


class LearntScore(Trained):
    """Samples of Langevin dynamics by a learnt score, and the score.

    Args:
        name: what to call it.
        kind: what samples are.
        net: in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
        step_size: of a chain, of vectors over their sds.
        steps: of a chain; each runs the network once.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        net: ScoreNet,
        scaling: Mapping[str, Tensor],
        *,
        step_size: float,
        steps: int,
    ) -> None:
        chain = Chain(net, kind.shape, step_size=step_size, steps=steps, start_sd=1.0)
        super().__init__(name, kind, chain, scaling)
        self._net, self.evaluations = net, steps

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, as x and per unit of it; of data with noise where it was learnt with some.

        Args:
            x: vectors ``[b, d]``, not standardised.

        Raises:
            UsageError: if x is of another shape, or not finite.
        """
        require_rows(x, self, "a score")
        mean, sd = (self._scaling[key].to(x) for key in ("mean", "sd"))
        with torch.no_grad(), full_precision(self._device.type):
            found = self._net.score(((x - mean) / sd).to(self._device, self._dtype))
        return found.to(x) / sd
