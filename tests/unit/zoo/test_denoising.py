"""Denoisers of many levels: network, loss, both samplers, scores and the likelihood of the ODE."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from gen_eval.errors import UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.denoising import (
    DENOISER,
    HEUN,
    LANGEVIN,
    Denoising,
    FlowOfNoise,
    NoisyScores,
    geometric_sigmas,
    ode_log_prob,
    sines,
)
from gen_eval.zoo.nets.unet import noise_net
from gen_eval.zoo.ode import Solver
from gen_eval.zoo.score_matching import tweedie
from gen_eval.zoo.task import Batch, Kind

DIGITS = Kind((1, 8, 8), tuple("0123456789"))
POINTS = Kind((2,), ("left", "right"))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
CHAINED = {"drawn_by": LANGEVIN, "levels": 4, "level_steps": 3, "largest": 2.0, "smallest": 0.05}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def built(kind=DIGITS, *, told=False, **settings):
    """The recipe, its task and its sampler; where it is told, a network that says something at random."""
    recipe = Denoising(**{"width": 8, "levels": 5} | settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = recipe.task(kind)
        if told:
            for parameter in task.modules.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
    scaling = {} if kind.images else SCALING
    return recipe, task, recipe.sampler("denoiser", kind, task.modules.eval(), scaling)


# --- Networks


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 12), (3,)])
def test_networks_start_silent_and_keep_the_shape(shape):
    kind = Kind(shape)
    net = noise_net(kind, 16, 2)
    x, level = torch.randn(3, *shape, generator=source()), torch.tensor([-1.0, 0.0, 1.0])
    assert net(x, level).shape == x.shape
    assert not net(x, level).any()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=source())
    out = net(x, level)
    assert bool((out != net(x, level.flip(0))).flatten(1).any(1)[[0, 2]].all())
    torch.testing.assert_close(net(x[1:2], level[1:2]), out[1:2])


def test_a_checkpoint_is_at_most_two_megabytes():
    for shape in ((1, 28, 28), (3, 32, 32)):
        task = Denoising().task(Kind(shape))
        assert 200_000 <= sum(each.numel() for each in task.modules.parameters()) <= 480_000


def test_levels_are_told_apart():
    level = noise_net(POINTS, 8, 1).level
    sigmas = torch.tensor([0.002, 0.01, 0.1, 1.0, 10.0, 80.0])
    told = level(sigmas.log() / 4).detach()
    assert float(torch.pdist(told).min()) > 0.05


def test_sines_tell_where_within_a_level_a_pixel_is():
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    clear = torch.zeros_like(x)
    finest = sines(x, clear, 1)
    for moved, period in ((2 / 256, 1), (4 / 256, 2)):
        again = sines(x + moved, clear, 2)
        torch.testing.assert_close(
            again[2 * period - 2 : 2 * period], sines(x, clear, 2)[2 * period - 2 : 2 * period]
        )
    assert not torch.allclose(sines(x + 1 / 256, clear, 1)[0], finest[0])
    assert sines(x, clear, 0) == []
    # What noise leaves of the mean of a sine: here of one that is seen with noise of a fifth of its period.
    sigma = 2 / 256 / 5
    noise = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    mean = sines(x + sigma * noise, clear, 1)[0].mean(1, keepdim=True)
    torch.testing.assert_close(mean, sines(x, clear + sigma, 1)[0], atol=1e-4, rtol=0)
    assert not any(bool(each.any()) for each in sines(x, clear + 1, 3))


def test_sines_are_for_images():
    _, task, sampler = built(DIGITS, told=True, octaves=3)
    assert task.modules[DENOISER].net.enter[1].in_channels == 4 * 7
    assert sampler.sample(2, seed=0).shape == (2, 1, 8, 8)
    bare, shown = (built(POINTS, octaves=octaves)[1].modules for octaves in (0, 3))
    assert [each.shape for each in bare.parameters()] == [each.shape for each in shown.parameters()]


# --- The task


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
def test_the_loss_starts_near_one_and_falls(kind):
    _, task, _ = built(kind)
    (player,) = task.players
    data = 0.5 if kind.images else 1.0
    half = torch.ones(512, *kind.shape)
    half[::2] = -1
    batch = Batch(data * half, None)
    state = torch.get_rng_state()
    loss, _ = player.loss(batch, source())
    assert torch.equal(torch.get_rng_state(), state)
    assert float(loss.detach()) == pytest.approx(1.0, abs=0.1)
    assert float(player.loss(batch, source())[0].detach()) == float(loss.detach())
    optimiser = torch.optim.Adam(task.modules.parameters(), 1e-2, player.betas)
    for _ in range(60):
        optimiser.zero_grad()
        after, _ = player.loss(batch, source())
        after.backward()
        optimiser.step()
    assert float(after.detach()) < 0.7


def test_levels_are_drawn_as_the_recipe_says_and_noise_is_of_its_level():
    """Of data that is 0 the network sees the noise alone, over its standard deviation beside data of 1."""
    n, mean, sd = 8000, -0.4, 0.7
    _, task, _ = built(POINTS, log_mean=mean, log_sd=sd)
    seen = []
    task.modules[DENOISER].net.register_forward_pre_hook(lambda _, given: seen.append(given))
    task.players[0].loss(Batch(torch.zeros(n, 2), None), source())
    ((noisy, quarter),) = seen
    log_sigma = 4 * quarter.double()
    assert float(log_sigma.mean()) == pytest.approx(mean, abs=3.5 * sd / math.sqrt(n))
    assert float(log_sigma.std()) == pytest.approx(sd, abs=3.5 * sd / math.sqrt(2 * n))
    sigma = log_sigma.exp()[:, None]
    assert stats.kstest((noisy * (sigma.square() + 1).sqrt() / sigma).flatten().numpy(), "norm").pvalue > 0.01


# --- Samples


@pytest.mark.simulation
@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize("settings", [{}, CHAINED], ids=[HEUN, LANGEVIN])
def test_a_network_that_says_nothing_samples_a_gaussian(kind, settings):
    """It denoises N(0, data_sd²), whose samples both samplers draw, less the noise of the last level."""
    chain = {"level_steps": 20 if kind.images else 100, "levels": 8, "step_size": 0.3, "smallest": 0.1}
    recipe, _, sampler = built(kind, **(settings | chain if settings else {"levels": 30}))
    x = sampler.sample(128 if kind.images else 1000, seed=0)
    again = sampler.sample(70, seed=3)
    assert torch.equal(again[:60], x[3:63])
    sd = recipe.data_sd if kind.images else 1.0
    if settings:
        sd = sd**2 / math.hypot(sd, recipe.smallest)
    # Images are cut at -1 and 1: of those that are not, the share is known.
    if kind.images:
        inside = float(((x > 0) & (x < 255)).double().mean())
        assert inside == pytest.approx(math.erf(1 / sd / math.sqrt(2)), abs=0.02)
        return
    standard = (x - SCALING["mean"]) / SCALING["sd"]
    assert float(standard.mean()) == pytest.approx(0, abs=0.06)
    assert float(standard.std()) == pytest.approx(sd, rel=0.05)


def test_the_last_step_may_be_left_out():
    """Of a chain it takes the noise of the last level away: what is left is the mean of clean data."""
    _, task, whole = built(POINTS, told=True, **CHAINED)
    recipe = replace(task.modules[DENOISER].recipe, last_denoised=False)
    model = recipe.task(POINTS).modules.eval()
    model.load_state_dict(task.modules.state_dict())
    bare = recipe.sampler("bare", POINTS, model, SCALING)
    x = (bare.sample(64, seed=0) - SCALING["mean"]) / SCALING["sd"]
    with torch.no_grad():
        last = task.modules[DENOISER].denoised(x, recipe.smallest)
    found = (whole.sample(64, seed=0) - SCALING["mean"]) / SCALING["sd"]
    torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-5)
    assert (whole.evaluations, bare.evaluations) == (13, 12)


@pytest.mark.parametrize("settings", [{"levels": 18}, CHAINED, CHAINED | {"last_denoised": False}])
def test_evaluations_are_counted(settings):
    _, task, sampler = built(POINTS, **settings)
    calls = []
    task.modules[DENOISER].net.register_forward_hook(lambda *_: calls.append(1))
    sampler.sample(3, seed=0)
    assert len(calls) == sampler.evaluations


def test_levels_fall_by_one_factor():
    assert geometric_sigmas(3, 2.0, 0.02) == pytest.approx([2.0, 0.2, 0.02])


# --- Scores


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
def test_a_score_is_per_unit_of_what_is_given(kind):
    recipe, _, sampler = built(kind)  # it denoises a Gaussian about the middle
    sd = 0.5 if kind.images else SCALING["sd"].double()
    mean = 0.5 if kind.images else SCALING["mean"].double()
    x = torch.randn(4, *kind.shape, generator=source(), dtype=torch.float64)
    for sigma in (recipe.smallest, 0.7):
        variance = (recipe.data_sd if kind.images else 1.0) ** 2 + sigma**2
        true = -(x - mean) / (sd**2 * variance)
        torch.testing.assert_close(sampler.score(x, sigma), true, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sampler.score(x), sampler.score(x, recipe.smallest))
    for wrong, sigma, message in ((x[..., :1], 0.1, "has a score of floating point"), (x, 0.0, "above 0")):
        with pytest.raises(UsageError, match=message):
            sampler.score(wrong, sigma)


def test_scores_are_of_the_denoiser():
    _, task, _ = built(told=True)
    model = task.modules[DENOISER]
    x = torch.randn(3, 1, 8, 8, generator=source())
    with torch.no_grad():
        torch.testing.assert_close(model.score(x, 0.3), tweedie(model.denoised(x, 0.3), x, 0.3))
        several = model.denoised(x, torch.tensor([0.3, 1.0, 5.0]))
        torch.testing.assert_close(several[1:2], model.denoised(x[1:2], 1.0))


# --- Likelihood


def test_only_the_ode_has_a_likelihood():
    assert built(POINTS)[2].bound == "exact"
    assert built(DIGITS)[2].bound == "unbiased"
    chained = built(POINTS, **CHAINED)[2]
    assert isinstance(chained, NoisyScores)
    assert not isinstance(chained, FlowOfNoise)
    assert not hasattr(chained, "log_prob")


def test_signs_give_the_exact_trace_on_average():
    _, task, _ = built(Kind((3,)), told=True)
    model = task.modules[DENOISER].double()
    x = torch.randn(5, 3, generator=source(), dtype=torch.float64)
    options = {"largest": 20.0, "smallest": 0.01, "data_sd": 1.0, "solver": Solver.of("rk4:8")}
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    estimates = torch.stack([ode_log_prob(model.denoised, x, v.expand_as(x), **options) for v in signs])
    exact = ode_log_prob(model.denoised, x, None, **options)
    torch.testing.assert_close(estimates.mean(0), exact)
    assert float(estimates.std(0).min()) > 1e-3


def test_a_density_integrates_to_one():
    _, _, sampler = built(POINTS, told=True)
    axes = [torch.linspace(-6, 6, 61) * sd + mean for mean, sd in zip(*SCALING.values(), strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    density = sampler.log_prob(torch.cartesian_prod(*axes)).exp()
    assert density.dtype == torch.float64
    assert float(density.sum() * cell) == pytest.approx(1, abs=1e-3)


def test_a_number_depends_on_its_image_alone():
    _, _, sampler = built(DIGITS, told=True, density="rk4:8")
    x = torch.rand(4, 1, 8, 8, generator=source())
    together = sampler.log_prob(x)
    assert torch.equal(sampler.log_prob(x), together)
    torch.testing.assert_close(sampler.log_prob(x.flip(0)).flip(0), together, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(sampler.log_prob(x[2:3])[0], together[2], rtol=1e-5, atol=1e-3)
    assert sampler.log_prob(x[:0]).shape == (0,)


def test_evaluation_takes_it_as_unbiased():
    _, _, sampler = built(DIGITS, density="rk4:4")
    found = evaluate_likelihood(sampler, sampler.sample(20, seed=0))
    assert (found.terms.kind, found.terms.dims, found.terms.dequantization) == ("unbiased", 64, "uniform")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 8, 9), r"found torch.float32 \[2, 1, 8, 9\]"),
        (torch.full((2, 1, 8, 8), 1.5), r"pixels in \[0, 1\], found 1.5 to 1.5"),
    ],
)
def test_what_it_is_no_density_of_is_refused(x, message):
    with pytest.raises(UsageError, match=message):
        built(DIGITS)[2].log_prob(x)


# --- Refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"drawn_by": "huen"}, UnknownName, "did you mean 'heun'"),
        ({"levels": 1}, UsageError, "levels is 2 or more"),
        ({"largest": 0.001}, UsageError, "fall from the largest to the smallest.*found 0.001 to 0.002"),
        ({"log_mean": math.nan}, UsageError, "log_mean=nan"),
        ({"log_sd": 0.0}, UsageError, "log_sd is above 0"),
        ({"density": "rk5:3"}, UnknownName, "did you mean 'rk4'"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        Denoising(**settings)


@pytest.mark.parametrize(("shape", "width"), [((1, 10, 8), 16), ((1, 8, 8), 12)])
def test_images_and_widths_that_do_not_divide_are_refused(shape, width):
    with pytest.raises(UsageError, match="expected multiples of 4 and of 8"):
        Denoising(width=width).task(Kind(shape))
