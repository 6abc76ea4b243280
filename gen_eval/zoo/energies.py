"""Energy-based models: unnormalised densities exp(f(x)) by contrastive divergence, sampled by Langevin dynamics.

Nothing here knows the integral Z of exp(f). Slopes and ratios of densities do without it; where there are few
dimensions, :mod:`gen_eval.zoo.partition` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.chains import Chain
from gen_eval.zoo.langevin import langevin
from gen_eval.zoo.nets.energies import energy_net
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import observed, require_rows, standard_normal, to_batch
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind, Player, Task
from gen_eval.zoo.trained import Trained

ENERGY, CHAINS = "energy", "chains"
_DATA, _PERSISTENT = "data", "persistent"
# Where the chains of a step start.
STARTS = {
    _DATA: "at the batch: contrastive divergence (Hinton 2002, Neural Computation 14:1771)",
    _PERSISTENT: "where earlier ones ended: persistent contrastive divergence (Tieleman 2008, ICML)",
}


@dataclass(frozen=True)
class Energy:
    """An unnormalised density of images or vectors.

    Args:
        starts: a row of :data:`STARTS`: where the chains of a step of training start.
        chains: how many persistent chains there are; each step moves as many of them as a batch has samples.
        fresh: share of a step's persistent chains that start anew, from Gaussian noise (Du and Mordatch 2019,
            arXiv:1903.08689).
        chain_steps: steps of Langevin dynamics in a step of training.
        sampling_steps: steps of it to a sample.
        step_size: their size eta, of vectors over their sds. Modes narrower than its square root come out too wide.
        image_step: their size of images, over the variance of the noise in them.
        start_sd: standard deviation of the noise that chains start from, of vectors over their sds and of pixels in
            [-1, 1].
        noise: whether the chains of samples are noisy; without noise they climb to modes.
        sigma: standard deviation of the noise in pixels in [-1, 1]. What is learnt is the density of images with so
            much noise, and the mean of clean ones is what a sample is. Vectors have none.
        width: units of hidden layers.
        layers: hidden layers; of vectors without any the density is a Gaussian.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UnknownName: if there is no such start.
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "energy"
    starts: str = _PERSISTENT
    chains: int = 1024
    fresh: float = 0.05
    chain_steps: int = 10
    sampling_steps: int = 100
    step_size: float = 0.002
    image_step: float = 0.3
    start_sd: float = 1.0
    noise: bool = True
    sigma: float = 0.3
    width: int = 256
    layers: int = 2
    rate: float = 5e-4
    batch: int = 64
    steps: int = 1500

    def __post_init__(self) -> None:
        if self.starts not in STARTS:
            raise UnknownName("start of chains", self.starts, STARTS)
        require_whole(self, chain_steps=1, sampling_steps=1, width=1, layers=0, batch=1, steps=1)
        require_positive(self, "step_size", "image_step", "start_sd", "sigma", "rate")
        if self.starts == _PERSISTENT:
            require_whole(self, chains=self.batch)
        if not 0 <= self.fresh <= 1:
            raise UsageError(f"a share of fresh chains is 0 to 1, found {self.fresh:g}")

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        if kind.images and self.starts == _DATA:
            raise UsageError(
                "chains that start at images never see what lies between noise and images, so there f is not learnt, "
                "and samples, which start from noise, get lost. Choose starts='persistent' (the model ebm), or vectors"
            )
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; a :class:`LearntEnergy`."""
        energy: EnergyNet = modules[ENERGY]  # type: ignore[assignment]
        return LearntEnergy(name, Kind(kind.shape), energy, scaling, self)


class EnergyNet(nn.Module):
    """f of samples as networks take them, and its slope."""

    def __init__(self, kind: Kind, recipe: Energy) -> None:
        super().__init__()
        self.net = energy_net(kind, recipe.width, recipe.layers, recipe.sigma)

    def forward(self, x: Tensor) -> Tensor:
        """f, ``[b, *shape]`` to ``[b]``."""
        found: Tensor = self.net(x)
        return found

    def score(self, x: Tensor) -> Tensor:
        """The slope of f, which is that of the log-density whatever Z is: ``[b, *shape]`` to the same."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(at).sum(), at)
        return slope


def contrast(energy: Callable[[Tensor], Tensor], data: Tensor, model: Tensor) -> Tensor:
    """The mean of f over samples of the model less that over data, whose gradient is that of -log p at the data.

    d log Z / dtheta is the mean of df / dtheta over samples of the model (Hinton 2002, Neural Computation 14:1771,
    equation 3). Those of a chain that has not settled make it an approximation.

    Args:
        energy: f, of samples to ``[b]``.
        data: ``[b, ...]``.
        model: ``[b, ...]``, held as they are.
    """
    return energy(model.detach()).mean() - energy(data).mean()


class PersistentChains(nn.Module):
    """Where chains are: a buffer, so that it is kept with the state of a training."""

    def __init__(self, count: int, shape: tuple[int, ...], start_sd: float) -> None:
        super().__init__()
        self.x: Tensor
        self.register_buffer("x", start_sd * torch.randn(count, *shape))


class _Task:
    """f, raised at the data and lowered where chains come to; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (ENERGY,)

    def __init__(self, recipe: Energy, kind: Kind) -> None:
        self._kind, self._recipe = kind, recipe
        self._energy = EnergyNet(kind, recipe)
        self.modules = nn.ModuleDict({ENERGY: self._energy})
        if recipe.starts == _PERSISTENT:
            self._chains = PersistentChains(recipe.chains, kind.shape, recipe.start_sd)
            self.modules[CHAINS] = self._chains
        self.players: Sequence[Player] = (Player(ENERGY, self._loss, (ENERGY,), recipe.rate, (0.0, 0.99)),)

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        data = observed(batch.x, self._kind, source)
        if self._kind.images:
            data = 2 * data - 1
            data = data + self._recipe.sigma * standard_normal(data, source)
        if self._recipe.starts == _DATA:
            ends = self._moved(data, source)
        else:
            chosen = torch.randperm(self._recipe.chains, generator=source)[: len(data)].to(data.device)
            ends = self._moved(self._refreshed(self._chains.x[chosen], source), source)
            self._chains.x[chosen] = ends
        loss = contrast(self._energy, data, ends)
        return loss, {"gap": -float(loss.detach())}

    def _refreshed(self, x: Tensor, source: torch.Generator) -> Tensor:
        """Chains, some of them at new starts."""
        anew = torch.rand(len(x), generator=source).to(x) < self._recipe.fresh
        starts = self._recipe.start_sd * standard_normal(x, source)
        return torch.where(anew.view(-1, *[1] * (x.ndim - 1)), starts, x)

    def _moved(self, x: Tensor, source: torch.Generator) -> Tensor:
        with torch.no_grad():
            return langevin(
                self._energy.score,
                x,
                step_size=eta_of(self._recipe, self._kind),
                steps=self._recipe.chain_steps,
                noise=lambda step: standard_normal(x, source),
            )


def eta_of(recipe: Energy, kind: Kind) -> float:
    """The size of a step, of what networks take."""
    return recipe.image_step * recipe.sigma**2 if kind.images else recipe.step_size


class _Samples(Chain):
    """A chain, and of images the mean of clean ones given where it ends."""

    def __init__(self, energy: EnergyNet, kind: Kind, recipe: Energy) -> None:
        super().__init__(
            energy,
            kind.shape,
            step_size=eta_of(recipe, kind),
            steps=recipe.sampling_steps,
            start_sd=recipe.start_sd,
            noise=recipe.noise,
        )
        self._energy, self._images, self._sigma = energy, kind.images, recipe.sigma

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """See :class:`~gen_eval.zoo.chains.Chain`; of images by Tweedie's x + sigma² score(x)."""
        x = super().forward(z, labels, noise)
        if not self._images:
            return x
        return to_batch((x + self._sigma**2 * self._energy.score(x) + 1) / 2)


class LearntEnergy(Trained):
    """Samples of Langevin dynamics, and what is known of a density without its integral.

    ``synthesize`` makes of a start where it climbs to without noise.

    Args:
        name: what to call it.
        kind: what samples are.
        energy: in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
        recipe: says how samples are drawn.
    """

    def __init__(
        self, name: str, kind: Kind, energy: EnergyNet, scaling: Mapping[str, Tensor], recipe: Energy
    ) -> None:
        super().__init__(name, kind, _Samples(energy, kind, recipe), scaling)
        self._energy = energy
        self.evaluations = recipe.sampling_steps + int(kind.images)

    def unnormalised_log_prob(self, x: Tensor) -> Tensor:
        """f(x): log p(x) and a constant that nobody knows. It is no likelihood, and compares within this model alone.

        Args:
            x: pixels in [0, 1] with noise, ``[b, channels, height, width]``; or vectors ``[b, d]``, not standardised.

        Returns:
            ``[b]`` float64, in nats, on the device of x.

        Raises:
            UsageError: if x is of another shape, or not finite.
        """
        taken, _ = self._taken(x)
        with torch.no_grad(), full_precision(self._device.type):
            found: Tensor = self._energy(taken)
        return found.double().to(x.device)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x) / p(y), in which the constant cancels: two sets of as many rows to ``[b]`` float64, in nats.

        Raises:
            UsageError: if one is of another shape, or not finite.
        """
        return self.unnormalised_log_prob(x) - self.unnormalised_log_prob(y)

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, as x, in units of x: of pixels in [0, 1] or of vectors not standardised.

        Raises:
            UsageError: if x is of another shape, or not finite.
        """
        taken, unit = self._taken(x)
        with full_precision(self._device.type):
            return self._energy.score(taken).to(x) / unit.to(x)

    def _taken(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As the network takes them, of its type, and how long its unit is, of x.

        Raises:
            UsageError: if x is of another shape, or not finite.
        """
        require_rows(x, self, "an energy")
        half = torch.tensor(0.5)
        mean, unit = (half, half) if self.kind.images else (self._scaling["mean"], self._scaling["sd"])
        return ((x - mean.to(x)) / unit.to(x)).to(self._device, self._dtype), unit
