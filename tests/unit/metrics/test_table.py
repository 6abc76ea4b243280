"""How rows of the table reach their engines, from vectors to results."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages
from gen_eval.evaluation import evaluate
from gen_eval.metrics import METRICS, find_measure
from gen_eval.metrics.diversity.modes import mode_coverage

MODES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def ring(counts, seed):
    """So many rows about each mode, with a standard deviation of 1, and the mode of each."""
    rng = np.random.default_rng(seed)
    rows = [mode + rng.normal(size=(count, 2)) for mode, count in zip(MODES, counts, strict=True)]
    labels = [name for name, count in zip("abc", counts, strict=True) for _ in range(count)]
    return np.concatenate(rows), labels


def test_modes_are_the_classes_of_the_reference():
    reference, labels = ring((60, 30, 10), 0)
    generated, _ = ring((40, 20, 0), 1)
    (found,) = evaluate(
        "mode-coverage:identity", generated=generated, reference=reference, labels={"reference": labels}
    )
    classes = [reference[np.array(labels) == name] for name in "abc"]
    expected = mode_coverage(
        torch.from_numpy(generated),
        torch.from_numpy(np.stack([rows.mean(0) for rows in classes])),
        torch.tensor([np.sqrt(rows.var(0, ddof=1).sum()) for rows in classes]),
        weights=torch.tensor([60.0, 30.0, 10.0]),
        reach=2.0,
    )
    assert dict(found.values) == pytest.approx(dict(expected.values), rel=1e-9)
    assert found.values["modes_covered"] == 2
    # In the plane a root mean square distance is 1.41 standard deviations: 2 of these hold 98 % of a Gaussian.
    assert found.values["high_quality"] == pytest.approx(0.98, abs=0.05)


def test_a_class_of_one_image_has_no_scale():
    generated, reference = np.zeros((5, 2)), np.arange(10.0).reshape(5, 2)
    with pytest.raises(TooFewImages, match="class 'b' needs at least 2 images, found 1"):
        evaluate(
            "mode-coverage:identity",
            generated=generated,
            reference=reference,
            labels={"reference": list("aabcc")},
        )


def test_rows_bound_vectors_too():
    rng = np.random.default_rng(0)
    generated, reference = rng.normal(size=(60, 4)), rng.normal(size=(51, 4))
    (found,) = evaluate("wasserstein:identity", generated=generated, reference=reference, rows=50)
    assert [info.n for info in found.sets.values()] == [50, 50]
    assert any("uniform sample of 50" in warning for warning in found.warnings)


def test_a_metric_that_fails_is_named():
    rows = np.full((20, 3), 2.0)
    with pytest.raises(NumericalError, match="^mmd:identity: the median distance"):
        evaluate(["fd:identity", "mmd:identity"], generated=rows, reference=rows)


@pytest.mark.parametrize("name", [f"{metric}:identity" for metric in METRICS])
def test_pickled_measures_are_those_of_the_table(name):
    measure = find_measure(name)
    assert pickle.loads(pickle.dumps(measure)).metric is measure.metric
    own = replace(measure, metric=replace(measure.metric, compute=len, least_n=max))
    assert pickle.loads(pickle.dumps(own)) == own
