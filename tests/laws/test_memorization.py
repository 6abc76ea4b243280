"""Error bars and p-values of the measures of memorization, simulated again and again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from threadpoolctl import threadpool_limits

from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.memorization.data_copying import data_copying
from gen_eval.metrics.memorization.duplicates import duplicates
from gen_eval.metrics.memorization.fld import fld

Z = 1.96  # of a 95 % interval
NOISE = 3.0  # standard deviations of what chance allows


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small are faster without threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


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
