"""Variational bounds of f-divergences: what holds of every one, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.metrics.divergence.variational import f_divergence

SHORT = {"steps": 60, "folds": 3, "width": 16}


def rows(n, seed, dim=2, shift=0.0, scale=1.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * scale + shift


def value_of(*sets, **options):
    return f_divergence(*sets, **{**SHORT, **options}).values["f_divergence"]


@pytest.fixture
def pair():
    return rows(300, 0, shift=0.7), rows(260, 1)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_every_bound_finds_a_difference_and_says_how_surely(name, pair):
    score = f_divergence(*pair, divergence=name, **SHORT)
    value, error = score.values["f_divergence"], score.errors["f_divergence"]
    assert 4 * error < value < DIVERGENCES[name].greatest
    for role, n in (("generated", 300), ("reference", 260)):
        assert score.contributions[role].shape == (n,)
        assert float(score.contributions[role].sum()) == pytest.approx(0, abs=1e-12)
    parts = [float(part.square().sum()) for part in score.contributions.values()]
    assert error == pytest.approx(math.sqrt(sum(parts)), rel=0.01)
    assert score.warnings == ()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_order_of_images_does_not_matter(name, pair):
    orders = [torch.randperm(len(z), generator=torch.Generator().manual_seed(3)) for z in pair]
    first = f_divergence(*pair, divergence=name, **SHORT)
    second = f_divergence(
        *(z[order] for z, order in zip(pair, orders, strict=True)), divergence=name, **SHORT
    )
    assert second.values == first.values
    for role, order in zip(("generated", "reference"), orders, strict=True):
        assert torch.equal(second.contributions[role], first.contributions[role][order])


@pytest.mark.parametrize("name", ["js", "squared-hellinger", "total-variation"])
def test_symmetric_divergences_know_no_direction(name, pair):
    there, back = (f_divergence(*sets, divergence=name, **SHORT) for sets in (pair, pair[::-1]))
    # The folds and batches are others; what is measured is not.
    gap = abs(there.values["f_divergence"] - back.values["f_divergence"])
    assert gap < there.errors["f_divergence"]


def test_the_direction_is_from_the_reference():
    """KL(reference || generated) is large where the reference has what the generated set lacks."""
    narrow, wide = rows(400, 0, dim=1, scale=0.4), rows(400, 1, dim=1)
    truth = -math.log(0.4) + (0.4**2 - 1) / 2  # KL(narrow || wide)
    assert value_of(wide, narrow, divergence="kl", steps=300) == pytest.approx(truth, abs=0.12)
    assert value_of(narrow, wide, divergence="reverse-kl", steps=300) == pytest.approx(truth, abs=0.12)
    assert value_of(narrow, wide, divergence="kl", steps=300) > truth + 0.2


def test_neither_scale_nor_origin_of_a_feature_matters(pair):
    """By powers of two, which round nothing: the folds alone are others."""
    first = f_divergence(*pair, **SHORT)
    second = f_divergence(*(z * torch.tensor([4.0, 2.0**-12]) for z in pair), **SHORT)
    gap = abs(second.values["f_divergence"] - first.values["f_divergence"])
    assert gap < first.errors["f_divergence"]


def test_a_set_against_itself_shows_nothing():
    same = rows(200, 0)
    assert value_of(same, same) <= 1e-3
    assert value_of(same, same) > -0.05


def test_a_copy_of_some_images_is_not_taken_for_a_difference():
    """Networks that have seen a held-out image in the other set would call it by the wrong name."""
    reference = rows(300, 0, dim=8)
    score = f_divergence(reference[:150], reference, steps=400, folds=3)
    assert abs(score.values["f_divergence"]) < 3 * score.errors["f_divergence"] + 0.01


def test_sets_apart_have_the_greatest_divergence_and_those_without_one_are_warned_of():
    near, far = rows(150, 0), rows(150, 1, shift=20.0)
    assert value_of(near, far, steps=300) > 0.97 * math.log(2)
    score = f_divergence(near, far, divergence="kl", steps=300, folds=3)
    assert any("hardly overlap" in each for each in score.warnings)
    assert score.values["f_divergence"] < 3 * math.log(150)


def test_negative_bounds_are_said_to_be():
    score = f_divergence(rows(24, 2, dim=60), rows(24, 3, dim=60), divergence="kl", folds=3, steps=40)
    assert score.values["f_divergence"] < 0
    assert any("negative" in each for each in score.warnings)


def test_a_bound_that_hangs_on_one_image_is_said_to():
    """One reference image amid the generated ones, of which no network has seen the like."""
    generated, reference = rows(200, 0, dim=1, shift=5.0), rows(200, 1, dim=1)
    reference[7] = 5.0
    heavy, steady = (
        f_divergence(generated, reference, divergence=name, steps=200, folds=3)
        for name in ("reverse-kl", "js")
    )
    assert any("a single image" in each for each in heavy.warnings)
    assert not any("a single image" in each for each in steady.warnings)


# --- What is around a call does not matter


def test_gradient_modes_and_dtypes_of_the_caller_do_not_matter(pair):
    expected = value_of(*pair)
    with torch.no_grad():
        assert value_of(*pair) == expected
    with torch.inference_mode():
        assert value_of(*(z.clone() for z in pair)) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert value_of(*pair) == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert value_of(*pair) == expected
        assert torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
    assert value_of(*(z.requires_grad_() for z in pair)) == expected


def test_global_random_state_and_the_rows_are_left_alone(pair):
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [z.clone() for z in pair]
    assert value_of(*pair) == value_of(*pair)
    assert value_of(*pair) != value_of(*pair, seed=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(pair, copies, strict=True))


# --- What is refused


@pytest.mark.parametrize(
    ("generated", "reference", "options", "error", "message"),
    [
        (rows(19, 0), rows(40, 1), {}, TooFewImages, "at least 20 generated rows are needed, found 19"),
        (rows(40, 0), rows(3, 1), {}, TooFewImages, "at least 20 reference rows are needed, found 3"),
        (
            rows(40, 0),
            rows(40, 1, dim=5),
            {},
            UsageError,
            r"2 \(generated\) and of 5 \(reference\) dimensions",
        ),
        (rows(40, 0).index_fill(0, torch.tensor(4), math.nan), rows(40, 1), {}, NumericalError, "row 4"),
        (rows(40, 0), rows(40, 1), {"divergence": "jsd"}, UnknownName, "unknown divergence 'jsd'"),
        (
            rows(40, 0),
            rows(40, 1),
            {"folds": 2},
            UsageError,
            "folds must be a whole number of 3 or more, found 2",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(generated, reference, options, error, message):
    with pytest.raises(error, match=message):
        f_divergence(generated, reference, **options)
