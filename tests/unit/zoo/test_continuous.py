"""Continuous flows: their fields and traces, what they learn, the density that they tell, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.continuous import FIELDS, ContinuousFlow
from gen_eval.zoo.flows import FLOW
from gen_eval.zoo.nets.fields import Planar, dense
from gen_eval.zoo.nets.traces import exact_trace, hutchinson
from gen_eval.zoo.ode import Solver
from gen_eval.zoo.task import Batch, Kind

DIGITS, POINTS = Kind((1, 4, 4)), Kind((2,))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
SMALL = ContinuousFlow(width=8, training="rk4:3", sampling="rk4:8")
PLANAR = replace(SMALL, field="planar", layers=1)
NOW = torch.tensor(0.3)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def stirred(module, scale=1.0):
    """With weights drawn anew: fresh fields are at rest."""
    with torch.no_grad():
        for at, parameter in enumerate(module.parameters()):
            noise = torch.randn(parameter.shape, generator=source(at))
            parameter.copy_(scale * noise / math.sqrt(max(parameter[0].numel(), 4)))
    return module


def built(recipe=SMALL, kind=POINTS, *, moving=True):
    """A task with weights of its own, and its sampler in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = recipe.task(kind)
    if moving:
        stirred(task.modules[FLOW].net.field)
    return task, recipe.sampler("flow", kind, task.modules.eval(), {} if kind.images else SCALING)


def points(n=6):
    return torch.randn(n, 2, generator=source(1)) * SCALING["sd"] + SCALING["mean"]


def pixels(n=6):
    return torch.rand(n, *DIGITS.shape, generator=source(1))


# --- Fields


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", [Kind((1, 4, 6)), Kind((3, 4, 4)), POINTS], ids=str)
def test_fields_begin_at_rest_and_change_with_time(name, kind):
    if name == "convolutional" and not kind.images:
        pytest.skip("refused, see below")
    with torch.random.fork_rng(devices=[]):
        field = FIELDS[name](kind, 5, 1)
    x = torch.randn(3, math.prod(kind.shape), generator=source())
    with torch.no_grad():
        assert torch.equal(field(NOW, x), torch.zeros_like(x))
        now, later = (stirred(field)(t, x) for t in (NOW, 2 * NOW))
    assert now.shape == x.shape
    assert float((now - later).abs().max()) > 1e-4


def test_a_pixel_is_moved_by_those_around_it():
    with torch.random.fork_rng(devices=[]):
        field = stirred(FIELDS["convolutional"](Kind((1, 12, 12)), 4, 1))
    x = torch.zeros(1, 144)
    spot = x.clone().view(12, 12)
    spot[0, 0] = 1.0
    with torch.no_grad():
        moved = (field(NOW, spot.view(1, -1)) - field(NOW, x)).view(12, 12) != 0
    assert moved[:6, :6].all()  # two layers of 3 x 3 at half the side
    assert not moved[6:].any()
    assert not moved[:, 6:].any()


# --- Traces


def test_an_estimate_is_a_quadratic_form():
    field, x = stirred(dense(POINTS, 8, 1)), torch.randn(5, 2, generator=source())
    v, whole = exact_trace(field, NOW, x)
    parts = []
    for at in range(2):
        unit = torch.zeros_like(x)
        unit[:, at] = 1
        velocity, part = hutchinson(field, NOW, x, unit)
        torch.testing.assert_close(velocity, v)
        parts.append(part)
    torch.testing.assert_close(parts[0] + parts[1], whole)
    torch.testing.assert_close(v, field(NOW, x))


@pytest.mark.parametrize("learning", [True, False])
def test_gradients_go_through_where_they_are_enabled(learning):
    """Of the whole, by differences; and nothing is kept of what is not learnt."""
    field, x = stirred(dense(POINTS, 8, 1)).double(), torch.randn(5, 2, generator=source()).double()
    probe, weight = torch.sign(x), next(field.parameters())
    for way in (lambda: exact_trace(field, NOW, x), lambda: hutchinson(field, NOW, x, probe)):
        with torch.set_grad_enabled(learning):
            v, trace = way()
            total = v.square().sum() + trace.sum()
        assert total.requires_grad == learning
        if learning:
            slope = float(torch.autograd.grad(total, weight)[0][0, 0])
            totals = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    weight[0, 0] += step
                    v, trace = way()
                    weight[0, 0] -= step
                totals.append(float(v.square().sum() + trace.sum()))
            assert slope == pytest.approx((totals[0] - totals[1]) / 2e-5, rel=1e-5)
    assert not x.requires_grad


def test_a_closed_trace_is_that_of_products():
    field, x = stirred(Planar(6, 8)), torch.randn(5, 6, generator=source())
    velocity, trace = field.with_trace(NOW, x)
    for found, expected in zip(exact_trace(field, NOW, x), (velocity, trace), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(field(NOW, x), velocity)


# --- The task


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize(
    "recipe", [SMALL, PLANAR, replace(SMALL, actnorm=True)], ids=["free", "planar", "actnorm"]
)
def test_the_loss_falls(kind, recipe):
    task, _ = built(recipe, kind, moving=False)
    task.modules.train()
    (player,) = task.players
    batch = Batch((torch.rand(32, *kind.shape, generator=source()) * 2 - 1) ** 3, None)
    state = torch.get_rng_state()
    first, _ = player.loss(batch, source())
    optimiser = torch.optim.Adam(task.modules.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss, shown = player.loss(batch, source())
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < float(first.detach()) - 0.01
    assert shown["bits_per_dim"] == pytest.approx(
        float(loss.detach()) / math.log(2) + (8 if kind.images else 0)
    )
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("actnorm", [False, True])
@pytest.mark.parametrize("probe", ["gaussian", "rademacher"])
def test_both_ways_to_learn_give_one_gradient(actnorm, probe):
    gradients = []
    for adjoint in (False, True):
        recipe = replace(SMALL, training="rk4:40", adjoint=adjoint, actnorm=actnorm, probe=probe)
        task, _ = built(recipe)
        task.modules.train()
        loss, _ = task.players[0].loss(Batch(points(), None), source())
        loss.backward()
        gradients.append(torch.cat([each.grad.flatten() for each in task.modules.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)
    assert float(gradients[0].abs().max()) > 0.01


def test_actnorm_is_set_by_the_first_batch():
    task, sampler = built(replace(SMALL, actnorm=True), DIGITS, moving=False)
    task.modules.train()
    x = pixels(50)
    z, log_det = task.modules[FLOW].net.to_latent(x, torch.ones(50, 16))
    torch.testing.assert_close(z.mean(0), torch.zeros(16), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(16), rtol=0, atol=1e-4)
    expected = -x.flatten(1).std(0, correction=0).log().sum()
    torch.testing.assert_close(log_det, expected.expand(50), rtol=1e-4, atol=1e-4)
    task.modules.eval()
    torch.testing.assert_close(sampler.network.net.from_latent(z), x, rtol=0, atol=1e-5)


def test_probes_are_for_training_and_for_many_dimensions():
    for recipe, kind, in_training, after in (
        (SMALL, POINTS, "rademacher", None),
        (replace(SMALL, probe="gaussian"), POINTS, "gaussian", None),
        (replace(SMALL, exact_dims=15), DIGITS, "rademacher", "rademacher"),
        (replace(SMALL, exact_dims=16), DIGITS, "rademacher", None),
        (replace(PLANAR, exact_dims=0), DIGITS, None, None),
    ):
        task, sampler = built(recipe, kind)
        net = task.modules[FLOW].net
        assert (net.train().probe, net.eval().probe) == (in_training, after)
        assert sampler.bound == ("exact" if after is None else "unbiased")
        x = torch.zeros(3, *kind.shape)
        wrong = torch.ones(3, math.prod(kind.shape)) if after is None else None
        with pytest.raises(UsageError, match="traces in evaluation take a probe"):
            net.to_latent(x, wrong)


# --- The density


@pytest.mark.parametrize(
    "recipe", [SMALL, PLANAR, replace(SMALL, actnorm=True)], ids=["free", "planar", "actnorm"]
)
def test_the_density_integrates_to_one(recipe):
    _, sampler = built(recipe)
    if recipe.actnorm:
        stirred(sampler.network.net.first, 0.2)
    axes = [torch.linspace(-12, 12, 121) * sd + mean for mean, sd in zip(*SCALING.values(), strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    density = sampler.log_prob(torch.cartesian_prod(*axes)).exp()
    assert density.dtype == torch.float64
    assert float(density.sum() * cell) == pytest.approx(1, abs=1e-3)
    assert sampler.density_evaluations > 10


def test_a_looser_solver_of_densities_asks_less():
    _, sampler = built(SMALL)
    x, asked = points(), {}
    for text in ("dopri5:1e-2", "dopri5:1e-8", "euler:7"):
        sampler.solver = Solver.of(text)
        sampler.log_prob(x)
        asked[text] = sampler.density_evaluations
    assert asked["euler:7"] == 7
    assert asked["dopri5:1e-2"] < asked["dopri5:1e-8"]


@pytest.mark.parametrize(("kind", "drawn"), [(DIGITS, pixels), (POINTS, points)], ids=["images", "vectors"])
@pytest.mark.parametrize("exact_dims", [0, 64])
def test_a_number_depends_on_its_row_alone(kind, drawn, exact_dims):
    _, sampler = built(replace(SMALL, exact_dims=exact_dims, density="rk4:8"), kind)
    x = drawn()
    together = sampler.log_prob(x)
    assert torch.equal(sampler.log_prob(x), together)
    torch.testing.assert_close(sampler.log_prob(x.flip(0)).flip(0), together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sampler.log_prob(x[2:3])[0], together[2], rtol=1e-5, atol=1e-5)
    assert sampler.log_prob(x[:0]).shape == (0,)
    assert sampler.encode(x[:0]).shape == (0, math.prod(kind.shape))


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize("exact_dims", [0, 64])
def test_samples_lead_back_to_their_latents(kind, exact_dims):
    _, sampler = built(replace(SMALL, exact_dims=exact_dims, sampling="rk4:20"), kind)
    latents = sampler.latent(torch.arange(20))
    with torch.no_grad():
        samples = sampler.synthesize(latents)
    x = samples if not kind.images else (samples + 0.5) / 256
    back = sampler.encode(x)
    inside = ((samples > 1) & (samples < 254)).flatten(1).all(1) if kind.images else torch.ones(20).bool()
    assert int(inside.sum()) > 5  # others were cut at black and white
    torch.testing.assert_close(back[inside], latents[inside], rtol=0, atol=2e-3)
    assert sampler.evaluations == 80  # four to a step of rk4


def test_estimates_are_right_on_average():
    x = points(1).repeat(4000, 1)
    x[:, 0] += 1e-6 * torch.arange(4000)  # so that each has a probe of its own
    _, exact = built(replace(SMALL, density="rk4:8"))
    _, estimated = built(replace(SMALL, density="rk4:8", exact_dims=0))
    off = estimated.log_prob(x) - exact.log_prob(x)
    assert float(off.std()) > 0.05
    assert abs(float(off.mean())) < 3.5 * float(off.std()) / math.sqrt(4000)


def test_evaluation_says_what_the_number_is():
    for recipe, kind in ((replace(SMALL, exact_dims=0), "unbiased"), (PLANAR, "exact")):
        _, sampler = built(recipe, DIGITS)
        found = evaluate_likelihood(sampler, sampler.sample(20, seed=0))
        assert (found.terms.kind, found.terms.dims) == (kind, 16)


@pytest.mark.parametrize("field", ["dense", "planar"])
def test_a_checkpoint_is_at_most_two_megabytes(field):
    recipe = ContinuousFlow(field=field, layers=1, width=256, actnorm=True)
    with torch.random.fork_rng(devices=[]):
        task = recipe.task(Kind((1, 28, 28)))
    assert sum(each.numel() for each in task.modules.parameters()) <= 480_000


# --- Refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"field": "denze"}, UnknownName, "did you mean 'dense'"),
        ({"probe": "normal"}, UnknownName, "unknown probe 'normal'"),
        ({"training": "rk5:3"}, UnknownName, "did you mean 'rk4'"),
        ({"density": "dopri5:0"}, UsageError, "takes tolerances"),
        ({"sampling": "dopri5:1e-5"}, UsageError, "samples take fixed steps"),
        ({"field": "planar", "layers": 2}, UsageError, "1 hidden layer, found 2"),
        ({"width": 0}, UsageError, "width is 1 or more"),
        ({"exact_dims": -1}, UsageError, "exact_dims is 0 or more"),
        ({"margin": 0.5}, UsageError, "below .5"),
    ],
)
def test_settings_that_make_no_sense(settings, error, message):
    with pytest.raises(error, match=message):
        ContinuousFlow(**settings)


@pytest.mark.parametrize(("kind", "found"), [(POINTS, "2"), (Kind((1, 7, 8)), "1 x 7 x 8")])
def test_convolutions_are_of_images_of_even_sides(kind, found):
    with pytest.raises(UsageError, match=f"sides are even, found {found}: take a dense"):
        ContinuousFlow(field="convolutional").task(kind)
