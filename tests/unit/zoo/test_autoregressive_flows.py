"""Autoregressive flows: what sees what, in which order, both directions, and what they refuse."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.autoregressive_flows import AutoregressiveFlow
from gen_eval.zoo.data import open_data
from gen_eval.zoo.task import Batch, Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

DIGITS, POINTS, ONE = Kind((1, 4, 8), tuple("0123456789")), Kind((5,)), Kind((1,))
RECIPES = {
    "maf": AutoregressiveFlow(layers=2, width=32),
    "maf in blocks": AutoregressiveFlow(layers=2, width=16, passes=4),
    "iaf": AutoregressiveFlow(layers=2, width=16, fast="sampling"),
    "nsf": AutoregressiveFlow(layers=2, width=16, transform="spline", bins=4),
}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(make, seed=0):
    """What a function makes whose weights are drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def noise(*shape):
    return torch.randn(shape, generator=source(2), dtype=torch.float64)


def jacobian(net, x):
    """Of the latent of one x, ``[d, d]``."""
    with torch.no_grad():
        found = torch.func.jacrev(lambda x: net.to_latent(x[None])[0][0])(x)
    return found.reshape(x.numel(), x.numel())


@pytest.mark.parametrize("kind", [DIGITS, POINTS, ONE], ids=["images", "vectors", "one number"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_flow_is_inverted_and_tells_its_volume(name, kind):
    net = drawn(lambda: RECIPES[name].net(kind)).double().eval()
    x = noise(3, *kind.shape)
    z, log_det = net.to_latent(x)
    assert z.shape == (3, math.prod(kind.shape))
    assert float((net.from_latent(z) - x).abs().max().detach()) < 1e-10
    known = torch.linalg.slogdet(jacobian(net, x[1])).logabsdet
    assert float((log_det[1] - known).abs().detach()) < 1e-10


@pytest.mark.parametrize("width", [8, 64])
def test_every_number_is_decided_by_all_blocks_before_its_own(width):
    """With fewer hidden units than blocks, units would see the first ones alone."""
    dim = 24
    net = drawn(lambda: AutoregressiveFlow(layers=1, width=width).net(Kind((dim,)))).double().eval()
    (layer,) = net.layers.transforms
    assert int(layer.order.max()) + 1 == layer.passes == min(dim, width)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.abs_()  # so that no unit is silent at an x above 0
    seen = jacobian(net, noise(dim).abs()) != 0
    before = layer.order[:, None] > layer.order
    assert torch.equal(seen, before | torch.eye(dim, dtype=torch.bool))


def test_every_other_layer_goes_the_other_way():
    net = drawn(lambda: AutoregressiveFlow(layers=4, width=8).net(POINTS))
    first, second, third, fourth = (layer.order for layer in net.layers.transforms)
    assert torch.equal(first + second, torch.full((5,), 4))
    assert torch.equal(third + fourth, torch.full((5,), 4))
    assert not torch.equal(first, third)
    assert "layers.transforms.0.order" in net.state_dict()  # it was drawn, so it is kept


@pytest.mark.parametrize("fast", ["density", "sampling"])
def test_the_slow_direction_takes_a_pass_for_each_block(fast):
    net = drawn(lambda: AutoregressiveFlow(layers=1, width=16, passes=3, fast=fast).net(Kind((12,)))).eval()
    (layer,) = net.layers.transforms
    passes = []
    layer.hyper.register_forward_hook(lambda *given: passes.append(1))
    x = noise(2, 12).float()
    net.to_latent(x) if fast == "density" else net.from_latent(x)
    assert len(passes) == 1
    net.from_latent(x) if fast == "density" else net.to_latent(x)
    # The density of an inverse flow is told by a pass more, at the x that the others found.
    assert len(passes) == (4 if fast == "density" else 5)


def test_the_inverse_flow_is_the_masked_one_backwards():
    masked, inverse = (
        drawn(lambda fast=fast: AutoregressiveFlow(layers=2, width=8, fast=fast).net(POINTS)).eval()
        for fast in ("density", "sampling")
    )
    x = noise(4, 5).float()
    z, log_det = masked.to_latent(x)
    torch.testing.assert_close(inverse.from_latent(x), z)
    torch.testing.assert_close(inverse.to_latent(z)[0], x)
    torch.testing.assert_close(inverse.to_latent(z)[1], -log_det)


def test_networks_are_those_of_the_global_state_and_copied_whole():
    make = lambda: RECIPES["nsf"].net(DIGITS)  # noqa: E731
    first, second = drawn(make), drawn(make)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    x = noise(4, *DIGITS.shape).float()
    first.train().to_latent(x)
    first.eval()
    loaded = drawn(make, seed=9)
    loaded.load_state_dict(first.state_dict())
    for net in (copy.deepcopy(first), loaded):
        net.eval()
        assert torch.equal(net.to_latent(x)[0], first.to_latent(x)[0])
        assert torch.equal(net.from_latent(x.flatten(1)), first.from_latent(x.flatten(1)))


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize("name", ["maf", "maf in blocks", "nsf"])
def test_the_loss_is_the_likelihood_and_falls(name, kind):
    task = drawn(lambda: RECIPES[name].task(kind))
    (player,) = task.players
    batch = Batch(torch.rand(32, *kind.shape, generator=source()) * 2 - 1, None)
    state = torch.get_rng_state()
    loss, shown = player.loss(batch, source())
    assert torch.equal(torch.get_rng_state(), state)
    levels = 8 if kind.images else 0
    assert shown["bits_per_dim"] == pytest.approx(float(loss.detach()) / math.log(2) + levels)
    optimiser = torch.optim.Adam(task.modules.parameters(), 3e-3)
    for _ in range(20):
        optimiser.zero_grad()
        after, _ = player.loss(batch, source())
        after.backward()
        optimiser.step()
    assert float(after.detach()) < float(loss.detach()) - 0.05


def test_a_flow_of_digits_is_known_to_the_evaluation():
    model = Model("maf", "", AutoregressiveFlow(layers=2, width=64), "")
    sampler = train(model, open_data("digits"), steps=5, device="cpu").sampler()
    images = sampler.sample(6, seed=0)
    found = evaluate_likelihood(sampler, images)
    assert (found.terms.kind, found.terms.dims) == ("exact", 64)
    assert len(sampler.sample(3, seed=0, truncation=0.0).unique(dim=0)) == 1
    back = sampler.synthesize(sampler.encode(images.float() / 256 + 0.5 / 256))
    assert float((back - images).abs().max()) < 0.6


@pytest.mark.simulation
def test_a_short_training_of_splines_learns_a_ring():
    ring = Mixture.ring(sd=0.3)
    recipe = AutoregressiveFlow(layers=2, width=32, transform="spline", rate=5e-3, batch=128)
    sampler = train(Model("nsf", "", recipe, ""), open_data(ring, n=4000), steps=200, device="cpu").sampler()
    x = ring.sample(4000, seed=10**6)
    assert (
        0 < float((ring.log_prob(x) - sampler.log_prob(x)).mean()) < 0.3
    )  # a Gaussian is off by more than 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"transform": "splines"}, UnknownName, "spline"),
        ({"fast": "samples"}, UnknownName, "sampling"),
        ({"layers": 0}, UsageError, "layers is 1 or more, found 0"),
        ({"width": 1}, UsageError, "width is 2 or more, found 1"),
        ({"passes": 1}, UsageError, "passes is 2 or more, found 1"),
        ({"passes": 20, "width": 16}, UsageError, "at most 16 blocks apart, found passes=20"),
        ({"bins": 1}, UsageError, "bins is 2 or more, found 1"),
        ({"margin": 0.0}, UsageError, "margin is above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        AutoregressiveFlow(**settings)
