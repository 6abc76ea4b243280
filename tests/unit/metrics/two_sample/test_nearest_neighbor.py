"""The nearest-neighbour test against loops over all pairs, ties and traps among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.two_sample.nearest_neighbor import nearest_neighbor_test
from gen_eval.metrics.two_sample.pool import Pool

N, M, DIM = 23, 31, 4


def rows(n, seed, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def looped(pool, own):
    """The share of generated and of reference rows whose nearest is of their own, ties shared."""
    distances = cdist(pool, pool, "sqeuclidean")
    np.fill_diagonal(distances, np.inf)
    nearest = distances == distances.min(1, keepdims=True)
    right = (nearest * (own[:, None] == own)).sum(1) / nearest.sum(1)
    return right[own].mean(), right[~own].mean(), right


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lattice", [False, True])
def test_accuracies_and_p_value_equal_loops(dtype, lattice):
    x, y = rows(N, 0, 2) + 0.4, rows(M, 1, 2)
    if lattice:  # on whole numbers many are equally near, and some are equal
        x, y = (2 * x).round(), (2 * y).round()
    x, y = x.to(dtype), y.to(dtype)
    score = nearest_neighbor_test(x, y, permutations=60, seed=5)
    pool, labels = Pool.of(x, y, 5), Pool.of(x, y, 5).labellings(60, 5).numpy()
    each = [looped(pool.rows.double().numpy(), own) for own in labels.T]
    values = np.array([(one + other) / 2 for one, other, _ in each])
    assert score.values["accuracy"] == pytest.approx(values[0], rel=1e-12)
    assert score.values["accuracy_generated"] == pytest.approx(each[0][0], rel=1e-12)
    assert score.values["accuracy_reference"] == pytest.approx(each[0][1], rel=1e-12)
    as_large, larger = ((values[1:] >= values[0] + by).sum() for by in (-1e-9, 1e-9))
    assert 1 < as_large < 59
    assert score.values["p_value"] == (1 + as_large) / 61
    assert score.values["mid_p_value"] == pytest.approx((1 + as_large + larger) / 2 / 61)
    right = score.per_image
    assert torch.cat([right["generated"], right["reference"]])[pool.order].tolist() == pytest.approx(
        each[0][2]
    )


def test_sets_that_lie_apart_are_told_apart():
    score = nearest_neighbor_test(rows(N, 0) + 50, rows(M, 1))
    assert score.values["accuracy"] == score.values["power"] == 1
    assert score.values["p_value"] == 1 / 1000
    assert 0 < score.errors["accuracy"] < 0.1  # not 0, whatever was seen


def test_a_half_is_expected_of_sets_of_any_size():
    values = [nearest_neighbor_test(rows(30, s), rows(300, 99 + s)).values for s in range(40)]
    for name, expected in (
        ("accuracy", 328 / 2 / 329),
        ("accuracy_generated", 29 / 329),
        ("accuracy_reference", 299 / 329),
    ):
        found = np.array([value[name] for value in values])
        assert abs(found.mean() - expected) < 3 * found.std() / math.sqrt(40)


def test_collapsed_modes_and_poor_images_differ_in_the_two_sets():
    centres, which = rows(5, 0, 100), torch.arange(200) % 5
    reference = centres[which] + rows(200, 1, 100)
    collapsed = nearest_neighbor_test(centres[which] + 0.1 * rows(200, 2, 100), reference).values
    assert collapsed["accuracy_generated"] == 1
    assert collapsed["accuracy_reference"] == 0
    poor = nearest_neighbor_test(centres[which] + 2 * rows(200, 2, 100), reference).values
    assert poor["accuracy_generated"] < 0.1
    assert poor["accuracy_reference"] == 1


def test_copies_of_reference_images_are_warned_of():
    y = rows(100, 1)
    score = nearest_neighbor_test(y + 1e-6 * rows(100, 2), y)
    assert score.values["accuracy"] == 0
    assert score.values["p_value"] == 1
    assert any("repeat reference images" in warning for warning in score.warnings)
    assert nearest_neighbor_test(rows(100, 3), y).warnings == ()


def test_order_of_rows_does_not_matter_and_the_seed_hardly():
    x, y = rows(N, 0) + 0.4, rows(M, 1)
    score = nearest_neighbor_test(x, y)
    turned = nearest_neighbor_test(x.flip(0), y[torch.arange(M) * 7 % M])
    assert turned.values == score.values
    assert dict(turned.errors) == pytest.approx(dict(score.errors))
    assert torch.equal(turned.per_image["generated"].flip(0), score.per_image["generated"])
    other = nearest_neighbor_test(x, y, seed=1)
    assert other.values["accuracy"] == score.values["accuracy"]
    assert other.values["p_value"] == pytest.approx(score.values["p_value"], abs=0.06)


def test_rows_that_are_all_equal_are_no_different():
    values = nearest_neighbor_test(torch.ones(40, 3), torch.ones(30, 3)).values
    assert values["accuracy"] == pytest.approx(0.5, abs=0.2)
    assert values["p_value"] > 0.05


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (rows(3, 0), rows(9, 1), {}, TooFewImages, "at least 4 generated rows are needed, found 3"),
        (rows(9, 0), rows(9, 1, 5), {}, UsageError, r"4 \(generated\) and of 5 \(reference\) dimensions"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.nan), rows(9, 1), {}, NumericalError, "row 4"),
        (rows(9, 0), rows(9, 1), {"permutations": 0}, UsageError, "1 or more, found 0"),
        (rows(9, 0), rows(9, 1), {"alpha": 1.0}, UsageError, "found 1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(x, y, options, error, message):
    with pytest.raises(error, match=message):
        nearest_neighbor_test(x, y, **options)
