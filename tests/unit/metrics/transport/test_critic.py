"""Critics of Wasserstein-1 and the exact dual, against assignment, singular values and their own definitions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.transport.critic import (
    CONSTRAINTS,
    SpectralNorm,
    kantorovich_rubinstein,
    kantorovich_rubinstein_dual,
    power_iteration,
)

SHORT = {"steps": 120, "folds": 3, "width": 16}


def rows(n, seed, dim=2, shift=0.0, dtype=torch.float32):
    drawn = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(dtype) + shift


@pytest.fixture
def pair():
    return rows(240, 0, shift=torch.tensor([2.0, 0.0])), rows(200, 1)


# --- The exact dual


@pytest.mark.parametrize("dim", [1, 2, 20])
def test_the_dual_equals_the_primal(dim):
    x, y = rows(40, 0, dim, dtype=torch.float64) * 1.3, rows(40, 1, dim, 0.5, torch.float64)
    costs = torch.cdist(x, y)
    primal = float(costs[linear_sum_assignment(costs.numpy())].mean())
    assert kantorovich_rubinstein_dual(x, y).value == pytest.approx(primal, abs=1e-7)


def test_the_dual_of_sets_of_other_sizes_equals_that_of_quantiles():
    x, y = rows(30, 0, 1, dtype=torch.float64), rows(47, 1, 1, 0.4, torch.float64) * 2
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert kantorovich_rubinstein_dual(x, y).value == pytest.approx(expected, abs=1e-7)


def test_potentials_have_slope_one_on_all_rows_and_give_the_value():
    x, y = rows(35, 0, 3, dtype=torch.float64), rows(45, 1, 3, 0.5, torch.float64)
    value, on_x, on_y = kantorovich_rubinstein_dual(x, y)
    f, z = torch.cat([on_x, on_y]), torch.cat([x, y])
    apart = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    assert bool(((f[:, None] - f).abs() <= apart + 1e-9).all())
    assert float(on_x.mean() - on_y.mean()) == value
    back = kantorovich_rubinstein_dual(y, x)
    assert back.value == pytest.approx(value, abs=1e-9)


def test_a_set_is_no_distance_from_itself():
    x = rows(20, 0)
    assert kantorovich_rubinstein_dual(x, x).value == pytest.approx(0, abs=1e-12)


def test_more_pairs_than_a_program_can_bear_are_refused():
    with pytest.raises(UsageError, match="251001 inequalities, more than 250000"):
        kantorovich_rubinstein_dual(rows(501, 0), rows(501, 1))


# --- Spectral norms


def test_power_iteration_approaches_the_singular_value():
    weight = rows(64, 0, 128, dtype=torch.float64)[None]
    start = rows(128, 1, 1, dtype=torch.float64)[None]
    true = float(torch.linalg.svdvals(weight[0])[0])
    for steps, tolerance in ((20, 1e-2), (200, 1e-5)):
        norm, vector = power_iteration(weight, start, steps=steps)
        assert float(norm) <= true * (1 + 1e-12)
        assert float(norm) == pytest.approx(true, rel=tolerance)
        assert float(vector.norm()) == pytest.approx(1)


def test_the_gradient_of_a_spectral_norm_is_the_product_of_its_vectors():
    weight = rows(9, 0, 5, dtype=torch.float64)[None].requires_grad_()
    norm, _ = power_iteration(weight, rows(5, 1, 1, dtype=torch.float64)[None], steps=2000)
    (slope,) = torch.autograd.grad(norm.sum(), weight)
    u, _, vt = torch.linalg.svd(weight[0].detach())
    torch.testing.assert_close(slope[0], torch.outer(u[:, 0], vt[0]), atol=1e-6, rtol=0)


def test_normalised_weights_follow_as_they_are_called():
    layers = [(rows(6, seed, 4, dtype=torch.float64)[None], torch.zeros(1, 1, 4).double()) for seed in (0, 1)]
    constrained = SpectralNorm()
    for _ in range(200):
        found = constrained(layers)
    for weight, _ in found:
        assert float(torch.linalg.matrix_norm(weight[0], 2)) == pytest.approx(1, abs=1e-6)


# --- Critics


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_critic_finds_a_shift_from_below(constraint, pair):
    score = kantorovich_rubinstein(*pair, constraint=constraint, **SHORT)
    gap = float((pair[0].mean(0) - pair[1].mean(0)).norm())
    bound, error = score.values["bound"], score.errors["bound"]
    assert next(iter(score.values)) == "bound"
    assert 5 * error < bound < gap + error
    assert ("corrected" in score.values) == (constraint == "gradient-penalty")
    assert score.warnings == ()
    for role, n in (("generated", 240), ("reference", 200)):
        assert score.contributions[role].shape == (n,)


def test_spectral_critics_are_nowhere_steeper_than_one(pair):
    score = kantorovich_rubinstein(*pair, constraint="spectral-norm", **SHORT)
    assert score.values["max_gradient"] <= 1 + 1e-9
    assert score.values["raw"] == score.values["bound"]


def test_a_bound_is_raw_over_the_greatest_gradient(pair):
    score = kantorovich_rubinstein(*pair, constraint="clip", **SHORT)
    # Each fold has its own gradient; none exceeds the greatest.
    assert score.values["bound"] >= score.values["raw"] / score.values["max_gradient"]
    assert score.values["raw"] < 0.1


def test_the_correction_undoes_the_bias(pair):
    for penalty in (1.0, 30.0):
        score = kantorovich_rubinstein(*pair, constraint="gradient-penalty", penalty=penalty, **SHORT)
        corrected = score.values["corrected"]
        assert corrected * (1 + corrected / (2 * penalty)) == pytest.approx(score.values["raw"])
        slope = 1 + corrected / penalty  # of raw in corrected
        assert score.errors["corrected"] == pytest.approx(score.errors["raw"] / slope)


@pytest.mark.parametrize("constraint", ["clip", "spectral-norm"])
def test_distances_scale_with_the_features(constraint, pair):
    """By a power of two, which rounds nothing: the folds alone are others."""
    one, many = (
        kantorovich_rubinstein(*(s * z for z in pair), constraint=constraint, **SHORT) for s in (1, 64)
    )
    assert many.values["bound"] / 64 == pytest.approx(one.values["bound"], abs=2 * one.errors["bound"])


def test_a_penalty_is_in_units_of_the_features(pair):
    """Features and penalty both twenty times as large: so is all else."""
    one, many = (
        kantorovich_rubinstein(
            *(scale * z for z in pair), constraint="gradient-penalty", penalty=10.0 * scale, **SHORT
        )
        for scale in (1, 16)
    )
    for name in ("raw", "corrected"):
        assert many.values[name] / 16 == pytest.approx(one.values[name], abs=2 * one.errors[name])


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_order_of_images_and_the_gradient_mode_do_not_matter(constraint, pair):
    expected = kantorovich_rubinstein(*pair, constraint=constraint, **SHORT)
    with torch.inference_mode():
        found = kantorovich_rubinstein(*(z.flip(0).double() for z in pair), constraint=constraint, **SHORT)
        again = kantorovich_rubinstein(*(z.double() for z in pair), constraint=constraint, **SHORT)
    assert found.values == again.values
    assert torch.equal(found.contributions["generated"].flip(0), again.contributions["generated"])
    with torch.no_grad():
        assert kantorovich_rubinstein(*pair, constraint=constraint, **SHORT).values == expected.values


def test_equal_sets_show_nothing_and_may_say_so():
    score = kantorovich_rubinstein(rows(60, 3, 30), rows(60, 4, 30), constraint="spectral-norm", **SHORT)
    assert abs(score.values["bound"]) < 3 * score.errors["bound"]
    assert (score.values["bound"] < 0) == any("negative" in each for each in score.warnings)


def test_sets_of_one_point_are_no_distance_apart():
    """Rows that differ by less than can be squared have no scale."""
    x = torch.zeros(60, 2, dtype=torch.float64)
    x[:, 0] = torch.arange(60, dtype=torch.float64) * 1e-300
    score = kantorovich_rubinstein(x, x, constraint="gradient-penalty", **SHORT)
    assert all(math.isfinite(value) for value in score.values.values())
    assert score.values["raw"] == pytest.approx(0, abs=1e-12)


def test_global_random_state_is_left_alone(pair):
    before = torch.get_rng_state()
    kantorovich_rubinstein(*pair, constraint="spectral-norm", **SHORT)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("sets", "options", "error", "message"),
    [
        ((rows(19, 0), rows(40, 1)), {}, TooFewImages, "at least 20 generated rows are needed, found 19"),
        ((rows(40, 0), rows(40, 1, 3)), {}, UsageError, "dimensions"),
        ((rows(40, 0) * math.inf, rows(40, 1)), {}, NumericalError, "NaN or infinity"),
        ((rows(40, 0), rows(40, 1)), {"constraint": "clipping"}, UnknownName, "did you mean 'clip'"),
        ((rows(40, 0), rows(40, 1)), {"penalty": 0.0}, UsageError, "must be positive"),
        ((rows(40, 0), rows(40, 1)), {"clip": math.nan}, UsageError, "must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused(sets, options, error, message):
    with pytest.raises(error, match=message):
        kantorovich_rubinstein(*sets, **options)


@pytest.mark.simulation
@pytest.mark.parametrize("seed", [2020, 1])
def test_a_penalty_does_not_hold_critics_on_a_line_the_wrong_way_round(seed):
    near = torch.randn(400, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = kantorovich_rubinstein(near, near + 3, constraint="gradient-penalty", steps=400, seed=seed)
    assert found.values["corrected"] == pytest.approx(3, rel=0.06)
    assert found.warnings == ()


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1e9])
def test_the_exact_dual_knows_no_unit(scale):
    x, y = (
        torch.randn(20, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in (0, 1)
    )
    expected = kantorovich_rubinstein_dual(x, y + 1).value
    assert kantorovich_rubinstein_dual(scale * x, scale * (y + 1)).value == pytest.approx(
        scale * expected, rel=1e-9
    )
