"""Energy-based models: their forms, their chains, the recipe that learns them, and what is told of a density."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.chains import Langevin
from gen_eval.zoo.energies import Energy, contrast
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.nets.energies import energy_net
from gen_eval.zoo.run import Run
from gen_eval.zoo.task import Batch, Kind, Model
from gen_eval.zoo.training import state_path, train

POINTS, PIXELS = Kind((2,), ("left", "right")), Kind((3, 4, 8))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
SMALL = {"width": 8, "sampling_steps": 5, "batch": 16, "chains": 32, "chain_steps": 2}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=source(seed))


def built(kind=POINTS, **settings):
    """The recipe, its task with weights drawn by a seed, and its sampler."""
    recipe = Energy(**SMALL | settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = recipe.task(kind)
    scaling = {} if kind.images else SCALING
    return recipe, task, recipe.sampler("energy", kind, task.modules.eval(), scaling)


# --- Forms


@pytest.mark.parametrize(
    ("kind", "layers"),
    [(POINTS, 0), (POINTS, 2), (PIXELS, 0), (PIXELS, 2)],
    ids=["0", "2", "images 0", "images 2"],
)
def test_a_form_falls_as_a_square_far_away(kind, layers):
    """Whatever its weights, but for a quadratic form without any."""
    with torch.random.fork_rng(devices=[]):
        net = energy_net(kind, 8, layers, 0.5)
    if kind.images or layers:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(10)
    far = 1e4 * normal(50, *kind.shape)
    variance = 0.25 if kind.images else 1.0
    with torch.no_grad():
        falls = -2 * net(far) * variance / far.flatten(1).square().sum(1)
    torch.testing.assert_close(falls, torch.ones(50), rtol=0.01, atol=0)


def test_an_image_is_off_what_it_is_rebuilt_as():
    """f = -|x - r|² / 2 sigma² with r = tanh(b), of a network that sees nothing."""
    with torch.random.fork_rng(devices=[]):
        net = energy_net(PIXELS, 8, 1, 0.5)
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(0.3)
    x = normal(4, *PIXELS.shape)
    expected = -2 * (x - math.tanh(0.3)).square().sum((1, 2, 3))
    torch.testing.assert_close(net(x).detach(), expected)


@pytest.mark.parametrize(("kind", "layers"), [(POINTS, 0), (POINTS, 2), (PIXELS, 1)])
def test_a_score_is_the_slope(kind, layers):
    _, task, _ = built(kind, layers=layers)
    energy = task.modules.double()["energy"]
    x, along = normal(5, *kind.shape).double(), normal(5, *kind.shape, seed=1).double()
    with torch.no_grad():
        differs = (energy(x + 1e-6 * along) - energy(x - 1e-6 * along)) / 2e-6
        found = (energy.score(x) * along).flatten(1).sum(1)
    torch.testing.assert_close(found, differs, rtol=1e-5, atol=1e-6)


def test_a_contrast_raises_data_and_holds_samples():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    data, model = normal(6, 2), normal(4, 2, seed=1).requires_grad_()
    loss = contrast(lambda x: x @ weight, data, model * 1)
    (slope,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(slope, model.detach().mean(0) - data.mean(0))
    assert not torch.autograd.grad(
        contrast(lambda x: x @ weight, data, model * 1), [model], allow_unused=True
    )[0]


# --- The task


def test_chains_of_data_start_at_the_batch_and_persistent_ones_where_they_were(monkeypatch):
    starts = []

    def recorded(score, x, *, step_size, steps, noise):
        starts.append((x.clone(), step_size, steps))
        return x + 100

    monkeypatch.setattr("gen_eval.zoo.energies.langevin", recorded)
    batch = Batch(normal(16, 2), None)
    _, task, _ = built(starts="data", step_size=0.01)
    task.players[0].loss(batch, source())
    x, step_size, steps = starts.pop()
    assert torch.equal(x, batch.x)
    assert (step_size, steps) == (0.01, 2)
    assert list(task.modules) == ["energy"]

    _, task, _ = built(fresh=0.0)
    chains = task.modules["chains"]
    before = chains.x.clone()
    task.players[0].loss(batch, source())
    moved = (chains.x != before).any(1)
    assert int(moved.sum()) == 16
    torch.testing.assert_close(chains.x[moved], before[moved] + 100)
    assert {tuple(row.tolist()) for row in starts.pop()[0]} == {tuple(row.tolist()) for row in before[moved]}
    assert not list(chains.parameters())


def test_a_share_of_chains_starts_anew(monkeypatch):
    starts = []
    monkeypatch.setattr(
        "gen_eval.zoo.energies.langevin", lambda score, x, **options: starts.append(x.clone()) or x
    )
    _, task, _ = built(fresh=0.25, batch=2000, chains=2000, start_sd=1e-3)
    task.modules["chains"].x.fill_(7)
    task.players[0].loss(Batch(normal(2000, 2), None), source())
    anew = (starts[0] != 7).all(1)
    assert float(anew.double().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(starts[0][anew].std()) == pytest.approx(1e-3, rel=0.1)


def test_images_are_learnt_with_noise_by_steps_of_its_variance(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "gen_eval.zoo.energies.langevin", lambda score, x, **options: seen.append(options["step_size"]) or x
    )
    monkeypatch.setattr(
        "gen_eval.zoo.energies.contrast", lambda energy, data, model: seen.append(data) or energy(data).mean()
    )
    _, task, _ = built(PIXELS, sigma=0.5, image_step=0.2)
    task.players[0].loss(Batch(torch.full((16, *PIXELS.shape), -1.0), None), source())
    assert seen[0] == pytest.approx(0.2 * 0.25)
    assert float(seen[1].mean()) == pytest.approx(1 / 256 - 1, abs=0.05)
    assert float(seen[1].std()) == pytest.approx(0.5, rel=0.1)


def test_the_noise_of_a_loss_is_that_of_its_source(untouched):
    losses = []
    for seed in (0, 0, 1):
        _, task, _ = built()
        losses.append(float(task.players[0].loss(Batch(normal(16, 2), None), source(seed))[0].detach()))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("starts", ["persistent", "data"])
def test_a_training_that_is_gone_on_with_ends_in_the_same_bytes(starts, points, tmp_path):
    """Persistent chains are kept with the state, and are part of it."""
    model, out = Model("ebm", "", Energy(**SMALL, starts=starts), ""), tmp_path / "a.safetensors"
    train(model, points, steps=3, out=out, device="cpu")
    out.unlink()
    resumed = train(model, points, steps=7, out=out, resume=True, device="cpu")
    whole = Run(model, points, 0, "cpu")
    for _ in range(7):
        whole.step()
    for name, value in whole.checkpoint("").weights.items():
        assert torch.equal(resumed.weights[name], value)
    assert ("modules.chains.x" in whole.tensors()) is (starts == "persistent")
    assert not any("chains" in name for name in resumed.weights)
    assert state_path(out).exists()


# --- The sampler


@pytest.mark.parametrize("kind", [POINTS, PIXELS])
def test_what_is_told_is_of_x_as_it_is_given(kind):
    _, task, sampler = built(kind)
    x = torch.rand(5, *kind.shape, generator=source(), dtype=torch.float64)
    inner = 2 * x - 1 if kind.images else (x - SCALING["mean"]) / SCALING["sd"]
    unit = 0.5 if kind.images else SCALING["sd"].double()
    energy = task.modules["energy"]
    with torch.no_grad():
        f = energy(inner.float())
    found = sampler.unnormalised_log_prob(x)
    assert (found.dtype, found.shape) == (torch.float64, (5,))
    torch.testing.assert_close(found, f.double())
    torch.testing.assert_close(sampler.score(x), energy.score(inner.float()).double() / unit)
    torch.testing.assert_close(sampler.log_ratio(x, x.flip(0)), found - found.flip(0))
    assert not hasattr(sampler, "log_prob")
    for wrong in (torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, *kind.shape, dtype=torch.int64)):
        for ask in (sampler.unnormalised_log_prob, sampler.score):
            with pytest.raises(UsageError, match="has an energy of floating point"):
                ask(wrong)


def test_a_sample_is_a_chain_of_the_step_and_the_start():
    """A standard normal: an autoregression, whose variance is 1 / (1 - eta / 4)."""
    _, _, sampler = built(layers=0, step_size=0.4, sampling_steps=30, start_sd=2.0)
    x = (sampler.sample(2000, seed=0) - SCALING["mean"]) / SCALING["sd"]
    assert float(x.var()) == pytest.approx(1 / 0.9, rel=0.07)
    assert sampler.evaluations == 30
    z = sampler.latent(torch.arange(4))
    still = (sampler.synthesize(z) - SCALING["mean"]) / SCALING["sd"]
    torch.testing.assert_close(still, 2 * z * 0.8**30, rtol=1e-2, atol=1e-5)
    _, _, climbs = built(layers=0, step_size=0.4, sampling_steps=30, start_sd=2.0, noise=False)
    torch.testing.assert_close(climbs(torch.arange(4)), sampler.synthesize(z))


def test_an_image_is_the_mean_of_clean_ones():
    """Of a network that sees nothing, f is a Gaussian about its image, and what is clean is that image."""
    _, task, sampler = built(PIXELS, layers=0)
    net = task.modules["energy"].net
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(math.atanh(0.2))
    assert bool((sampler.sample(3, seed=0) == round(256 * 0.6 - 0.5)).all())
    assert sampler.evaluations == 6


def test_langevin_dynamics_of_worlds_take_it_too():
    _, _, sampler = built(layers=0)
    chains = Langevin(sampler, step_size=1e-2, steps=400, start_sd=1.0, noise=False)
    off = (chains.sample(20, seed=0) - SCALING["mean"])[:, 1]
    assert float(off.abs().max()) < 1e-3


# --- Refusals


def test_images_from_data_are_refused_with_the_reason():
    with pytest.raises(UsageError, match="never see what lies between noise and images.*persistent"):
        MODELS["ebm-cd"].recipe.task(Kind((1, 8, 8)))
    assert MODELS["ebm"].recipe.task(Kind((1, 8, 8))).kept == ("energy",)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"starts": "persistant"}, UnknownName, "did you mean 'persistent'"),
        ({"chains": 63}, UsageError, "chains is 64 or more, found 63"),
        ({"fresh": 1.1}, UsageError, "a share of fresh chains is 0 to 1, found 1.1"),
        ({"chain_steps": 0}, UsageError, "chain_steps is 1 or more"),
        ({"layers": -1}, UsageError, "layers is 0 or more"),
        ({"step_size": 0.0}, UsageError, "step_size is above 0"),
        ({"sigma": math.inf}, UsageError, "sigma is above 0 and finite"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        Energy(**settings)
