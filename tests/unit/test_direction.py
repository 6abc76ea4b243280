"""Which way a value is better, and what follows from it."""

from __future__ import annotations

import pytest

from gen_eval.direction import is_direction, is_improvement, judged, spell, target
from gen_eval.metrics import METRICS


@pytest.mark.parametrize("better", ["lower", "higher", "near 0", "near -2", "near 0.5"])
def test_what_is_a_direction(better):
    assert is_direction(better)


@pytest.mark.parametrize(
    "better", ["", "Lower", "near", "near ", "near x", "near 0.5 or so", "near0.5", "near nan"]
)
def test_what_is_none(better):
    assert not is_direction(better)


def test_each_metric_has_one_for_each_value_that_it_is_judged_by():
    assert all(is_direction(better) for metric in METRICS.values() for better in metric.better.values())


def test_values_are_judged_by_their_distance_from_a_target():
    assert (target("near -0.5"), target("lower"), target("higher")) == (-0.5, None, None)
    assert judged(3.0, "lower") == judged(3.0, "higher") == (3.0, 1)
    assert judged(0.75, "near 0.5") == (0.25, 1)
    assert judged(0.25, "near 0.5") == (0.25, -1)
    assert judged(0.5, "near 0.5") == (0.0, 1)


def test_an_improvement_goes_the_better_way():
    assert is_improvement(-1.0, "lower")
    assert is_improvement(-1.0, "near 0.5")
    assert is_improvement(1.0, "higher")
    assert not any(is_improvement(0.0, better) for better in ("lower", "higher", "near 0.5"))


def test_in_words():
    assert [spell(better) for better in ("lower", "higher", "near 0.5")] == [
        "lower is better",
        "higher is better",
        "nearer to 0.5 is better",
    ]
