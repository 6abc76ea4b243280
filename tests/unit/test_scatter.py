"""Scatters that are made when they are asked for: which work does without, and that rows are not held for nothing."""

from __future__ import annotations

import math
import pickle
import weakref

import numpy as np
import pytest
import torch

from gen_eval import evaluate, stats
from gen_eval.stats import Features, Moments

CPU = torch.device("cpu")


def rows_of(n, d=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)) * 3 + 1)


class Scatters:
    """Counts the scatters that are made."""

    def __init__(self, monkeypatch):
        self.made = 0
        make = stats._scatter

        def counted(blocks, mean):
            self.made += 1
            return make(blocks, mean)

        monkeypatch.setattr(stats, "_scatter", counted)


@pytest.fixture
def scatters(monkeypatch):
    return Scatters(monkeypatch)


def test_the_scatter_of_rows_that_are_held_is_made_once_and_when_asked_for(scatters):
    rows = rows_of(300, 4)
    features = Features.of(rows)
    assert (features.moments.n, features.moments.dim, scatters.made) == (300, 4, 0)
    assert torch.equal(features.moments.scatter, Moments.of(rows).scatter)
    assert features.moments.scatter is features.moments.scatter
    assert scatters.made == 2


def test_what_a_caller_does_to_rows_afterwards_does_not_show():
    rows = rows_of(300, 4)
    features, expected = Features.of(rows), Moments.of(rows.clone())
    rows.zero_()
    assert torch.equal(features.moments.scatter, expected.scatter)


def test_moments_that_wait_are_pickled_and_moved_and_let_go_of_rows_that_are_cut():
    rows = rows_of(300, 4)
    expected = Moments.of(rows)
    for features in (
        pickle.loads(pickle.dumps(Features.of(rows))),
        Features.of(rows).to(CPU),
        Features.of(rows).cut(20),
        Features.of(rows).cut(None),
    ):
        assert torch.equal(features.moments.scatter, expected.scatter)
    whole = Features.of(rows)
    held = weakref.ref(whole.sample.rows)
    part = whole.cut(20)
    del whole
    assert held() is None
    assert part.sample.n == 20


def test_measures_of_rows_make_no_scatter_nor_does_the_distance_of_few(scatters):
    sets = [rows_of(40, 64, seed).float().numpy() for seed in (1, 2)]
    named = [f"{name}:identity" for name in ("pr", "kid", "authenticity", "mmd", "frechet")]
    for result in evaluate(named, generated=sets[0], reference=sets[1]):
        assert math.isfinite(result.value)
    labels = [str(at % 4) for at in range(40)]
    (within,) = evaluate("intra-fid:identity", generated=sets[0], reference=sets[1], labels=labels)
    assert math.isfinite(within.value)
    assert scatters.made == 0
