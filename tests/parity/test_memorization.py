"""The measures of memorization beside what scikit-learn and SciPy make of the published formulas.

The published code of FLD and C_T (github.com/marcojira/fld, github.com/casey-meehan/data-copying) is on no package
index. C_T is put together here from the very parts that it calls; the fit of FLD is repeated with autograd and torch's
own Adam in the unit tests.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.memorization.data_copying import data_copying
from gen_eval.metrics.memorization.mixture import Mixture


def clouds(n, seed, d=100, scale=1.0):
    """Three well-parted clouds with decaying variances, so that any k-means finds them."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.4 * scale
    rows[np.arange(n), rng.integers(3, size=n)] += 15
    return rows.astype(np.float32)


def tensors(*sets):
    return [torch.from_numpy(rows) for rows in sets]


def of_sklearn(generated, training, heldout):
    """C_T as published: PCA, k-means, and the rank test of each cell."""
    if training.shape[1] > 64:
        pca = PCA(n_components=64, svd_solver="full").fit(training)
        generated, training, heldout = map(pca.transform, (generated, training, heldout))
    kmeans = KMeans(n_clusters=3, n_init=10, random_state=0).fit(training)
    z, weights = [], []
    for cell in range(3):
        g, t, h = (rows[kmeans.predict(rows) == cell] for rows in (generated, training, heldout))
        if len(g) <= 20:
            continue
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(t.astype(np.float64))
        distances = [nearest.kneighbors(rows.astype(np.float64))[0][:, 0] for rows in (g, h)]
        u = scipy.stats.mannwhitneyu(*distances, alternative="less").statistic
        n, m = len(g), len(h)
        z.append((u - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12))
        weights.append(m)
    return np.average(z, weights=weights)


@pytest.mark.parametrize("scale", [0.95, 1.0, 1.1])
@pytest.mark.parametrize("d", [20, 100])
def test_c_t(d, scale):
    sets = clouds(400, 0, d, scale), clouds(500, 1, d), clouds(300, 2, d)
    expected = of_sklearn(*sets)
    # Components are rounded to float32 by both, each its own way: a rank or two may change hands.
    tolerance = {"rel": 1e-9} if d <= 64 else {"abs": 0.01}
    assert data_copying(*tensors(*sets)).values["c_t"] == pytest.approx(expected, **tolerance)


def test_authenticity():
    generated, training = clouds(600, 0, scale=0.98), clouds(800, 1)
    nearest = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(training.astype(np.float64))
    own = nearest.kneighbors(training.astype(np.float64))[0][:, 1]
    distance, index = nearest.kneighbors(generated.astype(np.float64), n_neighbors=1)
    ratio = (distance / own[index])[:, 0]
    score = authenticity(*tensors(generated, training))
    assert 0.1 < score.values["authenticity"] == np.mean(ratio > 1) < 0.9
    np.testing.assert_allclose(score.per_image["generated"], ratio, rtol=1e-6)


def test_likelihoods():
    """Of the fitted mixture, by scikit-learn's spherical Gaussians."""
    generated, training, heldout = clouds(200, 0, 30), clouds(300, 1, 30), clouds(100, 2, 30)
    model = Mixture.fit(*tensors(generated, training))
    theirs = GaussianMixture(200, covariance_type="spherical")
    theirs.means_, theirs.weights_ = generated.astype(np.float64), np.full(200, 1 / 200)
    theirs.precisions_cholesky_ = np.exp(-model.log_variances.numpy() / 2)
    ours = model.look(torch.from_numpy(heldout)).likelihoods
    np.testing.assert_allclose(ours, theirs.score_samples(heldout.astype(np.float64)), rtol=1e-6)
