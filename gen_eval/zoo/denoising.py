"""Models that learn to denoise at many levels of noise, which is to know the score at each, and sample by it.

One objective, that of Karras et al. 2022 (arXiv:2206.00364; "EDM"), and two samplers: annealed Langevin dynamics, as
in NCSN (Song and Ermon 2019, arXiv:1907.05600), and Heun's method for the probability-flow ODE, which gives a
likelihood as well (Song et al. 2021, arXiv:2011.13456).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.langevin import NoisyScore, annealed_langevin, heun, karras_sigmas
from gen_eval.zoo.nets.traces import exact_trace, hutchinson
from gen_eval.zoo.nets.unet import noise_net
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import (
    LEVELS,
    TrainedDensity,
    normal_of_content,
    numbers_of_none,
    observed,
    require_rows,
    standard_normal,
    to_batch,
    to_probe,
)
from gen_eval.zoo.ode import Solver, solve
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind, Player, Task
from gen_eval.zoo.trained import Trained

DENOISER = "denoiser"
HEUN, LANGEVIN = "heun", "annealed-langevin"
SAMPLERS = (HEUN, LANGEVIN)


@dataclass(frozen=True)
class Denoising:
    """A network that finds clean data given noisy data and how noisy it is.

    Levels of noise are in the units of what networks see: images in [-1, 1], vectors less their mean over their
    standard deviation.

    Args:
        drawn_by: ``"heun"`` or ``"annealed-langevin"``.
        levels: of noise that a sample comes down by.
        largest: the first of them; a sample starts as so much noise.
        smallest: the last one.
        level_steps: steps of ``"annealed-langevin"`` at each level.
        step_size: their size eta, in squares of the level. NCSN takes .2 and a hundred steps at each level; fewer steps
            have to be larger.
        last_denoised: whether what ``"annealed-langevin"`` ends with is denoised once more. Its chain draws data with
            noise of the last level, which eyes hardly see and features do (Jolicoeur-Martineau et al. 2021,
            arXiv:2009.05475). The ODE ends without noise anyway.
        density: the solver of the likelihood of ``"heun"``, as :meth:`gen_eval.zoo.ode.Solver.of` takes it; its steps
            are even in the logarithm of the level.
        width: of the network, see :func:`~gen_eval.zoo.nets.unet.noise_net`.
        layers: hidden layers on vectors.
        octaves: of sines of pixels that the network is shown beside them, see :func:`sines`; 0 for none. Likelihoods
            gain by them, samples do not. Vectors have no levels, and no sines.
        data_sd: standard deviation of images in [-1, 1], about; that of vectors is 1.
        log_mean: mean of the logarithm of the levels that it is trained at, a normal distribution.
        log_sd: their standard deviation.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UnknownName: if there is no such sampler.
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "denoising"
    drawn_by: str = HEUN
    levels: int = 18
    largest: float = 80.0
    smallest: float = 0.002
    level_steps: int = 10
    step_size: float = 1.0
    last_denoised: bool = True
    density: str = "rk4:32"
    width: int = 32
    layers: int = 3
    octaves: int = 0
    data_sd: float = 0.5
    log_mean: float = -1.2
    log_sd: float = 1.2
    rate: float = 2e-3
    batch: int = 64
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.drawn_by not in SAMPLERS:
            raise UnknownName("sampler", self.drawn_by, SAMPLERS)
        Solver.of(self.density)
        require_whole(self, levels=2, level_steps=1, width=1, layers=1, octaves=0, batch=1, steps=1)
        require_positive(self, "largest", "smallest", "step_size", "data_sd", "log_sd", "rate")
        if not self.smallest < self.largest or not math.isfinite(self.log_mean):
            raise UsageError(
                "levels of noise fall from the largest to the smallest, and their logarithms have a finite mean; "
                f"found {self.largest:g} to {self.smallest:g}, log_mean={self.log_mean:g}"
            )

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; a :class:`NoisyScores`, or a :class:`FlowOfNoise` by Heun's method."""
        model: Denoiser = modules[DENOISER]  # type: ignore[assignment]
        made = FlowOfNoise if self.drawn_by == HEUN else NoisyScores
        return made(name, Kind(kind.shape), model, scaling)


class Denoiser(nn.Module):
    """D(x, sigma), the mean of clean data given noisy data; a :class:`~gen_eval.zoo.trained.GeneratorNet`.

    Inputs and targets of the network within have a variance of 1 at each level, and where there is next to no noise
    D leaves x as it is (Karras et al. 2022, table 1).
    """

    def __init__(self, kind: Kind, recipe: Denoising) -> None:
        super().__init__()
        self.recipe, self._kind = recipe, kind
        self._octaves = recipe.octaves if kind.images else 0
        self.net = noise_net(kind, recipe.width, recipe.layers, extra=2 * self._octaves)
        self.latent_dim = math.prod(kind.shape)
        chained = recipe.drawn_by == LANGEVIN
        self.noise_dim = recipe.levels * recipe.level_steps * self.latent_dim if chained else 0
        self.data_sd = recipe.data_sd if kind.images else 1.0

    def target_sd(self, sigma: Tensor) -> Tensor:
        """By how much a level's clean data is off what :meth:`denoised` keeps of the noisy: its c_out."""
        return sigma * self.data_sd / (sigma.square() + self.data_sd**2).sqrt()

    def denoised(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``[b, *shape]`` with noise of a level, one or ``[b]``, to ``[b, *shape]``."""
        level, variance, found = self._parts(x, sigma)
        return self.data_sd**2 / variance * x + self.target_sd(level) * found

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The gradient of the log-density of data with noise of a level, ``[b, *shape]`` to the same.

        That is Tweedie's (D - x) / sigma², put so that no two numbers are subtracted which are nearly the same.
        """
        level, variance, found = self._parts(x, sigma)
        return self.data_sd / (level * variance.sqrt()) * found - x / variance

    def _parts(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The level and the variance of what is noisy, ``[b, 1, ...]``, and what the network finds."""
        of_each = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        level = of_each.view(-1, *[1] * (x.ndim - 1))
        variance = level.square() + self.data_sd**2
        seen = torch.cat([x / variance.sqrt(), *sines(x, level, self._octaves)], 1)
        return level, variance, self.net(seen, of_each.log() / 4)

    @property
    def evaluations(self) -> int:
        """How often the network runs for a sample."""
        recipe = self.recipe
        if recipe.drawn_by == HEUN:
            return 2 * recipe.levels - 1
        return recipe.levels * recipe.level_steps + int(recipe.last_denoised)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Latents ``[b, d]``, and the noise of all steps of a chain, to samples scaled as batches are."""
        recipe = self.recipe
        x = recipe.largest * z.view(-1, *self._kind.shape)
        if recipe.drawn_by == HEUN:
            sigmas = karras_sigmas(recipe.levels, recipe.largest, recipe.smallest)
            x = heun(self.denoised, x, sigmas=sigmas)
        else:
            x = self._chained(x, noise)
        return to_batch((x + 1) / 2) if self._kind.images else x

    def _chained(self, x: Tensor, noise: Tensor | None) -> Tensor:
        recipe = self.recipe
        drawn = x.new_zeros(len(x), self.noise_dim) if noise is None else noise
        of_step = drawn.view(len(x), -1, *self._kind.shape)
        x = annealed_langevin(
            self.score,
            x,
            sigmas=geometric_sigmas(recipe.levels, recipe.largest, recipe.smallest),
            step_size=recipe.step_size * recipe.smallest**2,
            steps=recipe.level_steps,
            noise=lambda step: of_step[:, step],
        )
        return self.denoised(x, recipe.smallest) if recipe.last_denoised else x


def sines(x: Tensor, level: Tensor, octaves: int) -> list[Tensor]:
    """Sines and cosines of noisy pixels, each of the shape of x, by which a network tells where within a level x is.

    The finest has a period of one level of 256, 2 / 256 of pixels in [-1, 1]; the others are octaves below (Kingma et
    al. 2021, arXiv:2107.00630). Each is times exp(-(frequency sigma)² / 2), the share of its mean that the
    noise leaves, so that networks see no sines of noise.

    Args:
        x: pixels in [-1, 1] with noise.
        level: standard deviation of the noise, of each.
        octaves: how many.
    """
    found = []
    for octave in range(octaves):
        frequency = 2 * math.pi * LEVELS / 2 / 2**octave
        left = torch.exp(-((frequency * level) ** 2) / 2)
        found += [left * (frequency * x).sin(), left * (frequency * x).cos()]
    return found


def geometric_sigmas(count: int, largest: float, smallest: float) -> list[float]:
    """Levels of noise that fall by one factor; Song and Ermon 2019, arXiv:1907.05600, section 4.1."""
    return [
        float(each)
        for each in torch.linspace(math.log(largest), math.log(smallest), count, dtype=torch.float64).exp()
    ]


def ode_log_prob(
    denoised: NoisyScore,
    x: Tensor,
    probe: Tensor | None,
    *,
    largest: float,
    smallest: float,
    data_sd: float,
    solver: Solver,
) -> Tensor:
    """The log-density, at the smallest level, of what the probability-flow ODE makes of noise of the largest.

    In t, the logarithm of sigma, the ODE is dx/dt = x - D(x, sigma), and on its way up the log-density falls by the
    divergence of that (Song et al. 2021, arXiv:2011.13456, equation 39). It is solved for u = x / r with
    r² = sigma² + data_sd², which stays as it is if the data is normal of that sd: du/dt = (data_sd² / r² x - D) / r.

    Args:
        denoised: D, each row a function of its own row.
        x: ``[b, ...]`` float64.
        probe: of Hutchinson's estimate of the divergence, ``[b, ...]``; ``None`` to work it out, at the cost of a
            backward pass for each component of x.
        largest: level at which x is taken for noise, N(0, largest²).
        smallest: level whose density is told.
        data_sd: of clean data, about.
        solver: of the ODE, from the one logarithm to the other.

    Returns:
        ``[b]`` float64, in nats.
    """

    def velocity(log_sigma: Tensor, u: Tensor) -> Tensor:
        sigma = float(log_sigma.exp())
        r = math.hypot(sigma, data_sd)
        return data_sd**2 / r**2 * u - denoised((r * u).view_as(x), sigma).flatten(1) / r

    def field(log_sigma: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if probe is None:
            return exact_trace(velocity, log_sigma, state[0])
        return hutchinson(velocity, log_sigma, state[0], probe.flatten(1))

    begin, end = math.hypot(smallest, data_sd), math.hypot(largest, data_sd)
    start = x.flatten(1) / begin
    with torch.no_grad(), full_precision(x.device.type):
        solved = solve(field, (start, start.new_zeros(len(x))), math.log(smallest), math.log(largest), solver)
    last, change = solved.state
    sd, dims = largest / end, start.shape[1]
    as_noise = -((last / sd).square().sum(1) + dims * math.log(2 * math.pi * sd**2)) / 2
    return as_noise + change - dims * math.log(begin)


class _Task:
    """The denoiser, moved to clean data at levels drawn at random; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (DENOISER,)

    def __init__(self, recipe: Denoising, kind: Kind) -> None:
        self._kind, self._recipe = kind, recipe
        self._model = Denoiser(kind, recipe)
        self.modules = nn.ModuleDict({DENOISER: self._model})
        self.players: Sequence[Player] = (
            Player(DENOISER, self._loss, (DENOISER,), recipe.rate, (0.9, 0.999)),
        )

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        clean = observed(batch.x, self._kind, source)
        if self._kind.images:
            clean = 2 * clean - 1
        drawn = self._recipe.log_mean + self._recipe.log_sd * standard_normal(clean.flatten(1)[:, 0], source)
        sigma = drawn.exp().view(-1, *[1] * (clean.ndim - 1))
        noisy = clean + sigma * standard_normal(clean, source)
        off = (self._model.denoised(noisy, sigma.flatten()) - clean) / self._model.target_sd(sigma)
        return off.square().mean(), {}


class NoisyScores(Trained):
    """Samples of a denoiser, and the scores that it knows.

    Args:
        name: what to call it.
        kind: what samples are.
        model: in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
    """

    def __init__(self, name: str, kind: Kind, model: Denoiser, scaling: Mapping[str, Tensor]) -> None:
        super().__init__(name, kind, model, scaling)
        self._model = model

    @property
    def evaluations(self) -> int:
        """How often the network runs for a sample."""
        return self._model.evaluations

    def score(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """The gradient of the log-density of data with noise.

        Args:
            x: noisy pixels, of images in [0, 1], ``[b, channels, height, width]``; or vectors ``[b, d]``.
            sigma: standard deviation of the noise, over half the range of pixels or over that of each component of the
                data; by default the smallest that samples come down to.

        Returns:
            as x, in units of x.

        Raises:
            UsageError: if x is of another shape or not finite, or sigma is not above 0.
        """
        require_rows(x, self, "a score")
        if sigma is not None and not 0 < sigma < math.inf:
            raise UsageError(f"a level of noise is above 0 and finite, found {sigma:g}")
        if not len(x):
            return torch.zeros_like(x)
        sd = 0.5 if self.kind.images else self._scaling["sd"].to(self._device)
        mean = 0.5 if self.kind.images else self._scaling["mean"].to(self._device)
        with torch.no_grad(), full_precision(self._device.type):
            scaled = ((x.to(self._device) - mean) / sd).float()
            found = self._model.score(scaled, self._model.recipe.smallest if sigma is None else sigma)
        return (found / sd).to(x)


class FlowOfNoise(NoisyScores, TrainedDensity):
    """Samples of a denoiser by the probability-flow ODE, and their density.

    The density is that of the ODE as it stands at the smallest level of noise, from where one step of denoising is
    left to a sample: of data with so much noise. Vectors have the trace of the ODE worked out; of images it is
    estimated with signs drawn by a hash of x itself, so ``log_prob`` is unbiased.

    Attributes:
        solver: of the ODE of densities; it may be set.
        density_evaluations: how often the network ran for the last batch of densities.
    """

    def __init__(self, name: str, kind: Kind, model: Denoiser, scaling: Mapping[str, Tensor]) -> None:
        super().__init__(name, kind, model, scaling)
        self.bound = "unbiased" if kind.images else "exact"
        self.solver = Solver.of(model.recipe.density)
        self.density_evaluations = 0

    def log_prob(self, x: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.observations.TrainedDensity`."""
        observations, log_volume = self._observations(x)
        if not len(x):
            return numbers_of_none(x)
        state, probe, recipe = observations.double(), None, self._model.recipe
        if self.kind.images:
            dims = self._model.latent_dim
            probe = to_probe(normal_of_content(x, dims), "rademacher").to(state)
            state, log_volume = 2 * state - 1, -dims * math.log(2)
        self.density_evaluations = 0
        found = ode_log_prob(
            self._denoised,
            state,
            probe,
            largest=recipe.largest,
            smallest=recipe.smallest,
            data_sd=self._model.data_sd,
            solver=self.solver,
        )
        return (found - log_volume).to(x.device)

    def _denoised(self, x: Tensor, sigma: float) -> Tensor:
        self.density_evaluations += 1
        return self._model.denoised(x.float(), sigma).double()
