"""What two-sample tests promise, simulated: p-values, level, power and the smallest effect that they find.

p-values are asked to be uniform by the Kolmogorov-Smirnov test over 300 repetitions. Those of permutations are whole
multiples, so each is spread evenly over its step, and over its ties too for the nearest-neighbour accuracy, which takes
few values; where nothing differs that is exactly uniform. Tolerances of shares are `NOISE` standard deviations of what
the repetitions leave uncertain.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest, norm

from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.two_sample.c2st import c2st
from gen_eval.metrics.two_sample.moments import mean_test, variance_test
from gen_eval.metrics.two_sample.nearest_neighbor import nearest_neighbor_test

NOISE = 2.5
PERMUTATIONS = 39
TESTS = {
    "c2st": c2st,
    "c2st-knn": partial(c2st, classifier="knn"),
    "nearest-neighbor-test": nearest_neighbor_test,
    "mean-test": mean_test,
    "variance-test": variance_test,
    "mmd": mmd,
}


def gaussians(n, m, d, rng):
    return rng.standard_normal((n, d)), rng.standard_normal((m, d))


def one_mean(n, d, rng, by):
    """Of one feature."""
    x, y = gaussians(n, n, d, rng)
    x[:, 0] += by
    return x, y


def one_variance(n, d, rng, factor):
    x, y = gaussians(n, n, d, rng)
    x[:, 0] *= math.sqrt(factor)
    return x, y


def all_variances(n, d, rng, factor):
    x, y = gaussians(n, n, d, rng)
    return x * math.sqrt(factor), y


def laplace(n, d, rng):
    """A Gaussian beside a Laplace distribution of the same mean and variance."""
    return rng.laplace(0, math.sqrt(0.5), (n, d)), rng.standard_normal((n, d))


def score_of(test, pair, seed, **options):
    return test(
        *(torch.from_numpy(rows) for rows in pair),
        **{"permutations": PERMUTATIONS, "seed": seed, **options},
    )


def simulate(test, draw, repetitions, **options):
    """Values by name, ``[repetitions]`` each."""
    rng = np.random.default_rng(0)
    found = [score_of(test, draw(rng), seed, **options).values for seed in range(repetitions)]
    return {name: np.array([values[name] for values in found]) for name in found[0]}


def noise(share, repetitions):
    return NOISE * math.sqrt(share * (1 - share) / repetitions)


@pytest.mark.parametrize("name", TESTS)
def test_p_values_are_uniform_and_the_level_holds_where_nothing_differs(name):
    found = simulate(TESTS[name], lambda rng: gaussians(22, 17, 3, rng), 300)
    p = found["p_value"]
    mid = found.get("mid_p_value", p - 0.5 / (1 + PERMUTATIONS))
    spread = p - 2 * np.random.default_rng(1).random(300) * (p - mid)
    assert kstest(spread, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.25):
        assert (p <= level + 1e-9).mean() <= level + noise(level, 300)
    if name != "nearest-neighbor-test":  # of which ties make the p-value larger
        assert (p <= 0.05 + 1e-9).mean() >= 0.05 - noise(0.05, 300)


@pytest.mark.parametrize("name", TESTS)
def test_the_level_holds_at_a_seed_that_never_changes_where_most_rows_are_equal(name):
    """Of one binary feature there are so few pairs of sets that the level can be added up, pair by pair.

    Where folds are drawn for each pair, so few of them leave it uncertain.
    """
    n, m = 40, 60
    ones_of_x, ones_of_y = (np.flatnonzero(binom.pmf(range(k + 1), k, 0.5) > 4e-3) for k in (n, m))
    rng, p, weights = np.random.default_rng(0), [], []
    for a in ones_of_x:
        for b in ones_of_y:
            pair = [(rng.permutation(k) < ones).astype(float)[:, None] for k, ones in ((n, a), (m, b))]
            options = {"bandwidth": 1.0} if name == "mmd" else {}
            p.append(score_of(TESTS[name], pair, 2020, **options).values["p_value"])
            weights.append(binom.pmf(a, n, 0.5) * binom.pmf(b, m, 0.5))
    p, weights = np.array(p), np.array(weights) / sum(weights)
    for level in (0.05, 0.1, 0.25, 0.5):
        uncertain = NOISE * math.sqrt(level * (1 - level) * (weights**2).sum())
        allowed = level + (uncertain if name.startswith("c2st") else 0.0)
        assert weights[p <= level + 1e-9].sum() <= allowed


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_the_bound_without_permutations_holds_its_level(classifier):
    found = simulate(
        partial(c2st, classifier=classifier), lambda rng: gaussians(22, 17, 3, rng), 300, permutations=0
    )
    for level in (0.05, 0.1, 0.25):
        assert (found["p_value"] <= level).mean() <= level + noise(level, 300)


def test_p_values_of_more_features_than_images_are_uniform_too():
    for name in ("c2st", "mean-test", "variance-test"):
        p = simulate(TESTS[name], lambda rng: gaussians(12, 12, 40, rng), 150)["p_value"]
        p = p - np.random.default_rng(1).random(150) / (1 + PERMUTATIONS)
        assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", ["mean-test", "variance-test"])
def test_means_and_variances_are_blind_to_what_is_neither(name):
    """A permutation test of a plain difference would not be: here the other set has heavier tails, or is wider."""
    other = laplace if name == "variance-test" else partial(all_variances, factor=9)
    p = simulate(TESTS[name], lambda rng: other(150, 2, rng), 200)["p_value"]
    assert (p <= 0.05 + 1e-9).mean() <= 0.05 + noise(0.05, 200)


# The effects are such that the larger of the sizes finds them mostly, and the smaller does not.
EFFECTS = {
    "c2st": partial(one_mean, by=0.65),
    "c2st-knn": partial(one_mean, by=0.85),
    "nearest-neighbor-test": partial(all_variances, factor=3),
    "mean-test": partial(one_mean, by=0.6),
    "variance-test": partial(one_variance, factor=2.5),
    "mmd": partial(one_mean, by=0.65),
}
REPETITIONS = 100


@pytest.mark.parametrize("name", TESTS)
def test_power_grows_with_the_number_of_images_and_is_what_is_stated(name):
    shares = []
    for n in (25, 50, 100):
        found = simulate(TESTS[name], lambda rng, n=n: EFFECTS[name](n, 4, rng), REPETITIONS, permutations=59)
        share = (found["p_value"] <= 0.05 + 1e-9).mean()
        # The stated one is too high as often as too low, so it is its median that compares.
        assert abs(np.median(found["power"]) - share) < 0.1 + noise(share, REPETITIONS)
        shares.append(share)
    assert shares[0] + 0.15 < shares[1] < shares[2] - 0.05
    assert shares[0] < 0.5 < 0.7 < shares[2]


@pytest.mark.parametrize("name", ["mean-test", "variance-test", "c2st"])
def test_the_detectable_effect_is_found_four_times_in_five(name):
    test, rng, n = TESTS[name], np.random.default_rng(5), 120
    stated = np.median(
        [score_of(test, gaussians(n, n, 4, rng), s, permutations=99).values["detectable"] for s in range(30)]
    )
    if name == "mean-test":
        draw = partial(one_mean, by=stated)
    elif name == "variance-test":
        # In standard deviations of squared deviations, of the set whose variance is 1 and of the other.
        ratio = next(r for r in np.linspace(1, 4, 3001) if (r - 1) / math.sqrt(1 + r**2) >= stated)
        draw = partial(one_variance, factor=ratio)
    else:
        # The statistic is what the trained classifiers reach; the shift that gives it is found by trying.
        values = {
            by: simulate(test, lambda rng, by=by: one_mean(n, 4, rng, by), 40, permutations=0)["auc"].mean()
            for by in (0.2, 0.35, 0.5, 0.65)
        }
        draw = partial(one_mean, by=np.interp(stated, list(values.values()), list(values)))
    p = simulate(test, lambda rng: draw(n, 4, rng), 100, permutations=99)["p_value"]
    assert abs((p <= 0.05 + 1e-9).mean() - 0.8) < 0.06 + noise(0.8, 100)


@pytest.mark.parametrize("d", [1, 2])
def test_the_three_pairs_of_the_lecture(d):
    """Other means, other variances, and a Gaussian beside a Laplace distribution; who finds which."""
    pairs = {
        "mean": lambda rng: (1 + rng.standard_normal((800, d)), rng.standard_normal((1000, d))),
        "variance": lambda rng: all_variances(1000, d, rng, 3),
        "laplace": lambda rng: laplace(2000, d, rng),
    }
    found = {
        pair: {
            name
            for name, test in TESTS.items()
            if score_of(test, draw(np.random.default_rng(3)), 0, permutations=199).values["p_value"] <= 0.01
        }
        for pair, draw in pairs.items()
    }
    assert found["mean"] == set(TESTS) - {"variance-test"}
    assert found["variance"] == set(TESTS) - {"mean-test", "c2st"}  # a line does not tell them apart
    # The nearest-neighbour test, which sees little of it, would need more images to be sure.
    assert found["laplace"] - {"nearest-neighbor-test"} == {"c2st-knn", "mmd"}


def test_a_median_detects_what_the_largest_of_many_features_would_pretend():
    """The largest t of 200 features is far from 0 where nothing differs; its power must not be."""
    found = simulate(mean_test, lambda rng: gaussians(40, 40, 200, rng), 100, permutations=99)
    assert np.median(found["mean_difference"]) > 0.5
    assert np.median(found["power"]) == 0.05


def test_errors_of_the_accuracies_are_those_of_repeated_draws():
    """Nearest neighbours are not independent: with many features a few rows are those of many.

    Those of the two sets are up to a third too large; the spread of 150 draws is known to 6 %.
    """
    for d, scale in ((2, 1.0), (2, 2.0), (10, 1.4), (60, 1.15)):
        rng, scores = np.random.default_rng(0), []
        for seed in range(150):
            x, y = gaussians(80, 60, d, rng)
            scores.append(score_of(nearest_neighbor_test, (scale * x, y), seed, permutations=1))
        for name, low, high in (
            ("accuracy", 0.85, 1.2),
            ("accuracy_generated", 0.9, 1.45),
            ("accuracy_reference", 0.9, 1.45),
        ):
            stated = math.sqrt(np.mean([score.errors[name] ** 2 for score in scores]))
            assert low < stated / np.std([score.values[name] for score in scores]) < high, (d, scale, name)


def test_errors_of_the_auc_are_those_of_repeated_draws():
    for classifier, by in (("logistic", 0.0), ("logistic", 0.6), ("knn", 0.0), ("knn", 0.6)):
        rng = np.random.default_rng(0)
        scores = [
            score_of(c2st, one_mean(60, 4, rng, by), seed, classifier=classifier, permutations=40)
            for seed in range(100)
        ]
        for name in ("auc", "accuracy"):
            stated = math.sqrt(np.mean([score.errors[name] ** 2 for score in scores]))
            assert 0.8 < stated / np.std([score.values[name] for score in scores]) < 1.3, (
                classifier,
                by,
                name,
            )


def test_the_detectable_effect_counts_how_many_features_are_looked_at():
    score = score_of(mean_test, one_mean(200, 3, np.random.default_rng(0), 0.0), 0, permutations=999)
    unit = math.sqrt(2 / 200)
    critical = score.values["detectable"] - norm.ppf(0.8) * score.errors["mean_difference"]
    assert critical / unit == pytest.approx(norm.ppf(1 - 0.05 / 6), abs=0.15)
