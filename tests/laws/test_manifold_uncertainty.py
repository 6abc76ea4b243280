"""The error bars of precision, recall, density and coverage, by simulation.

Both sets are drawn again and again, and intervals of 1.96 standard errors must cover the estimator's own
expectation 92 to 98 times in a hundred. As in ``test_uncertainty``, tolerances are what R repetitions leave uncertain.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from gen_eval.metrics.neighbors.ball_counts import Balls
from gen_eval.metrics.neighbors.manifold import survey
from gen_eval.metrics.neighbors.sampled import SampledManifold

NOISE = 2.0
Z = 1.96  # of a 95 % interval
NAMES = ("precision", "recall", "density", "coverage")


def shifted(rng, n, m, d):
    return rng.standard_normal((n, d)) + 1.5 / math.sqrt(d), rng.standard_normal((m, d))


def alike(rng, n, m, d):
    return rng.standard_normal((n, d)), rng.standard_normal((m, d))


def wider(rng, n, m, d):
    return 1.4 * rng.standard_normal((n, d)), rng.standard_normal((m, d))


def overlapping(rng, n, m, d):
    """Unit cubes of which 60 % is common."""
    generated = rng.random((n, d))
    generated[:, 0] += 0.4
    return generated, rng.random((m, d))


def dropped(rng, n, m, d):
    """Eight modes, of which the generator knows five."""
    centres = 6 * np.random.default_rng(5).standard_normal((8, d))
    draws = (centres[rng.integers(0, known, count)] for known, count in ((5, n), (8, m)))
    return tuple(centre + rng.standard_normal(centre.shape) for centre in draws)


class Run(NamedTuple):
    """Values and standard errors of R repetitions, ``[R, 4]``; ``binomial`` errors ignore that balls are drawn."""

    values: np.ndarray
    errors: np.ndarray
    binomial: np.ndarray

    def covered(self, errors):
        return (np.abs(self.values - self.values.mean(0)) <= Z * errors).mean(0)

    @property
    def ratio(self):
        """Root mean square standard error over the standard deviation that there is."""
        return np.sqrt((self.errors**2).mean(0)) / self.values.std(0, ddof=1)


@cache
def simulate(world, n, m, d, k, repetitions):
    rng, rows = np.random.default_rng(0), []
    for _ in range(repetitions):
        generated, reference = (torch.from_numpy(part.astype(np.float32)) for part in world(rng, n, m, d))
        score = survey(generated, reference, [Balls(k)])[0].prdc()
        values, errors = (
            np.array([source[name] for name in NAMES]) for source in (score.values, score.errors)
        )
        naive = [
            math.sqrt(p * (1 - p) / count) for p, count in zip(values[[0, 1, 3]], (n, m, m), strict=True)
        ]
        rows.append((values, errors, np.array([naive[0], naive[1], math.nan, naive[2]])))
    return Run(*(np.array(part) for part in zip(*rows, strict=True)))


def spread(p, repetitions):
    return NOISE * math.sqrt(p * (1 - p) / repetitions)


@pytest.mark.parametrize(
    ("world", "n", "m", "d", "k", "repetitions"),
    [
        (shifted, 300, 400, 8, 3, 150),
        (shifted, 500, 300, 2, 3, 150),
        (alike, 400, 300, 64, 3, 150),
        (overlapping, 600, 300, 8, 3, 150),
        (dropped, 300, 400, 2, 5, 150),
        (dropped, 1000, 800, 8, 3, 60),
    ],
)
def test_intervals_cover_the_estimators_own_mean(world, n, m, d, k, repetitions):
    run = simulate(world, n, m, d, k, repetitions)
    covered = dict(zip(NAMES, run.covered(run.errors), strict=True))
    for name, share in covered.items():
        assert 0.92 - spread(0.92, repetitions) <= share <= 0.98 + spread(0.98, repetitions), name
    # An error bar 15 % too short would pass for a coverage of .90; this sees it sooner.
    noise = 1 + NOISE * math.sqrt(0.5 / repetitions)
    assert (run.ratio > 0.92 / noise).all()
    assert (run.ratio < 1.2 * noise).all()


def test_intervals_are_somewhat_short_where_a_few_balls_at_the_edge_decide():
    """In the plane the far side of the generated set lies in a handful of large balls: skewed, and .87 to .92."""
    run = simulate(shifted, 300, 500, 2, 5, 150)
    assert (run.covered(run.errors) > 0.87 - spread(0.87, 150)).all()


def test_the_binomial_error_alone_would_be_too_short():
    """What the halving is for: the balls are drawn as well."""
    run = simulate(shifted, 300, 400, 8, 3, 150)
    assert (run.covered(run.binomial)[[0, 1]] < 0.85).all()


def test_near_0_and_1_the_intervals_are_wide_rather_than_short():
    """Precision near 0, recall near 1: hardly any image decides, and chance alone can show none."""
    run = simulate(wider, 400, 300, 64, 3, 80)
    precision, recall = run.values[:, 0], run.values[:, 1]
    assert precision.mean() < 0.02
    assert (precision == 0).any()
    assert recall.min() > 0.99
    assert (run.errors > 0).all()
    assert (run.covered(run.errors) > 0.92 - spread(0.92, 80)).all()


def test_the_error_falls_as_the_root_of_n():
    few, many = (simulate(overlapping, size, size, 2, 3, 12).errors.mean(0) for size in (400, 1600))
    np.testing.assert_allclose(few / many, 2, rtol=0.15)


@pytest.mark.parametrize(
    ("world", "n", "m", "d", "k", "sample"),
    [(shifted, 500, 400, 8, 3, 75), (overlapping, 300, 700, 2, 3, 120), (dropped, 450, 450, 8, 5, 60)],
)
def test_intervals_of_a_sample_cover_the_value_of_all_and_its_own_mean(world, n, m, d, k, sample):
    """Both sets are drawn again and again, and of each a sample: the draw is counted, and the sets' own."""
    rng, repetitions, rows = np.random.default_rng(0), 100, []
    for seed in range(repetitions):
        sets = [torch.from_numpy(part.astype(np.float32)) for part in world(rng, n, m, d)]
        found = SampledManifold(*sets, Balls(k), sample=sample, seed=seed)
        every = survey(*sets, [Balls(k)])[0]._values(*NAMES)
        rows.append(
            [
                [found.value(name), every[name], found.variance(name), found.draw_variance(name)]
                for name in NAMES
            ]
        )
    values, every, of_both, of_draw = np.moveaxis(np.array(rows), 2, 0)
    for truth, variance in ((every, of_draw), (every.mean(0), of_both)):
        gaps = values - truth
        covered = (np.abs(gaps) <= Z * np.sqrt(variance)).mean(0)
        assert (covered >= 0.92 - spread(0.92, repetitions)).all()
        ratio = np.sqrt(variance.mean(0) / (gaps**2).mean(0))
        noise = 1 + NOISE * math.sqrt(0.5 / repetitions)
        assert (ratio > 0.92 / noise).all()
        assert (ratio < 1.2 * noise).all()


def test_far_clusters_have_the_errors_of_near_ones():
    """There float32 cannot rank the neighbours; the halves must be read all the same."""

    def apart(gap):
        rng = np.random.default_rng(0)
        sets = (rng.standard_normal((300, 4)) for _ in range(2))
        return [torch.from_numpy(rows + gap * (np.arange(300) % 2)[:, None]) for rows in sets]

    near, far = (survey(*apart(gap), [Balls(3)])[0].prdc() for gap in (100.0, 1e6))
    assert far.values == near.values
    assert far.errors == pytest.approx(near.errors, rel=0.3)  # other halves are drawn
