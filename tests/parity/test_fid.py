"""FID beside the tools that it is to equal: the same folders, the same weights, each run live.

Of a real run the features are compared row by row and then the distance. The distance alone is compared
once more on made-up features of full rank, because images enough for that take too long.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.bench import peers
from gen_eval.metrics import find_measure
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.protocols import find_protocol
from gen_eval.scoring import compute
from gen_eval.stats import Moments

PROTOCOLS = ("pytorch-fid", "torch-fidelity", "clean-fid", "clean-fid-legacy-pytorch")
TOLERANCE = 1e-4  # of the FID, relative; of a feature, as a part of the largest


@pytest.mark.network
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_of_all_kinds(protocol, peer_run, our_run, extractors):
    """Sets smaller than the dimension, whose covariances are singular.

    Of clean-fid's older mode, which differs in its images alone, the distance is compared below.
    """
    peer, ours, extractor = peer_run(protocol), our_run, extractors[protocol]
    for theirs, summary in zip((peer.real_features, peer.fake_features), ours, strict=True):
        sample = summary.require(extractor.spec("pool"), "pool").sample
        assert sample.rows.shape == theirs.shape
        gap = sample.rows.numpy() - theirs[sample.index.numpy()]
        assert np.abs(gap).max() <= TOLERANCE * theirs.max()
    if protocol == "clean-fid-legacy-pytorch":
        return
    summaries = dict(zip(("reference", "generated"), ours, strict=True))
    found = compute(find_measure("fid"), extractor, summaries, find_protocol(protocol))
    assert found.value == pytest.approx(peer.fid, rel=TOLERANCE)


# The functions of the peers, from features to the distance.


def of_pytorch_fid(weights, *features):
    with peers.surroundings(weights, "pytorch_fid.fid_score") as peer:
        moments = [(np.mean(rows, axis=0), np.cov(rows, rowvar=False)) for rows in map(np.float64, features)]
        return float(peer.calculate_frechet_distance(*moments[0], *moments[1]))


def of_torch_fidelity(weights, *features):
    with peers.surroundings(weights, "torch_fidelity.metric_fid") as peer:
        statistics = [peer.fid_features_to_statistics(torch.from_numpy(rows)) for rows in features]
        return peer.fid_statistics_to_metric(*statistics, verbose=False)[peer.KEY_METRIC_FID]


def of_clean_fid(weights, *features):
    with peers.surroundings(weights, "cleanfid.fid") as peer:
        return float(peer.fid_from_feats(*features))


@pytest.fixture(scope="module")
def full_rank():
    """Two sets of features like those of Inception: not negative, with heavy tails, shared factors, and scales
    that differ by powers of ten; more rows than the 2048 dimensions.
    """
    rng = np.random.default_rng(0)
    loadings = rng.normal(0, 0.15, (64, 2048))
    scale = rng.lognormal(-1, 0.7, 2048)

    def draw(n, shift):
        mixture = rng.normal(size=(n, 2048)) + rng.standard_t(5, (n, 64)) @ loadings
        return (np.maximum(mixture + shift, 0) ** 1.5 * scale).astype(np.float32)

    return draw(2500, 0.06), draw(2300, 0.12)


# Seen: 2e-13 for pytorch-fid and 3e-9 for the others. These round their means to float32, whose error
# depends on the order of summation: that bounds the agreement, not the square root.
@pytest.mark.parametrize(
    ("peer_distance", "protocol", "tolerance"),
    [
        (of_pytorch_fid, "pytorch-fid", 1e-10),
        (of_torch_fidelity, "torch-fidelity", 1e-6),
        (of_clean_fid, "clean-fid", 1e-6),
        (of_clean_fid, "clean-fid-legacy-pytorch", 1e-6),
    ],
)
def test_distance_of_full_rank(peer_distance, protocol, tolerance, full_rank, tmp_path):
    params = find_protocol(protocol).params
    gaussians = []
    for rows in full_rank:
        moments = Moments.of(torch.from_numpy(rows))
        gaussians.append(Gaussian(moments.n, moments.mean, moments.cov(params["ddof"]), ddof=params["ddof"]))
    ours = frechet(*gaussians, mean_dtype=params["mean_dtype"]).values["frechet"]
    theirs = peer_distance(peers.PeerWeights(tmp_path), *full_rank)
    assert ours == pytest.approx(theirs, rel=tolerance)
