"""GANs of the zoo on worlds of which the answer is known: what critics measure, and what generators reach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.data import open_data
from gen_eval.zoo.run import Run
from gen_eval.zoo.task import Batch, Kind, Model
from gen_eval.zoo.worlds import Mixture

PLANE = Kind((2,))
SHIFT = 3.0
EXCESS = 1.0288  # of Gaussians over the bias of the formula, as tests/laws/test_learned_bounds.py works out


class Standard(nn.Module):
    """A generator that makes its latents, and learns nothing."""

    latent_dim, noise_dim = 2, 0

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        return z


def estimate(recipe: Adversarial, steps: int) -> float:
    """What the critic of a recipe makes of N(0, I) and the same moved by SHIFT, on rows that are new to it."""
    draws = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = recipe.task(PLANE)
    task.modules["generator"] = Standard()
    critic = task.players[0]
    adam = torch.optim.Adam(task.modules["discriminator"].parameters(), critic.rate, critic.betas)

    def moved(n: int) -> Batch:
        return Batch(torch.randn(n, 2, generator=draws) + torch.tensor([SHIFT, 0.0]), None)

    for _ in range(steps):
        adam.zero_grad()
        critic.loss(moved(recipe.batch), draws)[0].backward()
        adam.step()
        if critic.project is not None:
            critic.project()
    with torch.no_grad():
        return critic.loss(moved(20_000), draws)[1]["w1"]


CRITIC = Adversarial(net="mlp", width=32, layers=2, objective="wasserstein", rate_discriminator=2e-3, betas=(0.5, 0.99), batch=256)
