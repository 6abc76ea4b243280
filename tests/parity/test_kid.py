"""KID beside the tools that it is to equal: their own functions, on the same feature rows.

They compute in the precision of the features that they are given, and in float32 are off by up to 1e-7. That is
much of a small distance, so they are also given float64, and ours float32 all the same.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.bench import peers
from gen_eval.metrics.kernel.kernels import polynomial
from gen_eval.metrics.kernel.kid import kid
from gen_eval.metrics.kernel.mmd import mmd

TOLERANCE = 1e-5  # relative
ROUNDING = 3e-7  # of their float32, whatever the distance
# Subsets that share one Gram matrix, and some that do not.
TERMS = [(30, 400), (4, 100)]


@pytest.fixture(scope="module", params=["near", "far"])
def features(request):
    """Two sets like features of Inception: not negative, with shared factors; close together or not."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(0, 0.15, (64, 2048))

    def draw(n, shift):
        mixture = rng.normal(size=(n, 2048)) + rng.normal(size=(n, 64)) @ loadings
        return torch.from_numpy((np.maximum(mixture + shift, 0) * 0.4).astype(np.float32))

    return draw(900, 0.03 if request.param == "near" else 0.5), draw(700, 0.0)


def of_torch_fidelity(folder, generated, reference, subsets, size, seed):
    with peers.surroundings(peers.PeerWeights(folder), "torch_fidelity.metric_kid") as peer:
        metrics = peer.kid_features_to_metric(
            generated,
            reference,
            kid_subsets=subsets,
            kid_subset_size=size,
            rng_seed=seed,
            verbose=False,
        )
    return metrics[peer.KEY_METRIC_KID_MEAN], metrics[peer.KEY_METRIC_KID_STD]


def of_clean_fid(folder, generated, reference, subsets, size, seed):
    """It draws from numpy's global generator, from the second set first."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with peers.surroundings(peers.PeerWeights(folder), "cleanfid.fid") as peer:
            return peer.kernel_distance(reference.numpy(), generated.numpy(), subsets, size)
    finally:
        np.random.set_state(before)


@pytest.mark.parametrize(("subsets", "size"), TERMS)
@pytest.mark.parametrize("seed", [2020, 7])
def test_torch_fidelitys_mean_and_spread(seed, subsets, size, features, tmp_path):
    ours = kid(*features, subsets=subsets, subset_size=size, seed=seed).values
    theirs = of_torch_fidelity(tmp_path, *(rows.double() for rows in features), subsets, size, seed)
    assert (ours["kid"], ours["std"]) == pytest.approx(theirs, rel=TOLERANCE)
    # In the float32 that it runs in by itself.
    theirs = of_torch_fidelity(tmp_path, *features, subsets, size, seed)
    assert (ours["kid"], ours["std"]) == pytest.approx(theirs, rel=TOLERANCE, abs=ROUNDING)


@pytest.mark.parametrize(("subsets", "size"), TERMS)
def test_clean_fids_mean_from_equal_draws(subsets, size, features, tmp_path):
    ours = kid(*features, subsets=subsets, subset_size=size, seed=11).values["kid"]
    theirs = of_clean_fid(tmp_path, *(rows.double() for rows in features), subsets, size, 11)
    assert ours == pytest.approx(theirs, rel=TOLERANCE)
    assert ours == pytest.approx(
        of_clean_fid(tmp_path, *features, subsets, size, 11), rel=TOLERANCE, abs=ROUNDING
    )


def test_clean_fids_mean_from_other_draws_and_of_all_rows(features, tmp_path):
    """As it runs by itself: seed unknown, and subsets lowered to the smaller set."""
    score = kid(*features, subsets=20)
    theirs = of_clean_fid(tmp_path, *features, 20, 1000, 12345)
    assert theirs == pytest.approx(score.values["kid"], abs=2 * score.errors["kid"])
    assert theirs != pytest.approx(score.values["kid"], rel=TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"degree": 2, "gamma": 1e-3, "coef": 0.5}])
def test_torchmetrics_formula(options, features, tmp_path):
    generated, reference = (rows[:300] for rows in features)
    with peers.surroundings(peers.PeerWeights(tmp_path), "torchmetrics.image.kid") as peer:
        theirs = float(peer.poly_mmd(reference.double(), generated.double(), **options))
    options = {"coef0" if name == "coef" else name: value for name, value in options.items()}
    ours = mmd(generated, reference, kernel=polynomial(2048, **options)).values["mmd2"]
    assert ours == pytest.approx(theirs, rel=TOLERANCE)
