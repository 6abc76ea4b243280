"""Energy-based models: integrals, ratios and gradients against closed forms, and what contrastive divergence learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from gen_eval.validation.check import Check, Known, at_least, at_most, near
from gen_eval.validation.closed_forms import normals
from gen_eval.validation.langevin import stationary
from gen_eval.zoo.data import TrainingData, open_data
from gen_eval.zoo.energies import ENERGY, Energy, LearntEnergy, contrast
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.nets.energies import energy_net
from gen_eval.zoo.partition import Normalised, log_partition
from gen_eval.zoo.task import Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

_KIND = Kind((2,))
_SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}


def _box(scale: float) -> tuple[list[float], list[float]]:
    """So many standard deviations to either side of the mean."""
    mean, sd = _SCALING["mean"], _SCALING["sd"]
    return (mean - scale * sd).tolist(), (mean + scale * sd).tolist()


def _fresh(recipe: Energy) -> LearntEnergy:
    """A model whose weights are the same each time, of no data in particular."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        modules: Any = recipe.task(_KIND).modules.eval()
    if recipe.layers:
        with torch.no_grad():  # a slope that differs from that of the Gaussian beside it
            modules[ENERGY].net.last.weight.mul_(30)
    sampler = recipe.sampler("fresh", _KIND, modules, _SCALING)
    assert isinstance(sampler, LearntEnergy)
    return sampler


# --- The integral


def _integrals() -> Sequence[float]:
    """Errors of a Gaussian's log Z; of a coarse grid, over what it tells; and of the rim of a box that cuts, over 1."""
    precision = torch.tensor([[2.0, 0.7], [0.7, 0.5]], dtype=torch.float64)

    def energy(x: Tensor) -> Tensor:
        return -torch.einsum("ni,ij,nj->n", x, precision, x) / 2

    exact = math.log(2 * math.pi) - float(precision.logdet()) / 2
    fine = log_partition(energy, (-20, -20), (20, 20), steps=400)
    coarse = log_partition(energy, (-20, -20), (20, 20), steps=32)
    cut = log_partition(energy, (-20, -1), (20, 1), steps=400)
    return abs(fine.log_z - exact), abs(coarse.log_z - exact) / coarse.error, cut.rim


# --- What is known without Z, and what with it


def _ratios() -> Sequence[float]:
    """Greatest errors of log-ratios and slopes by the normalised density, its mass, and that of a fresh Gaussian."""
    model = _fresh(Energy(width=16, sampling_steps=1))
    density = Normalised(model, *_box(8), steps=256)
    x, y = (_SCALING["mean"] + _SCALING["sd"] * normals(200, 2, seed) for seed in (0, 1))
    ratio = density.log_prob(x) - density.log_prob(y)
    step = 1e-2 * torch.diag(_SCALING["sd"]).double()
    slopes = [(density.log_prob(x + each) - density.log_prob(x - each)) / (2 * each.sum()) for each in step]
    apart = (torch.stack(slopes, 1) - density.score(x)) * _SCALING["sd"]
    again = log_partition(density.log_prob, *_box(10), steps=200)
    gaussian = Normalised(_fresh(Energy(layers=0, sampling_steps=1)), *_box(8))
    law: Any = MultivariateNormal(_SCALING["mean"].double(), torch.diag(_SCALING["sd"].double().square()))
    return (
        float((ratio - model.log_ratio(x, y)).abs().max()),
        float(apart.abs().max()),
        math.exp(again.log_z),
        float((gaussian.log_prob(x) - law.log_prob(x)).abs().max()),
    )


# --- The gradient of the likelihood


def _likelihood_slope() -> float:
    """By how much the gradient of the contrast is off that of -log p with log Z by quadrature, over the greatest."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        net: Any = energy_net(Kind((1,)), 8, 2, 1.0).double()
    with torch.no_grad():
        net.last.weight.mul_(10)
    data = normals(50, 1, 0) / 2 + 0.7
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    log_z = net(grid[:, None]).logsumexp(0) + math.log(float(grid[1] - grid[0]))
    share = (net(grid[:, None]) - log_z).detach().exp().cumsum(0)
    middles = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    samples = _inverse(share / share[-1], grid, middles)[:, None]
    slopes = [
        nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(net.parameters())))
        for loss in (contrast(net, data, samples), log_z - net(data).mean())
    ]
    return float((slopes[0] - slopes[1]).abs().max() / slopes[1].abs().max())


def _inverse(rising: Tensor, of: Tensor, at: Tensor) -> Tensor:
    """Where a sum over cells about the points of a grid reaches some values, along a line within each cell."""
    above = torch.searchsorted(rising, at).clamp(1, len(of) - 1)
    part = (at - rising[above - 1]) / (rising[above] - rising[above - 1])
    half = (of[1] - of[0]) / 2
    return of[above - 1] + part * (of[above] - of[above - 1]) + half


# --- A Gaussian learnt by chains that are off by the order of their steps

_ETA = 0.3
_CORRELATED = Mixture([[1.0, -2.0]], torch.tensor([[[1.0, 1.2], [1.2, 4.0]]]))
_ON_GAUSSIAN = Energy(layers=0, step_size=_ETA, chain_steps=3, chains=512, batch=256, rate=0.02, steps=200)
_SPREADS = (0.4, 1.6)  # variances along the axes of the correlation matrix, 1 -+ .6


def _learnt_precision(starts: str) -> tuple[float, float]:
    """Precisions along the axes of standardised data over what is known, less 1."""
    model = Model("", "", Energy(**{**vars(_ON_GAUSSIAN), "starts": starts}), "")
    data = _exactly_correlated()
    sampler: Any = train(model, data, device="cpu").sampler()
    mean, sd = (data.scaling[key].double() for key in ("mean", "sd"))
    slopes = sampler.score(mean + torch.diag(sd)) - sampler.score(mean[None])
    precision = -slopes * sd
    axes = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    found = torch.einsum("ai,ij,aj->a", axes, precision, axes)
    known = torch.tensor([_settling(each) for each in _SPREADS], dtype=torch.float64)
    return tuple((found / known - 1).tolist())


def _settling(variance: float) -> float:
    """The precision p of a Gaussian whose Langevin chains have such a variance: 1 / p(1 - eta p / 4)."""
    return 2 / _ETA * (1 - math.sqrt(1 - _ETA / variance))


def _exactly_correlated() -> TrainingData:
    """Rows whose mean and covariance are those of the world, and no estimates of them."""
    x = normals(20_000, 2, 0)
    white: Tensor = torch.linalg.qr(x - x.mean(0))[0] * math.sqrt(len(x))
    root = torch.linalg.cholesky(_CORRELATED.covariances[0])
    return open_data((_CORRELATED.means[0] + white @ root.T).float())


# --- Chains of a known energy


def _chains() -> Sequence[float]:
    """Variances of samples over those of the Gaussian, with noise and without."""
    settings: dict[str, Any] = {"layers": 0, "step_size": 1.0, "sampling_steps": 30}
    found = []
    for noise, n in ((True, 3000), (False, 100)):
        x = (_fresh(Energy(**settings, noise=noise)).sample(n, seed=0) - _SCALING["mean"]) / _SCALING["sd"]
        found.append(float(x.double().square().mean()))
    return found


# --- Trained models

_WORLD = Mixture([(-2.0, 0.0), (2.0, -0.5), (0.5, 2.0)], (0.8, 0.6, 0.7), (0.2, 0.5, 0.3))
_ON_PLANE: dict[str, Any] = {"width": 64, "step_size": 0.03, "batch": 256, "chains": 2048, "rate": 1e-3}
_GAMES: dict[str, Energy] = {
    "persistent": Energy(**_ON_PLANE, fresh=0.01, steps=1500),
    "from data": Energy(**_ON_PLANE, starts="data", steps=1500),
}


def _plane() -> Sequence[float]:
    """KL, mass, and the greatest errors of the modes' weights in the density and in samples, of each game."""
    data, found = open_data(_WORLD, n=50_000), []
    x = _WORLD.sample(20_000, seed=10**6)
    for name, recipe in _GAMES.items():
        model: Any = train(Model(name, "", recipe, ""), data, device="cpu").sampler()
        density = Normalised(model, (-8.0, -8.0), (8.0, 8.0))
        axis = torch.linspace(-8, 8, 201, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        mass = density.log_prob(grid).exp() * float(axis[1] - axis[0]) ** 2
        samples = density.sample(2000, seed=0)
        found += [
            float((_WORLD.log_prob(x) - density.log_prob(x)).mean()),
            float(mass.sum()),
            _off_weights(grid, mass),
            _off_weights(samples, torch.full((len(samples),), 1 / len(samples)).double()),
        ]
    return found


def _off_weights(x: Tensor, mass: Tensor) -> float:
    """How far the shares of the Gaussians, by Bayes' rule, are from their weights."""
    return float((mass @ _WORLD.classify(x) - _WORLD.weights).abs().max())


_PLANE_KNOWN = tuple(
    known
    for name in _GAMES
    for known in (
        Known(0.0, 0.001, 0.05, f"KL, {name}"),
        near(1.0, 1e-3, f"mass, {name}"),
        near(0.0, 0.05, f"weights of the density, {name}"),
        near(0.0, 0.05, f"weights of samples, {name}"),
    )
)


# --- A ring of narrow modes, by the rows that are listed

_RING = Mixture.ring()
_ROWS = ("ebm", "ebm-cd")


def _ring() -> Sequence[float]:
    """Modes covered and share of high quality of each row's samples."""
    found = []
    for name in _ROWS:
        sampler = train(MODELS[name], open_data(_RING, n=20_000), device="cpu").sampler()
        modes = _RING.modes_covered(sampler.sample(2000, seed=0))
        found += [float(modes.covered), modes.high_quality]
    return found


ENERGIES = (
    Check(
        "partition-function-by-quadrature",
        "The integral of a Gaussian energy is the one in closed form; a coarse grid tells how far off it is, and a box "
        "that cuts the density how much lies in its rim.",
        ("ebm",),
        "quick",
        (
            near(0.0, 1e-9, "log Z"),
            at_most(1.0, "error over what is told"),
            at_least(1e-3, "rim of a box that cuts"),
        ),
        _integrals,
        "(2 pi)^(d/2) over the root of the determinant",
    ),
    Check(
        "ratios-without-partition-function",
        "Log-ratios and scores of an energy-based model are those of its normalised density, which has a mass of 1.",
        ("ebm", "ebm-cd"),
        "quick",
        (
            near(0.0, 1e-5, "log-ratio, nats"),
            near(0.0, 1e-2, "score by differences"),
            near(1.0, 1e-6, "mass"),
            near(0.0, 1e-5, "a Gaussian, nats"),
        ),
        _ratios,
        "p(x) / p(y) = exp(f(x) - f(y))",
    ),
    Check(
        "gradient-of-the-likelihood-of-an-energy",
        "Data less samples of the model is the gradient of the log-likelihood, log Z by quadrature included.",
        ("ebm", "ebm-cd"),
        "quick",
        (near(0.0, 1e-3, "gradient, relative"),),
        _likelihood_slope,
        "Hinton 2002, Neural Computation 14:1771, equation 3",
    ),
    Check(
        "contrastive-divergence-of-a-gaussian",
        "A quadratic energy comes to rest where its chains have the covariance of the data, by either start: at the "
        "precision p with p (1 - eta p / 4) = 1 / s².",
        ("ebm", "ebm-cd"),
        "quick",
        tuple(
            near(0.0, 0.05, f"s² = {spread}, {start}")
            for start in ("persistent", "from data")
            for spread in _SPREADS
        ),
        lambda: (*_learnt_precision("persistent"), *_learnt_precision("data")),
        "maximum likelihood, and the variance as in variance-of-langevin-dynamics",
    ),
    Check(
        "langevin-dynamics-of-an-energy",
        "Samples of a Gaussian energy have the variance that its chains settle at; without noise all are at the mode.",
        ("ebm", "ebm-cd"),
        "quick",
        (
            near(stationary(1.0, 1.0), 0.07 * stationary(1.0, 1.0), "variance with noise"),
            near(0.0, 1e-12, "variance without noise"),
        ),
        _chains,
        "Roberts and Tweedie 1996, Bernoulli 2:341",
    ),
    Check(
        "energies-on-a-plane",
        "Where chains cross between modes, the normalised density is near the true one, and so are the modes' weights.",
        ("ebm", "ebm-cd"),
        "standard",
        _PLANE_KNOWN,
        _plane,
        "measured",
    ),
    Check(
        "energies-on-a-ring",
        "Chains find all eight narrow modes.",
        ("ebm", "ebm-cd", "ring8"),
        "standard",
        tuple(
            known
            for name in _ROWS
            for known in (near(8.0, 0.0, f"modes, {name}"), at_least(0.85, f"high quality, {name}"))
        ),
        _ring,
        "measured",
    ),
)
