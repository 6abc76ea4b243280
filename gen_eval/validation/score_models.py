"""Scores: the objectives that teach them against quadrature, and models that learnt them against the true ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from gen_eval.validation.check import Check, Known, at_least, at_most, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.data import open_data
from gen_eval.zoo.denoising import DENOISER, LANGEVIN, Denoising, FlowOfNoise, ode_log_prob
from gen_eval.zoo.ode import Solver
from gen_eval.zoo.score_matching import (
    denoising,
    exact,
    relative_fisher_divergence,
    sliced,
    sliced_vr,
    tweedie,
)
from gen_eval.zoo.scores import LearntScore, ScoreMatching, ScoreNet
from gen_eval.zoo.task import Kind, Model, Recipe
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

_WORLD = Mixture([(-2.0, 0.0), (2.0, -0.5), (0.5, 2.0)], (0.8, 0.6, 0.7), (0.3, 0.4, 0.3))
_RING = Mixture.ring()


def _fresh(recipe: Recipe, kind: Kind) -> nn.ModuleDict:
    """Networks whose weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return recipe.task(kind).modules.double().eval()


def _score_of(dim: int) -> ScoreNet:
    """A score of no distribution in particular."""
    model: Any = _fresh(ScoreMatching(width=8), Kind((dim,)))["score"]
    return model  # type: ignore[no-any-return]


# --- Objectives


def _hyvarinen() -> float:
    """How far the objective and a constant are from the Fisher divergence, both by quadrature on a grid."""
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    mass = _WORLD.log_prob(x).exp() * float(axis[1] - axis[0]) ** 2
    score, true = _score_of(2).score, _WORLD.score(x)
    with torch.no_grad():
        objective = (mass * exact(score, x)).sum() + (mass * true.square().sum(1)).sum() / 2
        divergence = (mass * (score(x) - true).square().sum(1)).sum() / 2
    return float(objective - divergence)


def _directions() -> Sequence[float]:
    """Over all signs: errors of both means and of the one variance, and the other variance over it."""
    x, score, dim = normals(40, 3, 0), _score_of(3).score, 3
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dim)), dtype=torch.float64)
    with torch.no_grad():
        of_sign = [
            torch.stack([objective(score, x, sign.expand_as(x)) for sign in signs])
            for objective in (sliced, sliced_vr)
        ]
        whole = exact(score, x)
    of_rows: Any = torch.func.vmap(torch.func.jacrev(lambda row: score(row[None])[0]))
    jacobian = of_rows(x).detach()
    even = (jacobian + jacobian.transpose(1, 2)) / 2
    off_diagonal = even - torch.diag_embed(even.diagonal(dim1=1, dim2=2))
    plain, reduced = (each.var(0, correction=0) for each in of_sign)
    return (
        *(float((each.mean(0) - whole).abs().max()) for each in of_sign),
        float((reduced - 2 * off_diagonal.square().sum((1, 2))).abs().max()),
        float(reduced.mean() / plain.mean()),
    )


def _tweedie() -> float:
    """The greatest error of a score by the mean of clean data, of 20 points with noise."""
    data, sigma = normals(20, 4, 0), 0.7
    y = data.repeat(5, 1) + sigma * normals(100, 4, 1)
    log_weights = -(y[:, None] - data).square().sum(2) / (2 * sigma**2)
    y.requires_grad_()
    again = -(y[:, None] - data).square().sum(2) / (2 * sigma**2)
    (true,) = torch.autograd.grad(again.logsumexp(1).sum(), y)
    found = tweedie(log_weights.softmax(1) @ data, y.detach(), sigma)
    return float((found - true).abs().max())


def _denoising_slope() -> float:
    """By how much two gradients differ, of denoising and of the divergence from the noised score; over the greatest."""
    atoms, sigma = torch.tensor([[-1.5], [-0.2], [0.4], [1.7]], dtype=torch.float64), 0.5
    axis = torch.linspace(-9, 9, 601, dtype=torch.float64)[:, None]
    step = float(axis[1] - axis[0])
    weight = torch.exp(-(axis[:, 0] ** 2) / 2) * step / math.sqrt(2 * math.pi)
    noised, model = Mixture(atoms, sigma), _score_of(1)
    learnt = sum((weight * denoising(model.score, atom.expand_as(axis), axis, sigma)).sum() for atom in atoms)
    apart = (model.score(axis) - noised.score(axis)).square().sum(1) / 2
    divergence = (noised.log_prob(axis).exp() * apart).sum() * step
    slopes = [
        nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(model.parameters())))
        for loss in (torch.as_tensor(learnt) / len(atoms), divergence)
    ]
    return float((slopes[0] - slopes[1]).abs().max() / slopes[1].abs().max())


# --- The denoiser


class _Watched(nn.Module):
    """Gives numbers of its own, and keeps what it is given."""

    def __init__(self, gives: Tensor) -> None:
        super().__init__()
        self.gives, self.given = gives, gives

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.given = x
        return self.gives


def _preconditioning() -> Sequence[float]:
    """Greatest errors over levels of the mean squares of inputs and targets, and of D where there is no noise."""
    off = []
    for kind in (Kind((1,)), Kind((1, 8, 8))):
        model: Any = _fresh(Denoising(), kind)[DENOISER]
        numbers = math.prod(kind.shape)
        # Columns of mean square 1 at right angles, so that the sums are exact.
        columns = torch.linalg.qr(normals(10 * numbers * 8, 2, 0))[0] * math.sqrt(80 * numbers)
        clean, noise = (column.view(-1, *kind.shape) for column in columns.T)
        clean = model.data_sd * clean
        model.net = _Watched(torch.zeros_like(clean))
        for sigma in (1e-3, 0.1, 1.0, 80.0):
            kept = model.denoised(clean + sigma * noise, sigma)
            target = (clean - kept) / model.target_sd(torch.tensor(sigma, dtype=torch.float64))
            off.append([float(each.square().mean() - 1) for each in (model.net.given, target)])
        model.net = _Watched(noise)
        off[-1].append(float((model.denoised(clean, 1e-7) - clean).abs().max()))
    return [max(abs(each[at]) for each in off if len(each) > at) for at in range(3)]


# --- The likelihood of the ODE

_LARGEST, _SMALLEST = 80.0, 0.002


def _correlated() -> float:
    """The greatest error of a correlated Gaussian, whose denoiser is linear: the flow's density is Gaussian too."""
    turn: Tensor = torch.linalg.qr(normals(3, 3, 0))[0]
    variances, mean = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64), normals(1, 3, 1)[0]
    x = mean + normals(50, 3, 2) * variances.sqrt() @ turn

    def denoised(x: Tensor, sigma: float) -> Tensor:
        kept = torch.diag(variances / (variances + sigma**2))
        return mean + (x - mean) @ (turn.T @ kept @ turn)

    levels = {"largest": _LARGEST, "smallest": _SMALLEST}
    found = ode_log_prob(denoised, x, None, **levels, data_sd=1.0, solver=Solver.of("rk4:64"))
    shrunk = _shrunk(variances)
    start = mean - mean @ turn.T * shrunk @ turn
    law: Any = MultivariateNormal(start, turn.T @ torch.diag((_LARGEST * shrunk) ** 2) @ turn)
    return float((found - law.log_prob(x)).abs().max())


def _shrunk(variance: Tensor) -> Tensor:
    """By how much the ODE of a Gaussian shrinks what is off its mean, from the largest level to the smallest."""
    return ((variance + _SMALLEST**2) / (variance + _LARGEST**2)).sqrt()


def _of_fresh(kind: Kind) -> float:
    """The greatest error of a network that says nothing yet, which denoises a Gaussian, of x as it is given."""
    recipe = Denoising(largest=_LARGEST, smallest=_SMALLEST)
    data_sd = torch.tensor(recipe.data_sd if kind.images else 1.0, dtype=torch.float64)
    scaling = {} if kind.images else {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
    # Pixels in [0, 1] are half of those in [-1, 1], about the middle.
    mean, unit = (scaling[key].double() for key in ("mean", "sd")) if scaling else (0.5, 0.5)
    sampler = recipe.sampler("fresh", kind, _fresh(recipe, kind).float(), scaling)
    assert isinstance(sampler, FlowOfNoise)
    x = torch.special.ndtr(normals(20, math.prod(kind.shape), 0)).float().view(-1, *kind.shape)
    law: Any = Normal(mean, unit * _LARGEST * _shrunk(data_sd**2))
    true = law.log_prob(x.double()).flatten(1).sum(1)
    return float((sampler.log_prob(x) - true).abs().max())


# --- Trained models

_TRAINED: dict[str, tuple[ScoreMatching, float]] = {
    "exact": (ScoreMatching(steps=1500), 0.025),
    "sliced": (ScoreMatching("sliced", steps=1500), 0.05),
    "sliced, reduced": (ScoreMatching("sliced-vr", steps=1500), 0.03),
    "denoising, .1": (ScoreMatching("denoising", 0.1, steps=1500), 0.12),
    "denoising, .3": (ScoreMatching("denoising", 0.3, steps=1500), 0.03),
}


def _learnt_scores() -> Sequence[float]:
    """The relative Fisher divergence from the score of what each learns from."""
    data, found = open_data(_WORLD, n=50_000), []
    for name, (recipe, _) in _TRAINED.items():
        sampler = train(Model(name, "", recipe, ""), data, device="cpu").sampler()
        assert isinstance(sampler, LearntScore)
        noise = torch.diag((recipe.sigma * data.scaling["sd"].double()) ** 2)
        world = Mixture(_WORLD.means, _WORLD.covariances + noise, _WORLD.weights)
        x = world.sample(20_000, seed=10**6).double()
        found.append(relative_fisher_divergence(sampler.score(x), world.score(x)))
    return found


_ON_RING = Denoising(batch=256, steps=1500)
_CHAIN = replace(_ON_RING, drawn_by=LANGEVIN, levels=10, largest=2.0, smallest=0.05, step_size=1.0)


def _ring() -> Sequence[float]:
    """Modes covered and share of high quality by both samplers, the divergence of the ODE's density, and its mass."""
    checkpoint = train(Model("edm", "", _ON_RING, ""), open_data(_RING, n=20_000), device="cpu")
    found = []
    for recipe in (_ON_RING, _CHAIN):  # one network for both
        modes = _RING.modes_covered(replace(checkpoint, recipe=recipe).sampler().sample(4000, seed=0))
        found += [float(modes.covered), modes.high_quality]
    density: Any = checkpoint.sampler()
    x, axis = _RING.sample(1000, seed=10**6), torch.linspace(-3, 3, 101)
    mass = density.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * float(axis[1] - axis[0]) ** 2
    return [*found, float((_RING.log_prob(x) - density.log_prob(x)).mean()), float(mass)]


SCORE_MODELS = (
    Check(
        "hyvarinen-identity",
        "Whatever a model is, its score matching objective is the Fisher divergence less a constant of the data.",
        ("score-matching",),
        "quick",
        (near(0.0, 1e-6, "objective and constant less divergence"),),
        _hyvarinen,
        "Hyvarinen 2005, JMLR 6:695, theorem 1",
    ),
    Check(
        "sliced-score-matching",
        "Over random directions both sliced objectives are the exact one; the reduced one varies as Hutchinson's "
        "estimate of the trace does, and less than the other.",
        ("sliced-score-matching",),
        "quick",
        (
            near(0.0, 1e-10, "mean, sliced"),
            near(0.0, 1e-10, "mean, reduced"),
            near(0.0, 1e-10, "variance, reduced"),
            at_most(0.9, "variance, reduced over sliced"),
        ),
        _directions,
        "Song et al. 2019, arXiv:1905.07088, section 3",
    ),
    Check(
        "tweedie",
        "The score of data with noise is that of the mean of clean data: towards it, over the variance of the noise.",
        ("denoising-score-matching", "ncsn", "edm"),
        "quick",
        (near(0.0, 1e-10, "score"),),
        _tweedie,
        "Efron 2011, JASA 106:1602, equation 2.8",
    ),
    Check(
        "denoising-score-matching",
        "Denoising has the gradient of the Fisher divergence from the score of data with noise.",
        ("denoising-score-matching",),
        "quick",
        (near(0.0, 1e-9, "gradient, relative"),),
        _denoising_slope,
        "Vincent 2011, Neural Computation 23:1661, section 4.3",
    ),
    Check(
        "preconditioned-denoiser",
        "At all levels of noise a network's inputs and targets have a variance of 1; without noise D changes nothing.",
        ("ncsn", "edm"),
        "quick",
        (near(0.0, 1e-9, "inputs"), near(0.0, 1e-9, "targets"), near(0.0, 1e-6, "no noise")),
        _preconditioning,
        "Karras et al. 2022, arXiv:2206.00364, table 1 and B.6",
    ),
    Check(
        "likelihood-of-a-probability-flow",
        "With the denoiser of a Gaussian the ODE's density is a Gaussian, of vectors and images as they are given.",
        ("edm",),
        "quick",
        tuple(near(0.0, 1e-4, f"{what}, nats") for what in ("correlated", "vectors", "images")),
        lambda: (_correlated(), _of_fresh(Kind((2,))), _of_fresh(Kind((1, 8, 8)))),
        "Song et al. 2021, arXiv:2011.13456, equation 39",
    ),
    Check(
        "learnt-scores",
        "Scores learnt by each objective are near the true one, of the data or of the data with noise: the relative "
        "Fisher divergence.",
        ("score-matching", "sliced-score-matching", "denoising-score-matching"),
        "standard",
        tuple(at_most(most, name) for name, (_, most) in _TRAINED.items()),
        _learnt_scores,
        "measured",
    ),
    Check(
        "denoisers-on-a-ring",
        "A denoiser finds all eight modes by either sampler, and its density is near the true one and has a mass of 1.",
        ("ncsn", "edm", "ring8"),
        "standard",
        (
            near(8.0, 0.0, "modes, Heun"),
            at_least(0.85, "high quality, Heun"),
            near(8.0, 0.0, "modes, Langevin"),
            at_least(0.85, "high quality, Langevin"),
            Known(0.0, 0.0, 0.15, "KL, nats"),
            near(1.0, 1e-3, "mass"),
        ),
        _ring,
        "measured",
    ),
)
