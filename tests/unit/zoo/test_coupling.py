"""Flows of couplings: their parts, their networks, what they learn, and what they refuse."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.data import TrainingData, open_data
from gen_eval.zoo.nets.couplings import Coupling, Mixing, Scale, squeeze, unsqueeze
from gen_eval.zoo.nets.multiscale import MultiScale, OfVectors, dense
from gen_eval.zoo.task import Batch, Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

DIGITS, COLOUR, POINTS = Kind((1, 8, 8), tuple("0123456789")), Kind((3, 8, 4)), Kind((5,))
GLOW = {"mixing": "invertible", "actnorm": True}
RECIPES = {
    "nice": CouplingFlow(coupling="additive", width=8, flat=True),
    "nice of maps": CouplingFlow(coupling="additive", width=8),
    "realnvp": CouplingFlow(width=8),
    "glow": CouplingFlow(width=8, **GLOW),
}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(make, seed=0):
    """What a function makes whose weights are drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def moved(module, by=0.1):
    """In float64, with weights away from where they begin."""
    draws = source(1)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return module


def noise(*shape):
    return torch.randn(shape, generator=source(2), dtype=torch.float64)


# --- Parts


def test_squeezing_makes_channels_of_squares_and_goes_back():
    x = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    y = squeeze(x)
    assert y.shape == (1, 8, 2, 3)
    assert y[0, :4, 0, 0].tolist() == [0, 1, 6, 7]
    assert y[0, 4:, 1, 2].tolist() == [40, 41, 46, 47]
    assert torch.equal(unsqueeze(y), x)


@pytest.mark.parametrize("affine", [False, True])
def test_a_coupling_leaves_what_decides_and_begins_as_the_identity(affine):
    mask = torch.tensor([True, False, False, True, False])
    coupling = Coupling(mask, partial(dense, 8), affine=affine).double()
    x = noise(4, 5)
    y, log_det = coupling(x)
    assert torch.equal(y, x)
    assert not log_det.any()
    y, log_det = moved(coupling, 0.5)(x)
    assert torch.equal(y[:, mask], x[:, mask])
    assert not (y[:, ~mask] == x[:, ~mask]).any()
    assert bool(log_det.any()) == affine
    other = x.clone()
    other[:, ~mask] = 0
    assert torch.equal(coupling(other)[1], log_det)  # those that change decide nothing


def test_scales_are_bounded_however_far_a_network_goes():
    coupling = moved(Coupling(torch.arange(4) < 2, partial(dense, 8), affine=True), 100.0)
    x = noise(3, 4)
    y, log_det = coupling(x)
    assert float(log_det.abs().max().detach()) <= 2 * 2.0 + 1e-12
    assert bool(y.isfinite().all())


def test_a_mixing_begins_as_a_rotation_and_stays_invertible():
    mixing = drawn(lambda: Mixing(6)).double()
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(mixing.matrix() @ mixing.matrix().T, eye, rtol=0, atol=1e-6)
    x = noise(3, 6, 4, 2)
    y, log_det = moved(mixing, 2.0)(x)
    torch.testing.assert_close(y[1, :, 2, 1], mixing.matrix() @ x[1, :, 2, 1])
    torch.testing.assert_close(log_det, 8 * torch.linalg.slogdet(mixing.matrix()).logabsdet.expand(3))
    torch.testing.assert_close(mixing.inverse(y), x)
    flat, of_one_place = mixing(x[:, :, 0, 0])
    torch.testing.assert_close(flat, y[:, :, 0, 0])
    torch.testing.assert_close(8 * of_one_place, log_det)


def test_actnorm_is_set_by_the_first_batch_in_training_alone():
    part, x = Scale(6, by_data=True).double(), 3 * noise(20, 6, 4, 2) + 5
    assert torch.equal(part.eval()(x)[0], x)
    y, log_det = part.train()(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(log_det, -8 * x.std((0, 2, 3), correction=0).log().sum().expand(20))
    torch.testing.assert_close(part(2 * x)[0], 2 * y - part.shift.view(1, 6, 1, 1))
    assert "begun" in part.state_dict()
    again = Scale(6, by_data=True).double()
    again.load_state_dict(part.state_dict())
    assert torch.equal(again.train()(2 * x)[0], part(2 * x)[0])


def test_a_channel_that_never_changes_is_no_trouble():
    y, log_det = Scale(2, by_data=True).train()(torch.ones(5, 2))
    assert bool(y.isfinite().all())
    assert bool(log_det.isfinite().all())


# --- Networks


@pytest.mark.parametrize("kind", [DIGITS, COLOUR, POINTS], ids=["gray", "colour", "vectors"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_flow_is_inverted_and_tells_its_volume(name, kind):
    net = moved(drawn(lambda: RECIPES[name].net(kind))).eval()
    x = noise(3, *kind.shape)
    z, log_det = net.to_latent(x)
    assert z.shape == (3, math.prod(kind.shape))
    assert float((net.from_latent(z) - x).abs().max().detach()) < 1e-10
    ahead = torch.autograd.functional.jacobian(lambda x: net.to_latent(x[None])[0][0], x[1])
    known = torch.linalg.slogdet(ahead.reshape(z.shape[1], -1)).logabsdet
    assert float((log_det[1] - known).abs().detach()) < 1e-10


def test_each_level_but_the_last_gives_half_away():
    net = drawn(lambda: CouplingFlow(levels=3, width=4).net(Kind((3, 32, 32))))
    assert isinstance(net, MultiScale)
    assert net._shapes == [(6, 16, 16), (12, 8, 8), (48, 4, 4)]
    assert len(net.splits) == 2


def test_masks_are_checkerboards_first_and_channels_then():
    net = CouplingFlow(levels=1, depth=4, width=4).net(Kind((2, 4, 4)))
    staying = [part.staying.tolist() for part in net.levels[0].parts]
    assert staying == [[0, 3, 4, 7], [1, 2, 5, 6], [0, 1, 2, 3], [4, 5, 6, 7]]
    net = CouplingFlow(levels=1, depth=2, width=4).net(Kind((5,)))
    assert [part.staying.tolist() for part in net.parts.parts[1:-1]] == [[0, 2, 4], [1, 3]]


def test_images_may_be_taken_as_vectors():
    assert isinstance(CouplingFlow(flat=True, width=4).net(DIGITS), OfVectors)
    assert isinstance(CouplingFlow(width=4).net(DIGITS), MultiScale)
    odd = Kind((1, 9, 3))
    net = moved(CouplingFlow(flat=True, width=4).net(odd))
    x = noise(2, *odd.shape)
    torch.testing.assert_close(net.from_latent(net.to_latent(x)[0]), x)


def test_networks_are_those_of_the_global_state_and_copied_whole():
    make = lambda: RECIPES["glow"].net(DIGITS)  # noqa: E731
    first, second = drawn(make), drawn(make)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    x = noise(4, *DIGITS.shape).float()
    first.train().to_latent(x)
    copied = copy.deepcopy(first)
    loaded = drawn(make, seed=9)
    loaded.load_state_dict(first.state_dict())
    for net in (copied, loaded):
        assert torch.equal(net.eval().to_latent(x)[0], first.eval().to_latent(x)[0])


# --- Training


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_is_the_likelihood_and_falls(name, kind):
    task = drawn(lambda: RECIPES[name].task(kind))
    (player,) = task.players
    batch = Batch(torch.rand(32, *kind.shape, generator=source()) * 2 - 1, None)
    state = torch.get_rng_state()
    loss, shown = player.loss(batch, source())
    assert torch.equal(torch.get_rng_state(), state)
    levels = 8 if kind.images else 0
    assert shown["bits_per_dim"] == pytest.approx(float(loss.detach()) / math.log(2) + levels)
    assert float(player.loss(batch, source())[0].detach()) == float(loss.detach())
    optimiser = torch.optim.Adam(task.modules.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        after, _ = player.loss(batch, source())
        after.backward()
        optimiser.step()
    assert float(after.detach()) < float(loss.detach()) - 0.05


def test_a_training_gone_on_with_keeps_its_normalisation(tmp_path):
    """Were the flag not stored, the first batch after the pause would set the scales again."""
    data = TrainingData(
        "noise", torch.randint(256, (40, 1, 8, 8), generator=source(), dtype=torch.uint8), None
    )
    model = Model("glow", "", CouplingFlow(width=4, batch=8, **GLOW), "")
    straight = train(model, data, steps=4, device="cpu")
    path = tmp_path / "glow.safetensors"
    train(model, data, steps=2, device="cpu", out=path)
    resumed = train(model, data, steps=4, device="cpu", out=path, resume=True)
    assert all(torch.equal(value, resumed.weights[name]) for name, value in straight.weights.items())
    assert all(bool(value.all()) for name, value in straight.weights.items() if name.endswith("begun"))


def test_a_flow_of_digits_is_known_to_the_evaluation():
    model = Model("glow", "", CouplingFlow(width=8, **GLOW), "")
    sampler = train(model, open_data("digits"), steps=5, device="cpu").sampler()
    images = sampler.sample(20, seed=0)
    found = evaluate_likelihood(sampler, images)
    assert (found.terms.kind, found.terms.dims) == ("exact", 64)
    assert torch.equal(
        sampler.sample(2, seed=0, truncation=0.0)[0], sampler.sample(1, seed=7, truncation=0.0)[0]
    )
    x = images.float() / 256 + 0.5 / 256
    back = sampler.synthesize(sampler.encode(x))
    assert float((back - images).abs().max()) < 0.6


@pytest.mark.simulation
def test_a_short_training_learns_most_of_a_ring():
    ring = Mixture.ring(sd=0.3)
    model = Model("realnvp", "", CouplingFlow(width=32, rate=3e-3, batch=128), "")
    sampler = train(model, open_data(ring, n=4000), steps=300, device="cpu").sampler()
    x = ring.sample(4000, seed=10**6)
    divergence = float((ring.log_prob(x) - sampler.log_prob(x)).mean())
    assert 0 < divergence < 0.5  # a Gaussian is 1.5 off


# --- Refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"coupling": "afine"}, UnknownName, "affine"),
        ({"mixing": "invertibel"}, UnknownName, "invertible"),
        ({"levels": 0}, UsageError, "levels is 1 or more, found 0"),
        ({"depth": 0}, UsageError, "depth is 1 or more, found 0"),
        ({"width": 1.5}, UsageError, "width is 1 or more, found 1.5"),
        ({"margin": 0.5}, UsageError, "below .5"),
        ({"rate": 0.0}, UsageError, "rate is above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        CouplingFlow(**settings)


def test_data_that_no_coupling_fits_is_refused():
    with pytest.raises(UsageError, match="divisible by 8, found 28 x 28"):
        CouplingFlow(levels=3).net(Kind((1, 28, 28)))
    with pytest.raises(UsageError, match="2 or more, found 1"):
        CouplingFlow().net(Kind((1,)))


def test_a_temperature_scales_the_latent_and_is_finite():
    sampler = train(
        Model("nice", "", RECIPES["nice"], ""), open_data(Mixture.ring(), n=100), steps=1
    ).sampler()
    seeds = torch.arange(5)
    torch.testing.assert_close(sampler.latent(seeds, 0.5), sampler.latent(seeds) / 2)
    with pytest.raises(UsageError, match="finite factor"):
        sampler.sample(2, seed=0, truncation=math.inf)
