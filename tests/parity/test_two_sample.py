"""Classifiers beside scikit-learn's: the same folds, the same C, the same neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from gen_eval.metrics.two_sample.c2st import c2st
from gen_eval.metrics.two_sample.logistic import Logistic
from gen_eval.metrics.two_sample.pool import Pool, standardised

SIZES = {"more images": (150, 150, 12), "more features": (60, 60, 200)}
SEED, FOLDS = 2020, 5


def sets_of(n, m, d):
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    x, y = (torch.randn(size, d, generator=generator, dtype=torch.float64) @ axes for size in (n, m))
    return x * 1.2 + 0.2 * axes[0] + 3, y + 3


def regression(penalty):
    return LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10000)


@pytest.mark.parametrize("penalty", [0.5, 20.0])
@pytest.mark.parametrize("size", SIZES)
def test_coefficients(size, penalty):
    pool = Pool.of(*sets_of(*SIZES[size]), SEED)
    features = standardised(pool.rows)
    assert features.numpy() == pytest.approx(StandardScaler().fit_transform(pool.rows.numpy()), abs=1e-10)
    ours = Logistic(features, penalty).fit(pool.own[:, None])[:, 0].numpy()
    theirs = regression(penalty).fit(features.numpy(), pool.own.numpy())
    expected = np.concatenate([theirs.intercept_, theirs.coef_[0]])
    assert ours == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def compare(score, pool, model, features):
    """Held-out probabilities of the peer on our folds, against what we say of each row."""
    fold, own = pool.folds(FOLDS).numpy(), pool.own.numpy()
    theirs = cross_val_predict(model, features, own, cv=PredefinedSplit(fold), method="predict_proba")[:, 1]
    ours = torch.cat([score.per_image["generated"], score.per_image["reference"]])[pool.order].numpy()
    aucs = [roc_auc_score(own[fold == number], theirs[fold == number]) for number in range(FOLDS)]
    assert score.values["auc"] == pytest.approx(np.mean(aucs), rel=1e-12)
    assert score.values["accuracy"] == pytest.approx(balanced_accuracy_score(own, theirs > 0.5), rel=1e-12)
    return ours, theirs


@pytest.mark.parametrize("size", SIZES)
def test_cross_validated_logistic_regression(size):
    sets = sets_of(*SIZES[size])
    pool = Pool.of(*sets, SEED)
    score = c2st(*sets, penalty=3.0, permutations=0, seed=SEED)
    ours, theirs = compare(score, pool, regression(3.0), StandardScaler().fit_transform(pool.rows.numpy()))
    assert 1 / (1 + np.exp(-ours)) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", [1, 15])
def test_cross_validated_nearest_neighbours(size, k):
    sets = sets_of(*SIZES[size])
    pool = Pool.of(*sets, SEED)
    score = c2st(*sets, classifier="knn", k=k, permutations=0, seed=SEED)
    ours, theirs = compare(score, pool, KNeighborsClassifier(k), pool.rows.numpy())
    assert ours + 0.5 == pytest.approx(theirs, abs=1e-12)
