"""The generated images that look most like copies, and the training images behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.nearest import nearest_training_images
from gen_eval.stats import Features, Sample


def features(*numbers):
    return Features.of(torch.tensor(numbers)[:, None])


TRAINING = features(0.0, 1.0, 4.0, 10.0)  # nearest others at 1, 1, 3 and 6
GENERATED = features(17.0, 2.5, 0.0, 8.5, 0.25)


def test_the_most_suspicious_come_first_with_all_that_is_near():
    found = nearest_training_images(GENERATED, TRAINING, k=2, most=3)
    assert [suspect.index for suspect in found] == [2, 3, 4]
    assert [suspect.ratio for suspect in found] == pytest.approx([0, 0.25, 0.25])
    assert found[0].training == [(0, 0.0), (1, 1.0)]
    assert found[1].training == [(3, 1.5), (2, 4.5)]


def test_there_are_no_more_than_there_are():
    found = nearest_training_images(GENERATED, TRAINING, k=99, most=99)
    assert [len(suspect.training) for suspect in found] == [4] * 5


def test_images_keep_their_index_where_a_sample_is_kept():
    def part(some, index):
        return replace(some, sample=Sample(some.sample.in_order()[index], torch.tensor(index), None))

    found = nearest_training_images(part(GENERATED, [3, 1]), part(TRAINING, [3, 1, 0]), k=1, most=9)
    assert [(suspect.index, suspect.training) for suspect in found] == [(3, [(3, 1.5)]), (1, [(1, 1.5)])]


def test_a_training_image_that_occurs_twice_is_shown_twice():
    found = nearest_training_images(features(1.1, 9.0), features(1.0, 7.0, 1.0), k=2, most=1)
    assert found[0].ratio == pytest.approx(0.1 / 6, rel=1e-5)
    assert [index for index, _ in found[0].training] == [0, 2]


def test_what_cannot_be_told_is_refused():
    with pytest.raises(UsageError, match="need the feature rows of the training set"):
        nearest_training_images(GENERATED, replace(TRAINING, sample=None), k=2, most=3)
    with pytest.raises(UsageError, match="dimensions"):
        nearest_training_images(GENERATED, Features.of(torch.eye(3)), k=2, most=3)
    with pytest.raises(UsageError, match="from 1, found 0"):
        nearest_training_images(GENERATED, TRAINING, k=0, most=3)
    with pytest.raises(TooFewImages, match="one and the same"):
        nearest_training_images(GENERATED, features(1.0, 1.0), k=1, most=3)
