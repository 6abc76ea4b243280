"""FID and KID of images beside torchmetrics, live: the same files and weights, its own network, resize and distances.

Its formulas on given features stand beside those of the other tools. It takes square roots of eigenvalues, which
is slow, so there are few images.
"""

from __future__ import annotations

import shutil

import pytest
import torch

from gen_eval.bench import peers
from gen_eval.evaluation import evaluate

N = 8


@pytest.fixture(scope="module")
def sets(folders, tmp_path_factory):
    """Real and fake photographs of sides from 48 to 400 pixels, so that some shrink."""
    root = tmp_path_factory.mktemp("few")
    for source in folders("mixed"):
        (root / source.name).mkdir()
        for path in sorted(source.iterdir())[:N]:
            shutil.copy(path, root / source.name)
    return root / "real", root / "fake"


@pytest.fixture(scope="module")
def ours(sets, weights_file):
    real, fake = sets
    return {
        name: evaluate(
            ["fid", "kid"],
            generated=fake,
            reference=real,
            protocol=name,
            params={"subsets": 2, "subset_size": N},
            weights=weights_file,
        )
        for name in ("torchmetrics", "torch-fidelity")
    }


@pytest.mark.network
def test_fid(sets, ours, peer_weights):
    theirs = peers.torchmetrics(*sets, peer_weights, batch_size=1).fid
    # Seen: 8e-7. The peer returns float32, and adds the square roots of eigenvalues that are zeros, rounded.
    assert ours["torchmetrics"][0].value == pytest.approx(theirs, rel=1e-5)
    assert ours["torch-fidelity"][0].value != pytest.approx(theirs, rel=1e-3)


@pytest.mark.network
def test_kid(sets, ours, peer_weights):
    """Of subsets as large as the sets, so that it cannot matter that the peer draws them unseeded."""
    with peers.surroundings(peer_weights, "torchmetrics.image.kid") as peer, torch.no_grad():
        metric = peer.KernelInceptionDistance(subsets=2, subset_size=N)
        for folder, is_real in zip(sets, (True, False), strict=True):
            for batch in peers.uint8_batches(folder, 1):
                metric.update(batch, real=is_real)
        theirs, spread = map(float, metric.compute())
    assert spread == pytest.approx(0, abs=1e-6)
    # Seen, of 16 images: 5e-6. The peer's kernels are float32 numbers of about 1, whose last bits are 1e-7.
    assert ours["torchmetrics"][1].value == pytest.approx(theirs, rel=1e-4)
    assert ours["torch-fidelity"][1].value != pytest.approx(theirs, rel=1e-3)
