"""Precision, recall, density and coverage beside prdc and torch-fidelity, live, on the same features.

Each is to be equal to the last image. Where float32 distances lead a peer to decide an image otherwise, it is shown
that float64 brute force sides with us, and that the peer is off by no more than the images that are that close.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
import prdc as peer_prdc
import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full, calculate_precision_recall_part

from gen_eval.metrics.neighbors.ball_counts import Balls
from gen_eval.metrics.neighbors.manifold import prdc, precision_recall, survey

SIZES = [(300, 250, 4), (700, 900, 64), (1000, 800, 512), (1500, 2000, 2048)]


def features(n, m, d, *, offset=0.0):
    """Two overlapping clouds with the decaying spectrum, and the positive sign, of network features."""
    rng = np.random.default_rng(d)
    scales = np.arange(1, d + 1) ** -0.5
    clouds = (
        rng.standard_normal((n, d)) * 0.97 * scales + 0.2 / np.sqrt(d),
        rng.standard_normal((m, d)) * scales,
    )
    return tuple(torch.from_numpy((rows + offset).astype(np.float32)) for rows in clouds)


def of_prdc(generated, reference, k):
    with contextlib.redirect_stdout(io.StringIO()):
        found = peer_prdc.compute_prdc(reference.numpy(), generated.numpy(), k)
    return {name: float(value) for name, value in found.items()}


def of_torch_fidelity(compute, generated, reference):
    precision, recall = compute(generated, reference, 3)  # its first argument is the generated set
    return {"precision": precision, "recall": recall}


def by_float64(generated, reference, k, inclusive):
    """Float64 brute force, by differences."""
    generated, reference = generated.double(), reference.double()
    radii = [nearest(rows, k) for rows in (generated, reference)]
    between = distances(generated, reference)
    inside = between <= radii[1] if inclusive else between < radii[1]
    held = between <= radii[0][:, None] if inclusive else between < radii[0][:, None]
    return {
        "precision": float(inside.any(1).double().mean()),
        "recall": float(held.any(0).double().mean()),
        "density": float(inside.sum()) / k / len(generated),
        "coverage": float(inside.any(0).double().mean()),
    }


def distances(a, b):
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(rows, k):
    return distances(rows, rows).fill_diagonal_(torch.inf).kthvalue(k).values


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_prdc(size, k):
    generated, reference = features(*size)
    theirs, ours = of_prdc(generated, reference, k), prdc(generated, reference, k=k).values
    shares = [ours[name] for name in ("precision", "recall", "coverage")]
    assert all(0.02 < share < 0.999 for share in shares)  # there is something to agree about
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("compute", [calculate_precision_recall_full, calculate_precision_recall_part])
@pytest.mark.parametrize("size", SIZES)
def test_torch_fidelity(size, compute):
    generated, reference = features(*size)
    theirs = of_torch_fidelity(compute, generated, reference)
    ours = precision_recall(generated, reference).values
    # It averages the images in float32.
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-7)
    assert ours["precision"] != pytest.approx(ours["recall"], abs=0.01)  # exchanged, they would not pass


def test_tools_agree_on_exact_copies():
    """Half of the generated images are copies of reference images; prdc's strict balls hold fewer of them."""
    generated, reference = features(400, 400, 64)
    generated[:200] = reference[:200]
    assert prdc(generated, reference).values == pytest.approx(of_prdc(generated, reference, 5), abs=1e-12)


def test_where_torch_fidelity_differs_float64_sides_with_us():
    """Features with a large common offset: its float32 expansion of the distance loses their digits."""
    generated, reference = features(600, 500, 64, offset=30)
    expected = by_float64(generated, reference, 3, inclusive=True)
    ours = precision_recall(generated, reference).values
    theirs = of_torch_fidelity(calculate_precision_recall_full, generated, reference)
    assert {name: ours[name] for name in theirs} == {name: expected[name] for name in theirs}
    assert theirs != pytest.approx({name: ours[name] for name in theirs}, abs=1e-7)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("engine", ["blocks", "faiss"])
def test_float64_brute_force_at_full_dimension(engine, inclusive):
    generated, reference = features(350, 300, 2048)
    (found,) = survey(generated, reference, [Balls(4, inclusive)], engine=engine)
    assert found.prdc().values == pytest.approx(by_float64(generated, reference, 4, inclusive), abs=1e-12)
