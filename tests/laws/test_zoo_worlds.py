"""Known answers of metrics on the worlds of the zoo: distributions whose distance or overlap is a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from gen_eval.likelihood import compare_likelihoods, evaluate_likelihood
from gen_eval.metrics.diversity.modes import mode_coverage
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian as Fitted
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.neighbors.manifold import density_coverage, precision_recall
from gen_eval.stats import Moments
from gen_eval.zoo.combinators import KeepModes, Memoriser, Mix, Noisy, Shifted, Truncated
from gen_eval.zoo.worlds import Gaussian, Mixture

N = 4000
FAR = 10**6  # the first seed of the reference, so that no two sets share one
OF_MODES = 0.03  # that a sample is finite
NOISE = 3.5  # standard errors that chance allows
EIGHT = torch.eye(8, dtype=torch.float64)


def between(generated, reference):
    """Precision and recall."""
    values = precision_recall(generated.sample(N, seed=0), reference.sample(N, seed=FAR)).values
    return values["precision"], values["recall"]


def distance(generated, reference, n=5000):
    """The squared Fréchet distance, less what it is expected to exceed the truth by, and its standard error."""
    fitted = []
    for rows in (generated.sample(n, seed=0).double(), reference.sample(n, seed=FAR).double()):
        moments = Moments.of(rows)
        fitted.append(Fitted(n, moments.mean, moments.cov(), rows))
    score = frechet(*fitted)
    return score.values["frechet"] - score.bias, score.errors["frechet"]


# --- Modes, precision and density


@pytest.mark.parametrize("kept", [5, 2])
def test_a_world_counts_its_modes_as_the_metric_does(kept):
    ring = Mixture.ring()
    rows = KeepModes(ring, range(kept)).sample(N, seed=0)
    scales = torch.full((8,), 0.1, dtype=torch.float64)
    counted = mode_coverage(rows, ring.means, scales, reach=3.0).values
    own = ring.modes_covered(rows)
    assert own.covered == counted["modes_covered"] == kept
    assert own.high_quality == pytest.approx(counted["high_quality"], abs=1e-12)


def test_a_mix_of_data_and_noise_has_the_precision_of_its_share():
    """Noise that is nowhere near the data: precision and density are the share of data, and coverage is its own."""
    data = Gaussian(torch.zeros(2), 0.01 * torch.eye(2))
    noise = Shifted(Gaussian(torch.zeros(2), torch.eye(2)), [50.0, 0.0])
    found = between(Mix([data, noise], [0.6, 0.4]), data)
    assert found[0] == pytest.approx(0.6, abs=OF_MODES)
    assert found[1] > 0.96
    rows = Mix([data, noise], [0.6, 0.4]).sample(N, seed=0), data.sample(N, seed=FAR)
    assert density_coverage(*rows).values["density"] == pytest.approx(0.6, abs=OF_MODES)


# --- Distances


def test_gaussians_have_the_frechet_distance_of_the_formula():
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)); that of the samples is it within 3.5 standard errors."""
    rng = np.random.default_rng(0)
    worlds = []
    for _ in range(2):
        root = rng.standard_normal((8, 8)) / 4 + np.eye(8)
        worlds.append(Gaussian(rng.standard_normal(8) / 2, root @ root.T))
    (m, s), (m2, s2) = ((world.mean.numpy(), world.covariance.numpy()) for world in worlds)
    truth = float(((m - m2) ** 2).sum() + np.trace(s + s2 - 2 * sqrtm(s @ s2).real))
    value, error = distance(*worlds)
    assert value == pytest.approx(truth, abs=NOISE * error)
    assert NOISE * error < 0.1 * truth


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_noise_and_shifts_move_a_gaussian_away_by_a_formula(strength):
    """Noise of sd s by 8 (sqrt(1 + s^2) - 1)^2, a shift by the square of its length."""
    world = Gaussian(torch.zeros(8), EIGHT)
    for spoilt, truth in (
        (Noisy(world, strength), 8 * (math.hypot(1, strength) - 1) ** 2),
        (Shifted(world, [strength, *[0.0] * 7]), strength**2),
    ):
        value, error = distance(spoilt, world)
        assert value == pytest.approx(truth, abs=NOISE * error)


@pytest.mark.parametrize("psi", [1.0, 0.8, 0.65, 0.5, 0.4, 0.3])
def test_truncation_moves_a_wide_gaussian_by_a_formula(psi):
    """Of 8 dimensions, wider by half: the squared distance is 8 (1.5 psi - 1)^2, least where neither is wider."""
    wide, world = Gaussian(torch.zeros(8), 1.5**2 * EIGHT), Gaussian(torch.zeros(8), EIGHT)
    value, error = distance(Truncated(wide, psi), world)
    assert value == pytest.approx(8 * (1.5 * psi - 1) ** 2, abs=NOISE * error)


# --- Memorization and likelihood


def test_a_memoriser_is_near_the_data_and_nothing_of_it_is_authentic():
    world = Gaussian(torch.zeros(8), EIGHT)
    training, held_out = world.sample(1000, seed=0), world.sample(1000, seed=FAR)
    copies = Memoriser(training, 1000)
    assert authenticity(copies.sample(1000, seed=2 * FAR), training).values["authenticity"] == 0
    assert authenticity(held_out, training).values["authenticity"] > 0.4
    assert distance(copies, world, 1000)[0] < 0.1
    few = authenticity(Noisy(copies, 0.01).sample(1000, seed=2 * FAR), training).values["authenticity"]
    assert few < 0.01


def test_likelihoods_of_worlds_are_entropies_and_divergences():
    """On its own samples, a world needs its entropy; another one as much more as the divergence from it."""
    world, other = Gaussian(torch.zeros(8), EIGHT), Gaussian(torch.full((8,), 0.2), 1.5 * EIGHT)
    rows = world.sample(20_000, seed=0)
    own, others = (evaluate_likelihood(model, rows) for model in (world, other))
    entropy = 8 / 2 * math.log(2 * math.pi * math.e)
    assert own.value == pytest.approx(entropy, abs=NOISE * own.error)
    divergence = 8 / 2 * (math.log(1.5) - 1 + (1 + 0.2**2) / 1.5)
    excess = compare_likelihoods(others, own)
    assert excess.values["nll"] == pytest.approx(divergence, abs=NOISE * excess.errors["nll"])
    assert NOISE * excess.errors["nll"] < 0.1 * divergence


def test_a_hundredth_of_data_in_noise_costs_log_100_at_most():
    """A mix has good likelihood and bad samples: at most 4.605 nats less, and a precision of a few in a hundred."""
    world, noise = Gaussian(torch.zeros(8), EIGHT), Gaussian(torch.zeros(8), 100 * EIGHT)
    diluted = Mix([world, noise], [0.01, 0.99])
    rows = world.sample(5000, seed=0)
    loss = compare_likelihoods(evaluate_likelihood(diluted, rows), evaluate_likelihood(world, rows))
    assert 0 < loss.values["nll"] <= math.log(100) + 1e-12
    assert between(diluted, world)[0] < 0.05
