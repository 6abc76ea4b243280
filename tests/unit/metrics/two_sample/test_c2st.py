"""The classifier two-sample test against loops, the known accuracies of Gaussians, and fits by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import norm

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.two_sample.c2st import CLASSIFIERS, c2st
from gen_eval.metrics.two_sample.classifiers import knn, logistic
from gen_eval.metrics.two_sample.logistic import Logistic, scores
from gen_eval.metrics.two_sample.pool import Pool, standardised

N, M, DIM = 23, 31, 4


def rows(n, seed, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def pair():
    return rows(N, 0) + 0.4, rows(M, 1)


# --- Known answers


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_logistic_accuracy_and_auc_of_shifted_gaussians(delta):
    """The best rule is linear: Phi(delta / 2), and Phi(delta / sqrt 2) of pairs are in order."""
    x, y = rows(20000, 0, 5), rows(20000, 1, 5)
    x[:, 0] += delta
    score = c2st(x, y, permutations=0)
    assert score.values["accuracy"] == pytest.approx(norm.cdf(delta / 2), abs=0.01)
    assert score.values["auc"] == pytest.approx(norm.cdf(delta / math.sqrt(2)), abs=0.01)
    assert score.errors["accuracy"] < 0.003


def test_sets_of_other_size_fake_no_signal():
    score = c2st(rows(2000, 0, 5) + 1 / math.sqrt(5), rows(400, 1, 5), permutations=20)
    assert score.values["accuracy"] == pytest.approx(norm.cdf(0.5), abs=4 * score.errors["accuracy"])
    for classifier in CLASSIFIERS:
        score = c2st(rows(2000, 0, 5), rows(400, 1, 5), classifier=classifier, permutations=20)
        assert score.values["accuracy"] == pytest.approx(0.5, abs=3.5 * score.errors["accuracy"])


def test_log_odds_of_images_are_the_true_ones():
    x, y = rows(20000, 0, 5), rows(10000, 1, 5)
    x[:, 0] += 1
    odds = c2st(x, y, permutations=0).per_image
    for role, sample in (("generated", x), ("reference", y)):
        assert float((odds[role] - (sample[:, 0] - 0.5)).abs().mean()) < 0.06


# --- Logistic regression


def objective(design, y, penalty):
    def value(w):
        z = design @ w
        gradient = design.T @ (1 / (1 + np.exp(-z)) - y)
        gradient[1:] += penalty * w[1:]
        return np.logaddexp(0, z).sum() - y @ z + penalty / 2 * w[1:] @ w[1:], gradient

    return value


@pytest.mark.parametrize(
    ("n", "dim", "shift", "penalty"),
    [(60, 3, 0.0, 3.0), (60, 3, 1.0, 0.1), (60, 3, 20.0, 3.0), (30, 80, 0.5, 80.0), (60, 3, 20.0, 1e-3)],
)
def test_weights_minimise_the_objective(n, dim, shift, penalty):
    x = standardised(rows(n, 0, dim) * torch.logspace(0, -3, dim) + 5)
    labels = torch.stack([torch.arange(n) % 3 == 0, torch.arange(n) % 2 == 0, torch.arange(n) < n // 2], 1)
    x[:, 0] += shift * labels[:, 0]
    weights = Logistic(x, penalty).fit(labels)
    design = np.concatenate([np.ones((n, 1)), x.numpy()], 1)
    for w, y in zip(weights.T.numpy(), labels.T.double().numpy(), strict=True):
        value = objective(design, y, penalty)
        found = minimize(value, np.zeros(dim + 1), jac=True, options={"gtol": 1e-7, "maxiter": 10000})
        # Far apart, at a small penalty, the objective is flat and next to 0.
        assert value(w)[0] <= found.fun * (1 + 1e-4) + 1e-9
        assert np.abs(value(w)[1]).max() < 1e-5 * n
        assert np.abs(w - found.x).max() < 1e-3 * np.abs(found.x).max()
    torch.testing.assert_close(scores(x, weights), torch.from_numpy(design) @ weights)


def test_an_undetermined_regression_is_refused():
    x = torch.cat([rows(20, 0), rows(20, 0)], 1)
    with pytest.raises(NumericalError, match="use a larger one"):
        Logistic(x, 1e-300)


def test_labellings_do_not_see_each_other(pair):
    pool = Pool.of(*pair, 0)
    fold = pool.folds(5)
    held = [(fold == number).nonzero().flatten() for number in range(5)]
    labels = pool.labellings(30, 1, fold)
    for classify in (logistic(pool.rows, held, None), knn(pool.rows, fold, 5)):
        torch.testing.assert_close(classify(labels)[:, 7:8], classify(labels[:, 7:8]), rtol=1e-5, atol=1e-6)


def test_each_fold_is_scored_by_the_others(pair):
    pool = Pool.of(*pair, 0)
    fold = pool.folds(5)
    held = [(fold == number).nonzero().flatten() for number in range(5)]
    found = logistic(pool.rows, held, 2.0)(pool.own[:, None])[:, 0]
    x = standardised(pool.rows)
    for at in held:
        kept = torch.ones(N + M, dtype=torch.bool)
        kept[at] = False
        share = pool.own[kept].double().mean()
        expected = scores(x[at], Logistic(x[kept], 2.0).fit(pool.own[kept, None]))[:, 0]
        torch.testing.assert_close(found[at], expected - torch.log(share / (1 - share)))


def test_more_features_than_rows_are_folded_up_without_loss():
    x, y = rows(20, 0, 90), rows(25, 1, 90)
    x[:, 0] += 2
    pool = Pool.of(x, y, 0)
    fold = pool.folds(3)
    held = [(fold == number).nonzero().flatten() for number in range(3)]
    found = logistic(pool.rows, held, None)(pool.own[:, None])
    wide = standardised(pool.rows)
    for at in held:
        kept = torch.ones(45, dtype=torch.bool)
        kept[at] = False
        share = pool.own[kept].double().mean()
        expected = scores(wide[at], Logistic(wide[kept], 90.0).fit(pool.own[kept, None]))
        torch.testing.assert_close(found[at], expected - torch.log(share / (1 - share)), rtol=1e-5, atol=1e-6)


# --- Nearest neighbours


@pytest.mark.parametrize("k", [1, 6, 40])
def test_votes_equal_loops(k, pair):
    pool = Pool.of(*pair, 0)
    fold = pool.folds(5)
    labels = pool.labellings(3, 1, fold)
    found = knn(pool.rows, fold, k)(labels)
    distances = cdist(pool.rows.numpy(), pool.rows.numpy())
    for i in range(N + M):
        others = (fold != fold[i]).nonzero().flatten()
        nearest = others[np.argsort(distances[i][others])[:k]]
        expected = labels[nearest].double().mean(0) - labels[others].double().mean(0)
        torch.testing.assert_close(found[i], expected)


# --- The statistic


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_values_equal_loops_over_pairs(classifier, pair):
    score = c2st(*pair, classifier=classifier, permutations=9)
    pool = Pool.of(*pair, 2020)
    fold = pool.folds(5)
    found = torch.cat([score.per_image["generated"], score.per_image["reference"]])[pool.order]
    aucs = []
    for number in range(5):
        ours, theirs = (found[(fold == number) & side].tolist() for side in (pool.own, ~pool.own))
        aucs.append(np.mean([(a > b) + 0.5 * (a == b) for a in ours for b in theirs]))
    assert score.values["auc"] == pytest.approx(np.mean(aucs), rel=1e-12)
    right = [np.mean([(v > 0) + 0.5 * (v == 0) for v in score.per_image["generated"].tolist()])]
    right += [np.mean([(v < 0) + 0.5 * (v == 0) for v in score.per_image["reference"].tolist()])]
    assert score.values["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_p_value_is_that_of_sets_relabelled_within_folds(classifier, pair):
    pool = Pool.of(*pair, 2020)
    fold = pool.folds(5)
    held = [(fold == number).nonzero().flatten() for number in range(5)]
    labels = pool.labellings(40, 2020, fold)
    classify = logistic(pool.rows, held, None) if classifier == "logistic" else knn(pool.rows, fold, None)
    values = []
    for own in labels.T:
        found, aucs = classify(own[:, None])[:, 0], []
        for at in held:
            ours, theirs = (found[at][side].numpy() for side in (own[at], ~own[at]))
            aucs.append(np.mean((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)))
        values.append(np.mean(aucs))
    as_large = sum(value >= values[0] - 1e-9 for value in values[1:])
    assert 0 < as_large < 40
    assert c2st(*pair, classifier=classifier, permutations=40).values["p_value"] == (1 + as_large) / 41


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_sets_that_lie_apart(classifier):
    score = c2st(rows(60, 0) + 20, rows(50, 1), classifier=classifier)
    assert score.values["auc"] == score.values["accuracy"] == score.values["power"] == 1
    assert score.values["p_value"] == 1 / 201
    assert all(0 < error < 0.1 for error in score.errors.values())


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_few_images_of_many_features_are_not_told_apart_for_that(classifier):
    score = c2st(rows(40, 0, 500), rows(40, 1, 500), classifier=classifier)
    assert score.values["p_value"] > 0.05
    assert abs(score.values["auc"] - 0.5) < 3 * score.errors["auc"]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_copies_of_the_reference_are_not_told_apart(classifier):
    y = rows(60, 1)
    assert c2st(y, y, classifier=classifier).values["p_value"] > 0.05
    equal = c2st(torch.ones(30, 3), torch.ones(30, 3), classifier=classifier)
    assert equal.values["p_value"] > 0.05
    assert abs(equal.values["auc"] - 0.5) <= 3 * equal.errors["auc"]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_bound_without_permutations_is_larger(classifier):
    x, y = rows(80, 0) + 0.3, rows(80, 1)
    bound, exact = (c2st(x, y, classifier=classifier, permutations=count).values for count in (0, 999))
    assert exact["p_value"] < bound["p_value"] < 1
    assert exact["power"] > bound["power"]
    assert exact["detectable"] < bound["detectable"]
    assert exact["auc"] == bound["auc"]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_order_of_rows_does_not_matter(classifier, pair):
    x, y = pair
    score = c2st(x, y, classifier=classifier)
    turned = c2st(x.flip(0), y[torch.arange(M) * 7 % M], classifier=classifier)
    assert turned.values == score.values
    assert turned.errors == score.errors
    assert torch.equal(turned.per_image["generated"].flip(0), score.per_image["generated"])


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_float32_rows_and_the_least_that_is_enough(classifier):
    x, y = rows(200, 0) + 0.4, rows(150, 1)
    single, double = (
        c2st(x.to(t), y.to(t), classifier=classifier, permutations=200)
        for t in (torch.float32, torch.float64)
    )
    assert single.values["auc"] == pytest.approx(double.values["auc"], abs=0.05)  # other folds
    values = c2st(rows(4, 0), rows(4, 1), classifier=classifier).values
    assert 0 < values["p_value"] <= 1


def test_global_random_state_and_the_rows_are_left_alone(pair):
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [z.clone() for z in pair]
    for classifier in CLASSIFIERS:
        c2st(*pair, classifier=classifier)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(pair, copies, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classifier": "logit"}, UnknownName, "unknown classifier"),
        ({"folds": 1}, UsageError, "folds must be a whole number of 2 or more, found 1"),
        ({"folds": 2.5}, UsageError, "found 2.5"),
        ({"folds": "x"}, UsageError, "found 'x'"),
        ({"permutations": "x"}, UsageError, "permutations must be a whole number of 0 or more, found 'x'"),
        ({"penalty": 0.0}, UsageError, "found 0.0"),
        ({"classifier": "knn", "k": 0}, UsageError, "from 1 to 42"),
        ({"classifier": "knn", "k": 43}, UsageError, "found 43"),
        ({"classifier": "knn", "k": 2.5}, UsageError, "found 2.5"),
        ({"permutations": -1}, UsageError, "found -1"),
        ({"alpha": 1.5}, UsageError, "found 1.5"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, error, message, pair):
    with pytest.raises(error, match=message):
        c2st(*pair, **options)


def test_rows_that_do_not_compare_are_refused(pair):
    x, y = pair
    for sets, error in (
        ((x[:3], y), TooFewImages),
        ((x[:, :3], y), UsageError),
        ((x / 0, y), NumericalError),
    ):
        with pytest.raises(error):
            c2st(*sets)
