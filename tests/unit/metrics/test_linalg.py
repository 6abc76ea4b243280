"""Decompositions against those of NumPy: any shape, rank and spread of singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.metrics import linalg


def matrix(rows, columns, decades, rank=None, seed=0):
    """One whose singular values fall evenly over some powers of ten, as many as its rank."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (rows, columns))
    rank = min(rows, columns) if rank is None else rank
    values = 10.0 ** -np.linspace(0, decades, rank)
    return torch.from_numpy((left[:, :rank] * values) @ right[:rank])


@pytest.mark.parametrize("rank", [None, 7, 1, 0])
@pytest.mark.parametrize("decades", [0, 3, 9, 14])
@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (60, 25), (25, 60), (30, 1), (1, 30)])
def test_singular_values_of_any_shape_rank_and_spread(rows, columns, decades, rank):
    a = matrix(rows, columns, decades, rank if rank is None else min(rank, rows, columns))
    u, s, vt = linalg.singular_triplets(a)
    expected = torch.from_numpy(np.linalg.svd(a.numpy(), compute_uv=False))
    largest = max(float(expected[0]), 1e-300)
    assert torch.allclose(s.sort(descending=True).values, expected, rtol=0, atol=1e-11 * largest)
    assert float((u * s @ vt - a).abs().max()) < 1e-11 * largest
    longer, shorter = (u, vt.T) if rows >= columns else (vt.T, u)
    size = torch.eye(len(s), dtype=torch.float64)
    assert float((shorter.T @ shorter - size).abs().max()) < 1e-12
    assert torch.allclose(longer.norm(dim=0), size.diagonal(), rtol=1e-12)


def test_a_factor_ends_where_it_leaves_no_more_than_is_allowed():
    a = matrix(30, 30, 8)
    a = a @ a.T
    factor, pivots = linalg.pivoted_cholesky(a, tolerance=1e-4)
    left = a - factor.T @ factor
    assert 0 < float(left.diagonal().max()) <= 1e-4
    assert len(factor) == len(pivots) < len(linalg.pivoted_cholesky(a).factor)


def test_eigenvalues_are_those_of_the_pairs():
    a = matrix(50, 50, 6)
    a = a + a.T
    values, vectors = linalg.eigenpairs(a)
    assert torch.allclose(linalg.eigenvalues(a), values, rtol=0, atol=1e-14)
    assert torch.allclose(vectors * values @ vectors.T, a, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [1e-200, 1e-80, 1e80, 1e200])
def test_singular_values_of_any_size(size):
    a = matrix(20, 12, 6)
    u, s, vt = linalg.singular_triplets(a * size)
    assert torch.allclose(s / size, linalg.singular_triplets(a)[1], rtol=1e-12)
    assert float((u * (s / size) @ vt - a).abs().max()) < 1e-11
