"""The Vendi score: known answers, eigenvalues by another way, perturbation, invariances, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.diversity import vendi as module
from gen_eval.metrics.diversity.vendi import vendi

ORDERS = [0.5, 1.0, 2.0, 3.0, math.inf]
# More images than features, as many, and fewer.
SHAPES = [(40, 6), (12, 12), (15, 40)]


def rows(n, seed, dim=6, dtype=torch.float64):
    return (
        torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
        + 0.5
    )


def of_eigenvalues(values, q):
    values = values[values > 1e-12]
    if q == 1:
        return math.exp(-(values * np.log(values)).sum())
    return 1 / values.max() if q == math.inf else (values**q).sum() ** (1 / (1 - q))


def weighted(x, weights, q):
    """The score of a distribution of weights over rows."""
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    roots = np.sqrt(weights / weights.sum())[:, None] * units
    return of_eigenvalues(np.linalg.svd(roots, compute_uv=False) ** 2, q)


# --- Known answers


@pytest.mark.parametrize("q", ORDERS)
def test_orthogonal_rows_count_each(q):
    assert vendi(3.0 * torch.eye(7), q=q).values["vendi"] == pytest.approx(7, rel=1e-12)


@pytest.mark.parametrize("q", ORDERS)
def test_copies_of_k_rows_count_k(q):
    x = torch.linalg.qr(rows(9, 0, 9))[0][:5].repeat(4, 1) * torch.arange(1, 21)[:, None]
    assert vendi(x, q=q).values["vendi"] == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("kernel", ["linear", "polynomial"])
def test_rows_all_alike_count_one(kernel, q):
    score = vendi(torch.full((9, 3), 2.5), q=q, kernel=kernel)
    assert score.values["vendi"] == pytest.approx(1, rel=1e-12)
    assert score.errors["vendi"] == pytest.approx(0, abs=1e-7)


def test_kinds_of_unequal_frequency():
    """Eigenvalues are the shares: the exponential of their entropy."""
    x = torch.eye(3)[torch.tensor([0] * 5 + [1] * 3 + [2] * 2)]
    shares = np.array([0.5, 0.3, 0.2])
    assert vendi(x).values["vendi"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-12)
    assert vendi(x, q=2.0).values["vendi"] == pytest.approx(1 / (shares**2).sum(), rel=1e-12)
    assert vendi(x, q=math.inf).values["vendi"] == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_values_equal_those_of_singular_values(n, dim, q):
    x = rows(n, 0, dim)
    assert vendi(x, q=q).values["vendi"] == pytest.approx(weighted(x.numpy(), np.ones(n), q), rel=1e-10)


@pytest.mark.parametrize("q", ORDERS)
def test_kernels_by_name(q):
    x = rows(30, 0)
    gram = np.exp(-cdist(x, x) / 2.0)
    cubic = (x @ x.T / 6 + 1).numpy() ** 3
    cubic /= np.sqrt(np.outer(np.diag(cubic), np.diag(cubic)))
    for expected, options in (
        (gram, {"kernel": "laplace", "bandwidth": 2.0}),
        (cubic, {"kernel": "polynomial"}),
    ):
        score = vendi(x, q=q, **options)
        assert score.values["vendi"] == pytest.approx(
            of_eigenvalues(np.linalg.eigvalsh(expected / 30), q), rel=1e-9
        )


def test_orders_fall_from_one_another():
    x = rows(50, 0, 20)
    values = [vendi(x, q=q).values["vendi"] for q in ORDERS]
    assert values == sorted(values, reverse=True)
    assert vendi(x, q=1 + 1e-6).values["vendi"] == pytest.approx(vendi(x).values["vendi"], rel=1e-5)


# --- Perturbation


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_contributions_are_the_derivative_by_the_weight_of_a_row(n, dim, q):
    x, step = rows(n, 0, dim), 1e-5
    score = vendi(x, q=q)
    expected = [
        (weighted(x.numpy(), np.ones(n) + nudge, q) - weighted(x.numpy(), np.ones(n) - nudge, q)) / (2 * step)
        for nudge in step * np.eye(n)
    ]
    ours = score.contributions["generated"].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
    assert score.errors["vendi"] == pytest.approx(math.sqrt(n / (n - 1) * (ours**2).sum()), rel=1e-9)


@pytest.mark.parametrize("q", ORDERS)
def test_the_bias_is_that_of_the_jackknife_to_second_order(q):
    x = rows(400, 0)
    without = np.array([weighted(np.delete(x.numpy(), i, 0), np.ones(399), q) for i in range(400)])
    score = vendi(x, q=q)
    assert score.bias == pytest.approx(399 * (without.mean() - score.values["vendi"]), rel=0.03)


# --- What does not matter


def test_neither_order_nor_rotation_nor_length_matter():
    x, turn = rows(30, 0), torch.linalg.qr(rows(6, 5))[0]
    score = vendi(x)
    lengths = torch.linspace(0.1, 1e3, 30).double()[:, None]
    for other in (x.flip(0), x @ turn, x * lengths, x * 1e200, x * 1e-200):
        found = vendi(other)
        assert found.values["vendi"] == pytest.approx(score.values["vendi"], rel=1e-10)
        assert found.errors["vendi"] == pytest.approx(score.errors["vendi"], rel=1e-8)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_blocks_do_not_matter(n, dim, kernel, monkeypatch):
    x = rows(n, 0, dim)
    score = vendi(x, kernel=kernel)
    monkeypatch.setattr(module, "_BLOCK", 7)
    other = vendi(x, kernel=kernel)
    assert other.values["vendi"] == pytest.approx(score.values["vendi"], rel=1e-12)
    assert other.errors["vendi"] == pytest.approx(score.errors["vendi"], rel=1e-9)
    assert dict(other.biases) == pytest.approx(dict(score.biases), rel=1e-9)


def test_float32_rows_give_the_value_of_float64():
    x = rows(60, 0, 64, torch.float32)
    assert vendi(x).values["vendi"] == pytest.approx(vendi(x.double()).values["vendi"], rel=1e-12)


# --- What is refused


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (rows(1, 0), {}, TooFewImages, "at least 2 generated rows are needed, found 1"),
        (rows(9, 0)[0], {}, UsageError, r"shape \(6,\)"),
        (rows(9, 0).long(), {}, UsageError, "in int64"),
        (rows(9, 0), {"q": 0.0}, UsageError, "above 0"),
        (rows(9, 0), {"q": math.nan}, UsageError, "above 0"),
        (rows(9, 0), {"q": 1e4}, UsageError, "take inf"),
        (rows(9, 0), {"kernel": "rbff"}, UnknownName, "rbf"),
        (rows(9, 0), {"kernel": "energy"}, NumericalError, "between an image and itself"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.nan), {}, NumericalError, "row 4"),
        (rows(9, 0).index_fill(0, torch.tensor(4), 0.0), {}, NumericalError, "1 of 9 feature rows are zero"),
    ],
)
def test_what_is_refused(given, options, error, message):
    with pytest.raises(error, match=message):
        vendi(given, **options)


def test_more_rows_and_features_than_eigenvalues_can_be_taken_of(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 10)
    assert vendi(rows(50, 0, 10)).values["vendi"] > 1
    with pytest.raises(UsageError, match="--rows 10"):
        vendi(rows(11, 0, 11))
    with pytest.raises(UsageError, match="--rows 10"):
        vendi(rows(11, 0, 3), kernel="rbf")
