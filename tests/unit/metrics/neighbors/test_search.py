"""Nearest neighbours and pairs within reach: both engines equal float64 brute force to the last decision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.neighbors import distances, search, tiles
from gen_eval.metrics.neighbors.distances import exact, prepare, within
from gen_eval.metrics.neighbors.search import near, neighbours

ENGINES = ("blocks", "faiss")
RNG = np.random.default_rng(0)


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def as32(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def squared(a, b):
    """The oracle: float64, by differences."""
    a, b = (np.asarray(rows, np.float64) for rows in (a, b))
    return ((a[:, None] - b[None]) ** 2).sum(2)


def others(rows):
    table = squared(rows, rows)
    np.fill_diagonal(table, np.inf)
    return table


def awkward():
    """Sets that float32 distances, or a careless search, get wrong."""
    noise = RNG.standard_normal
    base = noise((90, 6))
    clusters = np.vstack([noise((45, 6)), noise((45, 6)) + 3e4])
    return {
        "gaussian": (noise((120, 6)), noise((90, 6)) + 0.5),
        "exact copies": (np.vstack([base[:60], base[:30]]), base),
        "copies of one row": (np.repeat(noise((1, 4)), 50, 0), noise((60, 4))),
        "constant": (np.ones((40, 3)), np.ones((50, 3))),
        "ties on a grid": (RNG.integers(0, 3, (110, 3)), RNG.integers(0, 3, (95, 3))),
        "one dimension": (RNG.integers(0, 20, (80, 1)), RNG.integers(0, 20, (70, 1))),
        "large common offset": (noise((80, 5)) + 1e5, noise((90, 5)) + 1e5),
        "far clusters": (clusters + noise((90, 6)) / 3, clusters),
        "one far outlier": (np.vstack([noise((60, 5)), np.full((1, 5), 1e6)]), noise((70, 5))),
        "heavy tails": (noise((60, 5)) ** 9, 1e5 * noise((70, 5)) ** 9),
        "sets far apart": (noise((80, 5)), noise((90, 5)) + 1e5),
        "tiny": (1e-30 * noise((50, 4)), 1e-30 * noise((60, 4))),
        "huge": (1e30 * noise((50, 4)), 1e30 * noise((60, 4))),
        "minus zero": (np.vstack([np.zeros((9, 2)), -np.zeros((9, 2))]), np.zeros((20, 2))),
    }


AWKWARD = {name: (as32(a), as32(b)) for name, (a, b) in awkward().items()}


@pytest.mark.parametrize("name", AWKWARD)
def test_radii_equal_brute_force(name, engine):
    for given, rows in zip(AWKWARD[name], prepare(*AWKWARD[name]), strict=True):
        ks = [1, 3, len(given) - 1]
        ordered = np.sort(others(given), 1)[:, [k - 1 for k in ks]].T
        found, alone = (neighbours(some, ks, keep=8, engine=engine).radii for some in (rows, rows.alone()))
        assert torch.equal(found, alone)
        np.testing.assert_allclose(found / rows.scale**2, ordered, rtol=1e-14)
        np.testing.assert_array_equal(found == 0, ordered == 0)


@pytest.mark.parametrize("name", AWKWARD)
def test_pairs_within_limits_equal_brute_force(name, engine):
    a, b = prepare(*AWKWARD[name])
    radii_a, radii_b = (neighbours(rows, [3], keep=8).radii[0] for rows in (a, b))
    by_row, by_column = (np.zeros((a.n, b.n), bool) for _ in range(2))
    for found in near(a, b, radii_a, radii_b, engine=engine):
        for pairs, table, limit in (
            (found.by_row, by_row, radii_a[found.by_row.row]),
            (found.by_column, by_column, radii_b[found.by_column.column]),
        ):
            assert not table[pairs.row, pairs.column].any()  # each pair comes once
            table[pairs.row, pairs.column] = within(a, b, pairs, limit).numpy()
    given = squared(*AWKWARD[name])
    sizes_a, sizes_b = (np.sort(others(rows), 1)[:, 2] for rows in AWKWARD[name])
    np.testing.assert_array_equal(by_row, given <= sizes_a[:, None])
    np.testing.assert_array_equal(by_column, given <= sizes_b)


@pytest.mark.parametrize("far", [0, 1, 20])
def test_far_rows_do_not_drag_the_centre_away(far):
    """Their own distances are wide; those of all others are as narrow as without them."""
    first, second = as32(RNG.standard_normal((200, 16))), as32(RNG.standard_normal((150, 16)) + 1)
    plain = prepare(first, second)
    dragged = first.clone()
    dragged[:far] *= 1e6
    for rows, before in zip(prepare(dragged, second), plain, strict=True):
        norms = rows.squares.median() / rows.scale**2
        assert norms < 2 * before.squares.median() / before.scale**2
        assert rows.alone() is rows


def test_the_mean_stays_the_centre_of_sets_without_far_rows():
    """There nothing is gained by another, and no last digit is to move."""
    sets = as32(RNG.standard_normal((200, 16))), as32(RNG.standard_normal((300, 16)) + 50)
    for rows in prepare(*sets):
        np.testing.assert_allclose(rows.centre, np.vstack(sets).astype(float).mean(0), rtol=1e-12)
        assert rows.from_mean is rows.squares


def test_sets_far_apart_have_each_a_centre_for_their_own_distances():
    sets = as32(RNG.standard_normal((200, 16))), as32(RNG.standard_normal((150, 16)) + 1e3)
    for rows in prepare(*sets):
        spread = rows.given.var(0).sum() * rows.scale**2
        assert rows.squares.median() > 1e4 * spread
        assert rows.alone().squares.median() < 2 * spread


def test_the_order_of_rows_does_not_depend_on_how_they_came():
    """Nor does it with far rows, where the centre is seen from some of the rows."""
    for far in (1, 1e6):
        first, second = as32(RNG.standard_normal((200, 6))), as32(RNG.standard_normal((150, 6)))
        first[7] *= far
        turned = first[torch.from_numpy(RNG.permutation(200))]
        one, other = (prepare(rows, second)[0] for rows in (first, turned))
        assert torch.equal(one.given[one.order()], other.given[other.order()])


@pytest.mark.parametrize("name", AWKWARD)
def test_bounds_hold_the_true_distance(name, engine):
    a, b = prepare(*AWKWARD[name])
    everything = torch.full((a.n,), 1e3, dtype=torch.float64), torch.full((b.n,), 1e3, dtype=torch.float64)
    given = squared(*AWKWARD[name]) * a.scale**2
    seen = 0
    for found in near(a, b, *everything, engine=engine):
        for pairs in (found.by_row, found.by_column):
            true = torch.from_numpy(given[pairs.row, pairs.column])
            assert bool((pairs.lower <= true).all())
            assert bool((true <= pairs.upper).all())
            seen += len(pairs.row)
    assert seen == 2 * a.n * b.n


def test_weighted_minimum_is_among_the_lightest():
    a, b = prepare(*AWKWARD["gaussian"])
    weights = torch.from_numpy(RNG.uniform(0.1, 10, b.n))
    weights[::3] = math.inf
    best = torch.full((a.n,), math.inf, dtype=torch.float64)
    nothing = torch.full((a.n,), -1.0, dtype=torch.float64), torch.full((b.n,), -1.0, dtype=torch.float64)
    for found in near(a, b, *nothing, weights=weights):
        pairs = found.lightest
        value = exact(a, b, pairs.row, pairs.column) * weights[pairs.column]
        best.scatter_reduce_(0, pairs.row, value, "amin")
        assert len(found.by_row.row) == len(found.by_column.row) == 0
    expected = (squared(*AWKWARD["gaussian"]) * a.scale**2 * weights.numpy()).min(1)
    np.testing.assert_allclose(best.numpy(), expected, rtol=1e-12)


def test_lists_name_the_nearest(engine):
    given = as32(RNG.standard_normal((200, 8)))
    rows, _ = prepare(given, given)
    found = neighbours(rows, [2], keep=12, engine=engine)
    np.testing.assert_array_equal(found.who.numpy(), np.argsort(others(given), 1)[:, :12])
    np.testing.assert_allclose(
        found.squared.numpy() / rows.scale**2, np.sort(others(given), 1)[:, :12], rtol=1e-4
    )


@pytest.mark.parametrize("size", [7, 64, 1000])
@pytest.mark.parametrize("name", ["gaussian", "ties on a grid", "copies of one row", "far clusters"])
def test_block_size_changes_nothing(name, size, monkeypatch):
    rows, _ = prepare(*AWKWARD[name])
    before = neighbours(rows, [1, 5], keep=6).radii
    monkeypatch.setattr(tiles, "BLOCK", size)
    monkeypatch.setattr(distances, "BLOCK", size)
    monkeypatch.setattr(search, "WIDE", size)
    rows, _ = prepare(*AWKWARD[name])
    assert torch.equal(neighbours(rows, [1, 5], keep=6).radii, before)


def test_many_blocks_in_high_dimension(monkeypatch, engine):
    monkeypatch.setattr(tiles, "BLOCK", 64)
    given = as32(RNG.standard_normal((300, 512)))
    rows, _ = prepare(given, given)
    radii = neighbours(rows, [3], keep=8, engine=engine).radii[0].numpy() / rows.scale**2
    np.testing.assert_allclose(radii, np.sort(others(given), 1)[:, 2], rtol=1e-13)


def test_float32_alone_would_decide_wrongly():
    """What the second look is for: a pair nearer to the limit than float32 can tell."""
    given = as32(RNG.standard_normal((60, 256)) + 30)
    a, b = prepare(given[:30], given[30:])
    i, j = torch.arange(30), torch.arange(30)
    true = exact(a, b, i, j)
    (found,) = list(near(a, b, torch.ones(30).double() * 1e3, torch.zeros(30).double()))
    diagonal = found.by_row.where(found.by_row.row == found.by_row.column)
    assert bool((diagonal.upper - diagonal.lower > 0).all())
    assert within(a, b, diagonal, true[diagonal.row]).all()
    assert not within(a, b, diagonal, torch.nextafter(true, torch.zeros(30).double())[diagonal.row]).any()


@pytest.mark.parametrize("count", [1, 2, 5, 100, 700])
def test_exact_distance_of_a_pair_does_not_depend_on_its_company(count):
    """Else a copy of the k-th neighbour could fall outside the ball that reaches to it."""
    for d in (3, 17, 2048):
        given = as32(RNG.standard_normal((8, d)))
        a, b = prepare(given[:4], given[4:])
        i, j = (torch.from_numpy(RNG.integers(0, 4, count)) for _ in range(2))
        together = exact(a, b, i, j)
        for at in range(min(count, 20)):
            alone = exact(a, b, i[at : at + 1], j[at : at + 1])
            back = exact(b, a, j[at : at + 1], i[at : at + 1])
            assert together[at] == alone[0] == back[0]


def test_float64_features_keep_their_digits(engine):
    """Rows that are one in float32 are told apart, and the caller's tensors are left alone."""
    given = torch.from_numpy(1 + 1e-9 * RNG.standard_normal((40, 3)))
    before = given.clone()
    rows, _ = prepare(given, given)
    radii = neighbours(rows, [2], keep=6, engine=engine).radii[0].numpy() / rows.scale**2
    np.testing.assert_allclose(radii, np.sort(others(given), 1)[:, 1], rtol=1e-12)
    assert torch.equal(given, before)


def test_copies_are_known_across_sets():
    given = as32(RNG.standard_normal((50, 4)))
    a, b = prepare(given, given.flip(0))
    assert torch.equal(a.copies, b.copies.flip(0))
    assert len(a.copies.unique()) == 50


def test_a_thousand_copies_cost_no_thousand_distances(monkeypatch):
    """Collapsed sets are common; pair by pair they would take minutes."""
    given = as32(np.repeat(RNG.standard_normal((3, 16)), 400, 0))
    rows, _ = prepare(given, given)
    monkeypatch.setattr(distances, "_PAIR_CHUNK", 16)  # one pair at a time: a thousand copies would show
    assert bool((neighbours(rows, [5], keep=8).radii == 0).all())


# --- Refusals


def test_refusals():
    rows, _ = prepare(as32(np.eye(4)), as32(np.eye(4)))
    with pytest.raises(UsageError, match="counts neighbours from 1, found 0"):
        neighbours(rows, [0], keep=3)
    with pytest.raises(TooFewImages, match="needs at least 5 images, the set has 4"):
        neighbours(rows, [4], keep=5)
    with pytest.raises(UnknownName, match="did you mean 'faiss'"):
        neighbours(rows, [1], keep=3, engine="fais")
    zeros = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(UsageError, match="use blocks"):
        near(rows, rows, zeros, zeros, weights=zeros, engine="faiss")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (torch.zeros(3), torch.zeros(3, 2), r"\[n, d\]"),
        (torch.zeros(0, 2), torch.zeros(3, 2), r"\[n, d\]"),
        (torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2), "int64"),
        (torch.zeros(3, 2), torch.zeros(3, 4), "2 and of 4 dimensions"),
    ],
)
def test_rows_that_do_not_compare_are_refused(first, second, words):
    with pytest.raises(UsageError, match=words):
        prepare(first, second)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(bad):
    rows = torch.zeros(5, 2)
    rows[3, 1] = bad
    with pytest.raises(NumericalError, match="row 3"):
        prepare(torch.zeros(5, 2), rows)
