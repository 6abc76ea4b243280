"""Laws that every row of METRICS obeys, on features drawn here: no images, no networks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from gen_eval.errors import GenEvalError, NumericalError, TooFewImages
from gen_eval.metrics import METRICS
from gen_eval.stats import Features

DIM, N, M = 6, 320, 280
ROLES = {"generated": (N, 1, 0.3), "reference": (M, 2, 0.0), "heldout": (300, 3, 0.0)}
TESTS = ("c2st", "c2st-knn", "nearest-neighbor-test", "mean-test", "variance-test")
LEARNED = ("f-divergence", "jensen-shannon", "density-ratio", "wasserstein-critic")
# Rows that are built so that few images would take minutes off the test are given smaller parameters.
SMALL = {
    "kid": {"subsets": 20, "subset_size": 60},
    "frechet-inf": {"smallest": 40, "points": 6},
    "sliced-wasserstein": {"projections": 100},
    "class-balance": {"permutations": 99},
    **{name: {"permutations": 39} for name in TESTS},
    **{name: {"steps": 40} for name in LEARNED},
}
# Metrics of distances between rows alone know no origin and no directions.
KNOW_DISTANCES_ALONE = {
    *("frechet", "frechet-inf", "frechet-classes"),
    *("mmd", "mmd-laplace", "mmd-rational-quadratic", "mmd-mixture", "energy-distance"),
    *("precision-recall", "density-coverage", "prdc", "realism", "rarity"),
    *("wasserstein", "pairwise-distance", "mode-coverage"),
    *("authenticity", "data-copying", "duplicates"),
}
# Inner products and angles survive a rotation, but no shift.
KNOW_ANGLES = {"kid", "mmd-polynomial", "mifid", "cmmd", "vendi"}
# What each feature is matters: logits, directions that are drawn, and draws and folds that go by the rows' bits.
KNOW_FEATURES = {
    "inception-score",
    "class-entropy",
    "class-balance",
    "sliced-wasserstein",
    "fld",
    *TESTS,
    *LEARNED,
}
# Of a set against itself: what a distance is, and what a manifold holds. Unbiased estimates may be below.
WITHIN_ITSELF = {
    **dict.fromkeys(("frechet", "frechet-classes", "authenticity"), 0.0),
    **dict.fromkeys(("precision-recall", "prdc", "density-coverage"), 1.0),
}


def rows_of(role: str) -> torch.Tensor:
    n, seed, shift = ROLES[role]
    rows = np.random.default_rng(seed).normal(shift, 1, (n, DIM)) * np.linspace(0.5, 2, DIM) + 3
    return torch.from_numpy(rows.astype(np.float32))


def classes_of(n: int) -> list[str]:
    return ["ab"[index % 2] for index in range(n)]


def features_of(rows: torch.Tensor, classes: list[str]) -> Features:
    features = Features.of(rows)
    return replace(features, classes=tuple(classes[index] for index in features.sample.index.tolist()))


def score_of(name: str, change=lambda rows, role: rows, **params):
    """The score of a metric on the same rows each time, changed as asked."""
    metric = METRICS[name]
    features = {}
    for role in metric.roles:
        rows = change(rows_of(role), role)
        features[role] = features_of(rows, classes_of(len(rows)))
    return metric.compute(features, **{**metric.params, **SMALL.get(name, {}), **params})


@cache
def unchanged(name: str):
    """The score of the rows as they are, which every law compares with."""
    return score_of(name)


def assert_same(found, expected, rel=1e-4):
    """Every value that models are judged by, within rounding of the largest number that goes into it."""
    for name, value in expected.values.items():
        assert found.values[name] == pytest.approx(value, rel=rel, abs=1e-5), name


@pytest.mark.parametrize("name", METRICS)
def test_what_a_row_says_of_itself(name):
    metric = METRICS[name]
    score = unchanged(name)
    assert next(iter(metric.better)) == next(iter(score.values))
    assert set(metric.better) <= set(score.values)
    assert set(metric.better.values()) <= {"lower", "higher", "near 0", "near 0.5"}
    assert set(score.errors) | set(score.biases) <= set(score.values) | {"fit"}
    assert metric.cite
    assert all(math.isfinite(value) for value in score.values.values())


# An error bar, or the reason why there is none.
WITHOUT_ERRORS = {"realism", "rarity"}


@pytest.mark.parametrize("name", sorted(set(METRICS) - WITHOUT_ERRORS))
def test_every_number_says_how_sure_it_is(name):
    score = unchanged(name)
    for value in METRICS[name].better:
        assert 0 < score.errors[value] < math.inf


@pytest.mark.parametrize("name", METRICS)
def test_numbers_of_images_come_one_a_row(name):
    score = unchanged(name)
    for numbers in (score.contributions, score.per_image):
        for role, number in numbers.items():
            assert number.shape == (ROLES[role][0],)
            assert number.dtype == torch.float64


@pytest.mark.parametrize("name", METRICS)
def test_the_same_twice_and_nothing_global_touched(name):
    torch.manual_seed(5)
    np.random.seed(5)
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy())
    first, second = unchanged(name), score_of(name)
    assert first.values == second.values
    assert first.errors == second.errors
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


# Peers draw subsets and splits by position, so there another order is another draw.
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"kid", "inception-score", "frechet-inf"}))
def test_the_order_of_images_does_not_matter(name):
    def shuffled(rows, role):
        # Classes alternate: even places stay even.
        halves = [np.random.default_rng(0).permutation(len(rows) // 2) for _ in range(2)]
        order = torch.from_numpy(np.stack([halves[0] * 2, halves[1] * 2 + 1], 1).ravel())
        return rows[order]

    assert_same(score_of(name, shuffled), unchanged(name))


@pytest.mark.parametrize("name", sorted(KNOW_DISTANCES_ALONE | KNOW_ANGLES))
def test_a_rotation_does_not_matter(name):
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(3).normal(size=(DIM, DIM)))[0]).float()
    assert_same(score_of(name, lambda rows, role: rows @ turn), unchanged(name), rel=1e-3)


@pytest.mark.parametrize("name", sorted(KNOW_DISTANCES_ALONE))
def test_a_shift_of_both_does_not_matter(name):
    assert_same(score_of(name, lambda rows, role: rows + 16), unchanged(name), rel=1e-3)


def test_laws_name_rows_that_exist_and_leave_none_out():
    assert set(METRICS) == (KNOW_DISTANCES_ALONE | KNOW_ANGLES | KNOW_FEATURES)
    assert WITHIN_ITSELF.keys() <= KNOW_DISTANCES_ALONE | KNOW_ANGLES


@pytest.mark.parametrize("name", sorted(WITHIN_ITSELF))
def test_a_set_against_itself(name):
    score = score_of(name, lambda rows, role: rows_of("generated"))
    for value in METRICS[name].better:
        if value != "density":
            assert score.values[value] == pytest.approx(WITHIN_ITSELF[name], abs=1e-4)


@pytest.mark.parametrize(
    "name", sorted(name for name in METRICS if name.startswith(("mmd", "kid", "energy")))
)
def test_unbiased_distances_straddle_zero_between_draws_of_one_distribution(name):
    values = []
    for seed in range(12):

        def drawn(rows, role, seed=seed):
            rng = np.random.default_rng([seed, role == "generated"])
            return torch.from_numpy(rng.normal(size=(200, DIM)).astype(np.float32))

        values.append(next(iter(score_of(name, drawn).values.values())))
    mean, error = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(mean) < 3.5 * error
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "role"), [(name, role) for name in METRICS for role in METRICS[name].roles])
def test_what_is_not_finite_is_refused(name, role, bad):
    def spoilt(rows, at):
        if at == role:
            rows = rows.clone()
            rows[7, 2] = bad
        return rows

    with pytest.raises(NumericalError, match="NaN|infinit"):
        score_of(name, spoilt)


@pytest.mark.parametrize("name", METRICS)
def test_too_few_images_are_refused(name):
    metric = METRICS[name]
    for role in metric.roles:
        least = metric.least_n(role, DIM, metric.params)
        with pytest.raises(TooFewImages):
            score_of(name, lambda rows, at, role=role, least=least: rows[: least - 1] if at == role else rows)


@pytest.mark.parametrize("name", sorted(name for name in METRICS if len(METRICS[name].roles) > 1))
def test_other_dimensions_are_refused(name):
    with pytest.raises(GenEvalError, match="dimension"):
        score_of(name, lambda rows, role: rows[:, :5] if role == "generated" else rows)
