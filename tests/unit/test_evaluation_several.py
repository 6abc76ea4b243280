"""Several generated sets against one reference: each set passes once, and the numbers are those of one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.evaluation import Evaluation, evaluate
from gen_eval.metrics import find_measure

MEASURES = ["frechet:pixels", "precision-recall:pixels"]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_set_passes_once_and_numbers_are_those_of_evaluate(fake, real, counted):
    reference, heldout = counted(real[:150]), counted(real[150:])
    evaluation = Evaluation(MEASURES, reference=reference, heldout=heldout)
    darker = (fake * 0.8).astype(np.uint8)
    for images in (fake, darker, fake):
        found = evaluation.measure(images)
        expected = evaluate(MEASURES, generated=images, reference=real[:150], heldout=real[150:])
        for one, other in zip(found, expected, strict=True):
            assert one.values == other.values
            assert one.errors == other.errors
            assert one.heldout.values == other.heldout.values
            assert one.sets["generated"].digest == other.sets["generated"].digest
    assert reference.reads == len(reference)
    assert heldout.reads == len(heldout)


def test_features_are_those_that_the_measures_saw(fake, real):
    evaluation = Evaluation(MEASURES, reference=real)
    measure = find_measure(MEASURES[1])
    with pytest.raises(UsageError, match="before the first measurement"):
        evaluation.features(measure, "generated")
    evaluation.measure(fake)
    rows = evaluation.features(measure, "generated").sample.in_order()
    assert rows.shape == (len(fake), 192)
    evaluation.measure(fake[::-1].copy())
    assert torch.equal(evaluation.features(measure, "generated").sample.in_order(), rows.flip(0))


def test_a_set_that_is_refused_leaves_the_evaluation_usable(fake, real):
    evaluation = Evaluation(MEASURES, reference=real)
    with pytest.raises(UsageError, match="needs generated images"):
        evaluation.measure(None)
    assert evaluation.measure(fake)[0].value > 0
