"""The table of f-divergences against integrals, closed forms and the definition of the conjugate."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from gen_eval.errors import UnknownName
from gen_eval.metrics.divergence.conjugates import DIVERGENCES, find_divergence

# p = N(0, 1) and q = N(1, 1.5²), on a grid that all but 1e-12 of the integrals lies in.
SHIFT, SCALE = 1.0, 1.5
GRID = torch.linspace(-16, 18, 200_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
LOG_P = -(GRID**2) / 2 - math.log(2 * math.pi) / 2
LOG_Q = -(((GRID - SHIFT) / SCALE) ** 2) / 2 - math.log(2 * math.pi) / 2 - math.log(SCALE)
LOG_RATIO = LOG_P - LOG_Q


def integral(log_density, values):
    return float((torch.exp(log_density) * values).sum()) * STEP


def kl(m, s):
    """Of N(m, s²) from N(0, 1) backwards: KL(N(0, 1) || N(m, s²))."""
    return math.log(s) + (1 + m**2) / (2 * s**2) - 0.5


TV_EDGES = sorted(
    # p = q where x² = ((x - 1) / 1.5)² + 2 log 1.5
    (-1 + sign * math.sqrt(1 + (SCALE**2 - 1) * (1 + 2 * SCALE**2 * math.log(SCALE)))) / (SCALE**2 - 1)
    for sign in (-1, 1)
)


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


CLOSED = {
    "kl": kl(SHIFT, SCALE),
    "reverse-kl": kl(-SHIFT / SCALE, 1 / SCALE),
    # The integral of p² / q is that of a Gaussian: log of it = log(s / sqrt(2 - 1/s²)) + 1 / (2 s² - 1).
    "pearson": SCALE / math.sqrt(2 - SCALE**-2) * math.exp(SHIFT**2 / (2 * SCALE**2 - 1)) - 1,
    "squared-hellinger": 2
    - 2 * math.sqrt(2 * SCALE / (1 + SCALE**2)) * math.exp(-(SHIFT**2) / 4 / (1 + SCALE**2)),
    "total-variation": sum(
        sign * (normal_cdf(edge) - normal_cdf((edge - SHIFT) / SCALE))
        for sign, edge in zip((-1, 1), TV_EDGES, strict=True)
    ),
    "js": 0.0992900966,  # by quadrature in another program
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_bound_at_its_best_equals_the_divergence(name):
    row = DIVERGENCES[name]
    direct = integral(LOG_Q, row.f(torch.exp(LOG_RATIO)))
    t = row.optimal(LOG_RATIO)
    # -1/u times a density, both beyond float64 in the tails, is 0 there.
    bound = integral(LOG_P, t) - integral(LOG_Q, row.conjugate(t))
    assert bound == pytest.approx(direct, abs=1e-9)
    assert direct == pytest.approx(CLOSED[name], abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_any_other_function_gives_less(name):
    row = DIVERGENCES[name]
    best = integral(LOG_Q, row.f(torch.exp(LOG_RATIO)))
    for wrong in (
        0.9 * LOG_RATIO,
        LOG_RATIO + 0.1,
        LOG_RATIO + 0.2 * torch.sin(GRID),
        torch.zeros_like(GRID),
    ):
        value = integral(LOG_P, row.output(wrong)) - integral(LOG_Q, row.penalty(wrong))
        assert value < best - 1e-4


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_conjugate_is_the_greatest_value_of_its_definition(name):
    row = DIVERGENCES[name]
    low, high = (max(row.domain[0], -3.0), min(row.domain[1], 3.0))
    for part in (0.05, 0.3, 0.5, 0.7, 0.95):
        t = low + part * (high - low)

        def negative(log_u, t=t):
            u = torch.exp(torch.tensor(log_u, dtype=torch.float64))
            return float(row.f(u) - u * t)

        found = minimize_scalar(negative, bounds=(-40, 12), method="bounded", options={"xatol": 1e-12})
        value = float(row.conjugate(torch.tensor(t, dtype=torch.float64)))
        assert -found.fun == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_outputs_stay_in_the_domain_and_their_penalty_is_the_conjugate(name):
    row = DIVERGENCES[name]
    v = torch.linspace(-15, 15, 301, dtype=torch.float64)
    t = row.output(v)
    assert bool((t > row.domain[0]).all())
    assert bool((t < row.domain[1]).all())
    torch.testing.assert_close(row.penalty(v), row.conjugate(t), rtol=1e-8, atol=1e-8)
    if name != "total-variation":
        torch.testing.assert_close(t, row.optimal(v))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_optimum_is_the_slope_of_f(name):
    row = DIVERGENCES[name]
    v = torch.tensor([-3.0, -1.0, -0.1, 0.2, 2.0], dtype=torch.float64)
    u = torch.exp(v).requires_grad_()
    (slope,) = torch.autograd.grad(row.f(u).sum(), u)
    torch.testing.assert_close(row.optimal(v), slope)
    assert float(row.f(torch.ones((), dtype=torch.float64))) == 0


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_greatest_is_that_of_sets_that_share_nothing(name):
    """f(0) for where q alone is, and the slope of f at infinity for where p alone is."""
    row = DIVERGENCES[name]
    zero, vast = torch.tensor([0.0, 1e300], dtype=torch.float64)
    assert float(row.f(zero) + row.f(vast) / vast) == pytest.approx(row.greatest, rel=1e-6) or (
        row.greatest == math.inf and float(row.f(zero) + row.f(vast) / vast) > 600
    )


def test_penalties_do_not_overflow_where_the_conjugate_of_the_output_does():
    v = torch.tensor([800.0], dtype=torch.float64)
    for name in ("reverse-kl", "js"):
        row = DIVERGENCES[name]
        assert not bool(row.conjugate(row.output(v)).isfinite())
        assert bool(row.penalty(v).isfinite())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_terms_grow_no_faster_than_the_power_says(name):
    row = DIVERGENCES[name]
    v = torch.tensor([-20.0, 20.0], dtype=torch.float64)
    greatest = max(float(row.output(v).abs().max()), float(row.penalty(v).abs().max()))
    assert greatest <= 2 * math.exp(20 * row.power)
    assert row.power == 1 or greatest > math.exp(20)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'squared-hellinger'"):
        find_divergence("squared-helinger")
