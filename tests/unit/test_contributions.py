"""Contributions of single images: what they say of two values of one set, all of them or a few."""

from __future__ import annotations

import base64

import pytest
import torch

from gen_eval.contributions import covariance, explained, packed, unpacked


def pair(n, correlation, seed=0):
    """Indices, and contributions to two values whose correlation over the images is about so much."""
    rng = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, n, generator=rng, dtype=torch.float64)
    y = correlation * x + (1 - correlation**2) ** 0.5 * noise
    return torch.arange(n), x / n, 3 * y / n


def test_all_of_a_small_set_go_along():
    index, x, y = pair(200, 0.9)
    a, b = (unpacked(packed(index, each)) for each in (x, y))
    assert torch.equal(a[0], index)
    torch.testing.assert_close(a[1], x - x.mean(), rtol=1e-6, atol=1e-9)
    assert covariance(a, b, 200) == pytest.approx(covariance((index, x), (index, y), 200), rel=1e-6)


@pytest.mark.parametrize("correlation", [-0.9, 0.5, 0.95, 0.999])
def test_a_few_of_many_tell_the_covariance(correlation):
    n, errors = 20_000, []
    for seed in range(40):
        index, x, y = pair(n, correlation, seed)
        a, b = (unpacked(packed(index, each)) for each in (x, y))
        assert len(a[0]) == 256
        assert covariance(a, a, n) == pytest.approx(covariance((index, x), (index, x), n), rel=1e-6)
        exact = covariance((index, x), (index, y), n)
        spread = (covariance(a, a, n) * covariance(b, b, n)) ** 0.5
        errors.append((covariance(a, b, n) - exact) / spread)
    expected = (1 - correlation**2) / 256**0.5
    assert torch.tensor(errors).square().mean().sqrt() == pytest.approx(expected, rel=0.4)


def test_whoever_keeps_a_few_keeps_the_same():
    index, x, y = pair(5000, 0.9)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(1))
    assert packed(index[order], x[order]) == packed(index, x)
    assert torch.equal(unpacked(packed(index, x))[0], unpacked(packed(index, y))[0])
    # One of which a sample is known alone has most of them in common, as such a sample is drawn in the same way.
    some = unpacked(packed(index, x))[0][:100]
    assert covariance((some, x[some]), unpacked(packed(index, y)), 5000) is not None


def test_too_few_in_common_tell_nothing():
    index, x, y = pair(200, 0.9)
    assert covariance((index[:100], x[:100]), (index[90:], y[90:]), 200) is None


def test_contributions_beyond_the_error_explain_nothing():
    index, x, _ = pair(200, 0.9)
    error = covariance((index, x), (index, x), 200) ** 0.5
    assert explained({"reference": (index, x)}, {"reference": 200}, error)
    assert not explained({"reference": (index, x)}, {"reference": 200}, 0.9 * error)
    assert not explained(
        {"reference": (index, x), "generated": (index, x)}, {"reference": 200, "generated": None}, error
    )


def test_images_that_contribute_alike_and_one_alone_are_no_trouble():
    for index, numbers in ((torch.arange(300), torch.ones(300)), (torch.tensor([7]), torch.ones(1))):
        assert not unpacked(packed(index, numbers))[1].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("?", "base64|Incorrect padding|Only base64"),
        ("AAAA", "buffer size"),
        (base64.b64encode(b"\xff" * 8).decode(), "not finite"),
    ],
)
def test_other_text_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        unpacked(text)
