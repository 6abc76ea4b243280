"""C_T: by hand, against SciPy in its own cells, where nothing differs and where copies are near."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.memorization.data_copying import data_copying
from gen_eval.metrics.memorization.partition import Cells, principal, project

D = 5


def draw(n, seed, d=D):
    """Three clouds, one twice as common as the others."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(4, (n,), generator=generator).clamp(max=2)
    centres = 12 * torch.eye(3, d)
    return torch.randn(n, d, generator=generator) + centres[place]


@pytest.fixture(scope="module")
def sets():
    return draw(240, 0), draw(300, 1), draw(200, 2)


def by_hand(generated, training, heldout, cells, least=20):
    """The published sum, with SciPy's test in the cells of the engine."""
    found = Cells.of(training, cells, 2020)
    places = [found.place(rows) for rows in (generated, training, heldout)]
    z, weights = [], []
    for cell in range(cells):
        sets = zip((generated, training, heldout), places, strict=True)
        g, t, h = (rows[place == cell].double() for rows, place in sets)
        if len(g) <= least:
            continue
        distances = [torch.cdist(rows, t).amin(1).numpy() for rows in (g, h)]
        u = scipy.stats.mannwhitneyu(*distances, alternative="less").statistic
        n, m = len(g), len(h)
        z.append((u - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12))
        weights.append(m)
    return np.average(z, weights=weights), math.sqrt(np.square(weights).sum()) / sum(weights)


@pytest.mark.parametrize("cells", [1, 3, 6])
def test_the_published_sum(sets, cells):
    score = data_copying(*sets, cells=cells, least=5)
    value, spread = by_hand(*sets, cells, least=5)
    assert score.values["c_t"] == pytest.approx(value, rel=1e-10)
    assert score.values["p_value"] == pytest.approx(scipy.stats.norm.cdf(value / spread), rel=1e-10)
    assert score.values["cells"] == cells


def test_one_cell_in_one_dimension_by_hand():
    training = torch.tensor([0.0, 100])[:, None]
    generated, heldout = torch.tensor([1.0, 2, 97])[:, None], torch.tensor([3.5, 95, -6, 108])[:, None]
    score = data_copying(generated, training, heldout, cells=1, least=2)
    # Distances 1, 2, 3 against 3.5, 5, 6, 8: no generated image is farther than any held-out one.
    assert score.values["c_t"] == pytest.approx((0 - 6 + 0.5) / math.sqrt(12 * 8 / 12))
    assert score.per_image["generated"].tolist() == [0, 0, 0]
    farther = data_copying(heldout, training, generated, cells=1, least=2)
    assert farther.per_image["generated"].tolist() == [1, 1, 1, 1]


def test_ties_count_half_and_narrow_the_deviation():
    training = torch.tensor([0.0, 100])[:, None]
    generated, heldout = torch.tensor([1.0, 1, 2])[:, None], torch.tensor([-1.0, 2, 98, 3])[:, None]
    score = data_copying(generated, training, heldout, cells=1, least=2)
    distances = [1, 1, 2], [1, 2, 2, 3]
    u = sum((g > h) + (g == h) / 2 for g in distances[0] for h in distances[1])
    ties = (3**3 - 3) * 2 / (7 * 6)  # three at 1, three at 2
    assert score.values["c_t"] == pytest.approx((u - 6 + 0.5) / math.sqrt(12 / 12 * (8 - ties)))
    reference = scipy.stats.mannwhitneyu(*distances, alternative="less", method="asymptotic")
    assert score.values["p_value"] == pytest.approx(reference.pvalue)
    assert score.per_image["generated"].tolist() == [1 / 8, 1 / 8, 2 / 4]


def test_all_at_one_distance_is_no_difference():
    score = data_copying(torch.ones(30, 2), torch.eye(2), torch.ones(20, 2), cells=1)
    assert score.values == {"c_t": 0, "p_value": 0.5, "cells": 1}


def test_copies_are_found_and_a_wide_generator_is_not_taken_for_one(sets):
    _, training, heldout = sets
    copies = data_copying(training[:200] + 0.1, training, heldout)
    wide = data_copying(2 * heldout[:150] + 0.1, training, heldout, least=5)
    assert copies.values["c_t"] < -6
    assert copies.values["p_value"] < 1e-12
    assert wide.values["c_t"] > 3
    assert wide.values["p_value"] > 0.99
    assert 0 < copies.errors["c_t"] < 1  # though no copy is farther than any held-out image


def test_the_error_is_that_of_the_null_where_nothing_differs(sets):
    score = data_copying(*sets)
    weights = torch.bincount(Cells.of(sets[1], 3, 2020).place(sets[2])) / len(sets[2])
    assert score.errors["c_t"] == pytest.approx(float(weights.square().sum().sqrt()), rel=0.1)


def test_a_dropped_cell_is_left_out_and_said(sets):
    generated, training, heldout = sets
    kept = generated[generated[:, 0] < 6]
    score = data_copying(kept, training, heldout)
    assert score.values["cells"] == 2
    assert "1 of 3 cells" in score.warnings[0]
    assert score.per_image["generated"].shape == (len(kept),)
    assert score.values["c_t"] == pytest.approx(by_hand(kept, training, heldout, 3)[0], rel=1e-10)


def test_a_dropped_cell_may_hold_a_single_held_out_image(sets):
    generated, training, heldout = sets
    lone = int((heldout[:, 0] > 6).nonzero()[0])
    few = torch.cat([heldout[heldout[:, 0] < 6], heldout[lone : lone + 1]])
    score = data_copying(generated[generated[:, 0] < 6], training, few)
    assert score.values["cells"] == 2


def test_a_cell_with_just_as_many_generated_images_as_the_least_is_left_out(sets):
    fewest = int(torch.bincount(Cells.of(sets[1], 3, 2020).place(sets[0]), minlength=3).min())
    assert data_copying(*sets, least=fewest - 1).values["cells"] == 3
    assert data_copying(*sets, least=fewest).values["cells"] == 2


def test_rows_of_many_dimensions_are_reduced_as_principal_components_do(sets):
    turn = torch.linalg.qr(
        torch.randn(80, 80, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )[0]
    wide = [
        (torch.cat([rows, torch.zeros(len(rows), 80 - D)], 1).double() @ turn + 4).float() for rows in sets
    ]
    score, plain = data_copying(*wide), data_copying(*sets)
    assert score.values["c_t"] == pytest.approx(
        plain.values["c_t"], abs=0.02
    )  # the same but for rounding of ranks
    mean, axes = principal(wide[1], D)
    torch.testing.assert_close(mean, wide[1].double().mean(0))
    restored = project(wide[1], mean, axes).double() @ axes.T + mean
    torch.testing.assert_close(restored, wide[1].double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [40, 300])
def test_principal_axes_are_the_first_singular_vectors(n):
    rows = draw(n, 4, d=70).double() * torch.linspace(0.5, 2, 70, dtype=torch.float64)
    mean, axes = principal(rows, 30)
    singular = torch.linalg.svd(rows - mean, full_matrices=False).Vh[:30].T
    torch.testing.assert_close(axes * (axes * singular).sum(0).sign(), singular, rtol=0, atol=1e-10)


def test_rows_that_are_equal_stay_so_when_they_are_projected():
    rows = draw(5000, 0, d=90)
    rows[4500] = rows[3]
    projected = project(rows, *principal(rows, 64))
    assert torch.equal(projected[4500], projected[3])


def test_order_does_not_matter_and_a_seed_is_a_draw(sets):
    generated, training, heldout = sets
    turned = data_copying(generated.flip(0), training[torch.arange(300) * 7 % 300], heldout.flip(0))
    score = data_copying(*sets)
    assert dict(turned.values) == pytest.approx(dict(score.values), rel=1e-9)
    assert dict(turned.errors) == pytest.approx(dict(score.errors), rel=1e-9)
    torch.testing.assert_close(turned.per_image["generated"].flip(0), score.per_image["generated"])
    assert (
        data_copying(*sets, cells=6, least=5, seed=1).values != data_copying(*sets, cells=6, least=5).values
    )


def test_cells_are_those_that_are_there():
    rows = draw(400, 4)
    cells = Cells.of(rows, 3, 0)
    centres = cells.centres[cells.centres[:, :3].argmax(1).argsort()]
    torch.testing.assert_close(centres, 12 * torch.eye(3, D).double(), atol=0.5, rtol=0)
    assert cells.inertia == pytest.approx(
        float(torch.cdist(rows.double(), cells.centres).amin(1).square().sum())
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda g, t, h: (g[:20], t, h),
            TooFewImages,
            "none of 3 cells holds more than 20 of the 20 generated",
        ),
        (lambda g, t, h: (g, t[:2], h), TooFewImages, "at least 3 reference rows are needed, found 2"),
        (lambda g, t, h: (g, t, h[:2]), TooFewImages, "at least 3 heldout rows are needed, found 2"),
        (lambda g, t, h: (g, t[:1].repeat(9, 1), h), TooFewImages, "3 cells need as many training images"),
        (lambda g, t, h: (g, t, h[h[:, 0] > 6]), TooFewImages, "2 of 3 cells hold no held-out images"),
        (lambda g, t, h: (g, t, h[:, :4]), UsageError, r"5 \(generated\) and of 4 \(heldout\) dimensions"),
        (lambda g, t, h: (g, t, h * math.nan), NumericalError, "heldout set"),
    ],
)
def test_rows_that_do_not_compare_are_refused(sets, change, error, message):
    with pytest.raises(error, match=message):
        data_copying(*change(*sets))


@pytest.mark.parametrize("options", [{"cells": 0}, {"components": 0}, {"least": -1}])
def test_arguments_that_make_no_sense_are_refused(sets, options):
    with pytest.raises(UsageError, match="must be positive"):
        data_copying(*sets, **options)
