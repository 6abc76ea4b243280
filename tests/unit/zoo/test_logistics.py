"""Mixtures of logistics on levels: masses against a distribution function of somebody else, and draws by inversion."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from gen_eval.zoo import logistics

LEVELS = 7


def outputs(rows=5, components=2, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3 * components, generator=source, dtype=torch.float64)


def masses(out, levels=LEVELS):
    each = [logistics.log_mass(out, torch.full((len(out),), level), levels) for level in range(levels)]
    return torch.stack(each, 1).exp()


def test_levels_lie_evenly_from_end_to_end():
    assert logistics.to_unit(torch.arange(3), 3).tolist() == [-1, 0, 1]
    assert logistics.to_unit(torch.tensor([0, 255]), 256).tolist() == [-1, 1]


def test_masses_are_those_of_the_logistic_distribution():
    out = outputs()
    edges = torch.tensor([-math.inf, *(-1 + (2 * edge + 1) / 6 for edge in range(6)), math.inf])
    weight = torch.softmax(out[:, :2], 1)
    law = stats.logistic(loc=out[:, 2:4, None].numpy(), scale=out[:, 4:, None].exp().numpy())
    known = (weight[..., None] * torch.from_numpy(law.cdf(edges.numpy()))).sum(1).diff(dim=1)
    torch.testing.assert_close(masses(out), known, rtol=0, atol=1e-7)


@pytest.mark.parametrize("levels", [2, 7, 256])
def test_masses_sum_to_one(levels):
    torch.testing.assert_close(masses(outputs(), levels).sum(1), torch.ones(5).double(), rtol=0, atol=1e-12)


def test_a_mass_is_finite_and_has_a_slope_however_far_it_is():
    """A difference of two sigmoids would be 0 in float32 from about 17 scales on."""
    out = torch.tensor([[0.0, 1.0, -9.0]], requires_grad=True)  # log-scales end at -7
    found = logistics.log_mass(out, torch.tensor([0]), 256)
    assert float(found.detach()) == pytest.approx(-(2 - 1 / 255) * math.exp(7), rel=1e-4)
    found.sum().backward()
    assert float(out.grad[0, 1]) == pytest.approx(-math.exp(7), rel=1e-4)
    assert out.grad.isfinite().all()


def test_levels_of_even_shares_are_as_frequent_as_their_masses():
    out, n = outputs(1), 100_000
    shares = (torch.arange(n).double() + 0.5) / n
    levels = logistics.level_of(out.expand(n, -1), shares, LEVELS)
    assert (levels.diff() >= 0).all()
    counts = torch.bincount(levels, minlength=LEVELS) / n
    torch.testing.assert_close(counts.double(), masses(out)[0], rtol=0, atol=1.5 / n)
