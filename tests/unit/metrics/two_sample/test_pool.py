"""Pooled rows that forget where they came from, and their labellings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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


def test_standardised_features_have_mean_0_and_variance_1_and_constants_are_0():
    features = rows(N, 0) * torch.tensor([1e-8, 1.0, 1e8, 0.0]) + torch.tensor([1.0, 0.0, 1e9, 1.1])
    standard = standardised(features)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(standard.var(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    assert (standard[:, 3] == 0).all()
