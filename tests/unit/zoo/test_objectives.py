"""Objectives against closed forms, quadrature on two Gaussians, and values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import UnknownName
from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.zoo.objectives import OBJECTIVES, find_objective

# Data N(0, 1) and a generator N(1, 1.5²), on a grid beyond which neither has 1e-20 of its mass.
GRID = torch.linspace(-16, 18, 20_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
LOG_P, LOG_Q = (
    -(((GRID - mean) / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))
    for mean, sd in ((0.0, 1.0), (1.0, 1.5))
)
P, Q = LOG_P.exp(), LOG_Q.exp()
LOG_RATIO = LOG_P - LOG_Q
JS = float((P * LOG_P + Q * LOG_Q - (P + Q) * ((P + Q) / 2).log()).sum()) * STEP / 2


def losses(name, v):
    """What the discriminator and the generator pay, integrated over both densities."""
    row = OBJECTIVES[name]
    discriminator = float((P * row.real(v) + Q * row.fake(v)).sum()) * STEP
    return discriminator, float((Q * row.generator(v)).sum()) * STEP


def slopes(function, at):
    v = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(v).sum(), v)
    return gradient


def test_the_quadrature_has_the_divergence_right():
    assert pytest.approx(0.0992901, abs=1e-7) == JS


@pytest.mark.parametrize("name", ["saturating", "non-saturating"])
def test_the_best_discriminator_of_a_gan_is_worth_twice_the_js_divergence_less_log_4(name):
    """E_p log D + E_q log(1 - D) at D = p / (p + q), and less anywhere else."""
    value = -losses(name, LOG_RATIO)[0]
    assert value == pytest.approx(2 * JS - math.log(4), abs=1e-12)
    torch.testing.assert_close(torch.sigmoid(LOG_RATIO), P / (P + Q))
    for change in (torch.full_like(GRID, 0.1), 0.1 * torch.sin(GRID), -0.1 * LOG_RATIO):
        assert -losses(name, LOG_RATIO + change)[0] < value - 1e-5


def test_the_saturating_generator_is_the_other_side_of_the_game_and_the_other_is_not():
    real_part = float((P * OBJECTIVES["saturating"].real(LOG_RATIO)).sum()) * STEP
    discriminator, generator = losses("saturating", LOG_RATIO)
    assert generator == pytest.approx(real_part - discriminator, abs=1e-12)
    assert losses("non-saturating", LOG_RATIO)[1] > 0 > generator


def test_gradients_vanish_where_fakes_are_recognised_unless_the_loss_is_non_saturating():
    """-D and -(1 - D) by closed form, D the sigmoid of the critic value."""
    at = [-40.0, -3.0, 0.0, 2.0]
    d = torch.sigmoid(torch.tensor(at, dtype=torch.float64))
    torch.testing.assert_close(slopes(OBJECTIVES["saturating"].generator, at), -d)
    torch.testing.assert_close(slopes(OBJECTIVES["non-saturating"].generator, at), d - 1)
    assert abs(slopes(OBJECTIVES["saturating"].generator, [-40.0])) < 1e-17
    assert slopes(OBJECTIVES["non-saturating"].generator, [-40.0]) == pytest.approx(-1)


def test_losses_of_a_gan_bear_critic_values_of_any_size():
    row = OBJECTIVES["non-saturating"]
    far = torch.tensor([-1e4, 1e4])
    for function in (row.real, row.fake, row.generator):
        assert function(far).isfinite().all()
    assert row.discriminator_loss(far[1:], far[:1]) == 0


# --- f-GANs


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("game", ["f-gan", "f-gan-minimax"])
def test_an_f_gan_is_worth_its_divergence_at_the_best_t(game, name):
    divergence, v = DIVERGENCES[name], LOG_RATIO
    if name == "total-variation":
        v = LOG_RATIO.sign() * 80  # the best T is a jump, which a network reaches for large values alone
    elif name == "pearson":
        v = 2 * (LOG_RATIO.exp() - 1)  # T itself
    value = -losses(f"{game}:{name}", v)[0]
    terms = torch.where(P > 0, Q * divergence.f(torch.exp(LOG_RATIO)), 0.0)
    # Of the reverse KL the terms go through log(p/q) itself: exp would underflow on the way.
    truth = float((Q * -LOG_RATIO if name == "reverse-kl" else terms).sum()) * STEP
    assert value == pytest.approx(truth, abs=1e-9)
    assert truth > 0.05
    for change in (torch.full_like(GRID, 0.1), 0.1 * torch.sin(GRID)):
        if name != "total-variation":
            assert -losses(f"{game}:{name}", v + change)[0] < value - 1e-5


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_generator_of_an_f_gan_lowers_the_bound_or_raises_t(name):
    row, v = DIVERGENCES[name], torch.linspace(-3, 3, 7, dtype=torch.float64)
    t = v if name == "pearson" else row.output(v)
    for game, generator in (("f-gan", -t), ("f-gan-minimax", -row.conjugate(t))):
        objective = OBJECTIVES[f"{game}:{name}"]
        torch.testing.assert_close(objective.real(v), -t)
        torch.testing.assert_close(objective.fake(v), row.conjugate(t))
        torch.testing.assert_close(objective.generator(v), generator)


def test_alternative_losses_descend_other_divergences():
    """At the best T: of KL the reverse KL, of JS half of what the non-saturating GAN pays."""
    assert losses("f-gan:kl", LOG_RATIO)[1] + 1 == pytest.approx(
        losses("f-gan-minimax:reverse-kl", LOG_RATIO)[1] - 1
    )
    v = torch.linspace(-9, 9, 19, dtype=torch.float64)
    torch.testing.assert_close(
        OBJECTIVES["f-gan:js"].generator(v),
        (OBJECTIVES["non-saturating"].generator(v) - math.log(2)) / 2,
    )


# Slopes of the two generator losses far on the side of recognised fakes, v = -10, in closed form.
SLOPES = {
    "kl": (-1.0, -math.exp(-10)),
    "reverse-kl": (-math.exp(10), -1.0),
    "pearson": (-1.0, 4.0),  # the bound is raised by fakes whose T is below -2, where no ratio puts it
    "squared-hellinger": (-math.exp(5) / 2, -math.exp(-5) / 2),
    "total-variation": (-1 / math.cosh(5) ** 2 / 4, -1 / math.cosh(5) ** 2 / 4),
    "js": (-1 / (1 + math.exp(-10)) / 2, -1 / (1 + math.exp(10)) / 2),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_which_generator_losses_still_pull_where_fakes_are_recognised(name):
    for game, expected in zip(("f-gan", "f-gan-minimax"), SLOPES[name], strict=True):
        found = slopes(OBJECTIVES[f"{game}:{name}"].generator, [-10.0])
        assert float(found) == pytest.approx(expected, rel=1e-12)


# --- Margins and potentials


def test_hinge_and_wasserstein_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0])
    hinge, wasserstein = OBJECTIVES["hinge"], OBJECTIVES["wasserstein"]
    assert float(hinge.discriminator_loss(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1) / 2)
    assert float(hinge.generator_loss(fake)) == pytest.approx(1.5)
    assert float(wasserstein.discriminator_loss(real, fake)) == pytest.approx(-0.5 - 1.5)
    assert float(wasserstein.generator_loss(fake)) == pytest.approx(1.5)


def test_the_best_margins_of_the_hinge_are_worth_the_total_variation():
    """With v = ±1 by the greater density: 2 - 2 TV (Lim and Ye 2017, section 3)."""
    total_variation = float((P - Q).abs().sum()) * STEP / 2
    assert losses("hinge", LOG_RATIO.sign())[0] == pytest.approx(2 - 2 * total_variation, abs=1e-12)
    assert losses("hinge", 0.9 * LOG_RATIO.sign())[0] > 2 - 2 * total_variation + 0.01
    assert losses("hinge", 1.1 * LOG_RATIO.sign())[0] > 2 - 2 * total_variation + 0.01


def test_a_wasserstein_critic_of_slope_1_is_worth_a_translation():
    moved = torch.exp(-((GRID - 3) ** 2) / 2) / math.sqrt(2 * math.pi)
    row = OBJECTIVES["wasserstein"]
    value = -float((moved * row.real(GRID) + P * row.fake(GRID)).sum()) * STEP
    assert value == pytest.approx(3, abs=1e-12)


def test_rows_are_found_by_name_and_say_where_they_are_from():
    assert set(OBJECTIVES) == {
        *("saturating", "non-saturating", "wasserstein", "hinge"),
        *(f"{game}:{name}" for game in ("f-gan", "f-gan-minimax") for name in DIVERGENCES),
    }
    for name, row in OBJECTIVES.items():
        assert find_objective(name) is row
        assert "arXiv:" in row.cite
    with pytest.raises(UnknownName, match="did you mean 'wasserstein'"):
        find_objective("waserstein")
