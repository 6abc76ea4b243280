"""Every number says how sure it is: simulated again and again on worlds whose distance is known.

Random numbers are seeded, so a test either passes or fails for good on one platform. Its tolerance is what
chance allows all the same: `NOISE` standard deviations of what R repetitions leave uncertain, so that it
holds on other platforms and seeds too. For a coverage p that is sqrt(p (1 - p) / R), for a ratio of standard
errors to a standard deviation about sqrt(1 / 2R), for a mean its own standard error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from gen_eval.errors import TooFewImages
from gen_eval.metrics.frechet.frechet import frechet, frechet_infinity
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.stats import Moments

NOISE = 2.5
Z = 1.96  # of a 95 % interval


class World(NamedTuple):
    """Generated features are ``noise @ generated + shift``, reference features ``noise @ reference``."""

    generated: torch.Tensor
    reference: torch.Tensor
    shift: torch.Tensor

    @property
    def truth(self):
        """The distance of infinitely many images (pinned to 60 digits by the unit tests)."""
        return frechet(
            Gaussian(None, self.shift, self.generated.T @ self.generated), self.exact_reference
        ).values["frechet"]

    @property
    def exact_reference(self):
        return Gaussian(None, 0 * self.shift, self.reference.T @ self.reference)


def apart(d):
    """Two correlated clouds, well apart in mean and covariance."""
    rng = np.random.default_rng(d)
    a, b = (torch.from_numpy(np.eye(d) + rng.standard_normal((d, d)) / 2 / math.sqrt(d)) for _ in range(2))
    return World(a, b, torch.full((d,), 0.9 / math.sqrt(d)).double())


def alike(d):
    """One cloud, twice: the distance is zero."""
    world = apart(d)
    return World(world.generated, world.generated, 0 * world.shift)


def decaying(d):
    """Two clouds whose spectra fall as 1/k, as those of network features do."""
    rng = np.random.default_rng(d)
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0]
    turned = axes @ np.linalg.qr(np.eye(d) + 0.3 * rng.standard_normal((d, d)) / math.sqrt(d))[0]
    scales = np.arange(1, d + 1.0)[:, None] ** -0.5
    a, b = torch.from_numpy(scales * axes), torch.from_numpy(1.1 * scales * turned)
    return World(a, b, torch.full((d,), 0.3 / math.sqrt(d)).double())


def gaussian(n, d, generator):
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def exponential(n, d, generator):
    return -torch.log1p(-torch.rand(n, d, generator=generator, dtype=torch.float64)) - 1


def laplace(n, d, generator):
    u = torch.rand(n, d, generator=generator, dtype=torch.float64) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs()) / math.sqrt(2)


def fitted(rows):
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(), rows)


class Run(NamedTuple):
    """What R repetitions said: values, standard errors, reported biases, and the values at n."""

    values: np.ndarray
    errors: np.ndarray
    biases: np.ndarray
    at_n: np.ndarray

    def covered(self, centre):
        return float((np.abs(self.values - centre) < Z * self.errors).mean())

    @property
    def ratio(self):
        """Mean standard error over the standard deviation that there is."""
        return float(self.errors.mean() / self.values.std(ddof=1))


def simulate(world, noise, n, m, repetitions, metric=frechet):
    """Draw n generated and m reference images again and again; with ``m=None`` the reference is exact."""
    generator = torch.Generator().manual_seed(0)
    d, rows = len(world.shift), []
    for _ in range(repetitions):
        generated = fitted(noise(n, d, generator) @ world.generated + world.shift)
        reference = fitted(noise(m, d, generator) @ world.reference) if m else world.exact_reference
        score = metric(generated, reference)
        name = next(iter(score.values))
        rows.append(
            (
                score.values[name],
                score.errors[name],
                math.nan if score.bias is None else score.bias,
                score.values["frechet"],
            )
        )
    return Run(*np.array(rows).T)


def assert_covered(coverage, low, high, repetitions):
    spread = [math.sqrt(p * (1 - p) / repetitions) for p in (low, high)]
    assert low - NOISE * spread[0] <= coverage <= high + NOISE * spread[1]


def assert_ratio(ratio, low, high, repetitions):
    spread = math.sqrt(0.5 / repetitions)
    assert low * (1 - NOISE * spread) <= ratio <= high * (1 + NOISE * spread)


# --- The standard error


@pytest.mark.parametrize(
    ("d", "n", "noise", "repetitions"),
    [
        (8, 500, gaussian, 1000),
        (8, 500, exponential, 1000),
        (32, 600, gaussian, 600),
        (32, 600, laplace, 600),
    ],
)
def test_intervals_cover_the_estimators_own_mean(d, n, noise, repetitions):
    run = simulate(apart(d), noise, n, n, repetitions)
    assert_covered(run.covered(run.values.mean()), 0.93, 0.97, repetitions)
    # An error bar 15 % too short would pass for a coverage of .90; this sees it sooner.
    assert_ratio(run.ratio, 0.95, 1.1, repetitions)


@pytest.mark.parametrize("world", [apart, decaying])
@pytest.mark.parametrize(("n", "m"), [(40, 50), (50, 1000)])
def test_intervals_of_fewer_images_than_dimensions_are_never_too_short(n, m, world):
    # The noise of so few images also enters the map that the error bar is made from, and makes it 10 to 50 %
    # too wide, the more so the less of the spectrum they span. It must not be short, nor useless.
    repetitions = 500
    run = simulate(world(64), gaussian, n, m, repetitions)
    assert_covered(run.covered(run.values.mean()), 0.93, 1.0, repetitions)
    assert_ratio(run.ratio, 1.0, 1.6, repetitions)


@pytest.mark.parametrize("noise", [gaussian, exponential])
def test_intervals_at_no_distance_are_too_wide_by_root_two_at_most(noise):
    # Where both sets are alike the influence of each image vanishes, and what is left of the value is of second
    # order: half the variance of its first-order estimate.
    repetitions = 400
    run = simulate(alike(8), noise, 500, 500, repetitions)
    assert_covered(run.covered(run.values.mean()), 0.93, 1.0, repetitions)
    assert_ratio(run.ratio, 1.0, math.sqrt(2), repetitions)


def test_the_error_falls_as_the_root_of_n():
    few, many = (simulate(apart(8), gaussian, n, n, 50).errors.mean() for n in (500, 8000))
    assert few / many == pytest.approx(4, rel=0.05)


# --- The bias


@pytest.mark.parametrize("noise", [gaussian, laplace, exponential])
@pytest.mark.parametrize("world", [apart, alike])
def test_the_reported_bias_is_the_true_one(world, noise):
    world, repetitions = world(32), 200
    run = simulate(world, noise, 1000, 1000, repetitions)
    bias = run.values.mean() - world.truth
    uncertain = NOISE * run.values.std(ddof=1) / math.sqrt(repetitions)
    assert bias > 5 * uncertain  # there is one to be seen
    assert abs(run.biases.mean() - bias) < 0.15 * bias + uncertain


def test_the_bias_is_that_of_both_sets():
    world, repetitions = apart(32), 200
    for n, m in ((1000, 4000), (4000, 1000)):
        run = simulate(world, gaussian, n, m, repetitions)
        bias = run.values.mean() - world.truth
        uncertain = NOISE * run.values.std(ddof=1) / math.sqrt(repetitions)
        assert abs(run.biases.mean() - bias) < 0.15 * bias + uncertain


# --- The extrapolation


@pytest.mark.parametrize("noise", [gaussian, exponential])
def test_the_extrapolation_removes_the_bias_and_its_error_covers_the_truth(noise):
    world, repetitions = apart(32), 250
    run = simulate(world, noise, 1000, None, repetitions, frechet_infinity)
    left, before = abs(run.values.mean() - world.truth), run.at_n.mean() - world.truth
    uncertain = run.values.std(ddof=1) / math.sqrt(repetitions)
    assert before > 10 * uncertain
    assert left < 0.1 * before + NOISE * uncertain
    assert_covered(run.covered(world.truth), 0.93, 0.97, repetitions)
    assert_ratio(run.ratio, 0.95, 1.1, repetitions)


def test_the_extrapolation_states_the_bias_that_the_reference_leaves():
    world, repetitions = apart(32), 250
    run = simulate(world, gaussian, 1000, 1000, repetitions, frechet_infinity)
    left = run.values.mean() - world.truth
    uncertain = NOISE * run.values.std(ddof=1) / math.sqrt(repetitions)
    assert left > 3 * uncertain  # there is one to be seen
    assert abs(run.biases.mean() - left) < 0.15 * left + uncertain
    assert_covered(run.covered(world.truth + run.biases.mean()), 0.93, 0.97, repetitions)


def test_the_extrapolation_is_refused_where_half_the_images_do_not_exceed_the_dimension():
    world, generator = apart(32), torch.Generator().manual_seed(0)
    with pytest.raises(TooFewImages, match="needs 66 generated images, found 65"):
        frechet_infinity(fitted(gaussian(65, 32, generator)), world.exact_reference)
