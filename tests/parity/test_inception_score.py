"""The Inception Score beside torch-fidelity and torchmetrics, each run live on the same logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gen_eval.bench import peers
from gen_eval.metrics.inception_score import inception_score

NOWHERE = peers.PeerWeights(Path())  # from features on, no peer looks for weights


def logits_of(n, classes, scale):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": False}, {"splits": 3}, {"splits": 1}, {"seed": 7}], ids=str
)
@pytest.mark.parametrize(("n", "classes", "scale"), [(500, 10, 1), (505, 10, 4), (1203, 1008, 3)])
def test_torch_fidelity(n, classes, scale, options):
    logits = logits_of(n, classes, scale)
    theirs = {"rng_seed" if name == "seed" else name: value for name, value in options.items()}
    with peers.surroundings(NOWHERE, "torch_fidelity.metric_isc") as peer:
        expected = peer.isc_features_to_metric(logits, **theirs)
        mean, std = expected[peer.KEY_METRIC_ISC_MEAN], expected[peer.KEY_METRIC_ISC_STD]
    found = inception_score(logits, **options).values
    assert found["inception_score"] == pytest.approx(mean, rel=1e-12)
    assert found["std"] == pytest.approx(std, rel=1e-9, abs=1e-12)


class Logits(torch.nn.Module):
    """Passes logits on as the features of images."""

    def forward(self, logits):
        return logits


def of_torchmetrics(logits, splits):
    with peers.surroundings(NOWHERE, "torchmetrics.image.inception") as peer:
        metric = peer.InceptionScore(feature=Logits(), splits=splits)
        metric.update(logits)
        mean, std = metric.compute()
    return float(mean), float(std)


def test_torchmetrics_without_splits():
    # It shuffles by the global generator, which does not matter to a single split.
    logits = logits_of(600, 10, 2).double()
    with torch.random.fork_rng():
        mean, _ = of_torchmetrics(logits, 1)
    assert inception_score(logits, splits=1).values["inception_score"] == pytest.approx(mean, rel=1e-12)


def test_torchmetrics_shuffled_alike():
    logits = logits_of(600, 10, 2).double()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        shuffled = logits[torch.randperm(600)]
        torch.manual_seed(5)
        mean, std = of_torchmetrics(logits, 10)
    found = inception_score(shuffled, shuffle=False).values
    assert found["inception_score"] == pytest.approx(mean, rel=1e-12)
    assert found["std"] * (10 / 9) ** 0.5 == pytest.approx(std, rel=1e-9)  # ddof 1
