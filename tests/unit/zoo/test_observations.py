"""Observations: noise between the levels of images, in all that models of densities learn from."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from gen_eval.zoo import observations
from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.denoising import Denoising
from gen_eval.zoo.energies import Energy
from gen_eval.zoo.flow_posteriors import FlowVariational
from gen_eval.zoo.observations import observed, to_observation
from gen_eval.zoo.task import Batch, Kind
from gen_eval.zoo.variational import Variational

IMAGES = Kind((1, 8, 8))
RECIPES = {
    "flow": CouplingFlow(width=8, flat=True),
    "denoiser": Denoising(width=8),
    "vae": Variational(latent=2, width=8),
    "vae with a flow": FlowVariational(latent=2, width=8, units=8),
    "avb": AdversarialVariational(latent=2, width=8),
    "energy": Energy(width=8, batch=32, chains=32, chain_steps=1),
}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def levels(n=32):
    return torch.randint(256, (n, *IMAGES.shape), generator=source(5)).float()


def uniform(noise):
    """Whether numbers are as if drawn from [0, 1)."""
    inside = bool(((noise >= 0) & (noise < 1)).all())
    return inside and stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 0.01


def independent(*noises):
    return stats.pearsonr(*(noise.flatten().numpy() for noise in noises)).pvalue > 0.01


def test_between_levels_is_uniform_noise_of_the_source():
    x = levels()
    first, again, other = (
        256 * observed(x.double() / 127.5 - 1, IMAGES, source(seed)) - x for seed in (0, 0, 1)
    )
    assert uniform(first)
    assert torch.equal(first, again)
    assert independent(first, other)


@pytest.mark.parametrize("name", RECIPES)
def test_each_player_learns_from_pixels_with_such_noise(name, monkeypatch):
    """It differs from pixel to pixel and from source to source, and losses are of the pixels that have it."""
    seen = []

    def spied(x, noise):
        seen.append((noise, to_observation(x, noise).requires_grad_()))
        return seen[-1][1]

    monkeypatch.setattr(observations, "to_observation", spied)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = RECIPES[name].task(IMAGES)
    for player in task.players:
        seen.clear()
        for seed in (0, 1):
            loss, _ = player.loss(Batch(levels() / 127.5 - 1, None), source(seed))
            (slope,) = torch.autograd.grad(loss, seen[-1][1])
            assert bool(slope.flatten(1).any(1).all())
        (first, _), (other, _) = seen
        assert uniform(first)
        assert uniform(other)
        assert independent(first, other)
