"""The error bars and biases of transport distances and of diversity, by simulation.

Sets are drawn again and again. Intervals of 1.96 standard errors must cover the estimate's own expectation 92
to 98 times in a hundred; where first order vanishes, as between equal distributions, errors may be wide but not
short. As in ``test_uncertainty``, tolerances are what R repetitions leave uncertain.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from gen_eval.metrics.diversity.classes import class_balance, class_entropy
from gen_eval.metrics.diversity.modes import mode_coverage
from gen_eval.metrics.diversity.pairwise import pairwise_distance
from gen_eval.metrics.diversity.vendi import vendi
from gen_eval.metrics.transport.exact import wasserstein
from gen_eval.metrics.transport.sliced import sliced_wasserstein

NOISE = 2.5
Z = 1.96  # of a 95 % interval
REPETITIONS = 250


class Run(NamedTuple):
    """Values, errors and biases of all repetitions; biases are nan where none was stated."""

    values: np.ndarray
    errors: np.ndarray
    biases: np.ndarray

    @property
    def coverage(self):
        return float((np.abs(self.values - self.values.mean()) <= Z * self.errors).mean())

    @property
    def ratio(self):
        """Root mean square standard error over the standard deviation that there is."""
        return math.sqrt((self.errors**2).mean()) / self.values.std(ddof=1)


def simulate(estimate, name):
    """An estimate takes a generator of random numbers and a seed, and gives a score."""
    rng = np.random.default_rng(0)
    scores = [estimate(rng, seed) for seed in range(REPETITIONS)]
    values, errors, biases = (
        np.array([getattr(score, kind).get(name, math.nan) for score in scores])
        for kind in ("values", "errors", "biases")
    )
    return Run(values, errors, biases)


def assert_honest(run, *, low=0.92, high=0.98, widest=1.2):
    """At R repetitions a coverage p is uncertain by sqrt(p (1 - p) / R), a standard deviation by 1 / sqrt(2 R)."""
    spread = [math.sqrt(p * (1 - p) / REPETITIONS) for p in (low, high)]
    assert low - NOISE * spread[0] <= run.coverage <= high + NOISE * spread[1]
    slack = NOISE / math.sqrt(2 * REPETITIONS)
    assert 0.95 - slack <= run.ratio <= widest + slack


def sets(rng, n, m, d, shift, scale):
    """Correlated, of decaying variance; the other is shifted and wider."""
    axes = np.arange(1, d + 1.0) ** -0.3
    x = scale * rng.standard_normal((n, d)) * axes + shift / math.sqrt(d)
    return torch.from_numpy(x), torch.from_numpy(rng.standard_normal((m, d)) * axes)


APART, EQUAL = (1.0, 1.3), (0.0, 1.0)


# --- Transport


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m", "d"), [(60, 60, 2), (60, 90, 16), (60, 60, 128)])
def test_errors_of_the_exact_distance(n, m, d, p):
    run = simulate(lambda rng, seed: wasserstein(*sets(rng, n, m, d, *APART), p=p), "wasserstein")
    assert_honest(run, widest=1.25)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [2, 16])
def test_errors_of_the_exact_distance_between_equal_distributions_are_wide(d, p):
    run = simulate(lambda rng, seed: wasserstein(*sets(rng, 60, 60, d, *EQUAL), p=p), "wasserstein")
    assert_honest(run, high=1.0, widest=1.5)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [2, 16])
def test_the_debiased_distance_is_0_between_equal_distributions(d, p):
    run = simulate(lambda rng, seed: wasserstein(*sets(rng, 60, 60, d, *EQUAL), p=p, seed=seed), "debiased")
    assert abs(run.values.mean()) < 3 * run.values.std() / math.sqrt(REPETITIONS)
    assert_honest(run, high=1.0, widest=1.6)


@pytest.mark.parametrize("name", ["debiased", "floor"])
def test_errors_of_what_the_halves_say(name):
    run = simulate(lambda rng, seed: wasserstein(*sets(rng, 60, 90, 16, *APART), seed=seed), name)
    assert_honest(run, high=1.0, widest=1.4)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("projections", [12, 60])
@pytest.mark.parametrize("d", [2, 32])
def test_errors_of_the_sliced_distance(d, projections, p):
    run = simulate(
        lambda rng, seed: sliced_wasserstein(
            *sets(rng, 120, 80, d, *APART), p=p, projections=projections, seed=seed
        ),
        "sliced_wasserstein",
    )
    assert_honest(run, widest=1.25)


@pytest.mark.parametrize("p", [1, 2])
def test_errors_of_the_sliced_distance_between_equal_distributions_are_wide(p):
    run = simulate(
        lambda rng, seed: sliced_wasserstein(*sets(rng, 120, 80, 8, *EQUAL), p=p, projections=40, seed=seed),
        "sliced_wasserstein",
    )
    assert_honest(run, high=1.0, widest=1.6)


def test_an_error_of_the_images_alone_would_be_too_short_for_few_directions():
    """What is asked above can fail: the part of the directions is needed."""
    covered = []
    rng = np.random.default_rng(0)
    for seed in range(REPETITIONS):
        score = sliced_wasserstein(*sets(rng, 120, 80, 32, *APART), projections=4, seed=seed)
        images = score.errors["sliced_wasserstein"] ** 2 - score.values["projections_error"] ** 2
        covered.append((score.values["sliced_wasserstein"], math.sqrt(max(images, 0))))
    values, errors = np.array(covered).T
    assert (np.abs(values - values.mean()) <= Z * errors).mean() < 0.7


# --- Diversity


def features(rng, n, d):
    """Ten kinds of images, each about a direction of its own, some rarer than others."""
    centres = np.random.default_rng(1).standard_normal((10, d))
    kinds = rng.choice(10, n, p=np.arange(1, 11) / 55)
    return torch.from_numpy(centres[kinds] + 0.5 * rng.standard_normal((n, d)))


ORDERS = [0.5, 1.0, 2.0, math.inf]


@pytest.mark.parametrize(
    ("q", "options"), [(q, {}) for q in ORDERS] + [(1.0, {"kernel": "rbf", "bandwidth": 6.0})]
)
def test_errors_and_biases_of_the_vendi_score(q, options):
    run = simulate(
        lambda rng, seed: vendi(features(rng, 100 if options else 250, 8), q=q, **options), "vendi"
    )
    assert_honest(run, high=1.0, widest=1.3)
    if q == math.inf:
        return  # where the second eigenvalue comes close to the first, by chance, no bias is stated
    truth = vendi(features(np.random.default_rng(9), 1000, 8), q=q, **options)
    bias = run.values.mean() - (truth.values["vendi"] - truth.biases["vendi"])
    assert run.biases.mean() == pytest.approx(bias, rel=0.25, abs=3 * truth.errors["vendi"])


def test_errors_of_the_vendi_score_of_fewer_images_than_features():
    run = simulate(lambda rng, seed: vendi(features(rng, 60, 200), q=2.0), "vendi")
    assert_honest(run, high=1.0, widest=1.3)


def test_a_vendi_score_whose_bias_is_large_states_none_and_warns():
    score = vendi(features(np.random.default_rng(0), 60, 200))
    assert not score.biases
    assert "too few images" in score.warnings[0]


@pytest.mark.parametrize("squared", [False, True])
def test_errors_of_the_mean_pairwise_distance(squared):
    run = simulate(
        lambda rng, seed: pairwise_distance(features(rng, 60, 8), squared=squared), "pairwise_distance"
    )
    assert_honest(run)


def logits(rng, n, shares):
    """One class of each image, more or less sure."""
    kinds = rng.choice(len(shares), n, p=np.asarray(shares) / np.sum(shares))
    noise = rng.standard_normal((n, len(shares)))
    return torch.from_numpy(noise + 6 * rng.random((n, 1)) * np.eye(len(shares))[kinds])


SHARES = {"even": np.ones(8), "uneven": np.arange(1.0, 9)}


@pytest.mark.parametrize("name", ["class_entropy", "effective_classes", "soft_entropy"])
@pytest.mark.parametrize("shares", sorted(SHARES))
def test_errors_and_biases_of_class_entropies(shares, name):
    run = simulate(lambda rng, seed: class_entropy(logits(rng, 150, SHARES[shares])), name)
    assert_honest(run, high=0.99 if shares == "even" else 0.98)
    truth = class_entropy(logits(np.random.default_rng(9), 200_000, SHARES[shares]))
    bias = run.values.mean() - truth.values[name]
    noise = run.values.std() / math.sqrt(REPETITIONS)
    assert run.biases.mean() == pytest.approx(bias, rel=0.25, abs=3 * noise)


@pytest.mark.parametrize("shares", sorted(SHARES))
def test_errors_biases_and_p_values_of_the_balance_of_classes(shares):
    other = SHARES[shares] if shares == "even" else SHARES[shares][::-1] + 2

    def estimate(rng, seed):
        return class_balance(
            logits(rng, 150, SHARES[shares]), logits(rng, 250, other), permutations=99, seed=seed
        )

    run = simulate(estimate, "class_kl")
    assert_honest(run, high=0.99)
    big = np.random.default_rng(9)
    truth = class_balance(logits(big, 200_000, SHARES[shares]), logits(big, 200_000, other))
    bias = run.values.mean() - truth.values["class_kl"]
    noise = run.values.std() / math.sqrt(REPETITIONS)
    assert run.biases.mean() == pytest.approx(bias, rel=0.25, abs=3 * noise)


def test_p_values_of_the_balance_of_classes_are_uniform_where_nothing_differs():
    def estimate(rng, seed):
        return class_balance(
            logits(rng, 20, SHARES["uneven"]), logits(rng, 15, SHARES["uneven"]), permutations=99, seed=seed
        )

    p_values = simulate(estimate, "p_value").values
    for level in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        # Many divisions tie, so that fewer than so many are below.
        spread = math.sqrt(level * (1 - level) / REPETITIONS)
        assert (p_values <= level + 1e-9).mean() < level + NOISE * spread
    assert (p_values <= 0.25).mean() > 0.15


def modes(rng, n, shares):
    kinds = rng.choice(len(shares), n, p=np.asarray(shares) / np.sum(shares))
    angles = 2 * math.pi * np.arange(len(shares)) / len(shares)
    centres = 4 * np.stack([np.cos(angles), np.sin(angles)], 1)
    rows = centres[kinds] + 0.3 * rng.standard_normal((n, 2)) * np.where(rng.random((n, 1)) < 0.8, 1, 4)
    scales = torch.full((len(shares),), 0.3).double()
    return mode_coverage(torch.from_numpy(rows), torch.from_numpy(centres), scales, reach=3.0)


@pytest.mark.parametrize("shares", sorted(SHARES))
@pytest.mark.parametrize("name", ["high_quality", "mode_kl", "mode_entropy"])
def test_errors_of_mode_coverage(name, shares):
    assert_honest(simulate(lambda rng, seed: modes(rng, 150, SHARES[shares]), name), high=0.99)


def test_errors_of_the_number_of_modes_where_some_are_rare():
    # Fourteen modes, six of which are hit about twice in a hundred rows.
    shares = np.concatenate([np.ones(8), np.full(6, 0.15)])
    run = simulate(lambda rng, seed: modes(rng, 100, shares), "modes_covered")
    assert 0.7 < run.ratio < 1.3
