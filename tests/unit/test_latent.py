"""Ways between latents, truncation, and what generators are held to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm

from gen_eval.errors import ImagesError, NumericalError, UsageError
from gen_eval.latent import (
    images_of,
    lerp,
    mapping_of,
    mean_latent,
    slerp,
    to_uint8,
    truncate,
    truncated_normal,
)


def rows(seed, n=50, dim=6):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(n=50):
    return torch.linspace(0, 1, n, dtype=torch.float64)


# --- Interpolation


def test_lerp_is_the_straight_way():
    a, b, t = rows(0), rows(1), shares()
    torch.testing.assert_close(lerp(a, b, t), (1 - t[:, None]) * a + t[:, None] * b)
    w = [x.view(50, 2, 3) for x in (a, b)]
    torch.testing.assert_close(lerp(*w, t), lerp(a, b, t).view(50, 2, 3))


def test_slerp_is_the_great_circle_at_constant_speed():
    a, b = rows(0), rows(1) * 3
    units = [x / x.norm(dim=1, keepdim=True) for x in (a, b)]
    angle = (units[0] * units[1]).sum(1).acos()
    start, end = (slerp(a, b, torch.full((50,), t, dtype=torch.float64)) for t in (0.0, 1.0))
    torch.testing.assert_close(start, units[0])
    torch.testing.assert_close(end, units[1])
    for t in (0.2, 0.5, 0.9):
        point = slerp(a, b, torch.full((50,), t, dtype=torch.float64))
        torch.testing.assert_close(point.norm(dim=1), torch.ones(50, dtype=torch.float64))
        torch.testing.assert_close((point * units[0]).sum(1).acos(), t * angle)
        torch.testing.assert_close((point * units[1]).sum(1).acos(), (1 - t) * angle)


def test_slerp_between_neighbours_and_from_a_point_to_itself():
    a = rows(0)
    near = a + 1e-9 * rows(1)
    half = slerp(a, near, torch.full((50,), 0.5, dtype=torch.float64))
    unit = a / a.norm(dim=1, keepdim=True)
    gap = near / near.norm(dim=1, keepdim=True) - unit
    torch.testing.assert_close(half - unit, gap / 2, rtol=1e-5, atol=1e-15)
    torch.testing.assert_close(slerp(a, a, shares()), unit)


# --- Truncation


@pytest.mark.parametrize("threshold", [4.0, 1.5, 1.0, 0.6, 0.3])
def test_truncated_normals_are_those_of_redrawing(threshold):
    """Variance 1 - 2 t phi(t) / (2 Phi(t) - 1), and the distribution of which that is the variance."""
    latents = truncated_normal(torch.arange(500), 40, threshold)
    assert latents.shape == (500, 40)
    assert latents.dtype == torch.float32
    assert float(latents.abs().max()) <= threshold
    values = latents.double().flatten().numpy()
    variance = 1 - 2 * threshold * norm.pdf(threshold) / (2 * norm.cdf(threshold) - 1)
    fourth = truncnorm(-threshold, threshold).moment(4)
    error = math.sqrt((fourth - variance**2) / len(values))
    assert abs(np.mean(values**2) - variance) < 3 * error
    assert 3 * error < 0.05 * variance  # so that another variance would show
    assert kstest(values, truncnorm(-threshold, threshold).cdf).pvalue > 0.01
    rng = np.random.default_rng(0)
    redrawn = rng.standard_normal(40_000)
    while (outside := np.abs(redrawn) > threshold).any():
        redrawn[outside] = rng.standard_normal(outside.sum())
    assert kstest(values, redrawn).pvalue > 0.01


def test_no_truncation_is_a_normal_and_nearly_none_is_near_it():
    seeds = torch.arange(300)
    free = truncated_normal(seeds, 20, math.inf)
    assert kstest(free.flatten().numpy(), "norm").pvalue > 0.01
    assert float((free - truncated_normal(seeds, 20, 6.0)).abs().max()) < 1e-4
    tight = truncated_normal(seeds, 20, 1e-3)  # a normal this near its middle is uniform
    assert kstest(tight.flatten().numpy(), "uniform", args=(-1e-3, 2e-3)).pvalue > 0.01


def test_a_latent_depends_on_its_seed_alone():
    seeds = torch.tensor([5, 900, 3])
    together = truncated_normal(seeds, 7, 0.8)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(truncated_normal(seed[None], 7, 0.8)[0], row)
    near = truncated_normal(seeds, 7, 0.81)
    assert float((near - together).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("seeds", "dim", "threshold"), [([0], 4, 0.0), ([0], 4, math.nan), ([0], 0, 1.0), ([-1], 4, 1.0)]
)
def test_latents_that_make_no_sense_are_refused(seeds, dim, threshold):
    with pytest.raises(UsageError):
        truncated_normal(torch.tensor(seeds), dim, threshold)


def test_psi_moves_latents_towards_their_centre():
    w, centre = rows(0), rows(1, n=1)[0]
    assert torch.equal(truncate(w, centre, 0.0), centre.expand(50, -1))
    torch.testing.assert_close(truncate(w, centre, 1.0), w)
    half = truncate(w, centre, 0.5)
    torch.testing.assert_close(half, (w + centre) / 2)
    torch.testing.assert_close(half.var(0), w.var(0) / 4)


# --- Generators


class Plain:
    def __init__(self, images):
        self.images = images

    def latent(self, seeds):
        return torch.stack([rows(int(seed), 1)[0] for seed in seeds]).float()

    def synthesize(self, latents):
        return self.images(latents) if callable(self.images) else self.images


class WithMapping(Plain):
    def mapping(self, z):
        return torch.stack([z + 3, 2 * z], 1)


def test_the_centre_is_the_mean_of_mapped_latents():
    generator = WithMapping(None)
    w = generator.mapping(generator.latent(torch.arange(7, 107)))
    for batch_size in (1000, 9):
        centre = mean_latent(generator, n=100, seed=7, batch_size=batch_size)
        assert centre.dtype == torch.float32
        torch.testing.assert_close(centre, w.mean(0), rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="n=0"):
        mean_latent(generator, n=0)
    with pytest.raises(UsageError, match=r"Plain has no method mapping\(z\)"):
        mapping_of(Plain(None))


def test_images_of_z_go_through_the_mapping_and_those_of_w_do_not():
    def by_mean(w):
        return (100 + w.flatten(1).mean(1)).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    generator, z = WithMapping(by_mean), torch.zeros(2, 6)
    assert images_of(generator, z).unique().tolist() == [101.5]
    assert images_of(generator, z, "w").unique().tolist() == [100]
    assert images_of(Plain(by_mean), z).unique().tolist() == [100]


def test_gray_images_become_rgb_and_gradients_are_not_kept():
    network = torch.nn.Linear(6, 16)
    generator = Plain(lambda z: 50 + network(z).view(-1, 1, 4, 4).double())
    images = images_of(generator, torch.ones(3, 6))
    assert images.shape == (3, 3, 4, 4)
    assert images.dtype == torch.float32
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 3, 4, 4)), ImagesError, "returned ndarray"),
        (torch.zeros(2, 3, 4), ImagesError, r"shape \[2, 3, 4\]"),
        (torch.zeros(3, 3, 4, 4), ImagesError, r"expected \[2, 3, h, w\]"),
        (torch.zeros(2, 4, 4, 3), ImagesError, r"shape \[2, 4, 4, 3\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), ImagesError, "int64"),
        (torch.full((2, 3, 4, 4), math.nan), NumericalError, "NaN or infinite"),
        (torch.full((2, 3, 4, 4), 1.0), ImagesError, r"between -1 and 1; expected .* in \[0, 255\]"),
        (None, ImagesError, "returned NoneType"),
    ],
)
def test_what_are_no_images_is_refused(images, error, message):
    with pytest.raises(error, match=message):
        images_of(Plain(images), torch.zeros(2, 6))


def test_black_images_are_images():
    assert not images_of(Plain(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 6)).any()


def test_whole_levels_are_the_nearest_ones():
    found = to_uint8(torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0]))
    assert found.tolist() == [0, 0, 1, 255, 255]
    assert found.dtype == torch.uint8
    assert to_uint8(found) is found
