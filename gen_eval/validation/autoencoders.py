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


def _adversarial() -> Sequence[float]:
    """Of the posterior its greatest error of the mean and its mean standard deviation, and what stands for the ELBO."""
    recipe = AdversarialVariational(latent=1, width=64, noise=4, turns=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = recipe.task(Kind((1,)))
    decoder: Any = task.modules[DECODER]
    decoder.body = nn.Linear(1, 1, bias=False)
    nn.init.constant_(decoder.body.weight, _SLOPE)
    nn.init.constant_(decoder.likelihood.log_excess, math.log(_NOISE))
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
