"""Langevin dynamics, the ODE of a denoiser, and chains as generators."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.zoo.chains import Chain, Langevin
from gen_eval.zoo.langevin import annealed_langevin, heun, karras_sigmas, langevin
from gen_eval.zoo.worlds import Checkerboard, Empirical, Gaussian, Mixture

RING = Mixture.ring()
SHORT = {"step_size": 0.01, "steps": 5, "start_sd": 1.5}


def noises(steps, shape, seed=0):
    return torch.randn(steps, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- Steps


def test_a_step_is_half_the_score_and_noise_by_the_root():
    x, noise = torch.tensor([[1.0, -2.0]]).double(), noises(2, (1, 2))
    once = x - 0.3 / 2 * x / 4 + math.sqrt(0.3) * noise[0]
    twice = once - 0.3 / 2 * once / 4 + math.sqrt(0.3) * noise[1]
    found = langevin(lambda x: -x / 4, x, step_size=0.3, steps=2, noise=noise.__getitem__)
    torch.testing.assert_close(found, twice)
    still = langevin(lambda x: -x / 4, x, step_size=0.3, steps=2, noise=None)
    torch.testing.assert_close(still, x * (1 - 0.3 / 8) ** 2)


def test_levels_follow_each_other_with_steps_by_their_squares_and_noise_of_their_own():
    x, noise, seen = torch.ones(1, 2).double(), noises(4, (1, 2)), []

    def score(x, sigma):
        seen.append(sigma)
        return -x / sigma**2

    sigmas = [2.0, 0.5]
    found = annealed_langevin(score, x, sigmas=sigmas, step_size=0.1, steps=2, noise=noise.__getitem__)
    expected = x
    for step, sigma in enumerate([2.0, 2.0, 0.5, 0.5]):
        eta = 0.1 * (sigma / 0.5) ** 2
        expected = expected - eta / 2 * expected / sigma**2 + math.sqrt(eta) * noise[step]
    torch.testing.assert_close(found, expected)
    assert seen == [2.0, 2.0, 0.5, 0.5]


def test_the_ode_ends_in_what_one_level_denoises():
    """From one level alone a step to 0 is left, which is the denoiser's; and a constant denoiser is met exactly."""
    x = noises(3, (2,))
    torch.testing.assert_close(heun(lambda x, sigma: x / (1 + sigma**2), x, sigmas=[3.0]), x / 10)
    found = heun(lambda x, sigma: torch.full_like(x, 0.7), x, sigmas=karras_sigmas(5, 10.0, 0.01))
    torch.testing.assert_close(found, torch.full_like(x, 0.7))


def test_levels_fall_between_their_ends_and_are_denser_towards_the_smallest():
    sigmas = karras_sigmas(10, 80.0, 0.002)
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[-1] == pytest.approx(0.002)
    gaps = [a - b for a, b in pairwise(sigmas)]
    assert all(gap > 0 for gap in gaps)
    assert gaps == sorted(gaps, reverse=True)
    assert karras_sigmas(3, 9.0, 1.0, bend=1.0) == pytest.approx([9.0, 5.0, 1.0])


# --- Chains of worlds

TILTED = Gaussian([0.5, -0.5, 0.0], [[0.6, -0.3, 0.1], [-0.3, 0.4, 0.0], [0.1, 0.0, 0.9]])


@pytest.mark.parametrize("target", [RING, TILTED, Mixture.grid()], ids=["ring", "tilted", "grid"])
@pytest.mark.parametrize("noise", [True, False], ids=["noisy", "still"])
def test_a_chain_is_that_of_its_seed_to_the_last_bit(target, noise):
    chains = Langevin(target, **SHORT, noise=noise)
    found = chains.sample(150, seed=3)
    assert found.dtype == torch.float32
    assert found.shape == (150, *target.shape)
    assert torch.equal(chains.sample(40, seed=3), found[:40])
    for i in (0, 1, 63, 64, 149):
        assert torch.equal(chains.sample(1, seed=3 + i)[0], found[i])
    mixed = torch.tensor([100, 3, 67, 3])  # 3 and 67 have one place in a batch
    assert torch.equal(chains(mixed), found[mixed - 3])
    assert len(found.unique(dim=0)) == 150
    again = Langevin(target, **SHORT, noise=noise)
    assert torch.equal(again.sample(150, seed=3), found)


def test_a_sample_is_the_dynamics_of_its_start_and_its_noise():
    chains = Langevin(TILTED, **SHORT)
    seeds = torch.arange(64)
    start, noise = chains.latent(seeds), torch.randn(64, 15, generator=torch.Generator().manual_seed(0))
    found = chains.network(start, None, noise)
    expected = langevin(
        TILTED.score,
        1.5 * start,
        step_size=0.01,
        steps=5,
        noise=lambda step: noise[:, 3 * step : 3 * step + 3],
    )
    assert torch.equal(found, expected.float())
    still = Langevin(TILTED, **SHORT, noise=False)
    torch.testing.assert_close(chains.synthesize(start), still.sample(64, seed=0))


def test_a_chain_of_no_steps_is_its_start():
    chains = Langevin(TILTED, step_size=1.0, steps=0, start_sd=2.0)
    seeds = torch.arange(5)
    assert torch.equal(chains(seeds), 2 * chains.latent(seeds))


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (Checkerboard(), {}, "checkerboard has not"),
        (Empirical(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)), {}, "empirical has not"),
        (RING, {"steps": -1}, "steps is 0 or more, found -1"),
        (RING, {"step_size": 0.0}, "step_size is above 0"),
        (RING, {"start_sd": math.inf}, "start_sd is above 0 and finite"),
    ],
)
def test_chains_that_make_no_sense_are_refused(target, settings, message):
    with pytest.raises(UsageError, match=message):
        Langevin(target, **SHORT | settings)


def test_labels_and_truncations_are_refused():
    chains = Langevin(RING, **SHORT)
    with pytest.raises(UsageError, match="no classes"):
        chains.sample(2, seed=0, labels=0)
    with pytest.raises(UsageError, match="no truncation"):
        chains.sample(2, seed=0, truncation=0.5)


def test_a_chain_of_images_keeps_their_shape():
    class Even:
        def score(self, x):
            assert x.shape == (2, 1, 4, 4)
            return -x

    chain = Chain(Even(), (1, 4, 4), step_size=0.1, steps=3, start_sd=1.0)
    assert (chain.latent_dim, chain.noise_dim) == (16, 48)
    assert chain(torch.ones(2, 16), None, torch.zeros(2, 48)).shape == (2, 1, 4, 4)
