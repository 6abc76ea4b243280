"""The tests of means and variances against loops over features, labellings and rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.two_sample.moments import mean_test, variance_test
from gen_eval.metrics.two_sample.pool import Pool

N, M, DIM = 23, 31, 6
UNIT = math.sqrt(1 / N + 1 / M)
TESTS = {"mean_difference": mean_test, "variance_difference": variance_test}


def rows(n, seed, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def pair():
    return rows(N, 0) * 1.4 + torch.linspace(-0.5, 0.5, DIM), rows(M, 1)


def welch_of_means(x, y):
    return np.abs(ttest_ind(x, y, equal_var=False).statistic)


def welch_of_variances(x, y):
    """The difference of the variances over its standard error, var(s²) = (m4 - s⁴ (n - 3) / (n - 1)) / n."""
    parts = []
    for z in (x, y):
        n, centred = len(z), z - z.mean(0)
        m2, m4 = (centred**2).mean(0), (centred**4).mean(0)
        parts.append((z.var(0, ddof=1), (m4 - m2**2) / n + 2 * m2**2 / n / (n - 1)))
    (a, spread_a), (b, spread_b) = parts
    return np.abs(a - b) / np.sqrt(spread_a + spread_b)


ORACLES = {"mean_difference": welch_of_means, "variance_difference": welch_of_variances}


@pytest.mark.parametrize("name", TESTS)
def test_values_equal_loops(name, pair):
    score = TESTS[name](*pair, permutations=99, alpha=0.2, seed=5)
    pool = Pool.of(*pair, 5)
    t = np.array(
        [ORACLES[name](pool.rows[own].numpy(), pool.rows[~own].numpy()) for own in pool.labellings(99, 5).T]
    )
    assert score.values[name] == pytest.approx(UNIT * t[0].max(), rel=1e-9)
    assert score.values["feature"] == t[0].argmax()
    adjusted = [(1 + (t[1:].max(1) >= value).sum()) / 100 for value in t[0]]
    assert score.values["p_value"] == min(adjusted)
    assert score.values["features_found"] == sum(p <= 0.2 for p in adjusted)
    assert 0.01 < min(adjusted) < 0.5  # so that a wrong one would show


@pytest.mark.parametrize("name", TESTS)
def test_the_standard_error_is_the_jackknife_of_the_feature_that_differs_most(name, pair):
    score = TESTS[name](*pair)
    x, y = (z[:, int(score.values["feature"])].numpy()[:, None] for z in pair)
    pooled = np.concatenate([x, y]).std()

    def difference(a, b):
        return math.sqrt(1 / len(a) + 1 / len(b)) * float(ORACLES[name](a / pooled, b / pooled)[0])

    variance = 0.0
    for left_out in (
        [difference(np.delete(x, i, 0), y) for i in range(N)],
        [difference(x, np.delete(y, i, 0)) for i in range(M)],
    ):
        variance += (len(left_out) - 1) * np.var(left_out)
    assert score.errors[name] == pytest.approx(math.sqrt(variance), rel=1e-8)


def test_a_difference_is_in_standard_deviations():
    x, y = rows(4000, 0) * torch.tensor([1.0, 1, 1, 1.1**0.5, 1, 1]), rows(4000, 1)
    assert variance_test(x, y).values["variance_difference"] == pytest.approx(0.07, abs=0.05)
    x[:, 2] += 0.5
    score = mean_test(x * 7 + 3, y * 7 + 3)
    assert score.values["mean_difference"] == pytest.approx(0.5, abs=4 * score.errors["mean_difference"])
    assert score.values["feature"] == 2


@pytest.mark.parametrize("name", TESTS)
def test_features_in_blocks_and_scales_make_no_difference(name):
    x, y = rows(80, 0, 150), rows(70, 1, 150)
    x[:, 140] = 3 * x[:, 140] + 3
    score = TESTS[name](x, y)
    scale, shift = 10 ** torch.linspace(-6, 6, 150).double(), torch.linspace(-5, 5, 150).double()
    moved = TESTS[name]((x + shift) * scale, (y + shift) * scale)
    assert score.values["feature"] == moved.values["feature"] == 140
    assert score.values["p_value"] == 0.001
    assert moved.values[name] == pytest.approx(score.values[name], rel=1e-6)


@pytest.mark.parametrize("name", TESTS)
def test_fewer_images_than_features_and_constant_features(name):
    x, y = rows(8, 0, 300), rows(9, 1, 300)
    x[:, 5] = y[:, 5] = 0.1
    score = TESTS[name](x, y)
    assert score.values["p_value"] > 0.05
    assert score.values["features_found"] == 0
    assert score.values["feature"] != 5
    assert all(math.isfinite(value) for value in score.values.values())


def test_features_that_are_constant_in_each_set_at_two_values_differ():
    x, y = rows(8, 0), rows(9, 1)
    x[:, 3], y[:, 3] = 1.0, 2.0
    score = mean_test(x, y)
    assert score.values["feature"] == 3
    assert score.values["p_value"] == 0.001
    assert 1000 < score.values["mean_difference"] < math.inf
    assert variance_test(x, y).values["feature"] != 3


@pytest.mark.parametrize("name", TESTS)
def test_sets_without_any_variance_are_no_different(name):
    values = TESTS[name](torch.ones(8, 2), torch.ones(9, 2)).values
    assert values[name] == 0
    assert values["p_value"] == 1


def test_features_of_two_values_have_variances_that_compare():
    """Deviations of one size have no spread of their own."""
    x, y = (rows(40, 0) > 0).double(), (rows(50, 1) > 0).double()
    assert variance_test(x, y).values["p_value"] > 0.05
    assert (
        variance_test((rows(400, 0) > 1.5).double(), (rows(400, 1) > 0).double()).values["p_value"] == 0.001
    )


@pytest.mark.parametrize("name", TESTS)
def test_order_of_rows_and_sets_does_not_matter(name, pair):
    x, y = pair
    score, turned = (TESTS[name](*sets) for sets in (pair, (x.flip(0), y[torch.arange(M) * 7 % M])))
    assert turned == score
    swapped = TESTS[name](y, x)
    assert swapped.values[name] == pytest.approx(score.values[name], rel=1e-9)
    assert swapped.values["p_value"] == pytest.approx(score.values["p_value"], abs=0.06)


@pytest.mark.parametrize("name", TESTS)
def test_what_makes_no_sense_is_refused(name, pair):
    for x, y, options, error, message in (
        (pair[0][:3], pair[1], {}, TooFewImages, "at least 4 generated rows are needed, found 3"),
        (pair[0][:, :5], pair[1], {}, UsageError, r"5 \(generated\) and of 6 \(reference\) dimensions"),
        (pair[0] / 0, pair[1], {}, NumericalError, "generated set: 23 of 23"),
        (*pair, {"permutations": 0}, UsageError, "1 or more, found 0"),
        (*pair, {"alpha": 0.0}, UsageError, "found 0.0"),
    ):
        with pytest.raises(error, match=message):
            TESTS[name](x, y, **options)
