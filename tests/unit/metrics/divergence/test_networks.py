"""Folds, and networks that see nothing of what they are judged by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.networks import (
    Difference,
    Learner,
    Pair,
    Scaling,
    Training,
    cross_fit,
    divide,
    least_rows,
    outputs,
)

SHORT = Training(folds=4, steps=12, width=8)


def rows(n, seed, dim=3, shift=0.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


def means(network, fake, real, mixing):
    return torch.tanh(network(real)).mean(1) - torch.tanh(network(fake)).mean(1)


@pytest.fixture
def pair():
    return divide(rows(90, 0, shift=0.5), rows(70, 1), SHORT)


def test_folds_part_either_set_evenly(pair):
    for side, n in zip(pair, (90, 70), strict=True):
        counts = torch.bincount(side.fold, minlength=4)
        assert int(counts.sum()) == n
        assert int(counts.max() - counts.min()) <= 1


def test_equal_rows_share_a_fold_in_whichever_set():
    reference = rows(60, 0)
    generated = torch.cat([reference[::2], reference[::3], rows(30, 1)])
    folds = {}
    for side in divide(generated, reference, SHORT):
        for row, fold in zip(side.rows.tolist(), side.fold.tolist(), strict=True):
            assert folds.setdefault(tuple(row), fold) == fold
    assert len(folds) == 90


def test_the_two_zeros_are_one_content():
    x = torch.zeros(40, 2)
    x[:, 0] = torch.arange(40.0)
    minus = x.clone()
    minus[:, 1] = -0.0
    sides = divide(minus, x, SHORT)
    assert torch.equal(sides.generated.fold, sides.reference.fold)
    assert torch.equal(sides.generated.rows, sides.reference.rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_of_rows_is_that_of_their_content(dtype):
    x, y = rows(50, 0).to(dtype), rows(40, 1).to(dtype)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    first, second = divide(x, y, SHORT), divide(x[order], y, SHORT)
    assert torch.equal(first.generated.rows, second.generated.rows)
    assert torch.equal(first.generated.fold, second.generated.fold)
    assert not torch.equal(first.generated.rows, x)
    assert torch.equal(first.generated.in_order(first.generated.rows[:, 0]), x[:, 0])
    # Another seed divides otherwise.
    other = divide(x, y, replace(SHORT, seed=1))
    assert not torch.equal(first.generated.rows, other.generated.rows)


def test_a_network_sees_nothing_of_its_own_fold(pair):
    """Other rows in a fold change the networks that learn from them, and not the one that they are held out from.

    The network that they told when to stop may stop where it did.
    """
    scaling = Scaling.by_feature(pair)
    fit = cross_fit(pair, scaling, Learner(means), SHORT)
    moved = Pair(*(replace(side, rows=side.rows + 5 * (side.fold == 2)[:, None]) for side in pair))
    again = cross_fit(moved, scaling, Learner(means), SHORT)
    same = [
        all(
            torch.equal(a, b)
            for a, b in zip(sum(fit.network(at), ()), sum(again.network(at), ()), strict=True)
        )
        for at in range(4)
    ]
    assert (same[0], same[2], same[3]) == (False, True, False)


def test_held_out_rows_are_asked_of_their_own_network(pair):
    fit = cross_fit(pair, Scaling.common(pair), Learner(means), SHORT)
    for lag in (0, 1):
        found = fit.held_out(pair.reference, lag=lag)
        for place in (0, 13, 69):
            network = fit.network(int(pair.reference.fold[place] - lag) % 4)
            row = fit.scaling(pair.reference.rows[place])[None, None]
            assert float(found[place]) == pytest.approx(float(outputs(network, row)), abs=1e-12)


def test_networks_side_by_side_are_those_one_by_one(pair):
    """An output depends on its own network's weights alone."""
    fit = cross_fit(pair, Scaling.by_feature(pair), Learner(means), SHORT)
    batch = fit.scaling(pair.generated.rows[:10])
    together = outputs(fit.layers, batch.expand(4, -1, -1))
    for fold in range(4):
        torch.testing.assert_close(together[fold], outputs(fit.network(fold), batch[None])[0])


def test_each_network_keeps_the_state_that_its_judges_liked(pair):
    """What is learned on noise alone is kept no better than chance."""
    noise = divide(rows(60, 3, dim=40), rows(60, 4, dim=40), Training(folds=3, steps=300))
    fit = cross_fit(noise, Scaling.by_feature(noise), Learner(means), Training(folds=3, steps=300))
    value, error = Difference.of(noise, *(torch.tanh(fit.held_out(side)) for side in noise))[:2]
    assert abs(value) < 3 * error


def test_scaling():
    pair = divide(
        rows(50, 0) * torch.tensor([1.0, 10.0, 0.0]) + 3,
        rows(50, 1) * torch.tensor([1.0, 10.0, 0.0]) + 3,
        SHORT,
    )
    together = torch.cat([side.rows for side in pair]).double()
    scaled = Scaling.by_feature(pair)(together)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]).double())
    common = Scaling.common(pair)
    torch.testing.assert_close(common.scale.square(), together.var(0, correction=0).mean(0, keepdim=True))
    torch.testing.assert_close(common(together).mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    for given in (together, together.float()):
        before = given.clone()
        assert torch.equal(common(given), (before.double() - common.centre) / common.scale)
        assert torch.equal(given, before)


@pytest.fixture
def terms(pair):
    draws = torch.Generator().manual_seed(5)
    return [torch.randn(len(side.rows), dtype=torch.float64, generator=draws) for side in pair]


def test_a_difference_of_means_and_its_error(pair, terms):
    found = Difference.of(pair, *terms)
    by_fold = [[term[side.fold == at] for at in range(4)] for term, side in zip(terms, pair, strict=True)]
    means_of, variances = (
        [[f(z) for z in side] for side in by_fold] for f in (torch.mean, lambda z: z.var() / len(z))
    )
    assert found.value == pytest.approx(float(sum(means_of[1]) - sum(means_of[0])) / 4)
    assert found.error == pytest.approx(math.sqrt(float(sum(variances[0]) + sum(variances[1]))) / 4)
    for sign, part, side, term in zip((-1, 1), found.contributions.values(), pair, terms, strict=True):
        assert float(part.sum()) == pytest.approx(0, abs=1e-12)
        same = term[side.fold == side.fold[3]]
        assert float(part[side.order[3]]) == pytest.approx(
            sign * float(term[3] - same.mean()) / len(same) / 4
        )


def test_where_a_network_has_its_zero_does_not_matter(pair, terms):
    moved = [term + 100.0 * side.fold for term, side in zip(terms, pair, strict=True)]
    first, second = Difference.of(pair, *terms), Difference.of(pair, *moved)
    assert second.value == pytest.approx(first.value, abs=1e-10)
    assert second.error == pytest.approx(first.error)


def test_a_term_that_makes_up_the_variance_is_told_of(pair, terms):
    assert Difference.of(pair, *terms).heaviest < 0.2
    terms[0][4] = 1e4
    assert Difference.of(pair, *terms).heaviest > 0.9


def test_values_that_are_not_finite_are_refused(pair, terms):
    terms[1][3] = math.inf
    with pytest.raises(NumericalError, match="no finite value"):
        Difference.of(pair, *terms)


@pytest.mark.parametrize(
    "options", [{"folds": 2}, {"folds": 3.0}, {"steps": 0}, {"steps": "x"}, {"width": 0}]
)
def test_trainings_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match="must be a whole number of [13] or more"):
        Training(**options)


def test_sets_too_small_for_the_folds_are_refused():
    least = least_rows(4)
    divide(rows(least, 0), rows(least, 1), SHORT)
    with pytest.raises(TooFewImages, match="at least 16 reference rows are needed, found 15"):
        divide(rows(least, 0), rows(least - 1, 1), SHORT)
    with pytest.raises(TooFewImages, match="16 in all; the generated set has 3 among 90"):
        divide(rows(3, 0).repeat(30, 1), rows(90, 1), SHORT)


def test_features_whose_squares_overflow_are_refused():
    with pytest.raises(NumericalError, match="too large"):
        Scaling.common(divide(rows(40, 0).double() * 1e200, rows(40, 1).double(), SHORT))
