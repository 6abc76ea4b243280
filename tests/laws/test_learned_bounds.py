"""Learned bounds against what is true of distributions whose divergences and distances are known.

What a network has learned is integrated over the densities themselves, so that no sampling hides what it missed;
what is reported of samples may be above the truth by no more than its error bar allows.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gen_eval.metrics import networks
from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.metrics.divergence.ratio import jensen_shannon
from gen_eval.metrics.divergence.variational import f_divergence, learn_ratio
from gen_eval.metrics.transport.critic import kantorovich_rubinstein

# N(0, 1) and N(1, 1.5²): their Jensen-Shannon divergence is 0.09929.
GRID = torch.linspace(-16, 18, 20_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
NARROW, WIDE = (0.0, 1.0), (1.0, 1.5)
JS = 0.0992901


def draw(of, n, seed):
    mean, sd = of
    noise = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (mean + sd * noise).float()


def log_density(of):
    mean, sd = of
    return -(((GRID - mean) / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))


def true_divergence(row, generated, reference):
    log_q = log_density(generated)
    return float((torch.exp(log_q) * row.f(torch.exp(log_density(reference) - log_q))).sum()) * STEP


def exact_bounds(learned, row, generated, reference):
    """What the bound of each network comes to without any sampling."""
    p, q = torch.exp(log_density(reference)), torch.exp(log_density(generated))
    found = []
    for fold in range(learned.fit.folds):
        raw = networks.outputs(learned.fit.network(fold), learned.fit.scaling(GRID[:, None])[None])[0]
        v = learned.limit * torch.tanh(raw / learned.limit)
        found.append(float((p * row.output(v) - q * row.penalty(v)).sum()) * STEP)
    return np.array(found)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_learned_bounds_reach_the_divergence_and_do_not_exceed_it(name):
    row = DIVERGENCES[name]
    # The terms of the reverse KL are the ratios q / p of p's own rows: their variance is finite where p is the wider.
    generated, reference = (NARROW, WIDE) if name == "reverse-kl" else (WIDE, NARROW)
    truth = true_divergence(row, generated, reference)
    x, y = draw(generated, 20_000, 1), draw(reference, 20_000, 2)
    learned = learn_ratio(x, y, row, networks.Training(folds=3, steps=500))
    parts = exact_bounds(learned, row, generated, reference) / truth
    assert 0.97 < parts.mean() < 1
    assert (parts < 1.001).all()
    bound = learned.bound(row)
    assert abs(bound.value - truth) < 3 * bound.error


def test_the_divergence_from_a_discriminator():
    x, y = draw(WIDE, 60_000, 3), draw(NARROW, 60_000, 4)
    score = jensen_shannon(x, y, folds=3, steps=500)
    assert score.values["jensen_shannon"] == pytest.approx(JS, abs=0.003)
    assert score.errors["jensen_shannon"] < 0.0015
    assert score.values["calibration_slope"] == pytest.approx(1, abs=0.03)
    for rows, role in ((x, "generated"), (y, "reference")):
        z = rows[:, 0].double()
        true = ((z - WIDE[0]) / WIDE[1]) ** 2 / 2 - z**2 / 2 + math.log(WIDE[1])
        # Further out is next to no reference row, and nothing to learn a ratio from.
        errors = (score.per_image[role] - true)[z.abs() < 4]
        assert float(errors.square().mean().sqrt()) < 0.2


# --- Error bars, and what is said where there is nothing

REPETITIONS = 24


def simulate(name, generated, reference, n, dim, steps):
    """Values and errors over independent draws of both sets."""
    values, errors = [], []
    for seed in range(REPETITIONS):
        draws = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(n, dim, generator=draws) * of[1] + of[0] for of in (generated, reference))
        score = f_divergence(x, y, divergence=name, folds=3, steps=steps, width=16, seed=seed)
        values.append(score.values["f_divergence"])
        errors.append(score.errors["f_divergence"])
    return np.array(values), np.array(errors)


@pytest.mark.parametrize("name", ["js", "kl"])
def test_bounds_are_below_the_truth_in_expectation(name):
    truth = true_divergence(DIVERGENCES[name], WIDE, NARROW)
    values, errors = simulate(name, WIDE, NARROW, 500, 1, 150)
    assert 0.8 * truth < values.mean() < truth
    assert (values > truth + 3 * errors).sum() == 0
    # The networks differ from draw to draw as well, which the errors leave out. Of the ratio of two standard
    # deviations chance leaves 1 / sqrt(2 * 24), that is 0.14.
    assert 0.65 < errors.mean() / values.std(ddof=1) < 1.35


@pytest.mark.parametrize("name", DIVERGENCES)
def test_nothing_is_found_where_nothing_differs(name):
    values, errors = simulate(name, NARROW, NARROW, 100, 5, 40)
    assert values.mean() < 2.5 * values.std(ddof=1) / math.sqrt(REPETITIONS)
    assert (values > 3 * errors).sum() == 0


def test_judged_by_what_they_learned_from_networks_would_find_what_is_not_there():
    """What is asked above can fail."""
    row, found = DIVERGENCES["js"], []
    for seed in range(8):
        draws = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(60, 20, generator=draws) for _ in range(2))
        learned = learn_ratio(x, y, row, networks.Training(folds=3, steps=300, seed=seed))
        # Three folds: who neither judges a row nor is judged by it has learned from it.
        seen = [learned.log_ratio(side, lag=2) for side in learned.pair]
        found.append(float(row.output(seen[1]).mean() - row.penalty(seen[0]).mean()))
    assert np.mean(found) > 0.02


# --- Wasserstein-1

SHIFT = 3.0
EXCESS = 1.0288  # over the bias of the formula, of a Gaussian and a penalty


def shifted(n):
    """Two Gaussians whose means are apart by just that much."""
    draws = torch.Generator().manual_seed(7)
    x, y = (torch.randn(n, 2, generator=draws) for _ in range(2))
    return x - x.mean(0) + torch.tensor([SHIFT, 0.0]), y - y.mean(0)


def test_a_gradient_penalty_of_gaussians_is_biased_a_little_more_than_the_formula_says():
    """Along the shift the best critic has slope 1 + F(x) / (2 penalty m(x)).

    F is what must be moved across x and m the density there of lines between the sets. If F were W1 m, that were
    the slope K of the formula; it is steeper where lines are few, so raw is W1 + c W1² / (2 penalty) with c > 1.
    """
    x = np.linspace(-6, 9, 3001)
    t = (np.arange(1000) + 0.5)[:, None] / 1000
    lines = norm.pdf(x, SHIFT * t, np.sqrt(t**2 + (1 - t) ** 2)).mean(0)
    moved = norm.cdf(x) - norm.cdf(x - SHIFT)
    excess = float((moved**2 / lines).sum() * (x[1] - x[0])) / SHIFT**2
    assert excess == pytest.approx(EXCESS, abs=1e-4)


@pytest.mark.parametrize(("penalty", "formula"), [(1.0, 7.5), (10.0, 3.45), (100.0, 3.045)])
def test_a_gradient_penalty_is_biased_as_the_formula_says(penalty, formula):
    """W1 (1 + W1 / (2 penalty)), for a translation."""
    truth = SHIFT + EXCESS * SHIFT**2 / (2 * penalty)
    score = kantorovich_rubinstein(
        *shifted(8000), constraint="gradient-penalty", penalty=penalty, folds=3, steps=500
    )
    assert truth == pytest.approx(formula, rel=0.02)
    assert score.values["raw"] == pytest.approx(truth, rel=0.012)
    assert score.values["corrected"] == pytest.approx(SHIFT, rel=0.02)
    assert score.values["bound"] < SHIFT + 3 * score.errors["bound"]
    # With a weaker penalty the critic is steep in the tails, and the bound looser for it.
    assert score.values["bound"] > {1.0: 0.6, 10.0: 0.75, 100.0: 0.9}[penalty] * SHIFT


def test_a_spectral_critic_reaches_a_translation_and_a_clipped_one_is_nearly_flat():
    spectral, clipped = (
        kantorovich_rubinstein(*shifted(4000), constraint=constraint, folds=3, steps=400)
        for constraint in ("spectral-norm", "clip")
    )
    assert 0.9 * SHIFT < spectral.values["bound"] < SHIFT + 3 * spectral.errors["bound"]
    assert spectral.values["max_gradient"] <= 1 + 1e-9
    # In itself a clipped critic is nearly flat; over its greatest gradient it is a bound all the same.
    assert clipped.values["raw"] < 0.01 * SHIFT
    assert 0.5 * SHIFT < clipped.values["bound"] < spectral.values["bound"]


def test_critics_that_bend_less_find_less():
    """A ring of eight modes against a Gaussian: about 0.88 by assignment of 2,000 points to each other."""
    draws = torch.Generator().manual_seed(8)
    angles = torch.randint(8, (3000,), generator=draws) * math.pi / 4
    ring = 2 * torch.stack([angles.cos(), angles.sin()], 1) + 0.1 * torch.randn(3000, 2, generator=draws)
    cloud = torch.randn(3000, 2, generator=draws)
    penalised, spectral, clipped = (
        kantorovich_rubinstein(ring, cloud, constraint=constraint, folds=3, steps=500)
        for constraint in ("gradient-penalty", "spectral-norm", "clip")
    )
    assert penalised.values["raw"] > 2 * spectral.values["raw"] > 0.2
    assert abs(clipped.values["raw"]) < 0.01
    for score in (penalised, spectral, clipped):
        assert score.values["bound"] < 0.88 + 3 * score.errors["bound"]
