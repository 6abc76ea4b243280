"""Flows as posteriors: bounds that stay right, volumes by steps, and binary images, which compare with nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import IncomparableError, UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood, require_comparable_likelihoods
from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.flow_posteriors import FlowVariational
from gen_eval.zoo.nets.posteriors import POSTERIORS, FlowSettings
from gen_eval.zoo.observations import observed, to_bits
from gen_eval.zoo.task import Batch, Kind
from gen_eval.zoo.variational import ENCODER, LatentDensity, Variational, gain_of_flow, log_normal

IMAGES, POINTS = Kind((1, 8, 8)), Kind((2,))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
SMALL = {"latent": 3, "width": 8, "depth": 2, "units": 8, "context": 4, "reflections": 2, "draws": 1}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def built(posterior, kind=IMAGES, moved=0.3, **settings):
    """A task whose flow is not where it began, and its sampler."""
    recipe = FlowVariational(**{"posterior": posterior, "pixels": "binary"} | SMALL | settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = recipe.task(kind)
        with torch.no_grad():
            for parameter in task.modules[ENCODER].flow.parameters():
                parameter.add_(moved * torch.randn_like(parameter))
    return task, recipe.sampler(posterior, kind, task.modules.eval(), {} if kind.images else SCALING)


def bits(n=6):
    return (torch.rand(n, *IMAGES.shape, generator=source(1)) < 0.5).float()


# --- The bound


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_bound_of_many_draws_integrates_to_one(posterior):
    """With a volume that is wrong the weights average to another number than p(x)."""
    _, sampler = built(posterior, POINTS, moved=0.1, draws=100, evaluation="rk4:4")
    axes = [torch.linspace(-6, 6, 21) * sd + mean for mean, sd in zip(*SCALING.values(), strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    density = sampler.log_prob(torch.cartesian_prod(*axes)).exp()
    assert float(density.sum() * cell) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_loss_is_less_the_mean_of_log_weights(posterior):
    """In training the KL of the start is in closed form, and traces may be estimated: the mean is the same."""
    task, sampler = built(posterior, moved=0.1, training="rk4:8")
    x = bits(1)
    weights = sampler.log_weights(x, 4000)[0]
    task.modules.train()
    with torch.no_grad():
        loss, shown = task.players[0].loss(Batch((2 * x - 1).expand(4000, -1, -1, -1), None), source())
    assert shown == {"elbo": -float(loss)}
    assert -float(loss) == pytest.approx(
        float(weights.mean()), abs=5 * float(weights.std()) / math.sqrt(4000)
    )


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_number_depends_on_its_image_alone(posterior):
    _, sampler = built(posterior, draws=3)
    x = bits()
    together = sampler.log_prob(x)
    torch.testing.assert_close(sampler.log_prob(x.flip(0)).flip(0), together, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(sampler.log_prob(x[2:3])[0], together[2], rtol=1e-6, atol=1e-4)
    assert sampler.log_prob(x[:0]).shape == (0,)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_encoder_and_its_flow_learn_and_labels_may_tell(posterior):
    task, _ = built(posterior, Kind((1, 8, 8), ("a", "b")), conditional=True)
    batch, adam = (
        Batch(2 * bits(32) - 1, torch.arange(32) % 2),
        torch.optim.Adam(task.modules.parameters(), 3e-3),
    )
    task.modules.train()
    losses = []
    for _ in range(40):
        adam.zero_grad()
        loss, _ = task.players[0].loss(batch, source())
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    flow = list(task.modules[ENCODER].flow.parameters())
    assert all(each.grad is not None and each.grad.isfinite().all() for each in flow)
    assert losses[-1] < losses[0] - 0.5


def test_a_flow_gains_what_the_prior_and_the_volume_say():
    start, log_det = torch.randn(5, 3, generator=source(), dtype=torch.float64), torch.arange(5.0).double()
    zero = torch.zeros_like(start)
    assert not gain_of_flow(start, start, 0 * log_det).any()
    known = log_normal(2 * start, zero, zero) - log_normal(start, zero, zero) + log_det
    torch.testing.assert_close(gain_of_flow(start, 2 * start, log_det), known)


def test_the_steps_of_an_evaluation_are_fine_enough():
    z, context = (
        torch.randn(20, 5, generator=source()).double(),
        torch.randn(20, 4, generator=source(1)).double(),
    )
    found = []
    for steps in (20, 200):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            made_of = FlowSettings(depth=2, units=16, context=4, evaluation=f"rk4:{steps}")
            flow = POSTERIORS["cnf"](5, made_of).double().eval()
            for parameter in flow.parameters():
                torch.nn.init.normal_(parameter, std=0.5)
        with torch.no_grad():
            found.append(flow(z, context))
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


def test_a_sylvester_flow_is_invertible_where_diagonals_are_of_opposite_signs():
    """Its determinant is least at 0, where tanh is the steepest; above 0 everywhere it is that of an increasing map."""
    flow, size = POSTERIORS["sylvester"](3, FlowSettings(depth=1, context=1, reflections=2)).double(), 3
    with torch.no_grad():
        numbers = torch.randn(flow.told[0].bias.shape, generator=source(), dtype=torch.float64)
        outer, inner, shift, _ = numbers.split(flow._sizes)
        outer.view(size, size).diagonal().fill_(50.0)
        inner.view(size, size).diagonal().fill_(-50.0)
        shift.zero_()
        flow.told[0].bias.copy_(numbers)
    z = 0.5 * torch.randn(50, size, generator=source(1), dtype=torch.float64)
    z[0] = 0
    context = torch.zeros(len(z), 1, dtype=torch.float64)
    of_all = torch.autograd.functional.jacobian(lambda z: flow(z, context)[0].sum(0), z)
    signs, known = torch.linalg.slogdet(of_all.transpose(0, 1))
    assert bool((signs == 1).all())
    torch.testing.assert_close(flow(z, context)[1], known)


# --- Binary images


def test_bits_are_ones_as_often_as_gray_levels_say():
    gray = torch.tensor([0, 51, 128, 255]).repeat(20_000, 1) / 127.5 - 1
    found = to_bits(gray, torch.rand(gray.shape, generator=source()))
    assert set(found.unique().tolist()) == {0, 1}
    assert found.mean(0)[[0, 3]].tolist() == [0, 1]
    torch.testing.assert_close(found.mean(0)[1:3], torch.tensor([0.2, 128 / 255]), rtol=0, atol=0.015)
    again = observed(gray.view(-1, 1, 2, 2), Kind((1, 2, 2)), source(), binary=True)
    assert torch.equal(again.flatten(1), found)
    assert torch.equal(observed(gray, Kind((4,)), source(), binary=True), gray)


def test_a_probability_of_bits_compares_with_no_density_of_levels():
    _, sampler = built("iaf")
    assert isinstance(sampler, LatentDensity)
    images = torch.randint(0, 256, (30, *IMAGES.shape), generator=source(), dtype=torch.uint8)
    found = evaluate_likelihood(sampler, images)
    assert (found.terms.kind, found.terms.draws, found.terms.scale) == ("lower", 1, 1)
    assert found.terms.dequantization == "binary"
    assert found.value == pytest.approx(-float(found.per_image.mean()))
    density = Variational(latent=3, width=8, draws=1)
    gray = density.sampler("vae", IMAGES, density.task(IMAGES).modules.eval(), {})
    with pytest.raises(IncomparableError, match="dequantization: binary against uniform"):
        require_comparable_likelihoods([found, evaluate_likelihood(gray, images)])
    with pytest.raises(UsageError, match="told by models of those alone"):
        evaluate_likelihood(gray, images, dequantization="binary")
    with pytest.raises(UsageError, match="takes 'binary', found 'uniform'"):
        evaluate_likelihood(sampler, images, dequantization="uniform")


def test_gray_levels_are_refused():
    recipe = Variational(pixels="binary", latent=3, width=8)
    plain = recipe.sampler("plain", IMAGES, recipe.task(IMAGES).modules.eval(), {})
    for sampler in (plain, built("sylvester")[1]):
        with pytest.raises(UsageError, match="probability of binary images, found pixels between 0 and 1"):
            sampler.log_prob(torch.full((2, 1, 8, 8), 0.5))


def test_adversarial_posteriors_are_given_bits_too():
    task = AdversarialVariational(pixels="binary", latent=3, width=8).task(IMAGES)
    given = []
    task.modules[ENCODER].register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    for player in task.players:
        player.loss(Batch(torch.zeros(4, *IMAGES.shape), None), source())
    assert all(set(each.unique().tolist()) == {0, 1} for each in given)


# --- Refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"posterior": "silvester"}, UnknownName, "did you mean 'sylvester'"),
        ({"posterior": "iaf", "latent": 16, "units": 8}, UsageError, "choose units=16 or more"),
        ({"depth": 0}, UsageError, "depth is 1 or more"),
        ({"training": "rk5:2"}, UnknownName, "rk5"),
        ({"evaluation": "dopri5:1e-5"}, UsageError, "fixed steps"),
        ({"latent": 0}, UsageError, "latent is 1 or more"),
        ({"pixels": "bits"}, UnknownName, "bits"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        FlowVariational(**settings)
