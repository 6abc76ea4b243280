"""What a measure gives when nothing is set: the number of each tool when nothing is set there either.

The engines are compared with the tools elsewhere. Here it is the rows of METRICS and PROTOCOLS, from vectors to
results, so that a default that differs shows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prdc import compute_prdc

from gen_eval.bench import peers
from gen_eval.evaluation import evaluate

NOWHERE = peers.PeerWeights(Path())  # from features on, no peer looks for weights


def rows(seed, n, shift=0.0):
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)) + shift


GENERATED, REFERENCE = rows(0, 1200, 0.15), rows(1, 1100)


def ours(measure, protocol="torch-fidelity"):
    return evaluate(f"{measure}:identity", generated=GENERATED, reference=REFERENCE, protocol=protocol)[
        0
    ].values


def of_torch_fidelity(module, function, *sets, **options):
    with peers.surroundings(NOWHERE, f"torch_fidelity.metric_{module}") as peer:
        return getattr(peer, function)(*sets, **options)


def test_kid_of_torch_fidelity():
    theirs = of_torch_fidelity("kid", "kid_features_to_metric", GENERATED, REFERENCE, verbose=False)
    found = ours("kid")
    assert found["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert found["std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_precision_and_recall_of_torch_fidelity():
    theirs = of_torch_fidelity("prc", "prc_features_to_metric", GENERATED, REFERENCE, verbose=False)
    found = ours("pr")
    assert found["precision"] == pytest.approx(theirs["precision"], rel=1e-6)
    assert found["recall"] == pytest.approx(theirs["recall"], rel=1e-6)
    assert found["f1"] == pytest.approx(theirs["f_score"], rel=1e-6)


def test_inception_score_of_torch_fidelity():
    theirs = of_torch_fidelity("isc", "isc_features_to_metric", GENERATED)
    found = evaluate("is:identity", generated=GENERATED)[0].values
    assert found["inception_score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert found["std"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)


def test_density_and_coverage_of_prdc():
    theirs = compute_prdc(REFERENCE.numpy(), GENERATED.numpy(), nearest_k=5)
    assert dict(ours("dc")) == pytest.approx(
        {name: theirs[name] for name in ("density", "coverage")}, rel=1e-9
    )
    assert dict(ours("prdc")) == pytest.approx(theirs, rel=1e-9)
    both = {name: theirs[name] for name in ("precision", "recall")}
    found = ours("pr", protocol="prdc")
    assert {name: found[name] for name in both} == pytest.approx(both, rel=1e-9)


@pytest.mark.parametrize("protocol", ["dgm-eval", "studiogan"])
def test_precision_and_its_kin_of_the_tools_that_hold_a_copy_of_prdc(protocol):
    theirs = compute_prdc(REFERENCE.numpy(), GENERATED.numpy(), nearest_k=5)
    assert dict(ours("prdc", protocol)) == pytest.approx(theirs, rel=1e-9)
    for measure in ("pr", "dc"):
        found = ours(measure, protocol)
        assert {name: found[name] for name in theirs if name in found} == pytest.approx(
            {name: theirs[name] for name in theirs if name in found}, rel=1e-9
        )


def test_precision_and_recall_of_fld_by_its_rule():
    """Closer than the third neighbour of an image, by strict comparison: prdc's rule with another k."""
    theirs = compute_prdc(REFERENCE.numpy(), GENERATED.numpy(), nearest_k=3)
    found = ours("pr", "fld")
    assert (found["precision"], found["recall"]) == pytest.approx(
        (theirs["precision"], theirs["recall"]), rel=1e-9
    )


def test_precision_and_recall_of_the_paper_are_those_of_torch_fidelity():
    theirs = of_torch_fidelity("prc", "prc_features_to_metric", GENERATED, REFERENCE, verbose=False)
    found = ours("pr", "kynkaanniemi")
    assert (found["precision"], found["recall"]) == pytest.approx(
        (theirs["precision"], theirs["recall"]), rel=1e-6
    )


def test_cmmd_by_its_formula():
    """1,000 (mean k(x, x) + mean k(y, y) - 2 mean k(x, y)) of unit vectors, the diagonals included."""
    x, y = (torch.nn.functional.normalize(rows.double()) for rows in (GENERATED, REFERENCE))

    def mean_kernel(a, b):
        return (-torch.cdist(a, b).square() / (2 * 10**2)).exp().mean()

    theirs = 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))
    assert ours("cmmd", "cmmd")["mmd2"] == pytest.approx(float(theirs), rel=1e-5)
