"""The measures of memorization: error bars and p-values, simulated again and again, and what is said of real digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from gen_eval.datasets import load
from gen_eval.errors import FetchError
from gen_eval.metrics import METRICS
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.memorization.data_copying import data_copying
from gen_eval.metrics.memorization.duplicates import duplicates
from gen_eval.metrics.memorization.fld import fld
from gen_eval.stats import Features

Z = 1.96  # of a 95 % interval
NOISE = 3.0  # standard deviations of what chance allows


def cloud(n, rng, d=4, scale=1.0):
    """Two Gaussians, one of them wider; of each row its own noise."""
    first = rng.random(n) < 0.4
    rows = rng.standard_normal((n, d)) * np.where(first, 0.5, 1.5)[:, None] * scale
    return torch.from_numpy(rows + 6 * first[:, None]).float()


def copies(training, share, rng, noise=0.1):
    """As many rows as there are, of which a share are training rows with a little noise."""
    n = len(training)
    copied = torch.from_numpy(rng.random(n) < share)[:, None]
    source = training[torch.from_numpy(rng.integers(n, size=n))]
    return torch.where(copied, source + noise * cloud(n, rng), cloud(n, rng))


def assert_covers(values, errors, truth, low, high):
    """The share of intervals around the values that hold the truth, within what chance allows."""
    covered = float((np.abs(values - truth) < Z * errors).mean())
    spread = [math.sqrt(p * (1 - p) / len(values)) for p in (low, high)]
    assert low - NOISE * spread[0] <= covered <= high + NOISE * spread[1], covered


@pytest.fixture(scope="module")
def null():
    """Scores of C_T where generated and held-out images are draws of one distribution."""
    rng = np.random.default_rng(0)
    return [
        data_copying(cloud(110, rng), cloud(100, rng), cloud(90, rng), cells=2, seed=seed)
        for seed in range(500)
    ]


def test_p_values_of_c_t_are_uniform_where_nothing_is_copied(null):
    values = [score.values["p_value"] for score in null]
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("share", "scale"), [(0.5, 1.0), (0.0, 1.4)])
def test_p_values_of_c_t_are_small_where_the_generator_copies_and_large_where_it_underfits(share, scale):
    rng, values = np.random.default_rng(6), []
    for _ in range(40):
        training = cloud(150, rng)
        generated = copies(training, share, rng) if share else cloud(150, rng, scale=scale)
        values.append(data_copying(generated, training, cloud(150, rng), cells=2).values["p_value"])
    found = np.array(values) if share else 1 - np.array(values)
    assert (found < 0.05).mean() > 0.7


def test_the_error_of_c_t_is_its_deviation_where_nothing_is_copied(null):
    values, errors = (
        np.array([getattr(score, kind)["c_t"] for score in null]) for kind in ("values", "errors")
    )
    # Less than 1, which the z-score of a single cell would have: two cells, of .4 and .6.
    assert math.sqrt(0.4**2 + 0.6**2) == pytest.approx(values.std(ddof=1), rel=0.12)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.12)
    assert_covers(values, errors, values.mean(), 0.93, 0.97)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_error_of_c_t_holds_where_the_generator_copies(share):
    rng = np.random.default_rng(1)
    training = cloud(150, rng)
    scores = [
        data_copying(copies(training, share, rng), training, cloud(150, rng), cells=2) for _ in range(300)
    ]
    values, errors = (
        np.array([getattr(score, kind)["c_t"] for score in scores]) for kind in ("values", "errors")
    )
    assert values.mean() < -1.5
    # How many images fall into a cell moves its z-score too, and is not counted.
    assert_covers(values, errors, values.mean(), 0.9, 0.97)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_errors_of_shares_hold_for_the_training_set_at_hand(share):
    rng = np.random.default_rng(2)
    training = cloud(200, rng)
    truth = cloud(20_000, rng) if not share else copies(training.repeat(100, 1), share, rng)
    sets = [copies(training, share, rng) for _ in range(400)]
    for engine, name in ((authenticity, "authenticity"), (duplicates, "near_copies")):
        scores = [engine(generated, training) for generated in sets]
        values, errors = (
            np.array([getattr(score, kind)[name] for score in scores]) for kind in ("values", "errors")
        )
        assert_covers(values, errors, engine(truth, training).values[name], 0.92, 0.98)


def test_the_error_of_repeats_counts_pairs():
    """Half of the rows come twice, as generators that collapse do; a half of the draws then are no draws."""
    rng = np.random.default_rng(4)
    training = cloud(100, rng, d=8)
    scores = []
    for _ in range(400):
        rows = cloud(120, rng, d=8)
        again = torch.from_numpy(rng.random(60) < 0.5)
        scores.append(
            duplicates(torch.cat([rows[:60], torch.where(again[:, None], rows[:60], rows[60:])]), training)
        )
    values, errors = (
        np.array([getattr(score, kind)["exact_repeats"] for score in scores]) for kind in ("values", "errors")
    )
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.1)
    assert_covers(values, errors, 0.5, 0.92, 0.98)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
def test_the_error_of_fld_is_near_its_deviation(scale):
    """Not exact: how the widths vary with what they are fitted to is left out, and halves exaggerate the rest."""
    rng = np.random.default_rng(3)
    scores = [
        fld(cloud(120, rng, 8, scale), cloud(240, rng, 8), cloud(120, rng, 8), seed=seed)
        for seed in range(120)
    ]
    values, errors = (
        np.array([getattr(score, kind)["fld"] for score in scores]) for kind in ("values", "errors")
    )
    assert 0.75 < errors.mean() / values.std(ddof=1) < 1.4
    assert_covers(values, errors, values.mean(), 0.9, 0.995)
    if scale == 1:
        assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
    if scale > 1:
        assert values.mean() > 3 * errors.mean()


# --- Real digits


@pytest.fixture(scope="module")
def digits():
    """2,000 digits to train on and 1,000 others, averaged to 64 features that are nearly full rank."""
    try:
        images = load("mnist-5k").images
    except FetchError as error:
        pytest.skip(str(error))
    order = np.random.default_rng(0).permutation(len(images))[:3000]
    return images[order[:2000]], images[order[2000:]]


def features(images):
    """7 x 7 means of 4 x 4 pixels, ``[n, 49]``."""
    means = images.reshape(len(images), 7, 4, 7, 4).mean((2, 4), dtype=np.float32)
    return torch.from_numpy(means.reshape(len(images), 49))


def frechet(generated, reference):
    metric = METRICS["frechet"]
    sets = {"generated": Features.of(generated), "reference": Features.of(reference)}
    return metric.compute(sets, **metric.params).values["frechet"]


@pytest.mark.network
def test_a_copy_of_the_training_set_has_the_best_distance_and_is_found_out(digits):
    rng = np.random.default_rng(1)
    copied = digits[0][rng.permutation(2000)[:1000]]
    noisy = np.clip(copied + 20 * rng.standard_normal(copied.shape), 0, 255).astype(np.uint8)
    shifted = np.roll(copied, 1, axis=2)
    train, held_out, copy, noisy, shifted = map(features, (*digits, copied, noisy, shifted))
    assert frechet(copy, train) < 0.5 * min(frechet(rows, train) for rows in (held_out, noisy, shifted))
    assert authenticity(copy, train).values["authenticity"] == 0
    assert 0.4 < authenticity(held_out, train).values["authenticity"] < 0.65
    found, fresh = duplicates(copy, train).values, duplicates(held_out, train).values
    assert found["near_copies"] == found["exact_copies"] == 1
    assert fresh["exact_copies"] == 0
    assert fresh["near_copies"] < 0.05
    half, others = held_out[:500], held_out[500:]
    assert data_copying(copy, train, others).values["c_t"] < -20
    assert data_copying(half, train, others).values["p_value"] > 0.001
    assert fld(copy, train, others).values["fld"] > 1000
    honest = fld(half, train, others)
    assert abs(honest.values["fld"]) < 5 * honest.errors["fld"]


@pytest.mark.network
def test_noise_on_copies_is_seen_through_but_not_for_ever(digits):
    train, held_out = map(features, digits)
    noise = torch.randn(1000, 49, generator=torch.Generator().manual_seed(0))
    values = [
        authenticity(train[:1000] + scale * noise, train).values["authenticity"] for scale in (1, 10, 40)
    ]
    assert values[0] == 0
    assert 0 < values[1] < authenticity(held_out, train).values["authenticity"] < values[2]
