"""StyleGAN: the mapping, layers modulated by styles, noise, mixing, and truncation in w."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.latent import Mapped, images_of, mean_latent, truncate
from gen_eval.perceptual import CONVENTIONS, perceptual_path_length
from gen_eval.truncation import in_w
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.style import Generator, Modulated, discriminator
from gen_eval.zoo.sampler import NOISE
from gen_eval.zoo.styled import Styled
from gen_eval.zoo.task import Kind

GRAY, COLOUR, PLANE = Kind((1, 28, 28)), Kind((3, 16, 16)), Kind((2,))
SMALL = Architecture(net="style", norm="none", latent=6, width=12, mapping_layers=2)
SEEDS = torch.arange(5)
SCALING = {"mean": torch.tensor([1.0, -2.0]), "sd": torch.tensor([0.5, 3.0])}


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind=COLOUR, **changes):
    """A generator that has learnt to use its noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        network = Generator(kind, replace(SMALL, **changes)).eval()
    for stage in network.stages:
        for layer in stage.layers:
            layer.strength.data.fill_(0.5)
    return network.requires_grad_(False)


def styled(kind=COLOUR):
    return Styled("tiny", kind, made(kind), {} if kind.images else SCALING)


# --- The mapping and the layers


def test_the_mapping_knows_the_direction_of_a_latent_alone():
    network, z = made(), rows(4, 6)
    styles = network.styles(z)
    assert styles.shape == (4, 5, 6)
    assert torch.equal(styles, styles[:, :1].expand(-1, 5, -1))
    torch.testing.assert_close(network.styles(3 * z), styles)
    assert float(styles[:, 0].std(0).min()) > 0


def test_the_mapping_learns_a_hundred_times_slower():
    """By how far one step of Adam at one rate moves it: its weights are 100 times as large, and scaled as much less."""
    moved = {}
    for rate in (1.0, 0.01):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(9)
            network = Generator(COLOUR, replace(SMALL, mapping_rate=rate))
        before = network.styles(rows(4, 6)).detach()
        adam = torch.optim.Adam(network.mapping.parameters(), lr=1e-3)
        network.styles(rows(4, 6)).square().sum().backward()
        adam.step()
        moved[rate] = network.styles(rows(4, 6)).detach() - before
    assert float(moved[0.01].norm() / moved[1.0].norm()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_layer_is_a_convolution_of_its_own_for_each_sample(demodulate):
    """StyleGAN2, equations 1 to 3, by grouped weights: scaled by the style, and then to unit length."""
    layer = Modulated(4, 3, 3, 6, demodulate=demodulate)
    layer.weight.data, layer.bias.data = rows(3, 4, 3, 3), rows(3, 1, 1, seed=1)
    x, style = rows(2, 4, 5, 5, seed=2), rows(2, 6, seed=3)
    for i in range(2):
        weight = layer.weight / math.sqrt(36) * layer.scales(style)[i, :, None, None]
        if demodulate:
            weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        expected = F.conv2d(x[i : i + 1], weight, padding=1) + layer.bias
        torch.testing.assert_close(layer(x, style)[i : i + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sides"), [(GRAY, (7, 14, 14, 28, 28)), (COLOUR, (4, 8, 8, 16, 16)), (PLANE, (1,) * 3)]
)
def test_each_layer_has_a_style_and_each_pixel_of_it_a_noise(kind, sides):
    network = made(kind)
    assert network.sides == sides
    assert network.noise_dim == 1 + sum(side**2 for side in sides)
    x = network(rows(3, 6), None, rows(3, network.noise_dim, seed=1))
    assert x.shape == (3, *kind.shape)
    assert not kind.images or float(x.abs().max()) <= 1


def test_noise_is_of_learned_strength_and_starts_at_none():
    network, z = made(), rows(3, 6)
    noise = [rows(3, network.noise_dim, seed=seed) for seed in (1, 2)]
    assert not torch.equal(*(network(z, None, each) for each in noise))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        fresh = Generator(COLOUR, SMALL).eval()
    assert torch.equal(*(fresh(z, None, each) for each in (noise[0], None)))


def test_noise_of_a_pixel_stays_near_it():
    """In the last layer, after which there are kernels of one pixel alone."""
    network, z = made(), rows(1, 6)
    noise = torch.zeros(1, network.noise_dim)
    noise[0, -1 - 16 * 5] = 3  # the 6th row from below, the last column
    changed = (network(z, None, noise) - network(z, None, torch.zeros_like(noise))).abs().sum((0, 1))
    assert changed.nonzero().tolist() == [[10, 15]]


# --- Mixing


def test_styles_are_mixed_in_training_alone_from_a_layer_on():
    network = made(mixing=0.5)
    styles = torch.stack([torch.full((5, 6), float(i)) for i in range(4)])
    where = torch.special.ndtri(torch.tensor([0.01, 0.26, 0.49, 0.51]))
    found = network._mixed(styles, where)[..., 0]
    assert found.tolist() == [[0, 3, 3, 3, 3], [1, 1, 1, 0, 0], [2, 2, 2, 2, 1], [3] * 5]
    z, noise = rows(4, 6), torch.zeros(4, network.noise_dim)
    noise[:, 0] = where
    whole = network(z, None, noise)
    network.train()
    mixed = network(z, None, noise)
    assert ((whole - mixed).abs().amax((1, 2, 3)) > 1e-4).tolist() == [True, True, True, False]
    network.mixing = 0.0
    torch.testing.assert_close(network(z, None, noise), whole)
    assert torch.equal(network(z, None, None), network.eval()(z, None, None))


@pytest.mark.parametrize("mixing", [0.3, 1.0])
def test_the_share_mixed_is_what_is_asked_for_and_layers_are_equally_likely(mixing):
    network, n = made(mixing=mixing), 20_000
    other = network._mixed(torch.arange(float(n)).view(n, 1, 1).expand(-1, 5, 1), rows(n))[..., 0]
    own = (other == torch.arange(float(n))[:, None]).sum(1)
    shares = torch.bincount(own, minlength=6) / n
    expected = torch.tensor([0, *[mixing / 4] * 4, 1 - mixing])
    assert float((shares - expected).abs().max()) < 4 * math.sqrt(0.25 / n)


# --- The sampler


@pytest.mark.parametrize("kind", [GRAY, COLOUR, PLANE])
def test_samples_are_those_of_seeds(kind):
    model = styled(kind)
    samples = model.sample(70, seed=3)
    assert samples.shape == (70, *kind.shape)
    assert samples.dtype == (torch.uint8 if kind.images else torch.float32)
    assert torch.equal(model.sample(5, seed=3), samples[:5])
    assert torch.equal(model.sample(5, seed=68), samples[65:])
    shuffled = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(3 + shuffled), samples[shuffled])
    seed = torch.tensor([70])
    noise = draws.normal(seed, model.network.noise_dim, NOISE).float()
    x = model.network(model.latent(seed), None, noise)[0]
    expected = (x + 1) * 127.5 if kind.images else x * SCALING["sd"] + SCALING["mean"]
    torch.testing.assert_close(samples[67].float(), expected, rtol=1e-4, atol=0.51 if kind.images else 1e-5)


@pytest.mark.parametrize("kind", [GRAY, PLANE])
def test_truncation_by_1_changes_nothing_and_by_0_leaves_noise_alone(kind):
    model = styled(kind)
    assert torch.equal(model(SEEDS, truncation=1.0), model(SEEDS))
    constant = model(SEEDS, truncation=0.0)
    assert not torch.equal(constant[0], constant[1])
    for stage in model.network.stages:
        for layer in stage.layers:
            layer.strength.data.zero_()
    assert torch.equal(model(SEEDS, truncation=0.0), model(SEEDS[:1], truncation=0.0).expand_as(constant))
    assert not torch.equal(model(SEEDS)[0], model(SEEDS)[1])


def test_truncated_styles_lie_on_the_line_to_their_mean():
    model = styled()
    w, centre = model.mapping(model.latent(SEEDS)), mean_latent(model)
    torch.testing.assert_close(model.centre, centre)
    assert float((w - centre).abs().max()) > 0.1
    for psi in (0.0, 0.3, 0.7, 1.5):
        torch.testing.assert_close(model._content(SEEDS, None, psi), truncate(w, centre, psi))
    assert torch.equal(model._content(SEEDS, None, 0.0), model.centre.expand_as(w))
    assert torch.equal(model._content(SEEDS, None, 1.0), w)


def test_truncation_at_low_resolution_leaves_the_styles_of_later_layers():
    model = styled()
    low = model.low_resolution_only(8)
    w, moved = model._content(SEEDS, None, None), low._content(SEEDS, None, 0.0)
    assert torch.equal(moved[:, 3:], w[:, 3:])
    assert torch.equal(moved[:, :3], model.centre[:3].expand(5, -1, -1))
    assert torch.equal(low(SEEDS), model(SEEDS))
    assert torch.equal(model.low_resolution_only(16)(SEEDS, truncation=0.3), model(SEEDS, truncation=0.3))
    assert "8 pixels" in low.truncation
    assert "pixels" not in model.truncation
    with pytest.raises(UsageError, match="sides of 4, 8, 16, found 5"):
        model.low_resolution_only(5)


def test_labels_and_truncations_below_0_are_refused():
    with pytest.raises(UsageError, match="takes no labels"):
        styled().sample(2, seed=0, labels=1)
    with pytest.raises(UsageError, match="0 or more, found -1"):
        styled().sample(2, seed=0, truncation=-1.0)


# --- With the tools for generators with a mapping


def test_it_is_a_generator_with_a_mapping():
    model = styled()
    assert isinstance(model, Mapped)
    z = model.latent(SEEDS)
    images = images_of(model, z)
    assert images.shape == (5, 3, 16, 16)
    assert torch.equal(images_of(model, model.mapping(z), "w"), images)


def test_truncation_curves_take_it():
    """As the sampler truncates, but that synthesize adds no noise."""
    model = styled()
    for stage in model.network.stages:
        for layer in stage.layers:
            layer.strength.data.zero_()
    at = in_w(model)
    for psi in (0.0, 0.5, 1.0):
        difference = at(psi)(SEEDS).int() - model(SEEDS, truncation=psi).int()
        assert int(difference.abs().max()) <= 1


def test_path_lengths_take_it():
    """By squared distances between pixels, the length in w of a network whose images do not depend on it is 0."""

    def distance(a, b):
        return (a - b).square().mean((1, 2, 3))

    model = styled()
    stylegan = {**CONVENTIONS["stylegan"], "epsilon": 1e-2}
    assert (
        perceptual_path_length(model, n=8, distance=distance, **stylegan).values["perceptual_path_length"] > 0
    )
    assert perceptual_path_length(model, n=8, distance=distance).values["perceptual_path_length"] > 0
    for part in model.network.modules():
        if isinstance(part, Modulated):
            part.scales.weight.data.zero_()
    still = perceptual_path_length(model, n=8, distance=distance, **stylegan)
    assert still.values["perceptual_path_length"] == 0


# --- Discriminators, vectors, refusals


@pytest.mark.parametrize("kind", [GRAY, PLANE])
def test_critics_give_a_verdict_for_each_sample(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        critic = discriminator(kind, SMALL)
    verdict = critic(rows(8, *kind.shape))
    assert verdict.real.shape == (8,)
    assert verdict.classes is None
    same = critic(rows(1, *kind.shape).expand(8, *kind.shape)).real
    torch.testing.assert_close(same, same[:1].expand(8))


@pytest.mark.parametrize("maker", [Generator, discriminator])
@pytest.mark.parametrize("kind", [GRAY, PLANE])
def test_architectures_that_it_cannot_honour_are_refused(maker, kind):
    with pytest.raises(UsageError, match="the net 'style' knows norm='none' only, found 'batch'"):
        maker(kind, replace(SMALL, norm="batch"))


@pytest.mark.parametrize(
    "asked", [{"mixing": -0.1}, {"mixing": 1.1}, {"mapping_layers": 0}, {"mapping_rate": 0.0}]
)
def test_mappings_that_make_no_sense_are_refused(asked):
    with pytest.raises(
        UsageError, match="a mixing of 0 to 1, 1 mapping layer or more and a mapping_rate above 0"
    ):
        Generator(GRAY, replace(SMALL, **asked))
