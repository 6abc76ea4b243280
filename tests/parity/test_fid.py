"""FID beside the tools that it is to equal: the same folders, the same weights, each run live."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.evaluation import compute
from gen_eval.metrics import find_measure
from gen_eval.protocols import find_protocol

PROTOCOLS = ("pytorch-fid", "torch-fidelity", "clean-fid", "clean-fid-legacy-pytorch")
TOLERANCE = 1e-4  # of the FID, relative; of a feature, as a part of the largest

pytestmark = pytest.mark.network


@pytest.mark.parametrize("name", ["cifar10", "mnist", "mixed"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_small_sets(protocol, name, peer_run, our_run, extractors):
    _check(protocol, peer_run(protocol, name), our_run(name), extractors[protocol])


# Fewer images than dimensions, at a size that people use; torch-fidelity and one that takes sqrtm.
@pytest.mark.parametrize("protocol", ["torch-fidelity", "clean-fid-legacy-pytorch"])
def test_rank_deficient_sets(protocol, peer_run, our_run, extractors):
    _check(protocol, peer_run(protocol, "cifar10-500"), our_run("cifar10-500"), extractors[protocol])


def _check(protocol, peer, ours, extractor):
    spec = extractor.spec("pool")
    for theirs, summary in zip((peer.real_features, peer.fake_features), ours, strict=True):
        sample = summary.require(spec, "pool").sample
        rows = torch.empty_like(sample.rows)
        rows[sample.index] = sample.rows
        assert rows.shape == theirs.shape
        largest_gap = np.abs(rows.numpy().astype(np.float64) - theirs).max(initial=0)
        assert largest_gap <= TOLERANCE * theirs.max()
    roles = dict(zip(("reference", "generated"), ours, strict=True))
    result = compute(find_measure("fid"), extractor, roles, find_protocol(protocol))
    assert result.values["frechet"] == pytest.approx(peer.fid, rel=TOLERANCE)
    print(protocol, result.values, peer.fid)
