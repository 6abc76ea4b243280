"""Precision, recall, density, coverage, realism and rarity: known answers, brute force, invariances, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.neighbors import distances, tiles
from gen_eval.metrics.neighbors.ball_counts import Balls
from gen_eval.metrics.neighbors.manifold import (
    density_coverage,
    prdc,
    precision_recall,
    rarity,
    realism,
    survey,
)

ENGINES = ("blocks", "faiss")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def as32(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def values(score, *names):
    return [score.values[name] for name in names]


# --- Known answers


@pytest.mark.simulation
def test_shifted_unit_squares(rng):
    """The overlap of two unit squares shifted by a is 1 - a."""
    for a in (0, 0.25, 0.5, 0.75):
        generated, reference = rng.random((4000, 2)), rng.random((4000, 2))
        generated[:, 0] += a
        score = precision_recall(as32(generated), as32(reference))
        assert values(score, "precision", "recall") == pytest.approx([1 - a] * 2, abs=0.03)


def disc(rng, n, radius=1.0):
    angle, r = rng.uniform(0, 2 * math.pi, n), radius * np.sqrt(rng.random(n))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)


@pytest.mark.simulation
def test_truncated_discs(rng):
    """Generator: a disc of radius 1.5 psi. P = min(1, (1.5 psi)^-2), R = min(1, (1.5 psi)^2)."""
    for psi in (1, 0.8, 0.6, 0.4, 0.3):
        area = (1.5 * psi) ** 2
        score = precision_recall(as32(disc(rng, 4000, 1.5 * psi)), as32(disc(rng, 4000)))
        expected = [min(1, 1 / area), min(1, area)]
        assert values(score, "precision", "recall") == pytest.approx(expected, abs=0.035)


def modes(rng, n, count):
    centres = 10 * np.stack([np.cos(np.arange(8) * math.pi / 4), np.sin(np.arange(8) * math.pi / 4)], 1)
    return centres[rng.integers(0, count, n)] + 0.3 * rng.standard_normal((n, 2))


def test_modes_dropped_and_invented(rng):
    five, eight = as32(modes(rng, 3000, 5)), as32(modes(rng, 3000, 8))
    assert values(precision_recall(five, eight), "precision", "recall") == pytest.approx([1, 5 / 8], abs=0.03)
    assert values(precision_recall(eight, five), "precision", "recall") == pytest.approx([5 / 8, 1], abs=0.03)
    assert density_coverage(five, eight).values["coverage"] == pytest.approx(5 / 8, abs=0.04)


def test_far_outliers_lift_recall_but_not_coverage(rng):
    reference, generated = rng.standard_normal((2000, 2)), 0.1 * rng.standard_normal((2000, 2))
    recall = [precision_recall(as32(generated), as32(reference)).values["recall"]]
    generated[:10] = 8 * rng.standard_normal((10, 2))
    recall.append(precision_recall(as32(generated), as32(reference)).values["recall"])
    assert recall[0] < 0.15
    assert recall[1] > 0.8
    assert density_coverage(as32(generated), as32(reference)).values["coverage"] < 0.15


def test_the_radius_is_the_reference_points_and_not_the_querys(rng):
    """A lecture's slide prints the other one; on a disc of half the radius it would halve the precision."""
    generated, reference = disc(rng, 1500, 0.5), disc(rng, 1500)
    between = table(generated, reference)
    wrong = (between.min(1) <= np.sort(others(generated), 1)[:, 2]).mean()
    right = precision_recall(as32(generated), as32(reference)).values["precision"]
    assert right > 0.95
    assert wrong < 0.6


def test_density_and_coverage_of_one_distribution(rng):
    """Naeem et al. 2020, lemmas 1 and 2: the expected density is 1 and the coverage is known."""
    n, m, k = 1000, 800, 5
    score = density_coverage(as32(rng.standard_normal((m, 6))), as32(rng.standard_normal((n, 6))))
    missed = math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    assert score.values["density"] == pytest.approx(1, abs=4 * score.errors["density"])
    assert score.values["coverage"] == pytest.approx(1 - missed, abs=4 * score.errors["coverage"])


def test_realism_and_rarity_on_a_line():
    """Reference 0, 1, 3, 7 with radii 1, 1, 2, 4 at k = 1: the median lets the balls of 0, 1 and none larger pass."""
    reference, generated = as32([[0], [1], [3], [7]]), as32([[0.5], [4], [6], [20], [1]])
    assert realism(generated, reference, k=1).per_image["generated"].tolist() == pytest.approx(
        [2, 1 / 3, 1 / 5, 1 / 19, math.inf]
    )
    score = rarity(generated, reference, k=1)
    assert score.per_image["generated"].tolist() == pytest.approx([1, 2, 4, math.nan, 1], nan_ok=True)
    assert score.values == pytest.approx({"rarity": 2, "inside": 0.8})


def test_realism_leaves_exact_copies_out_of_its_mean_and_says_so():
    reference = as32([[0], [1], [3], [7]])
    score = realism(as32([[0.5], [1]]), reference, k=1)
    assert score.values == {"realism": 2.0, "share_above_1": 1.0}
    assert "1 of 2 generated images are exact copies" in score.warnings[0]


def test_rarity_of_nobody_inside_is_nan():
    score = rarity(as32([[100], [101]]), as32([[0], [1], [2]]), k=1)
    assert math.isnan(score.values["rarity"])
    assert score.values["inside"] == 0


# --- Brute force


def table(a, b):
    a, b = (np.asarray(rows, np.float64) for rows in (a, b))
    return ((a[:, None] - b[None]) ** 2).sum(2)


def others(rows):
    squared = table(rows, rows)
    np.fill_diagonal(squared, np.inf)
    return squared


def brute(generated, reference, k, inclusive):
    """All that there is to know, from float64 distances."""
    between, radii = table(generated, reference), np.sort(others(reference), 1)[:, k - 1]
    within = np.less_equal if inclusive else np.less
    inside = within(between, radii)
    held = within(between, np.sort(others(generated), 1)[:, k - 1][:, None]).any(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((radii <= np.sort(radii)[(len(radii) - 1) // 2]) & (radii > 0), radii / between, 0)
    return {
        "precision": inside.any(1).mean(),
        "recall": held.mean(),
        "density": inside.sum() / k / len(generated),
        "coverage": inside.any(0).mean(),
        "hits": inside.sum(1),
        "held": held,
        "realism": np.sqrt(ratio.max(1)),
        "rarity": np.where(inside, np.sqrt(radii), np.inf).min(1),
    }


def awkward():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal
    base = noise((60, 5))
    return {
        "gaussian": (noise((120, 6)), noise((90, 6)) + 0.5),
        "exact copies": (np.vstack([base, base[:20]]), base),
        "one set twice": (base, base),
        "ties on a grid": (rng.integers(0, 3, (110, 3)), rng.integers(0, 3, (95, 3))),
        "constant": (np.ones((40, 3)), np.ones((50, 3))),
        "collapsed": (np.repeat(base[:1], 50, 0), base),
        "large common offset": (noise((80, 5)) + 1e4, noise((90, 5)) + 1e4),
        "one far row": (np.vstack([noise((80, 5)), np.full((1, 5), 1e6)]), noise((90, 5))),
        "sets far apart": (noise((80, 5)), noise((90, 5)) + 1e5),
        "one set far and narrow": (base[:1] + 1e-3 * noise((70, 5)), 1e3 * base),
        "far clusters": tuple(np.vstack([noise((40, 4)), noise((40, 4)) + 3e4]) for _ in range(2)),
    }


AWKWARD = {name: tuple(map(as32, pair)) for name, pair in awkward().items()}


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("k", [1, 3, None])
@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("engine", ENGINES)
def test_all_six_equal_float64_brute_force(engine, name, k, inclusive):
    generated, reference = AWKWARD[name]
    k = k or min(map(len, AWKWARD[name])) - 1  # the largest there is
    expected = brute(generated, reference, k, inclusive)
    (found,) = survey(generated, reference, [Balls(k, inclusive)], engine=engine, realism=True)
    for key, value in found.prdc().values.items():
        assert value == pytest.approx(expected[key], abs=1e-12), key
    np.testing.assert_array_equal(found.of_generated.held, expected["hits"])
    np.testing.assert_array_equal(found.precision_recall().per_image["reference"], expected["held"])
    np.testing.assert_allclose(found.nearness, expected["realism"], rtol=1e-12)
    np.testing.assert_allclose(found.of_generated.smallest, expected["rarity"], rtol=1e-12)


def test_several_kinds_of_balls_in_one_survey(rng):
    generated, reference = (as32(rng.standard_normal((n, 4))) for n in (150, 130))
    kinds = [Balls(3), Balls(5, inclusive=False), Balls(20)]
    together = survey(generated, reference, kinds, realism=True)
    for kind, found in zip(kinds, together, strict=True):
        (alone,) = survey(generated, reference, [kind])
        assert found.prdc() == alone.prdc()
    assert together[0].realism().values == realism(generated, reference).values


def test_functions_read_the_same_survey(rng):
    generated, reference = (as32(rng.standard_normal((n, 4))) for n in (150, 130))
    all_four = prdc(generated, reference)
    assert all_four.values == brute_values(generated, reference, 5, inclusive=False)
    some = {
        **precision_recall(generated, reference, k=5, inclusive=False).values,
        **density_coverage(generated, reference).values,
    }
    assert some.pop("f1") == pytest.approx(2 / (1 / some["precision"] + 1 / some["recall"]))
    assert some == all_four.values
    assert all_four.biases == {}  # they are biased in n, by how much cannot be told
    per_image = density_coverage(generated, reference).per_image
    assert per_image["generated"].mean() == pytest.approx(all_four.values["density"])
    assert per_image["reference"].mean() == pytest.approx(all_four.values["coverage"])


def brute_values(generated, reference, k, inclusive):
    expected = brute(generated, reference, k, inclusive)
    return {name: pytest.approx(expected[name]) for name in ("precision", "recall", "density", "coverage")}


@pytest.mark.parametrize("many", [50, 1 << 18])
@pytest.mark.parametrize("size", [0.02, 0.5, 1, 30])
def test_ranks_equal_brute_force(size, many, rng, monkeypatch):
    """What standard errors are made of, of queries in all balls, in some, and in none."""
    monkeypatch.setattr(tiles, "_MANY", many)
    generated, reference = as32(size * rng.standard_normal((150, 6))), as32(rng.standard_normal((120, 6)))
    (found,) = survey(generated, reference, [Balls(3)])
    for of, queries, centres in (
        (found.of_generated, generated, reference),
        (found.of_reference, reference, generated),
    ):
        between, own = table(queries, centres), others(centres)
        listed = of.neighbours.shape[1]
        np.testing.assert_array_equal(of.neighbours, own.argsort(1)[:, :listed])
        rank = (np.sort(own, 1)[:, :listed] < between[:, :, None]).sum(2)
        np.testing.assert_array_equal(of.ranks, np.stack([(rank == r).sum(0) for r in range(listed)], 1))
        pairs = {(q, b, rank[q, b]) for q, b in np.argwhere(rank < listed) if of.held[q] <= 64}
        assert set(zip(of.query.tolist(), of.ball.tolist(), of.rank.tolist(), strict=True)) == pairs
        for ball, first in enumerate(of.first):
            near = [q for q in between[:, ball].argsort() if rank[q, ball] < listed][: len(first)]
            assert first[: len(near)].tolist() == near
            assert (first[len(near) :] == -1).all()
            assert of.first_rank[ball, : len(near)].tolist() == rank[near, ball].tolist()


# --- Half precision


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(("dtype", "rounded"), [("float16", np.sqrt), ("float16-squared", np.asarray)])
def test_half_precision_rounds_features_and_distances_once(dtype, rounded, inclusive, rng):
    generated, reference = (as32(rng.standard_normal((n, 8)) + 20) for n in (400, 300))
    halves = [rows.half().numpy() for rows in (generated, reference)]
    between, *sizes = (
        rounded(squares).astype(np.float16) for squares in (table(*halves), *map(others, halves))
    )
    radii = [np.sort(size, 1)[:, 2] for size in sizes]
    within = np.less_equal if inclusive else np.less
    expected = within(between, radii[1]).any(1).mean(), within(between, radii[0][:, None]).any(0).mean()
    score = precision_recall(generated, reference, feature_dtype=dtype, inclusive=inclusive)
    assert values(score, "precision", "recall") == pytest.approx(expected, abs=1e-12)
    assert score.values != precision_recall(generated, reference, inclusive=inclusive).values


def test_squares_that_overflow_fall_back_to_float32(rng):
    generated, reference = (as32(30 * rng.standard_normal((n, 8)) + 2000) for n in (300, 290))
    fallen = precision_recall(generated, reference, feature_dtype="float16-squared")
    assert fallen.values == precision_recall(generated, reference).values
    assert fallen.values != precision_recall(generated, reference, feature_dtype="float16").values


# --- Invariances


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_neither_order_nor_rotation_nor_translation_nor_scale_matters(engine, rng):
    generated, reference = rng.standard_normal((300, 16)), rng.standard_normal((280, 16)) + 0.3
    before = prdc(as32(generated), as32(reference), engine=engine)
    assert before.values["precision"] not in (0, 1)
    shuffled = prdc(as32(rng.permutation(generated)), as32(rng.permutation(reference)), engine=engine)
    assert shuffled.values == before.values
    assert shuffled.errors == pytest.approx(before.errors, rel=1e-6)
    turn = rotation(16, rng)
    moved = (torch.from_numpy(3.7 * rows @ turn + 100) for rows in (generated, reference))
    assert prdc(*moved, engine=engine).values == before.values


def test_roles_swap_precision_and_recall(rng):
    generated, reference = (as32(rng.standard_normal((n, 4)) * n / 300) for n in (300, 350))
    one, other = precision_recall(generated, reference), precision_recall(reference, generated)
    assert values(one, "precision", "recall") == values(other, "recall", "precision")
    assert one.errors["precision"] == pytest.approx(
        other.errors["recall"], rel=0.25
    )  # other halves are drawn


@pytest.mark.parametrize("size", [50, 333])
def test_block_size_changes_nothing(size, rng, monkeypatch):
    sets = [as32(rng.standard_normal((n, 8))) for n in (400, 350)]
    before = survey(*sets, [Balls(3)], realism=True)[0]
    monkeypatch.setattr(tiles, "BLOCK", size)
    monkeypatch.setattr(distances, "BLOCK", size)
    after = survey(*sets, [Balls(3)], realism=True)[0]
    assert after.prdc() == before.prdc()
    assert torch.equal(after.nearness, before.nearness)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made


def test_a_collapsed_set_takes_no_more_than_a_few_tiles(rng):
    """Images that lie at the centre of 64 dimensions lie in every ball: all pairs count."""
    reference = as32(rng.normal(size=(1000, 64)))
    generated = as32(rng.normal(0, 0.01, size=(1000, 64)))
    with Largest() as largest:
        score = density_coverage(generated, reference)
    assert score.values["density"] > 100
    assert largest.numbers <= 4 * 1000 * 1000


def test_the_global_random_state_and_the_features_are_left_alone(rng):
    sets = [torch.from_numpy(rng.standard_normal((60, 3))) for _ in range(2)]
    copies, torch_state, numpy_state = (
        [rows.clone() for rows in sets],
        torch.get_rng_state(),
        np.random.get_state()[1],
    )
    prdc(*sets)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert all(map(torch.equal, sets, copies))


# --- Refusals


def test_refusals(rng):
    rows = as32(rng.standard_normal((10, 3)))
    with pytest.raises(TooFewImages, match="needs at least 11 images, the set has 10"):
        precision_recall(rows, rows, k=10)
    with pytest.raises(UsageError, match="counts neighbours from 1, found 0"):
        density_coverage(rows, rows, k=0)
    with pytest.raises(UsageError, match="dimensions do not compare"):
        prdc(rows, rows[:, :2])
    with pytest.raises(UnknownName, match="known: auto, blocks, faiss"):
        rarity(rows, rows, engine="gpu")
    with pytest.raises(UnknownName, match="did you mean 'float16'"):
        precision_recall(rows, rows, feature_dtype="float61")
    with pytest.raises(NumericalError, match="do not fit float16"):
        precision_recall(rows * 1e6, rows, feature_dtype="float16")
    with pytest.raises(UsageError, match="made without realism"):
        survey(rows, rows, [Balls(3)])[0].realism()
    with pytest.raises(UsageError, match="at least one kind"):
        survey(rows, rows, [])
    for dtype in ("float32", "float16"):
        with pytest.raises(NumericalError, match="1 of 10 feature rows hold NaN"):
            precision_recall(
                rows.clone().index_fill_(0, torch.tensor([4]), math.nan), rows, feature_dtype=dtype
            )


def test_sets_too_small_to_halve_have_no_error_bar(rng):
    rows = as32(rng.standard_normal((7, 3)))
    assert precision_recall(rows, rows, k=3).errors == {}
    assert set(precision_recall(as32(rng.standard_normal((8, 3))), rows.repeat(2, 1), k=3).errors) == {
        "precision",
        "recall",
    }
