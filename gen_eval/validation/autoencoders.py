"""Autoencoders trained on Gaussians, where the best likelihood and the posterior are known."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.validation.averages import follow
from gen_eval.validation.check import Check, Known, at_most, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.adversarial_variational import DISCRIMINATOR, AdversarialVariational, adversarial_elbo
from gen_eval.zoo.data import TrainingData
from gen_eval.zoo.likelihoods import FLOOR
from gen_eval.zoo.task import Batch, Kind, Model, Task
from gen_eval.zoo.training import train
from gen_eval.zoo.variational import DECODER, ENCODER, Variational

# --- A linear VAE is probabilistic PCA, whose best likelihood follows from the eigenvalues of the covariance.


def _linear() -> Sequence[float]:
    """What the ELBO on the training rows falls short of the best likelihood, in nats."""
    latent, dim = 2, 5
    rows = normals(4000, latent, 0) @ normals(latent, dim, 1) + 0.5 * normals(4000, dim, 2)
    data = TrainingData("linear", rows.float())
    recipe = Variational(latent=latent, layers=0, draws=1, batch=256, steps=2500)
    sampler: Any = train(Model("linear-vae", "", recipe, ""), data, device="cpu").sampler()
    bound = float(sampler.log_prob(data.x).mean())
    sd = rows.std(0, correction=0)
    eigenvalues = torch.linalg.eigvalsh((rows / sd).T.cov(correction=0)).flip(0)
    left = eigenvalues[latent:].mean()
    logs = eigenvalues[:latent].log().sum() + (dim - latent) * left.log()
    best = -(dim * math.log(2 * math.pi) + float(logs) + dim) / 2 - float(sd.log().sum())
    return [best - bound]


# --- Adversarial variational Bayes, with the decoder z -> 1.5 z and noise of standard deviation .8

_SLOPE, _NOISE = 1.5, 0.8
_X_SD = math.sqrt(_SLOPE**2 + _NOISE**2)
_ENTROPY = math.log(_X_SD * math.sqrt(2 * math.pi * math.e))


class _Posterior(nn.Module):
    """From x and noise to z as Bayes' rule has it."""

    def forward(self, given: Tensor) -> Tensor:
        """``[b, 1 + noise]`` to ``[b, 1]``."""
        return _SLOPE / _X_SD**2 * given[:, :1] + _NOISE / _X_SD * given[:, 1:2]


class _LogRatio(nn.Module):
    """From x and z to log q(z | x) - log p(z) of that posterior, times a factor and plus a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, given: Tensor) -> Tensor:
        """``[b, 2]`` to ``[b, 1]``."""
        x, z = given.chunk(2, 1)
        standard = (z - _SLOPE / _X_SD**2 * x) * (_X_SD / _NOISE)
        log_ratio = (z.square() - standard.square()) / 2 + math.log(_X_SD / _NOISE)
        return self.factor * log_ratio + self.bias


def _at_the_optimum() -> Sequence[float]:
    """Slopes of the discriminator's loss at the true log-ratio, and the greatest error of what stands for log p(x)."""
    task = _with_known_decoder(AdversarialVariational(latent=1, noise=1))
    encoder: Any = task.modules[ENCODER]
    discriminator: Any = task.modules[DISCRIMINATOR]
    ratio = _LogRatio()
    encoder.head, discriminator.head = _Posterior(), ratio
    x, draws = _X_SD * normals(20_000, 1, 0).float(), torch.Generator().manual_seed(0)
    judging, coding = task.players
    slopes = torch.autograd.grad(judging.loss(Batch(x, None), draws)[0], [ratio.factor, ratio.bias])
    law: Any = torch.distributions.Normal(0.0, _X_SD)
    with torch.no_grad():
        bounds = [-float(coding.loss(Batch(row[None], None), draws)[0]) for row in x[:20]]
    return [*map(float, slopes), float((torch.tensor(bounds) - law.log_prob(x[:20, 0])).abs().max())]


def _with_known_decoder(recipe: AdversarialVariational) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = recipe.task(Kind((1,)))
        decoder: Any = task.modules[DECODER]
        decoder.body = nn.Linear(1, 1, bias=False)
    nn.init.constant_(decoder.body.weight, _SLOPE)
    nn.init.constant_(decoder.likelihood.log_excess, math.log(_NOISE - FLOOR))
    return task


def _adversarial() -> Sequence[float]:
    """Of the posterior its greatest error of the mean and its mean standard deviation, and what stands for the ELBO."""
    recipe = AdversarialVariational(latent=1, width=64, noise=4, turns=2)
    task = _with_known_decoder(recipe)
    decoder: Any = task.modules[DECODER]
    average, draws = _played(task, steps=2000), torch.Generator().manual_seed(1)

    def posterior(x: Tensor) -> Tensor:
        z: Tensor = average[ENCODER](x, torch.randn(len(x), recipe.noise, generator=draws))
        return z

    with torch.no_grad():
        places = torch.linspace(-2 * _X_SD, 2 * _X_SD, 9)
        z = posterior(places.repeat_interleave(4000)[:, None]).view(9, 4000)
        x = _X_SD * torch.randn(20_000, 1, generator=draws)
        drawn = posterior(x)
        bound = adversarial_elbo(decoder.log_prob(x, drawn), average[DISCRIMINATOR](x, drawn)[:, 0])
    off = (z.mean(1) - _SLOPE / _X_SD**2 * places).abs().max()
    return float(off), float(z.std(1).mean()), float(bound.mean())


def _played(task: Task, steps: int) -> nn.ModuleDict:
    """Train the encoder and the discriminator of a task, on rows drawn anew; their running averages."""
    average = copy.deepcopy(task.modules)
    draws = torch.Generator().manual_seed(0)
    adams = [
        torch.optim.Adam(task.modules[name].parameters(), player.rate, player.betas)
        for player, name in zip(task.players, (DISCRIMINATOR, ENCODER), strict=True)
    ]
    for step in range(steps):
        for player, adam in zip(task.players, adams, strict=True):
            for _ in range(player.turns):
                x = _X_SD * torch.randn(256, 1, generator=draws)
                adam.zero_grad()
                player.loss(Batch(x, None), draws)[0].backward()  # type: ignore[no-untyped-call]
                adam.step()
        follow(average, task.modules, step)
    return average


AUTOENCODERS = (
    Check(
        "linear-vae",
        "A linear VAE learns probabilistic PCA: on its training rows the ELBO ends at the best likelihood there is.",
        ("vae",),
        "standard",
        (Known(0.0, 0.002, 0.03, "short of it, nats"),),
        _linear,
        "Lucas et al. 2019, arXiv:1911.02469; Tipping and Bishop 1999, JRSS B 61:611",
    ),
    Check(
        "avb-at-the-optimum",
        "Where T is log q(z | x) - log p(z) no change of it lowers the discriminator's loss, and at the true posterior "
        "what stands for the ELBO is log p(x) whatever z is drawn.",
        ("avb",),
        "quick",
        (
            near(0.0, 0.02, "slope by a factor"),
            near(0.0, 0.02, "slope by a bias"),
            near(0.0, 1e-4, "less log p(x), nats"),
        ),
        _at_the_optimum,
        "Mescheder et al. 2017, arXiv:1701.04722, proposition 1",
    ),
    Check(
        "avb-of-a-linear-gaussian",
        "With a fixed decoder z -> 1.5 z and noise of .8, the implicit posterior is the one that Bayes' rule gives.",
        ("avb",),
        "standard",
        (
            at_most(0.1, "error of the mean"),
            near(_NOISE / _X_SD, 0.035, "standard deviation"),
            near(-_ENTROPY, 0.02, "ELBO in nats"),
        ),
        _adversarial,
        "Mescheder et al. 2017, arXiv:1701.04722",
    ),
)
