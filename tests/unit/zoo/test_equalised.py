"""Layers with an equalised learning rate, and what stands around them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gen_eval.zoo.nets.equalised import Conv, Linear, doubled, leaky, nearest, pixel_norm, with_deviation


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)  # not that of the rows
        yield


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("maker", "options"), [(Linear, {}), (Linear, {"rate": 0.01}), (Linear, {"gain": 1}), (Conv, {})]
)
def test_weights_are_scaled_by_the_constant_of_he_where_they_run(maker, options):
    """Unit weights over the rate, and outputs of variance gain² of normal inputs: He's sqrt(2 / inputs)."""
    layer = maker(300, 200, **options)
    assert float(layer.weight.detach().std()) * options.get("rate", 1) == pytest.approx(1, rel=0.02)
    y = layer(rows(500, 300)) if maker is Linear else layer(rows(2, 300, 18, 18))[:, :, 1:-1, 1:-1]
    assert float(y.detach().var()) == pytest.approx(options.get("gain", math.sqrt(2)) ** 2, rel=0.03)
    assert not layer.bias.any()


def test_a_layer_is_the_plain_one_of_scaled_weights():
    x = rows(5, 8)
    linear = Linear(8, 3, gain=1, bias=1)
    torch.testing.assert_close(linear(x), x @ linear.weight.T / math.sqrt(8) + 1)
    conv, maps = Conv(4, 3), rows(2, 4, 6, 6)
    conv.bias.data = torch.tensor([1.0, 2.0, 3.0])
    expected = F.conv2d(maps, conv.weight * math.sqrt(2 / 36), conv.bias, padding=1)
    torch.testing.assert_close(conv(maps), expected)


@pytest.mark.parametrize("rate", [1.0, 0.1, 0.01])
def test_a_step_of_adam_moves_what_a_layer_does_by_the_rate(rate):
    """Adam's first step changes every weight by the learning rate, and so every effective one by scale * lr."""
    layer = Linear(50, 20, rate=rate).double()
    before = layer.weight.detach() * layer.scale
    adam = torch.optim.Adam(layer.parameters(), lr=1e-3, eps=1e-16)
    layer(rows(7, 50).double()).square().sum().backward()
    adam.step()
    moved = (layer.weight.detach() * layer.scale - before).abs()
    torch.testing.assert_close(
        moved, torch.full_like(moved, 1e-3 * math.sqrt(2 / 50) * rate), rtol=1e-4, atol=0
    )
    bias = (layer.bias.detach() * rate).abs()
    torch.testing.assert_close(bias, torch.full_like(bias, 1e-3 * rate))


def test_pixels_have_features_of_unit_mean_square():
    x = rows(3, 16, 4, 4) * 7
    y = pixel_norm(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(3, 4, 4))
    torch.testing.assert_close(y * x.square().mean(1, keepdim=True).sqrt(), x)
    assert not pixel_norm(torch.zeros(2, 5)).any()


def test_deviation_stands_beside_each_sample_of_a_group():
    """Groups are of samples at equal distances: of 8 samples, 0, 2, 4 and 6 are one."""
    x = rows(8, 5, 3, 3)
    y = with_deviation(x)
    assert y.shape == (8, 6, 3, 3)
    assert torch.equal(y[:, :5], x)
    for group in (slice(0, None, 2), slice(1, None, 2)):
        expected = (x[group].var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[group, 5], expected.expand(4, 3, 3))


def test_samples_that_repeat_have_no_deviation():
    """Up to the square root of 1e-8, which keeps the gradient finite there."""
    x = rows(1, 6).expand(4, 6).clone().requires_grad_()
    y = with_deviation(x)
    assert torch.equal(y[:, 6].detach(), torch.full((4,), 1e-8).sqrt())
    y.sum().backward()
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize(("b", "group"), [(6, 3), (5, 1), (2, 2), (1, 1), (12, 4)])
def test_batches_that_four_does_not_divide_are_cut_into_smaller_groups(b, group):
    x = rows(b, 4)
    expected = [
        (x[i % (b // group) :: b // group].var(0, correction=0) + 1e-8).sqrt().mean() for i in range(b)
    ]
    torch.testing.assert_close(with_deviation(x)[:, 4], torch.stack(expected))


def test_doubling_by_blur_is_bilinear():
    """Repetition and then (1, 2, 1) / 4 is the filter (1, 3, 3, 1) / 8 between zeros, which is bilinear."""
    x = rows(2, 3, 5, 7).double()
    torch.testing.assert_close(doubled(x), F.interpolate(x, scale_factor=2, mode="bilinear"))
    kernel = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    blurred = F.conv2d(nearest(x), kernel, groups=3)
    torch.testing.assert_close(doubled(x)[:, :, 1:-1, 1:-1], blurred)


def test_nearest_repeats_pixels():
    x = rows(2, 1, 2, 2)
    assert torch.equal(nearest(x, 1), x)
    assert torch.equal(nearest(x, 4), x.repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_the_rectifier_leaks_a_fifth():
    assert leaky(torch.tensor([-5.0, 0.0, 5.0])).tolist() == [-1, 0, 5]
