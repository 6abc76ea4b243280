"""Objectives of score matching, the recipe that learns by them, and the score and samples of what was learnt."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.score_matching import (
    denoising,
    exact,
    fisher_divergence,
    relative_fisher_divergence,
    sliced,
    sliced_vr,
    tweedie,
)
from gen_eval.zoo.scores import OBJECTIVES, ScoreMatching
from gen_eval.zoo.task import Batch, Kind
from gen_eval.zoo.worlds import Gaussian

POINTS = Kind((2,), ("left", "right"))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
MATRIX = torch.tensor([[-1.0, 0.5, 0.0], [2.0, -3.0, 1.0], [0.0, 0.3, 0.7]], dtype=torch.float64)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def built(kind=POINTS, seed=0, **settings):
    """The recipe, its task with weights drawn by the seed, and its sampler."""
    recipe = ScoreMatching(**{"width": 8, "sampling_steps": 20} | settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        task = recipe.task(kind)
    return recipe, task, recipe.sampler("scores", kind, task.modules.eval(), SCALING)


def linear(x):
    return x @ MATRIX.T


# --- Objectives


def test_objectives_of_a_linear_score():
    """s(x) = A x, whose trace is that of A."""
    x, v = torch.randn(2, 6, 3, generator=source(), dtype=torch.float64)
    s = linear(x)
    along = torch.einsum("bi,ij,bj->b", v, MATRIX, v)
    torch.testing.assert_close(exact(linear, x), MATRIX.trace() + s.square().sum(1) / 2)
    torch.testing.assert_close(sliced(linear, x, v), along + (v * s).sum(1).square() / 2)
    torch.testing.assert_close(sliced_vr(linear, x, v), along + s.square().sum(1) / 2)
    y = x + 0.5 * v
    torch.testing.assert_close(denoising(linear, x, v, 0.5), (linear(y) - (x - y) / 0.25).square().sum(1) / 2)


def test_the_score_of_the_data_is_the_best_of_its_multiples():
    world = Gaussian((0.5, -1.0), ((1.0, 0.3), (0.3, 0.5)))
    x = world.sample(20_000, seed=0).double()
    with torch.no_grad():
        values = [float(exact(lambda x, t=t: t * world.score(x), x).mean()) for t in (0.8, 1.0, 1.2)]
    assert values[1] == min(values)
    assert values[1] == pytest.approx(-torch.linalg.inv(world.covariance).trace().item() / 2, rel=0.02)


def test_gradients_go_through_all_objectives():
    weight = MATRIX.clone().requires_grad_()
    x, noise = torch.randn(2, 6, 3, generator=source(), dtype=torch.float64)
    for name, objective in OBJECTIVES.items():
        loss = objective(lambda x: x @ weight.T, x, noise, 0.5).mean()
        (slope,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            moved = weight + 1e-6 * slope
            after = objective(lambda x, moved=moved: x @ moved.T, x, noise, 0.5).mean()
        assert float((after - loss.detach()) / 1e-6) == pytest.approx(
            float(slope.square().sum()), rel=1e-3
        ), name


def test_tweedie_of_a_gaussian():
    y, sigma = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], 0.5
    world = Gaussian((1.0,), ((2.0,),))
    denoised = 1 + (y - 1) * 2 / (2 + sigma**2)
    torch.testing.assert_close(tweedie(denoised, y, sigma), world.noised(sigma).score(y))


def test_the_fisher_divergence_of_two_gaussians():
    """E |(x - a) - x|² / 2 = a² / 2 where both have a variance of 1."""
    world, other = Gaussian((0.0, 0.0), torch.eye(2)), Gaussian((3.0, 4.0), torch.eye(2))
    x = world.sample(1000, seed=0)
    found, true = other.score(x), world.score(x)
    assert fisher_divergence(found, true) == pytest.approx(12.5)
    assert relative_fisher_divergence(torch.zeros_like(true), true) == 1.0
    assert relative_fisher_divergence(true, true) == 0.0


# --- The task


@pytest.mark.parametrize(
    "settings", [{"objective": name} for name in ("exact", "sliced", "sliced-vr")] + [{"sigma": 0.3}]
)
def test_it_learns_the_score_of_a_gaussian(settings):
    if "sigma" in settings:
        settings = {"objective": "denoising", **settings}
    recipe, task, sampler = built(**settings, width=32)
    (player,) = task.players
    state = torch.get_rng_state()
    optimiser = torch.optim.Adam(task.modules.parameters(), 3e-3, player.betas)
    noise = source()
    for _ in range(300):
        x = 0.5 * torch.randn(256, 2, generator=noise) + torch.tensor([0.3, -0.3])
        optimiser.zero_grad()
        loss, _ = player.loss(Batch(x, None), noise)
        loss.backward()
        optimiser.step()
    assert torch.equal(torch.get_rng_state(), state)
    law = Gaussian((0.3, -0.3), 0.25 * torch.eye(2)).noised(recipe.sigma)
    x = law.sample(1000, seed=0)
    found = sampler.score(x * SCALING["sd"] + SCALING["mean"]) * SCALING["sd"]
    assert relative_fisher_divergence(found, law.score(x)) < 0.05


def test_the_noise_of_a_loss_is_that_of_its_source():
    _, task, _ = built(objective="sliced")
    (player,), batch = task.players, Batch(torch.randn(8, 2, generator=source()), None)
    losses = [float(player.loss(batch, source(seed))[0].detach()) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


# --- The sampler


def test_the_score_is_per_unit_of_what_is_given():
    """The slope of log p along a line is the score along it, of a density of x as it came."""
    _, task, sampler = built()
    x = torch.randn(5, 2, generator=source(), dtype=torch.float64)
    standard = (x - SCALING["mean"]) / SCALING["sd"]
    with torch.no_grad():
        inner = task.modules["score"].score(standard.float()).double()
    found = sampler.score(x)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, inner / SCALING["sd"].double())
    with pytest.raises(UsageError, match=r"floating point \[b, 2\], found torch.float64 \[5, 3\]"):
        sampler.score(torch.zeros(5, 3, dtype=torch.float64))


def test_a_sample_is_a_chain():
    """A score of -x without network: an autoregression, whose variance is 1 / (1 - eta / 4)."""
    recipe, task, sampler = built(step_size=0.4, sampling_steps=40)
    with torch.no_grad():
        for parameter in task.modules.parameters():
            parameter.zero_()
    x = (sampler.sample(4000, seed=0) - SCALING["mean"]) / SCALING["sd"]
    assert float(x.var()) == pytest.approx(1 / (1 - recipe.step_size / 4), rel=0.05)
    assert sampler.evaluations == 40
    z = sampler.latent(torch.arange(4))
    still = (sampler.synthesize(z) - SCALING["mean"]) / SCALING["sd"]
    torch.testing.assert_close(still, z * (1 - recipe.step_size / 2) ** 40, rtol=1e-3, atol=1e-6)


def test_chains_do_not_escape():
    """Far from the data nothing is learnt, and a chain that gets there comes back."""
    _, task, _ = built()
    model = task.modules["score"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
        far = 1e4 * torch.randn(50, 2, generator=source())
        assert bool(((model.score(far) * far).sum(1) < 0).all())


# --- Refusals


def test_images_are_refused_with_the_reason():
    with pytest.raises(UsageError, match="one score does not make images.*ncsn or edm"):
        ScoreMatching().task(Kind((1, 8, 8)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"objective": "slice"}, UnknownName, "did you mean 'sliced'"),
        ({"objective": "denoising"}, UsageError, "sigma is above 0 and finite, found 0"),
        ({"sigma": 0.1}, UsageError, "objective 'exact' adds none: expected 0, found 0.1"),
        ({"sampling_steps": 0}, UsageError, "sampling_steps is 1 or more"),
        ({"step_size": math.inf}, UsageError, "step_size is above 0 and finite"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        ScoreMatching(**settings)
