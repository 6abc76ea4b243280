"""The published distance between the two halves of CIFAR-10, from the statistics that ship."""

from __future__ import annotations

import pytest

from gen_eval.evaluation import evaluate
from gen_eval.references import DatasetImages


@pytest.mark.network
def test_cifar10_train_against_test(weights_file, monkeypatch):
    """3.1508 by the original TensorFlow code (README of pytorch-gan-metrics); no image is looked at."""
    monkeypatch.setattr(DatasetImages, "read", None)
    (found,) = evaluate("fid", generated="cifar10:test", reference="cifar10:train", weights=weights_file)
    assert found.value == pytest.approx(3.1508, abs=0.003)
    assert (found.sets["reference"].n, found.sets["generated"].n) == (50_000, 10_000)
