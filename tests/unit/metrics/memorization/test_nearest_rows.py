"""The nearest rows of another set, against brute force in float64."""

from __future__ import annotations

import pytest
import torch

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.metrics.neighbors import tiles
from gen_eval.metrics.neighbors.across import nearest, nearest_set
from gen_eval.metrics.neighbors.distances import prepare


def draw(n, d, seed, offset=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + offset


def brute(x, y, k):
    squared = (x.double()[:, None] - y.double()).square().sum(2)
    found = squared.sort(dim=1, stable=True)
    return found.values[:, :k], found.indices[:, :k]


def found_by_us(x, y, k):
    a, b = prepare(x, y)
    found = nearest(a, b, k)
    assert torch.equal(nearest_set(a, b, k).sort(1).values, found.who.sort(1).values)
    return found.squared / a.scale**2, found.who


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 9, 3), (300, 1500, 16), (1400, 70, 64)])
def test_brute_force(n, m, d, k):
    x, y = draw(n, d, 0), draw(m, d, 1)
    squared, who = found_by_us(x, y, k)
    expected, indices = brute(x, y, k)
    torch.testing.assert_close(squared, expected, rtol=1e-12, atol=0)
    assert torch.equal(who, indices)


def test_rows_that_float32_cannot_tell_apart_are_decided_exactly():
    """Forty rows within 1e-6 of one another, far from the origin: a product in float32 puts them in no order."""
    centre = draw(1, 512, 0, offset=50.0).double()
    y = centre + 1e-6 * draw(40, 512, 1).double()
    x = centre + 1e-6 * draw(5, 512, 2).double()
    far = torch.cat([y, y + 1000])
    squared, who = found_by_us(x, far, 2)
    expected, indices = brute(x, far, 2)
    assert torch.equal(who, indices)
    torch.testing.assert_close(squared, expected, rtol=1e-9, atol=0)


def test_copies_are_at_no_distance_and_the_first_of_several_is_named():
    y = draw(50, 8, 1, offset=7.0)
    y[30] = y[11]
    squared, who = found_by_us(torch.stack([y[30], y[4]]), y, 2)
    assert squared[:, 0].tolist() == [0, 0]
    assert who[0].tolist() == [11, 30]
    assert who[1, 0] == 4


@pytest.mark.parametrize("block", [16, 1280])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_of_many_at_one_distance_the_first_are_taken(k, block, monkeypatch):
    """More of them than a list holds beyond those asked for."""
    monkeypatch.setattr(tiles, "BLOCK", block)
    y = draw(40, 6, 1)[torch.arange(120) % 40 // 4]
    x = torch.cat([y[:7], draw(5, 6, 2)])
    squared, who = found_by_us(x, y, k)
    expected, indices = brute(x, y, k)
    assert torch.equal(who, indices)
    torch.testing.assert_close(squared, expected, rtol=1e-9, atol=1e-12)


def test_what_cannot_be_found_is_refused():
    a, b = prepare(draw(5, 2, 0), draw(3, 2, 1))
    with pytest.raises(
        TooFewImages, match="4 nearest images need at least 4 images to look among, the set has 3"
    ):
        nearest(a, b, 4)
    with pytest.raises(UsageError, match="from 1, found 0"):
        nearest(a, b, 0)
