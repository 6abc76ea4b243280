"""Precision, recall, density and coverage of a draw: each answer is that of all the images, and so is their mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.neighbors import inside, radii, tiles
from gen_eval.metrics.neighbors.ball_counts import FEATURE_DTYPES, Balls
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.neighbors.manifold import density_coverage, prdc, precision_recall, survey
from gen_eval.metrics.neighbors.radii import Radii
from gen_eval.metrics.neighbors.sampled import SampledManifold
from gen_eval.metrics.neighbors.search import neighbours


def as32(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def gaussian(rng, n, m, d):
    return rng.standard_normal((n, d)) + 0.5, rng.standard_normal((m, d))


def ties(rng, n, m, d):
    return rng.integers(0, 3, (n, d)), rng.integers(0, 3, (m, d))


def copies(rng, n, m, d):
    """Half of the generated images are reference images, which have copies themselves."""
    reference = np.repeat(rng.standard_normal((m // 3 + 1, d)), 3, 0)[:m]
    generated = rng.standard_normal((n, d))
    generated[: n // 2] = reference[rng.integers(0, m, n // 2)]
    return generated, reference


def constant(rng, n, m, d):
    return np.ones((n, d)), np.ones((m, d))


def crowded(rng, n, m, d):
    """Every generated image lies in very many balls."""
    return 0.02 * rng.standard_normal((n, d)), rng.standard_normal((m, d))


def nowhere(rng, n, m, d):
    return rng.standard_normal((n, d)) + 1000, rng.standard_normal((m, d))


def sorted_clusters(rng, n, m, d):
    """One mode after the other, so that the first rows tell nothing of the last."""
    spots = [np.sort(rng.integers(0, 6, count))[:, None] * 100.0 for count in (n, m)]
    return tuple(spot + rng.standard_normal((len(spot), d)) for spot in spots)


def far_from_the_origin(rng, n, m, d):
    return tuple(rows + 1e4 for rows in gaussian(rng, n, m, d))


def with_far_images(rng, n, m, d):
    generated, reference = gaussian(rng, n, m, d)
    generated[::40] *= 1e6
    return generated, reference


WORLDS = (
    gaussian,
    ties,
    copies,
    constant,
    crowded,
    nowhere,
    sorted_clusters,
    far_from_the_origin,
    with_far_images,
)


def assert_equal_answers(found, every):
    generated, reference = found.generated.drawn, found.reference.drawn
    assert torch.equal(found.of_generated, (every.of_generated.held > 0)[generated])
    assert torch.equal(found.of_reference, (every.of_reference.held > 0)[reference])
    assert torch.equal(found.hits, every.of_generated.hits[reference])


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_answers_are_those_of_all_images(world, k, inclusive):
    rng = np.random.default_rng(k)
    for n, m, d, sample in ((150, 130, 4, 40), (60, 240, 2, 30), (200, 90, 16, 150)):
        sets = [as32(rows) for rows in world(rng, n, m, d)]
        (every,) = survey(*sets, [Balls(k, inclusive)])
        assert_equal_answers(SampledManifold(*sets, Balls(k, inclusive), sample=sample), every)


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
@pytest.mark.parametrize("world", [gaussian, ties, crowded])
def test_answers_of_each_dtype(world, dtype):
    sets = [as32(rows) for rows in world(np.random.default_rng(0), 180, 170, 6)]
    for balls in (Balls(3), Balls(3, inclusive=False)):
        (every,) = survey(*sets, [balls], feature_dtype=dtype)
        assert_equal_answers(SampledManifold(*sets, balls, sample=60, feature_dtype=dtype), every)


@pytest.mark.parametrize("listed", [1, 3])
@pytest.mark.parametrize("world", [gaussian, ties, crowded, sorted_clusters])
def test_neither_blocks_nor_the_length_of_lists_changes_an_answer(world, listed, monkeypatch):
    sets = [as32(rows) for rows in world(np.random.default_rng(2), 150, 160, 3)]
    (every,) = survey(*sets, [Balls(3)])
    monkeypatch.setattr(tiles, "BLOCK", 40)
    monkeypatch.setattr(radii, "_AT_ONCE", 25)
    monkeypatch.setattr(inside, "_LISTED", listed)
    monkeypatch.setattr(inside, "_GROWTH", 2)
    monkeypatch.setattr(inside, "_MOST", 100)
    assert_equal_answers(SampledManifold(*sets, Balls(3), sample=50), every)


def test_the_engines_agree():
    sets = [as32(rows) for rows in gaussian(np.random.default_rng(0), 150, 160, 8)]
    one, other = (prdc(*sets, sample=60, engine=engine) for engine in ("blocks", "faiss"))
    assert one.values == other.values
    assert one.errors == pytest.approx(other.errors)


# --- Radii


def test_bounds_hold_and_settled_radii_are_exact():
    rows, _ = prepare(*[as32(rows) for rows in gaussian(np.random.default_rng(0), 700, 10, 5)])
    exact = neighbours(rows, [4], keep=8).radii[0]
    found = Radii(rows, 4, lambda squared: squared, first=50)
    assert bool((found.limit >= exact).all())
    assert not bool(found.exact.any())
    some = torch.tensor([600, 3, 77])
    found.settle(some)
    assert torch.equal(found.limit[some], exact[some])
    assert found.exact.nonzero().flatten().tolist() == [3, 77, 600]


def test_a_ball_that_stays_below_what_matters_is_left_at_that(monkeypatch):
    rows, _ = prepare(*[as32(rows) for rows in gaussian(np.random.default_rng(0), 2000, 10, 5)])
    exact = neighbours(rows, [4], keep=8).radii[0]
    found = Radii(rows, 4, lambda squared: squared, first=5)
    some = torch.arange(rows.n)
    found.settle(some, exact * torch.where(some % 2 == 0, 0.999, 3.0))
    assert bool(found.exact[::2].all())
    assert torch.equal(found.limit[::2], exact[::2])
    left = ~found.exact[1::2]
    assert float(left.double().mean()) > 0.9
    assert bool((found.limit[1::2] >= exact[1::2]).all())
    assert bool((found.limit[1::2][left] < 3 * exact[1::2][left]).all())


# --- The draw


def test_the_draw_knows_no_order_and_another_seed_draws_others():
    rng = np.random.default_rng(0)
    generated, reference = (as32(rows) for rows in gaussian(rng, 300, 400, 6))
    turned = generated[torch.from_numpy(rng.permutation(300))], reference.flip(0)
    one, again = (prdc(*sets, sample=80, seed=5) for sets in ((generated, reference), turned))
    assert again.values == one.values
    assert again.errors == pytest.approx(one.errors, rel=1e-6)
    assert prdc(generated, reference, sample=80, seed=6).values != one.values


@pytest.mark.simulation
def test_the_mean_over_draws_is_the_value_of_all_and_their_spread_the_stated_one():
    rng, names = np.random.default_rng(3), ("precision", "recall", "density", "coverage")
    sets = as32(rng.standard_normal((220, 16)) + 0.4), as32(rng.standard_normal((150, 16)))
    every = prdc(*sets, k=3, inclusive=True).values
    assert all(0.3 < every[name] < 0.85 for name in names)  # near 1 the stated spread is wide on purpose
    draws = [SampledManifold(*sets, Balls(3), sample=60, seed=seed) for seed in range(80)]
    for name in names:
        values = np.array([draw.value(name) for draw in draws])
        assert abs(values.mean() - every[name]) < 3 * values.std() / math.sqrt(len(values)), name
        stated = math.sqrt(np.mean([draw.draw_variance(name) for draw in draws]))
        assert values.std(ddof=1) == pytest.approx(stated, rel=0.25), name


def test_a_sample_of_all_is_the_survey_of_all():
    sets = [as32(rows) for rows in gaussian(np.random.default_rng(0), 100, 120, 4)]
    for measure in (precision_recall, density_coverage, prdc):
        found, every = measure(*sets, sample=120), measure(*sets)
        assert (found.values, found.errors, found.warnings) == (every.values, every.errors, ())


def test_a_small_set_is_asked_about_whole():
    sets = [as32(rows) for rows in gaussian(np.random.default_rng(0), 400, 50, 4)]
    found, every = prdc(*sets, sample=60), prdc(*sets)
    for name in ("recall", "density", "coverage"):  # those of the reference images
        assert found.values[name] == pytest.approx(every.values[name], rel=1e-12)
    assert found.values["precision"] != every.values["precision"]
    assert "60 of the 400 generated images:" in found.warnings[0]
    assert density_coverage(*sets, sample=60).warnings == ()


def test_scores_say_that_they_are_of_a_draw():
    sets = [as32(rows) for rows in gaussian(np.random.default_rng(0), 1500, 1200, 4)]
    score = precision_recall(*sets, sample=100)
    assert "100 of the 1,500 generated images and 100 of the 1,200 reference images" in score.warnings[0]
    for role, value in (("generated", "precision"), ("reference", "recall")):
        asked = score.per_image[role]
        assert int(asked.isfinite().sum()) == 100
        assert float(asked.nanmean()) == score.values[value]
    assert score.values["f1"] == pytest.approx(
        2 / (1 / score.values["precision"] + 1 / score.values["recall"])
    )
    covered = density_coverage(*sets, sample=100)
    assert float(covered.per_image["reference"].nanmean()) == covered.values["coverage"]
    assert all(0 < error < 0.2 for error in (*score.errors.values(), *covered.errors.values()))
    every = prdc(*sets, k=3, inclusive=True)
    assert score.errors["precision"] > 2 * every.errors["precision"]


def test_nothing_seen_is_no_certainty():
    sets = [as32(rows) for rows in nowhere(np.random.default_rng(0), 500, 600, 4)]
    score = prdc(*sets, sample=50)
    assert set(score.values.values()) == {0.0}
    assert all(error > 0 for error in score.errors.values())


def test_a_set_too_small_to_halve_has_no_error_bar():
    sets = [as32(rows) for rows in gaussian(np.random.default_rng(0), 300, 7, 4)]
    assert prdc(*sets, sample=20, k=5).errors == {}


# --- Refusals


def test_refusals():
    rows = as32(np.random.default_rng(0).standard_normal((50, 3)))
    for sample in (0, -5, 7, 10.0, True, "all"):
        with pytest.raises(UsageError, match="sample must be a whole number of 8 or more, found"):
            precision_recall(rows, rows, sample=sample)
    with pytest.raises(UsageError, match="seed must be a whole number of 0 or more, found -1"):
        prdc(rows, rows, sample=20, seed=-1)
    with pytest.raises(TooFewImages, match="at least 6 images, the set has 5"):
        density_coverage(rows, rows[:5], sample=20)
    with pytest.raises(UnknownName, match="known: auto, blocks, faiss"):
        precision_recall(rows, rows, sample=20, engine="gpu")
    with pytest.raises(UnknownName, match="did you mean 'float16'"):
        precision_recall(rows, rows, sample=20, feature_dtype="float61")
    with pytest.raises(UsageError, match="counts neighbours from 1, found 0"):
        precision_recall(rows, rows, sample=20, k=0)
    with pytest.raises(NumericalError, match="hold NaN"):
        precision_recall(rows.clone().index_fill_(0, torch.tensor([4]), math.nan), rows, sample=20)
