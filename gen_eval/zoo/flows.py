"""Normalising flows: an invertible network between observations and standard normal latents, and the density it gives.

By the change of variables, log p(x) = log N(z; 0, 1) + log |det dz/dx|. What the network is, discrete layers or an
ordinary differential equation, a recipe below :class:`Flow` says; preprocessing, training, density and sampling are
the same for all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import (
    TrainedDensity,
    normal_of_content,
    numbers_of_none,
    observed,
    standard_normal,
    to_batch,
    to_probe,
)
from gen_eval.zoo.ode import Solver
from gen_eval.zoo.sampler import CONTENT, Sampler
from gen_eval.zoo.task import Batch, Kind, Player, Task

FLOW = "flow"
TEMPERATURE = "the latent times t, its temperature"


class FlowNet(nn.Module, ABC):
    """An invertible map between x without bounds, ``[b, *shape]``, and latents ``[b, d]`` of as many numbers.

    Attributes:
        probe: what a stochastic estimate of the log-determinant is made with: ``"gaussian"`` or ``"rademacher"``;
            ``None`` where it is exact. A network may estimate in training and be exact in evaluation.
        evaluations: how often the last :meth:`from_latent` asked for a vector field, where there is one.
        density_evaluations: how often the last :meth:`to_latent` did, by then: a backward pass may ask again.
        solver: of :meth:`to_latent` in evaluation, where there is a field; it may be set.
    """

    evaluations: int = 0
    density_evaluations: int = 0
    solver: Solver | None = None

    @property
    def probe(self) -> str | None:
        """See above; most networks are exact."""
        return None

    @abstractmethod
    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z ``[b, d]``, and log |det dz/dx| ``[b]``.

        Args:
            x: ``[b, *shape]``.
            probe: independent numbers of mean 0 and variance 1, ``[b, d]``, where :attr:`probe` asks for them.
        """

    @abstractmethod
    def from_latent(self, z: Tensor) -> Tensor:
        """The inverse: ``[b, d]`` to ``[b, *shape]``."""


class FlowModel(nn.Module):
    """A flow of observations; a :class:`~gen_eval.zoo.trained.GeneratorNet`.

    Pixels are stretched from [0, 1] to the line by logit(margin + (1 - 2 margin) x) (Dinh et al. 2017,
    arXiv:1605.08803, section 4.1), whose slope is part of the density.
    """

    noise_dim = 0

    def __init__(self, kind: Kind, net: FlowNet, margin: float) -> None:
        super().__init__()
        self.net, self.latent_dim = net, math.prod(kind.shape)
        self._kind, self._margin = kind, margin

    def log_prob(self, x: Tensor, probe: Tensor | None = None) -> Tensor:
        """The log-density of observations ``[b, *shape]``, ``[b]`` in nats."""
        z, log_det = self.to_latent(x, probe)
        return log_det - (z.square().sum(1) + self.latent_dim * math.log(2 * math.pi)) / 2

    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As that of a :class:`FlowNet`, of observations."""
        if not self._kind.images:
            return self.net.to_latent(x, probe)
        stretched = torch.logit(self._margin + (1 - 2 * self._margin) * x)
        z, log_det = self.net.to_latent(stretched, probe)
        log_slope = nn.functional.softplus(stretched) + nn.functional.softplus(-stretched)
        return z, log_det + log_slope.flatten(1).sum(1) + self.latent_dim * math.log1p(-2 * self._margin)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Latents ``[b, d]`` to samples, scaled as batches are."""
        x = self.net.from_latent(z)
        if not self._kind.images:
            return x
        return to_batch((x.sigmoid() - self._margin) / (1 - 2 * self._margin))


@dataclass(frozen=True)
class Flow(ABC):
    """What all flows share: a recipe whose ``net`` is still to say.

    Args:
        margin: that of the logit of pixels, above 0 and below .5.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UsageError: if an argument makes no sense.
    """

    margin: float = 0.05
    rate: float = 1e-3
    batch: int = 64
    steps: int = 1000

    def __post_init__(self) -> None:
        require_whole(self, batch=1, steps=1)
        require_positive(self, "margin", "rate")
        if not self.margin < 0.5:
            raise UsageError(f"a margin leaves something between: below .5, found {self.margin}")

    @abstractmethod
    def net(self, kind: Kind) -> FlowNet:
        """A fresh network; weights are drawn from torch's global state.

        Raises:
            UsageError: if it cannot be made for this kind of data.
        """

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; a :class:`FlowSampler`."""
        model: FlowModel = modules[FLOW]  # type: ignore[assignment]
        return FlowSampler(name, Kind(kind.shape), model, scaling)


class _Task:
    """The flow, moved to the likelihood; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (FLOW,)

    def __init__(self, recipe: Flow, kind: Kind) -> None:
        self._kind = kind
        self._model = FlowModel(kind, recipe.net(kind), recipe.margin)
        self.modules = nn.ModuleDict({FLOW: self._model})
        self.players: Sequence[Player] = (Player(FLOW, self._loss, (FLOW,), recipe.rate, (0.9, 0.999)),)

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        x = observed(batch.x, self._kind, source)
        wanted = self._model.net.probe
        probe = None if wanted is None else to_probe(standard_normal(x.flatten(1), source), wanted)
        per_dim = -self._model.log_prob(x, probe).mean() / self._model.latent_dim
        levels = 8 if self._kind.images else 0  # from pixels in [0, 1] to levels
        return per_dim, {"bits_per_dim": float(per_dim.detach()) / math.log(2) + levels}


class FlowSampler(TrainedDensity):
    """Samples of a flow, and their density.

    Where the network estimates its log-determinant, the numbers that it probes with are drawn by a hash of x itself,
    and ``log_prob`` is unbiased.

    Args:
        name: what to call it.
        kind: what samples are.
        model: in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
    """

    def __init__(self, name: str, kind: Kind, model: FlowModel, scaling: Mapping[str, Tensor]) -> None:
        super().__init__(name, kind, model, scaling, truncation=TEMPERATURE)
        self._model = model
        self.bound = "exact" if model.net.probe is None else "unbiased"

    @property
    def evaluations(self) -> int:
        """How often the field was asked, of a continuous flow, for the last batch of samples; 0 of layers."""
        return self._model.net.evaluations

    @property
    def density_evaluations(self) -> int:
        """The same for the last batch of densities."""
        return self._model.net.density_evaluations

    @property
    def solver(self) -> Solver | None:
        """What densities of a continuous flow are solved by, which may be set; ``None`` of layers."""
        return self._model.net.solver

    @solver.setter
    def solver(self, solver: Solver) -> None:
        self._model.net.solver = solver

    def latent(self, seeds: Tensor, truncation: float | None = None) -> Tensor:
        """int64 ``[b]`` to ``[b, d]`` float32.

        Raises:
            UsageError: of a temperature that is infinite.
        """
        if truncation == math.inf:
            raise UsageError(
                "a temperature is a finite factor, found inf: leave it out for that of training, 1"
            )
        z = draws.normal(seeds, self._model.latent_dim, CONTENT)
        return ((1.0 if truncation is None else truncation) * z).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.observations.TrainedDensity`."""
        observations, log_volume = self._observations(x)
        if not len(x):
            return numbers_of_none(x)
        with torch.no_grad(), full_precision(self._device.type):
            found = self._model.log_prob(observations, self._probe(x))
        return (found.double() - log_volume).to(x.device)

    def encode(self, x: Tensor) -> Tensor:
        """The latents of samples, ``[b, d]`` float32: what :meth:`synthesize` makes them of. As :meth:`log_prob`."""
        observations, _ = self._observations(x)
        if not len(x):
            return observations.flatten(1)
        with torch.no_grad(), full_precision(self._device.type):
            return self._model.to_latent(observations, self._probe(x))[0]

    def _probe(self, x: Tensor) -> Tensor | None:
        """What the network is to probe with for rows of that content."""
        wanted = self._model.net.probe
        if wanted is None:
            return None
        noise = normal_of_content(x, self._model.latent_dim)
        return to_probe(noise, wanted).to(self._device, self._dtype)
