"""Authenticity and copies: by hand, by brute force, by their closed forms, and on real digits."""

from __future__ import annotations

import math

import pytest
import scipy.special
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.memorization.closeness import closeness, share
from gen_eval.metrics.memorization.duplicates import duplicates


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def uniform(n, d, seed):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute(generated, training):
    """By all distances, of training rows that all differ."""
    across = torch.cdist(generated, training)
    own = torch.cdist(training, training).fill_diagonal_(math.inf).amin(1)
    distance, index = across.min(1)
    return distance, index, own[index]


# --- By hand

TRAINING = rows(0, 1, 4, 10)  # nearest others at 1, 1, 3 and 6
GENERATED = rows(0, 0.25, 2.4, 6.5, 15.9, 17)  # at 0, .25, 1.4, 2.5, 5.9 and 7


def test_distances_beside_those_of_the_training_set():
    score = authenticity(GENERATED, TRAINING)
    assert score.values["authenticity"] == 2 / 6  # 1.4 > 1 and 7 > 6
    expected = torch.tensor([0, 0.25, 1.4, 2.5 / 3, 5.9 / 6, 7 / 6]).double()
    torch.testing.assert_close(score.per_image["generated"], expected)
    assert not score.warnings


def test_copies_by_threshold():
    score = duplicates(GENERATED, TRAINING)
    assert score.values == {
        "near_copies": 2 / 6,
        "exact_copies": 1 / 6,
        "near_repeats": 4 / 6,
        "exact_repeats": 0,
    }
    torch.testing.assert_close(
        score.per_image["generated"], torch.tensor([0, 0.25, 1.4, 2.5, 5.9, 7]).double()
    )
    assert score.per_image["reference"].tolist() == [2, 0, 0, 0]
    assert duplicates(GENERATED, TRAINING, threshold=0.2).values["near_copies"] == 1 / 6
    assert duplicates(GENERATED, TRAINING, threshold=0.9).values["near_copies"] == 3 / 6


def test_repeats_are_counted_apart_from_copies():
    score = duplicates(rows(20, 20, 30, 40), TRAINING)
    assert score.values["exact_repeats"] == 0.5
    assert score.values["exact_copies"] == 0
    assert score.per_image["reference"].sum() == 0


def test_training_images_that_occur_twice_count_once():
    plain, doubled = (
        authenticity(GENERATED, set_) for set_ in (TRAINING, torch.cat([TRAINING, TRAINING[[0, 3]]]))
    )
    assert doubled.values == plain.values
    assert torch.equal(doubled.per_image["generated"], plain.per_image["generated"])
    assert "2 of 6 training images equal others before them" in doubled.warnings[0]
    copied = duplicates(GENERATED, TRAINING[[3, 0, 0, 1, 2]]).per_image["reference"]
    assert copied.tolist() == [0, 2, 2, 0, 0]


# --- By brute force


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_brute_force(dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 24, generator=generator).to(dtype) + 3 for n in (700, 1500))
    near = closeness(x, y)
    distance, index, own = brute(x.double(), y.double())
    assert torch.equal(near.index, index)
    torch.testing.assert_close(near.distance, distance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(near.spacing, own, rtol=1e-9, atol=1e-9)
    assert authenticity(x, y).values["authenticity"] == float((distance > own).double().mean())
    expected = float((distance < 0.9 * own).double().mean())
    assert 0 < duplicates(x, y, threshold=0.9).values["near_copies"] == expected


def test_order_scale_and_place_do_not_matter():
    x, y = uniform(300, 5, 0), uniform(200, 5, 1)
    y[7], x[3] = y[190], y[50]
    turned = authenticity(x.flip(0), y[torch.arange(200) * 7 % 200])
    score = authenticity(x, y)
    assert turned.values == score.values
    assert torch.equal(turned.per_image["generated"].flip(0), score.per_image["generated"])
    moved = authenticity(x * 1e-8 + 2e-6, y * 1e-8 + 2e-6)
    torch.testing.assert_close(
        moved.per_image["generated"], score.per_image["generated"], rtol=1e-6, atol=1e-6
    )
    assert duplicates(x.flip(0), y.flip(0)).values == duplicates(x, y).values


# --- The closed forms


def shared(d):
    """What two unit balls whose centres are 1 apart share, over the volume of one."""
    return scipy.special.betainc((d + 1) / 2, 0.5, 0.75)


@pytest.mark.parametrize(("d", "expected"), [(1, 1 / 3), (2, 0.37850), (3, 0.40741)])
def test_fresh_images_are_as_authentic_as_the_closed_form_says(d, expected):
    free = 1 - shared(d)
    assert free / (1 + free) == pytest.approx(expected, abs=1e-5)
    values = [
        authenticity(uniform(n, d, seed), uniform(m, d, seed + 100)).values["authenticity"]
        for seed, (n, m) in enumerate([(3000, 1000), (1000, 2000), (3000, 1500), (2000, 2000)])
    ]
    assert sum(values) / 4 == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("threshold", [0.25, 0.5])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_fresh_images_pass_for_near_copies_as_the_closed_form_says(d, threshold):
    score = duplicates(uniform(3000, d, 0), uniform(1500, d, 1), threshold=threshold)
    expected = threshold**d
    assert score.values["near_copies"] == pytest.approx(expected, abs=4 * math.sqrt(expected / 3000))
    assert score.values["exact_copies"] == score.values["exact_repeats"] == 0


# --- How sure


def test_errors_are_those_of_shares():
    value, error = share(torch.arange(1000) < 300)
    assert value == 0.3
    assert error == pytest.approx(math.sqrt(0.3 * 0.7 / 1000), rel=0.01)
    none, error = share(torch.zeros(1000, dtype=torch.bool))
    assert none == 0
    assert 1 / 1000 < error < 2 / 1000  # to see nothing in a thousand does not rule out one in a thousand
    assert share(torch.arange(1000) < 300, 500)[1] == pytest.approx(math.sqrt(0.3 * 0.7 / 500), rel=0.01)


def test_repeats_come_in_pairs_so_that_half_as_many_draws_are_counted():
    score = duplicates(GENERATED, TRAINING)
    for name, draws in (("near_copies", 6), ("exact_copies", 6), ("near_repeats", 3), ("exact_repeats", 3)):
        share_of = score.values[name]
        padded = (share_of * draws + 2) / (draws + 4)
        assert score.errors[name] == pytest.approx(math.sqrt(padded * (1 - padded) / (draws + 4)))


# --- Real digits


def test_copies_are_exact_and_have_no_authenticity(digits):
    train, held_out = digits
    assert authenticity(train[:400], train).values["authenticity"] == 0
    assert authenticity(held_out, train).values["authenticity"] > 0.3
    assert duplicates(train[:400], train).values["exact_copies"] == 1
    assert duplicates(held_out, train).values["exact_copies"] == 0


# --- What is refused


@pytest.mark.parametrize("engine", [authenticity, duplicates])
@pytest.mark.parametrize(
    ("generated", "reference", "error", "message"),
    [
        (uniform(1, 3, 0), uniform(9, 3, 1), TooFewImages, "at least 2 generated rows are needed, found 1"),
        (uniform(9, 3, 0), uniform(1, 3, 1), TooFewImages, "at least 2 reference rows are needed, found 1"),
        (uniform(9, 3, 0), torch.ones(9, 3), TooFewImages, "9 training images are one and the same"),
        (
            uniform(9, 3, 0),
            uniform(9, 4, 1),
            UsageError,
            r"3 \(generated\) and of 4 \(reference\) dimensions",
        ),
        (uniform(9, 3, 0)[0], uniform(9, 3, 1), UsageError, r"found shape \(3,\)"),
        (uniform(9, 3, 0), uniform(9, 3, 1).long(), UsageError, "in int64"),
        (
            uniform(9, 3, 0),
            uniform(9, 3, 1).index_fill(0, torch.tensor(4), math.nan),
            NumericalError,
            "row 4",
        ),
        (uniform(9, 3, 0) * math.inf, uniform(9, 3, 1), NumericalError, "generated set"),
    ],
)
def test_rows_that_do_not_compare_are_refused(engine, generated, reference, error, message):
    with pytest.raises(error, match=message):
        engine(generated, reference)


@pytest.mark.parametrize("threshold", [0, -1, 1.5, math.nan])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold of near copies must be in"):
        duplicates(GENERATED, TRAINING, threshold=threshold)
