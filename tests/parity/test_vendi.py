"""The Vendi score beside the code of its authors (vertaix/Vendi-Score), on the same rows.

Of orders other than 1 their ``score_X`` knows nothing; ``score_dual`` and ``score_K`` do.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from gen_eval.metrics.diversity.vendi import vendi

pytest.importorskip("vendi_score", reason="vendi-score is not installed")
from vendi_score import vendi as theirs

ORDERS = [0.5, 1, 2, math.inf]


def rows(n, d):
    rng = np.random.default_rng(n)
    return np.maximum(
        rng.standard_normal((n, d)) + rng.standard_normal((n, 8)) @ rng.standard_normal((8, d)), 0
    )


def named(q):
    return "inf" if q == math.inf else q


def of_kernel(gram, q):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of scipy.sparse.csr, by which they know sparse ones
        return theirs.score_K(gram, q=named(q))


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "d"), [(300, 64), (40, 128)])
def test_the_score_of_angles(n, d, q):
    x = rows(n, d)
    ours = vendi(torch.from_numpy(x), q=q).values["vendi"]
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    if n > d:
        assert ours == pytest.approx(theirs.score_dual(x, q=named(q)), rel=1e-8)
    else:
        assert ours == pytest.approx(of_kernel(units @ units.T, q), rel=1e-8)


@pytest.mark.parametrize("q", ORDERS)
def test_the_score_of_a_kernel(q):
    x = rows(60, 16)
    gram = np.exp(-squareform(pdist(x, "sqeuclidean")) / (2 * 3.0**2))
    ours = vendi(torch.from_numpy(x), q=q, kernel="rbf", bandwidth=3.0).values["vendi"]
    assert ours == pytest.approx(of_kernel(gram, q), rel=1e-8)
