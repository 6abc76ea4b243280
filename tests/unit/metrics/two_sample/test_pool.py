"""Pooled rows that forget where they came from, and their labellings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from gen_eval.metrics.two_sample.pool import Pool, standardised

N, M, DIM = 23, 31, 4


def rows(n, seed, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_of_pooled_rows_does_not_depend_on_that_of_the_images(dtype):
    x, y = rows(N, 0).to(dtype), rows(M, 1).to(dtype)
    pool, turned = Pool.of(x, y, 3), Pool.of(x.flip(0), y[torch.arange(M) * 7 % M], 3)
    assert torch.equal(pool.rows, turned.rows)
    assert torch.equal(pool.own, turned.own)
    assert not torch.equal(pool.rows, Pool.of(x, y, 4).rows)


def test_rows_and_what_is_said_of_them_find_their_way_back():
    x, y = rows(N, 0), rows(M, 1)
    pool = Pool.of(x, y, 3)
    assert pool.sizes == (N, M)
    first = pool.by_role(pool.rows[:, 0].clone())
    assert torch.equal(first["generated"], x[:, 0])
    assert torch.equal(first["reference"], y[:, 0])


def test_copies_do_not_stand_in_the_order_of_their_sets():
    """Else ties that are broken by place would be broken in favour of one set."""
    ones, zeros = torch.ones(500, 1), torch.cat([torch.zeros(250, 1), -torch.zeros(250, 1)])
    pool = Pool.of(torch.cat([ones, zeros]), torch.cat([ones, zeros]), 0)
    for value in (0.0, 1.0):
        own = pool.own[pool.rows[:, 0] == value].double()
        place = torch.arange(1000).double()
        # The mean place of generated rows, in standard deviations of that of 500 out of 1000.
        assert abs(float((own @ place) / 500) - 499.5) < 3.5 * np.sqrt(1000**2 / 12 / 500 / 2)


def ones(n, count):
    """A binary feature."""
    return (torch.arange(n) < count).double()[:, None]


def test_places_of_copies_are_drawn_by_how_many_of_them_are_generated():
    pools = [Pool.of(ones(40, count), ones(60, 70 - count), 3) for count in (20, 20, 21)]
    assert torch.equal(pools[0].own, pools[1].own)
    assert int((pools[0].own != pools[2].own).sum()) > 20  # and not one more or less


def test_rows_that_all_differ_are_drawn_by_the_seed_alone():
    first, second = (Pool.of(rows(N, seed), rows(M, seed + 1), 3).place for seed in (0, 5))
    assert torch.equal(first, second)
    assert first.tolist() == np.random.default_rng(3).permutation(N + M).tolist()


def test_rows_of_one_hash_do_not_stand_in_the_order_of_the_images():
    """Whole numbers in float64 have few bits that are not 0."""
    x, y = rows(N, 0, 20).sign(), rows(M, 1, 20).sign()
    pool, turned = Pool.of(x, y, 3), Pool.of(x.flip(0), y[torch.arange(M) * 7 % M], 3)
    assert torch.equal(pool.rows, turned.rows)
    assert torch.equal(pool.own, turned.own)


def test_zero_has_one_place_whatever_its_sign():
    x, y = rows(N, 0), rows(M, 1)
    x[:, 1] = 0.0
    assert torch.equal(Pool.of(x, y, 3).order, Pool.of(x * torch.tensor([1.0, -1.0, 1.0, 1.0]), y, 3).order)


def test_folds_share_out_both_sets():
    pool = Pool.of(rows(N, 0), rows(M, 1), 3)
    fold = pool.folds(5)
    assert fold[pool.own].bincount().tolist() == [5, 5, 5, 4, 4]
    assert fold[~pool.own].bincount().tolist() == [7, 6, 6, 6, 6]


def test_labellings_start_with_the_true_one_and_keep_the_sizes():
    pool = Pool.of(rows(N, 0), rows(M, 1), 3)
    labels = pool.labellings(400, 7)
    assert torch.equal(labels[:, 0], pool.own)
    assert (labels.sum(0) == N).all()
    assert torch.equal(labels, pool.labellings(400, 7))
    # Each row is generated as often as chance has it, to 5 standard deviations.
    share, expected = labels[:, 1:].double().mean(1), N / (N + M)
    assert float((share - expected).abs().max()) < 5 * (expected * (1 - expected) / 400) ** 0.5


def test_labellings_within_folds_keep_the_sizes_of_folds():
    pool = Pool.of(rows(N, 0), rows(M, 1), 3)
    fold = pool.folds(4)
    labels = pool.labellings(50, 7, fold)
    for number in range(4):
        counts = labels[fold == number].sum(0)
        assert (counts == counts[0]).all()
    assert len(torch.unique(labels, dim=1).T) > 45


@pytest.mark.parametrize("count", [None, 3])
def test_labellings_of_equal_rows_lie_as_the_true_one(count):
    """In each fold the generated among equal rows come first by place, and are as many as chance has it."""
    pool = Pool.of(ones(24, 9), ones(30, 20), 3)
    fold = None if count is None else pool.folds(count)
    labels = pool.labellings(400, 7, fold)
    assert torch.equal(labels[:, 0], pool.own)
    for number in range(count or 1):
        inside = torch.ones(54, dtype=torch.bool) if fold is None else fold == number
        of_fold = labels[inside].sum(0)
        assert (of_fold == of_fold[0]).all()
        at = (inside & (pool.rows[:, 0] == 1)).nonzero().flatten()
        own = labels[at[pool.place[at].argsort()]]
        counts = own.sum(0)
        assert torch.equal(own, torch.arange(len(at))[:, None] < counts)
        drawn = hypergeom(int(inside.sum()), len(at), int(of_fold[0]))
        assert float(counts[1:].double().mean()) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 20)
        assert float(counts[1:].double().std()) == pytest.approx(drawn.std(), rel=0.15)


def test_standardised_features_have_mean_0_and_variance_1_and_constants_are_0():
    features = rows(N, 0) * torch.tensor([1e-8, 1.0, 1e8, 0.0]) + torch.tensor([1.0, 0.0, 1e9, 1.1])
    standard = standardised(features)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(standard.var(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    assert (standard[:, 3] == 0).all()
