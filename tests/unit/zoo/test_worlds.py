"""Worlds: densities against closed forms, samples against densities, labels against weights, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chisquare, kstest, multivariate_normal, norm

from gen_eval import draws
from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.worlds import WORLDS, Checkerboard, Disc, Empirical, Gaussian, Mixture, find_world

LEVEL = 0.001  # of each test of a distribution, whose seeds do not change
N = 20_000
MEAN = [1.0, -2.0, 0.5]
COVARIANCE = [[1.0, 0.4, -0.2], [0.4, 0.5, 0.1], [-0.2, 0.1, 2.0]]


def points(n=300, d=3, scale=2.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def seen_through_noise(world, x, sd, nodes=30):
    """The density of samples with noise added, by Gauss-Hermite quadrature of the density over the noise."""
    at, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
    weight = torch.cartesian_prod(weight, weight).prod(1) / (2 * math.pi)
    noise = sd * torch.cartesian_prod(at, at)
    return torch.stack([(weight * world.log_prob(row - noise).exp()).sum() for row in x])


# --- Gaussian


def test_a_gaussian_has_the_density_of_scipy():
    world, x = Gaussian(MEAN, COVARIANCE), points()
    truth = multivariate_normal(MEAN, COVARIANCE).logpdf(x.numpy())
    torch.testing.assert_close(world.log_prob(x), torch.from_numpy(truth), rtol=1e-12, atol=1e-12)
    assert world.log_prob(x.float()).dtype == torch.float64


def test_a_gaussian_is_sampled_with_its_moments_and_distances():
    world = Gaussian(MEAN, COVARIANCE)
    samples = world.sample(N, seed=0)
    squares = world.distances(samples).square()
    assert kstest(squares.numpy(), chi2(3).cdf).pvalue > LEVEL
    for direction in torch.eye(3).double()[[0, 1, 2]]:
        mean, variance = float(direction @ world.mean), float(direction @ world.covariance @ direction)
        along = (samples.double() @ direction).numpy()
        assert kstest(along, norm(mean, math.sqrt(variance)).cdf).pvalue > LEVEL
    # Of n samples, an entry of the covariance has a standard error of sqrt((s_ij^2 + s_ii s_jj) / n).
    found, truth = np.cov(samples.numpy().T), np.array(COVARIANCE)
    error = np.sqrt((truth**2 + np.outer(np.diag(truth), np.diag(truth))) / N)
    assert (np.abs(found - truth) < 3.5 * error).all()


def test_psi_scales_a_gaussian_about_its_mean():
    world = Gaussian(MEAN, COVARIANCE)
    samples, mean = world.sample(50, seed=0), torch.tensor(MEAN)
    for psi in (0.3, 1.5):
        truncated = world.sample(50, seed=0, truncation=psi)
        torch.testing.assert_close(truncated, mean + psi * (samples - mean), rtol=1e-5, atol=1e-6)
        law = multivariate_normal(MEAN, psi**2 * np.array(COVARIANCE)).logpdf(points().numpy())
        torch.testing.assert_close(world.truncated(psi).log_prob(points()), torch.from_numpy(law))
    assert torch.equal(world.sample(9, seed=0, truncation=0.0), mean.expand(9, 3))


@pytest.mark.parametrize(
    "world", [Gaussian([0.5, 0.0], [[0.6, -0.3], [-0.3, 0.4]]), Mixture.ring(4, 1.0, 0.4)]
)
def test_noised_is_the_distribution_after_noise(world):
    x = points(40, 2, 1.0)
    density = world.noised(0.5).log_prob(x).exp()
    torch.testing.assert_close(density, seen_through_noise(world, x, 0.5), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(world.noised(0).log_prob(x), world.log_prob(x))
    assert world.noised(0.5).classes == world.classes
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="noise is 0 or more"):
            world.noised(wrong)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        ([0.0, 0.0], [[1.0, 0.0]], r"found \[2\] and \[1, 2\]"),
        ([[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], r"expected a mean \[d\]"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "not symmetric and positive definite"),
        ([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], "not symmetric and positive definite"),
        ([0.0, math.nan], [[1.0, 0.0], [0.0, 1.0]], "NaN or infinity"),
    ],
)
def test_what_is_no_gaussian_is_refused(mean, covariance, message):
    with pytest.raises(UsageError, match=message):
        Gaussian(mean, covariance)


def test_a_world_does_not_change_with_what_it_was_made_of():
    mean = torch.zeros(2, dtype=torch.float64)
    world = Gaussian(mean, torch.eye(2))
    before = world.sample(3, seed=0)
    mean += 1
    assert torch.equal(world.sample(3, seed=0), before)


# --- Mixture


def uneven():
    covariances = torch.stack([torch.eye(2) * 0.3, torch.tensor([[0.5, 0.3], [0.3, 0.4]]), torch.eye(2)])
    return Mixture([[0.0, 0.0], [3.0, 1.0], [-2.0, 3.0]], covariances, [2, 1, 5])


def test_a_mixture_has_the_density_of_its_parts():
    world, x = uneven(), points(d=2)
    parts = [multivariate_normal(m, c).pdf(x) for m, c in zip(world.means, world.covariances, strict=True)]
    joint = np.array([0.25, 0.125, 0.625])[:, None] * parts
    torch.testing.assert_close(world.log_prob(x), torch.from_numpy(np.log(joint.sum(0))))
    torch.testing.assert_close(world.classify(x), torch.from_numpy(joint / joint.sum(0)).T)


def test_labels_of_a_mixture_follow_its_weights_and_draw_its_parts():
    world = uneven()
    labels = world.labels_of(torch.arange(N))
    assert chisquare(np.bincount(labels), N * world.weights.numpy()).pvalue > LEVEL
    for k, part in enumerate(world.components):
        samples = world.sample(2000, seed=0, labels=k)
        assert kstest(part.distances(samples).square().numpy(), chi2(2).cdf).pvalue > LEVEL
        assert torch.equal(samples, part.sample(2000, seed=0))  # the same content in each class


def test_the_bayes_classifier_is_calibrated():
    """Where it gives a class a probability of p, a share p of the samples are of that class."""
    world = Mixture([[0.0, 0.0], [1.0, 0.5]], 1.0, [0.3, 0.7])
    seeds = torch.arange(N)
    given, labels = world.classify(world(seeds))[:, 1], world.labels_of(seeds)
    for low in (0.2, 0.4, 0.6, 0.8):
        among = (given >= low) & (given < low + 0.2)
        error = math.sqrt(0.25 / int(among.sum()))
        assert float(labels[among].double().mean()) == pytest.approx(
            float(given[among].mean()), abs=3 * error
        )
    torch.testing.assert_close(world.classify(points(d=2)).sum(1), torch.ones(300, dtype=torch.float64))


def test_ring_and_grid_are_where_they_are_said_to_be():
    ring, grid = Mixture.ring(), Mixture.grid()
    torch.testing.assert_close(ring.means.norm(dim=1), torch.full((8,), 2.0).double())
    torch.testing.assert_close(ring.means[[0, 2]], torch.tensor([[2.0, 0.0], [0.0, 2.0]]).double())
    assert grid.means.unique().tolist() == [-4, -2, 0, 2, 4]
    assert len(grid.means.unique(dim=0)) == 25
    assert (ring.name, grid.name, len(grid.classes)) == ("ring8", "grid25", 25)
    assert Mixture.ring(5, 1.0, 0.2).components[0].covariance[0, 0] == pytest.approx(0.04)


def test_modes_covered_counts_those_that_get_their_share():
    world = Mixture.ring()
    every = world.modes_covered(world.sample(4000, seed=0))
    assert every.covered == 8
    assert every.high_quality == pytest.approx(1 - math.exp(-4.5), abs=3.5 * 0.0017)
    torch.testing.assert_close(every.shares.sum(), torch.tensor(every.high_quality).double())
    five = world.sample(4000, seed=0, labels=[k % 5 for k in range(4000)])
    stray = world.sample(40, seed=0, labels=6)  # a hundredth of all, of a mode that an eighth belongs to
    found = world.modes_covered(torch.cat([five, stray]))
    assert found.covered == 5
    assert world.modes_covered(torch.cat([five, stray]), least=0.05).covered == 6
    assert world.modes_covered(torch.zeros(10, 2)).high_quality == 0
    assert world.modes_covered(torch.zeros(10, 2), reach=20.5).high_quality == 1


def test_modes_that_are_kept_are_those_modes():
    world = uneven()
    kept = world.keep([2, 0])
    assert kept.classes == ("2", "0")
    assert kept.weights.tolist() == pytest.approx([5 / 7, 2 / 7])
    assert torch.equal(kept.sample(20, seed=0, labels=0), world.sample(20, seed=0, labels=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1.0], 1.0), r"expected means \[k, d\]"),
        ((torch.zeros(0, 2), 1.0), r"found \[0, 2\]"),
        (([[0.0], [1.0]], -1.0), "least -1"),
        (([[0.0], [1.0]], [1.0, 2.0, 3.0]), r"found \[3\]"),
        (([[0.0], [1.0]], torch.eye(2)), r"found \[2, 2\]"),
        (([[0.0], [1.0]], 1.0, [1.0]), "expected 2 weights above 0"),
        (([[0.0], [1.0]], 1.0, [1.0, 0.0]), "expected 2 weights above 0"),
        (([[0.0], [1.0]], 1.0, [1.0, math.inf]), "above 0 and finite"),
    ],
)
def test_what_is_no_mixture_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Mixture(*arguments)
    with pytest.raises(UsageError, match="2 Gaussians have as many classes, found 1"):
        Mixture([[0.0], [1.0]], 1.0, classes=["one"])


# --- Disc and checkerboard


@pytest.mark.parametrize("psi", [1.0, 0.4])
def test_a_disc_is_uniform_and_psi_scales_it(psi):
    samples = Disc(1.5).sample(N, seed=0, truncation=psi).double()
    radius, angle = samples.norm(dim=1), torch.atan2(samples[:, 1], samples[:, 0])
    assert kstest((radius / (1.5 * psi)).square().numpy(), "uniform").pvalue > LEVEL
    assert kstest(angle.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > LEVEL
    assert abs(np.corrcoef(radius, angle)[0, 1]) < 3.3 / math.sqrt(N)
    law = Disc(1.5).truncated(psi)
    inside = torch.tensor([[1.499 * psi, 0.0], [-1.0 * psi, 1.0 * psi], [1.501 * psi, 0.0]])
    assert (law.log_prob(inside).exp() * math.pi * (1.5 * psi) ** 2).tolist() == pytest.approx([1, 1, 0])
    assert bool(law.log_prob(samples).isfinite().all())


def test_squares_of_a_board_are_equally_frequent_and_even():
    world = Checkerboard(5, 0.7)
    place = world.sample(N, seed=0).double() / 0.7 + 2.5
    square = (place.floor() @ torch.tensor([5.0, 1.0]).double()).long()
    assert square.unique().tolist() == list(range(0, 25, 2))
    assert chisquare(np.bincount(square)[::2]).pvalue > LEVEL
    for within in (place - place.floor()).T:
        assert kstest(within.numpy(), "uniform").pvalue > LEVEL


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("number", [2.0**-53, 1 - 2.0**-53])
@pytest.mark.parametrize(
    "world", [Disc(), Disc(1.3), Checkerboard(), Checkerboard(7, 0.3), Checkerboard(40, 1.1)]
)
def test_no_sample_leaves_its_world_by_rounding(monkeypatch, world, number, place):
    """At the ends of what is drawn, where rounding to float32 goes outwards."""
    uniform = draws.uniform

    def extreme(seeds, count, stream=0):
        found = uniform(seeds, count, stream)
        found[:, place : place + 1] = number
        return found

    monkeypatch.setattr(draws, "uniform", extreme)
    assert bool(world.log_prob(world.sample(1000, seed=0)).isfinite().all())


@pytest.mark.parametrize("make", [Disc, lambda width: Checkerboard(4, width)])
@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan])
def test_sizes_that_make_no_sense_are_refused(make, size):
    with pytest.raises(UsageError, match="above 0 and finite"):
        make(size)
    with pytest.raises(UsageError, match="at least 1 square"):
        Checkerboard(0)


# --- Empirical

IMAGES = torch.randint(0, 256, (50, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.tensor([0] * 30 + [2] * 15 + [1] * 5)


def test_bootstrap_draws_are_items_of_the_data_each_equally_often():
    rows = torch.arange(50.0)[:, None].double()
    for world in (Empirical(rows), Empirical(rows, LABELS)):
        samples = world.sample(N, seed=0)
        assert samples.dtype == torch.float32
        counts = np.bincount(samples[:, 0].long().numpy(), minlength=50)
        assert chisquare(counts).pvalue > LEVEL


def test_labels_of_data_come_as_often_as_the_data_has_them():
    world = Empirical(IMAGES, LABELS, ("a", "b", "c"))
    assert world.classes == ("a", "b", "c")
    counts = np.bincount(world.labels_of(torch.arange(N)))
    assert chisquare(counts, N * np.array([0.6, 0.1, 0.3])).pvalue > LEVEL
    of_class = {tuple(row) for row in IMAGES[45:].flatten(1).tolist()}
    drawn = {tuple(row) for row in world.sample(200, seed=0, labels=1).flatten(1).tolist()}
    assert drawn == of_class


def test_data_has_no_density():
    for world in (Empirical(IMAGES), Empirical(torch.zeros(3, 2))):
        assert not any(hasattr(world, name) for name in ("log_prob", "bound", "score", "noised"))


def test_arrays_that_are_read_only_will_do():
    array = IMAGES.numpy().copy()
    array.flags.writeable = False
    assert torch.equal(Empirical(array).sample(5, seed=0), Empirical(IMAGES).sample(5, seed=0))


@pytest.mark.parametrize("given", [IMAGES, IMAGES[:, 0, 0].double(), IMAGES.numpy()])
def test_data_does_not_change_with_what_it_was_made_of(given):
    mine = given.copy() if isinstance(given, np.ndarray) else given.clone()
    world = Empirical(mine)
    before = world.sample(5, seed=0)
    mine[:] = 0
    assert torch.equal(world.sample(5, seed=0), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([[0.0], [math.nan]]),), "NaN"),
        ((np.array([[0.0], [math.inf]]),), "NaN"),
        ((IMAGES.permute(0, 2, 3, 1),), r"uint8 images \[n, 1 or 3, h, w\]"),
        ((IMAGES.float(),), "found torch.float32"),
        ((torch.zeros(3, 2).long(),), "floating point vectors"),
        ((IMAGES[:0],), "one or more"),
        ((IMAGES, LABELS[:-1]), "each of 50 items"),
        ((IMAGES, LABELS.float()), "whole number"),
        ((IMAGES, LABELS * 2), "found those of 0, 2, 4"),
        ((IMAGES, LABELS - 1), "found those of -1, 0, 1"),
        ((IMAGES, LABELS, ("a", "b")), "classes 0 to 1"),
        ((IMAGES, LABELS, ("a", "b", "c", "d")), "classes 0 to 3"),
        ((IMAGES, None, ("a", "b")), "classes go with labels"),
    ],
)
def test_what_is_no_data_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Empirical(*arguments)


# --- The table


def test_worlds_are_found_by_name():
    for name in WORLDS:
        assert find_world(name).name == name
    with pytest.raises(UnknownName, match="did you mean 'ring8'"):
        find_world("ring")
