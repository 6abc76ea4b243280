"""Power iteration against the singular values, against torch's own, and what it bounds."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gen_eval.zoo.nets import mlp
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.spectral import FIRST_ITERATIONS, SpectralNorm, spectrally_normalised
from gen_eval.zoo.task import Kind

LAYERS = {
    "linear": (lambda: nn.Linear(5, 7), (4, 5)),
    "convolution": (lambda: nn.Conv2d(3, 6, 3), (2, 3, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 6, 4, 2, padding=1), (2, 3, 4, 4)),
    "embedding": (lambda: nn.Embedding(6, 4), None),
}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def given(shape):
    return torch.arange(6) if shape is None else torch.randn(shape)


def norm_of(layer):
    return layer.parametrizations.weight[0]


def matrix_of(layer, weight):
    """Written out apart from the code under test: one row for each output."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.permute(1, 0, 2, 3)
    return weight.reshape(len(weight), -1)


def estimate(norm, matrix):
    norm.eval()
    found = float((matrix / norm(matrix)).mean())
    norm.train()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_what_so_many_power_iterations_give(seed):
    """Of u = sum a_i u_i, k iterations leave a_i s_i^2k: 20 at the start, and one at each use in training."""
    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    torch.manual_seed(seed)
    a = left.T @ nn.functional.normalize(torch.randn(64).double(), dim=0)
    torch.manual_seed(seed)
    norm = SpectralNorm(matrix, 0)
    for iterations in range(FIRST_ITERATIONS, 51):
        parts = a.square() * (values / values[0]) ** (4 * iterations)
        expected = float(((parts * values.square()).sum() / parts.sum()).sqrt())
        assert estimate(norm, matrix) == pytest.approx(expected, rel=1e-9)
        norm(matrix)
    assert estimate(norm, matrix) <= float(values[0])


def test_power_iteration_finds_the_largest_singular_value():
    """Within 1e-2 after 20 iterations and 1e-5 after 50, where the second is 4 % below it."""
    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    largest, second = torch.linalg.svdvals(matrix)[:2].tolist()
    assert second < 0.965 * largest
    norm = SpectralNorm(matrix, 0)
    assert estimate(norm, matrix) == pytest.approx(largest, rel=1e-2)
    for _ in range(30):
        norm(matrix)
    assert estimate(norm, matrix) == pytest.approx(largest, rel=1e-5)
    assert FIRST_ITERATIONS == 20


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_becomes_1(name):
    make, _ = LAYERS[name]
    layer = make()
    original = layer.weight.detach().clone()
    layer = spectrally_normalised(layer)
    with torch.no_grad():
        for _ in range(300):
            weight = layer.weight
    assert weight.shape == original.shape
    assert float(torch.linalg.svdvals(matrix_of(layer, weight))[0]) == pytest.approx(1, abs=1e-4)
    largest = torch.linalg.svdvals(matrix_of(layer, original))[0]
    torch.testing.assert_close(weight, original / largest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_that_of_torch(name):
    """The same outputs, gradients and vectors, step after step from the same u."""
    make, shape = LAYERS[name]
    plain = make()
    ours, theirs = spectrally_normalised(copy.deepcopy(plain)), parametrizations.spectral_norm(plain)
    state = theirs.parametrizations.weight[0]
    x = given(shape)
    for _ in range(4):
        with torch.no_grad():
            u = norm_of(ours).u
            matrix = matrix_of(ours, ours.parametrizations.weight.original)
            state._u.copy_(u)
            state._v.copy_(nn.functional.normalize(matrix.T @ u, dim=0))
        outputs = [layer(x) for layer in (ours, theirs)]
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
        for layer, output in zip((ours, theirs), outputs, strict=True):
            layer.zero_grad()
            output.square().sum().backward()
        gradients = [layer.parametrizations.weight.original.grad for layer in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm_of(ours).u, state._u, rtol=1e-5, atol=1e-6)


def test_one_iteration_a_use_in_training_and_none_in_evaluation():
    layer = spectrally_normalised(nn.Linear(30, 20))
    x = torch.randn(2, 30)
    u = norm_of(layer).u.clone()
    matrix = layer.parametrizations.weight.original.detach()
    layer(x)
    once = nn.functional.normalize(matrix @ matrix.T @ u, dim=0)
    assert not torch.equal(norm_of(layer).u, u)
    torch.testing.assert_close(norm_of(layer).u, once, rtol=1e-5, atol=1e-6)
    layer.eval()
    u = norm_of(layer).u.clone()
    first, second = layer(x), layer(x)
    assert torch.equal(first, second)
    assert torch.equal(norm_of(layer).u, u)


def test_training_goes_on_from_a_state_dict_to_the_same_bytes():
    layer, x = spectrally_normalised(nn.Linear(30, 20)), torch.randn(2, 30)
    layer(x)
    other = spectrally_normalised(nn.Linear(30, 20))
    other.load_state_dict(layer.state_dict())
    for _ in range(3):
        assert torch.equal(layer(x), other(x))
    assert "parametrizations.weight.0.u" in layer.state_dict()


def test_gradients_survive_a_second_use_before_them():
    layer, x = spectrally_normalised(nn.Linear(6, 5)), torch.randn(4, 6)
    loss = layer(x).square().sum() + layer(2 * x).square().sum()
    loss.backward()
    assert float(layer.parametrizations.weight.original.grad.abs().sum()) > 0


def test_a_running_average_of_u_serves_as_well_as_u():
    layer, x = spectrally_normalised(nn.Linear(6, 5)).eval(), torch.randn(4, 6)
    before = layer(x)
    norm_of(layer).u.mul_(0.7)
    torch.testing.assert_close(layer(x), before, rtol=1e-6, atol=1e-6)


# --- What it is for: a critic of slope 1 or less


def steepest(critic, points=2000, rounds=10):
    """The largest norm of a gradient that a climb from random points finds."""
    x, largest = 3 * torch.randn(points, 2), 0.0
    for _ in range(rounds):
        x.requires_grad_(True)
        (slopes,) = torch.autograd.grad(critic(x).real.sum(), x)
        norms = slopes.norm(dim=1)
        largest = max(largest, float(norms.max()))
        best = x.detach()[norms.argsort(descending=True)[: points // 10]]
        x = best.repeat(10, 1) + 0.3 * torch.randn(points, 2)
    return largest


@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_a_critic_has_no_gradient_above_its_gain_and_reaches_it(gain):
    """Trained to part two points, W1 of which is their distance; its activation has slopes of 1 and 0.2."""
    architecture = Architecture(net="mlp", width=16, spectral="discriminator", gain=gain)
    critic = mlp.discriminator(Kind((2,)), architecture)
    optimiser = torch.optim.Adam(critic.parameters(), 5e-3)
    a, b = torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2)
    for _ in range(300):
        loss = (critic(b).real - critic(a).real).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    critic.eval()
    assert steepest(critic) <= gain * 1.001
    reached = float((critic(a).real - critic(b).real).detach())
    assert 0.9 * 3 * gain < reached <= 3 * gain * 1.001


def test_a_critic_without_it_is_steeper():
    critic = mlp.discriminator(Kind((2,)), Architecture(net="mlp", width=16))
    with torch.no_grad():
        for weight in critic.parameters():
            weight.mul_(2)
    assert steepest(critic.eval()) > 1.5
