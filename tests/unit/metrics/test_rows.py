"""What sets of feature rows must be, and which of their rows are equal."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.rows import identities, matched


def rows(n, seed, dim=4):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(dim):
    return torch.randint(-(2**62), 2**62, (dim,), generator=torch.Generator().manual_seed(9)) | 1


def test_sets_come_in_their_order_and_in_the_widest_dtype():
    x, y = rows(5, 0).float().requires_grad_(), rows(7, 1)
    first, second, third = matched(2, generated=x, reference=y, heldout=x)
    assert first.dtype == second.dtype == third.dtype == torch.float64
    assert torch.equal(first, x.double())
    assert torch.equal(second, y)
    assert not first.requires_grad
    (alone,) = matched(2, generated=y)
    assert alone.data_ptr() == y.data_ptr()  # nothing is copied that need not be


def test_features_whose_mean_overflows_are_finite():
    matched(2, generated=torch.full((2, 3), 3e38))


X = rows(9, 0)


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        (
            {"generated": X[:3]},
            TooFewImages,
            "at least 4 generated rows are needed, found 3; pass more images",
        ),
        ({"generated": X, "heldout": X[:0]}, TooFewImages, "at least 4 heldout rows are needed, found 0"),
        ({"generated": X[0]}, UsageError, r"generated features must be .* found shape \(4,\) in float64"),
        ({"reference": X[:, :0]}, UsageError, r"reference features must be .* found shape \(9, 0\)"),
        ({"generated": X.half()}, UsageError, "in float32 or float64, found shape .* in float16"),
        (
            {"generated": X, "reference": X, "heldout": X[:, :3]},
            UsageError,
            r"features of 4 \(generated\) and of 3 \(heldout\) dimensions do not compare",
        ),
        (
            {"reference": X, "generated": X.index_fill(0, torch.tensor(4), math.nan)},
            NumericalError,
            "generated set: 1 of 9 feature rows hold NaN .* row 4",
        ),
    ],
)
def test_what_does_not_compare_is_refused(sets, error, message):
    with pytest.raises(error, match=message):
        matched(4, **sets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rows_and_no_others_share_a_number(dtype):
    x = rows(200, 0, 12).sign().to(dtype)
    x[:, 3] *= torch.arange(200) % 2  # the two zeros are one
    found = identities(weights(12), x)
    equal = (x[:, None] == x).all(2)
    assert torch.equal(found[:, None] == found, equal)
    assert sorted(set(found.tolist())) == list(range(int(found.max()) + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_do_not_depend_on_the_order_of_rows(dtype):
    for x in (rows(100, 0, 12).sign().to(dtype), rows(100, 1).to(dtype)):
        turn = torch.randperm(100, generator=torch.Generator().manual_seed(1))
        assert torch.equal(identities(weights(x.shape[1]), x[turn]), identities(weights(x.shape[1]), x)[turn])


def test_numbers_say_nothing_of_the_features():
    x = torch.linspace(0, 1, 2000)[:, None]
    ranks = torch.stack([identities(weights(1), x).double(), torch.arange(2000).double()])
    assert abs(float(torch.corrcoef(ranks)[0, 1])) < 0.1
