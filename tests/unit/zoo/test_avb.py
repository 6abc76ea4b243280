"""Adversarial variational Bayes: the sign of T, who moves what, and what it does not claim."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.zoo.adversarial_variational import (
    AdversarialVariational,
    adversarial_elbo,
    discriminator_loss,
)
from gen_eval.zoo.task import Batch, Kind
from gen_eval.zoo.trained import Trained

KINDS = [Kind((1, 8, 8)), Kind((3,))]
SMALL = {"latent": 2, "width": 8, "noise": 3}


def source():
    return torch.Generator().manual_seed(0)


def built(kind, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return AdversarialVariational(**SMALL | settings).task(kind)


def batch(kind, n=16):
    return Batch(torch.rand(n, *kind.shape, generator=source()) * 2 - 1, None)


def test_the_best_discriminator_is_the_log_ratio_of_posterior_to_prior():
    """q = N(1, .5²) against N(0, 1): the loss is least at T = log q - log p, not at log p - log q."""
    z = torch.randn(2, 20_000, generator=source(), dtype=torch.float64)
    posterior, prior = 1 + 0.5 * z[0], z[1]

    def ratio(at, scale=1.0, shift=0.0):
        q, p = torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
        return scale * (q.log_prob(at) - p.log_prob(at)) + shift

    def loss(*change):
        return float(discriminator_loss(ratio(posterior, *change), ratio(prior, *change)))

    assert all(loss() < loss(*change) for change in [(1.3,), (0.7,), (1.0, 0.3), (1.0, -0.3), (-1.0,)])
    # Then the ELBO is that of the densities: E_q T is the KL.
    kl = (0.5**2 + 1 - 1) / 2 - math.log(0.5)
    bound = adversarial_elbo(torch.full_like(posterior, -2.0), ratio(posterior))
    assert float(bound.mean()) == pytest.approx(-2 - kl, abs=4 * float(bound.std()) / math.sqrt(20_000))


@pytest.mark.parametrize("kind", KINDS, ids=["images", "vectors"])
def test_each_player_moves_its_own(kind):
    task = built(kind)
    discriminator, autoencoder = task.players
    state = torch.get_rng_state()
    losses = [player.loss(batch(kind), source()) for player in task.players]
    assert torch.equal(torch.get_rng_state(), state)
    assert discriminator.modules == ("discriminator",)
    assert autoencoder.modules == ("encoder", "decoder")
    assert float(losses[0][0].detach()) == pytest.approx(2 * math.log(2), abs=0.3)
    assert losses[1][1] == {"estimated elbo": -float(losses[1][0].detach())}
    losses[0][0].backward()
    assert all(
        each.grad is None for name in ("encoder", "decoder") for each in task.modules[name].parameters()
    )
    losses[1][0].backward()
    assert all(
        each.grad is not None for name in autoencoder.modules for each in task.modules[name].parameters()
    )


def test_the_encoder_is_pushed_to_where_t_is_low():
    """Of a decoder that heeds no z only -T is left, and it falls: the posterior moves towards the prior."""
    kind = KINDS[1]
    task = built(kind)
    decoder, encoder, discriminator = (task.modules[name] for name in ("decoder", "encoder", "discriminator"))
    for each in decoder.body.parameters():
        each.data.zero_()
    encoder.head[-1].bias.data.fill_(3.0)
    adams = [torch.optim.Adam(net.parameters(), 1e-2, betas=(0.5, 0.99)) for net in (discriminator, encoder)]
    draws = source()
    for _ in range(150):
        for player, adam in zip(task.players, adams, strict=True):
            adam.zero_grad()
            player.loss(batch(kind, 64), draws)[0].backward()
            adam.step()
    with torch.no_grad():
        z = encoder(batch(kind, 500).x, torch.randn(500, 3, generator=draws))
    assert float(z.mean(0).abs().max()) < 1


@pytest.mark.parametrize("kind", KINDS, ids=["images", "vectors"])
def test_the_encoder_heeds_its_noise(kind):
    encoder = built(kind).modules["encoder"]
    x = batch(kind).x.abs()
    noise = torch.randn(2, 16, 3, generator=source())
    with torch.no_grad():
        assert not torch.allclose(encoder(x, noise[0]), encoder(x, noise[1]))


@pytest.mark.parametrize("kind", KINDS, ids=["images", "vectors"])
def test_it_samples_and_claims_no_likelihood(kind):
    task = built(kind)
    assert task.kept == ("decoder",)
    scaling = {} if kind.images else {"mean": torch.zeros(3), "sd": torch.ones(3)}
    sampler = AdversarialVariational(**SMALL).sampler("avb", kind, task.modules.eval(), scaling)
    assert type(sampler) is Trained
    assert not hasattr(sampler, "log_prob")
    assert torch.equal(sampler.sample(70, seed=0)[60:], sampler.sample(10, seed=60))


@pytest.mark.parametrize("settings", [{"noise": 0}, {"turns": 0}, {"latent": 0}])
def test_recipes_that_make_no_sense_are_refused(settings):
    with pytest.raises(UsageError, match="is 1 or more, found 0"):
        AdversarialVariational(**settings)
