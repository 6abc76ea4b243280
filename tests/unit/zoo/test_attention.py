"""Self-attention: where it starts, what it computes, and the map that can be read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets import networks
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.attention import SelfAttention, attention_map
from gen_eval.zoo.nets.layers import Layers, orthogonal
from gen_eval.zoo.task import Kind


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def block(gamma=0.8, channels=16):
    made = SelfAttention(channels, Layers(orthogonal)).double()
    nn.init.constant_(made.gamma, gamma)
    return made


def maps(b=3, channels=16, h=6, w=8):
    return torch.randn(b, channels, h, w, dtype=torch.float64)


def windows_of(x):
    """``[b, c, h, w]`` as ``[b, c, windows, places of a window]``, of 2 x 2 places."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(b, c, -1, 4)


def from_windows(windows, h, w):
    b, c = windows.shape[:2]
    return windows.view(b, c, h // 2, w // 2, 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(b, c, h, w)


def test_at_the_start_it_is_the_identity():
    x = maps()
    made = SelfAttention(16, Layers(orthogonal)).double()
    assert torch.equal(made(x), x)
    made(x).sum().backward()
    assert float(made.gamma.grad.abs()) > 0  # and can leave it


def test_a_row_of_the_map_is_a_distribution_over_keys():
    x = 3 * maps()
    found = block().attention(x).detach()
    assert found.shape == (3, 6 * 8, 3 * 4)
    torch.testing.assert_close(found.sum(2), torch.ones(3, 48, dtype=torch.float64))
    assert bool((found >= 0).all())
    assert float((found.sum(1) - 4).abs().max()) > 0.1  # columns do not sum to one number


def test_it_is_the_sum_that_the_paper_writes():
    """beta_ji = exp(s_ij) / sum_i exp(s_ij), o_j = v(sum_i beta_ji h(x_i)), y_j = gamma o_j + x_j; place by place."""
    made, x = block(), maps(b=1)
    places = x[0].flatten(1).T
    dense = {name: (getattr(made, name).weight[:, :, 0, 0], getattr(made, name).bias) for name in LAYERS}
    layer = {name: lambda v, name=name: dense[name][0] @ v + dense[name][1] for name in LAYERS}
    groups = windows_of(torch.arange(48).view(1, 1, 6, 8))[0, 0]
    keys = [torch.stack([layer["key"](places[i]) for i in group]).amax(0) for group in groups]
    values = [torch.stack([layer["value"](places[i]) for i in group]).amax(0) for group in groups]
    expected = []
    for place in places:
        weights = torch.stack([layer["query"](place) @ key for key in keys]).exp()
        seen = sum(weight * value for weight, value in zip(weights / weights.sum(), values, strict=True))
        expected.append(place + made.gamma * layer["out"](seen))
    torch.testing.assert_close(made(x)[0].flatten(1).T, torch.stack(expected))


LAYERS = ("query", "key", "value", "out")


@pytest.mark.parametrize("within", [False, True])
def test_moving_places_about_moves_what_comes_out(within):
    """Whole windows may change places, and places may within their window."""
    made, x = block(), maps()
    order = torch.randperm(4) if within else torch.randperm(12)

    def moved(y):
        windows = windows_of(y)
        return from_windows(windows[..., order] if within else windows[:, :, order], 6, 8)

    assert not torch.allclose(moved(x), x)
    torch.testing.assert_close(made(moved(x)), moved(made(x)))


def test_places_see_each_other_across_the_map():
    made, x = block(), maps(b=1)
    other = x.clone()
    other[0, :, 5, 7] += 3
    changed = (made(other) - made(x)).detach().abs().sum(1)[0]
    assert float(changed[0, 0]) > 1e-6


# --- Reading the map of a network


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
@pytest.mark.parametrize("spectral", ["none", "both"])
def test_the_map_of_a_network_can_be_read(net, spectral):
    architecture = Architecture(net=net, width=16, latent=8, attention=True, spectral=spectral)
    generator, discriminator = networks(Kind((1, 8, 16)), architecture)
    generator.eval()
    discriminator.eval()
    z = torch.randn(5, 8)
    images = generator(z)
    for network, given in ((generator, z), (discriminator, images)):
        found = attention_map(network, given)
        assert found.shape == (5, 4 * 8, 2 * 4)
        assert not found.requires_grad
        torch.testing.assert_close(found.sum(2), torch.ones(5, 32))
        assert torch.equal(attention_map(network, given), found)
    assert torch.equal(generator(z), images)
    assert float((attention_map(generator, z)[0] - attention_map(generator, z)[1]).abs().max()) > 0


def test_a_network_without_one_has_no_map():
    generator, _ = networks(Kind((1, 8, 8)), Architecture(width=16, latent=8))
    with pytest.raises(UsageError, match="attention=True"):
        attention_map(generator, torch.randn(2, 8))
