"""The difference of two results: against simulations, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from gen_eval.comparison import compare
from gen_eval.errors import IncomparableError, UnknownName, UsageError
from gen_eval.metrics import METRICS
from gen_eval.results import Result, SetInfo
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")


def result_of(value=10.0, error=0.3, better="lower", digest="aa", **changes):
    default = Result(
        measure="fid",
        metric="frechet",
        version=1,
        better={"frechet": better},
        params={},
        protocol="torch-fidelity",
        spec=SPEC,
        tap="pool",
        sets={"generated": SetInfo("fake", digest, 100), "reference": SetInfo("real", "bb", 200)},
        values={"frechet": value, "slope": 1.0},
        errors={} if error is None else {"frechet": error},
        biases={},
        warnings=(),
        cite="somebody",
        made_with={},
        seconds=0.0,
    )
    return dataclasses.replace(default, **changes)


def test_errors_add_as_of_two_draws_where_nothing_can_be_paired():
    found = compare(result_of(10.0, 0.3), result_of(11.0, 0.4, digest="cc"))
    assert (found.value, found.a, found.b, found.better) == ("frechet", 10.0, 11.0, "lower")
    assert found.difference == -1.0
    assert found.error == pytest.approx(0.5)
    assert found.p_value == pytest.approx(math.erfc(2 / math.sqrt(2)))
    assert found.p_improved == pytest.approx(found.p_value / 2)
    assert (found.paired, found.shared) == ((), ("reference",))
    assert found.verdict() == "a"
    assert found.verdict(0.01) is None
    assert str(found) == "a is better: frechet 10 against 11, difference -1 ± 0.5 (p = 0.046)"
    assert json.loads(json.dumps(found.to_json()))["shared"] == ["reference"]


@pytest.mark.parametrize(
    ("better", "a", "b", "verdict"),
    [
        ("lower", 10.0, 20.0, "a"),
        ("lower", 20.0, 10.0, "b"),
        ("higher", 10.0, 20.0, "b"),
        ("higher", 20.0, 10.0, "a"),
        ("near 15", 14.0, 20.0, "a"),
        ("near 15", 20.0, 14.0, "b"),
    ],
)
def test_the_verdict_knows_which_way_is_better(better, a, b, verdict):
    found = compare(result_of(a, better=better), result_of(b, better=better, digest="cc"))
    assert found.verdict() == verdict
    assert (found.p_improved < 0.5) == (verdict == "a")


def test_a_set_against_itself_is_not_told_apart():
    found = compare(result_of(), result_of())
    assert (found.difference, found.p_value, found.verdict()) == (0, 1, None)


def test_a_claimed_reference_counts_as_exact_and_is_not_said_to_be_shared():
    sets = {**result_of().sets, "reference": SetInfo("real.npz", "bb", None, claimed=True)}
    found = compare(result_of(sets=sets), result_of(sets={**sets, "generated": SetInfo("b", "cc", 100)}))
    assert (found.paired, found.shared) == ((), ())


def test_what_does_not_compare_is_refused():
    with pytest.raises(IncomparableError, match="metric version"):
        compare(result_of(), result_of(version=2))
    with pytest.raises(UnknownName, match="did you mean 'frechet'"):
        compare(result_of(), result_of(), "frecet")
    with pytest.raises(UsageError, match="frechet of fid has no standard error"):
        compare(result_of(), result_of(error=None))
    with pytest.raises(
        UsageError, match="slope of fid tells no model from a better one: compare by 'frechet'"
    ):
        compare(result_of(), result_of(), "slope")
    for value, error in ((math.nan, 0.3), (math.inf, 0.3), (10.0, math.nan)):
        for pair in (
            (result_of(value, error), result_of(digest="cc")),
            (result_of(), result_of(value, error, digest="cc")),
        ):
            with pytest.raises(
                UsageError, match=f"frechet of fid is {value:g} ± {error:g}, which compares with"
            ):
                compare(*pair)
    with pytest.raises(UsageError, match=r"found a list: expected one Result.*results\[0\]"):
        compare(result_of(), [result_of()])
    for alpha in (0, 1, math.nan):
        with pytest.raises(UsageError, match="alpha"):
            compare(result_of(), result_of()).verdict(alpha)


def test_contributions_beyond_the_error_are_not_paired():
    """Were they taken for parts of it, the variance could come out negative."""
    contributions = {"reference": (torch.arange(200), torch.randn(200, dtype=torch.float64))}
    found = compare(*(result_of(digest=digest, contributions=contributions) for digest in ("aa", "cc")))
    assert (found.paired, found.shared) == ((), ("reference",))
    assert found.error == pytest.approx(0.3 * math.sqrt(2))


# --- Against simulations

REPEATS, N, M, DIM = 300, 300, 100, 3


def frechet_of(generated, reference, digest, rows=None):
    """What an evaluation gives, without its overhead."""
    sides = {"generated": Features.of(generated), "reference": Features.of(reference).cut(rows)}
    score = METRICS["frechet"].compute(sides, **METRICS["frechet"].params)
    return result_of(
        sets={"generated": SetInfo("fake", digest, N), "reference": SetInfo("real", "bb", M)},
        values=score.values,
        errors=score.errors,
        contributions={role: (sides[role].sample.index, c) for role, c in score.contributions.items()},
    )


def pair_of_models(repeat, same_seeds=False):
    """Two equally good models, with all three sets drawn anew."""
    rng = torch.Generator().manual_seed(repeat)
    reference, a, b = (torch.randn(size, DIM, generator=rng) for size in (M, N, N))
    if same_seeds:
        b = 0.95 * a + math.sqrt(1 - 0.95**2) * b
    return tuple(frechet_of(2 * x + 1, reference, digest) for x, digest in ((a, "aa"), (b, "cc")))


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("same_seeds", "roles"), [(False, ("reference",)), (True, ("generated", "reference"))]
)
def test_the_error_is_the_spread_of_the_difference_and_p_values_are_uniform(same_seeds, roles):
    pairs = [pair_of_models(repeat, same_seeds) for repeat in range(REPEATS)]
    found = [compare(*pair, paired=same_seeds) for pair in pairs]
    assert {frozenset(each.paired) for each in found} == {frozenset(roles)}
    spread = float(torch.tensor([each.difference for each in found]).std())
    error = float(torch.tensor([each.error for each in found]).mean())
    resolved = 4 / math.sqrt(2 * REPEATS)  # four errors of a spread
    assert error / spread == pytest.approx(1, abs=resolved)
    # Kolmogorov and Smirnov: 1.63 / sqrt(n) at the level 0.01.
    p_values = torch.tensor([each.p_value for each in found]).sort().values
    steps = torch.arange(1, REPEATS + 1) / REPEATS
    assert float((p_values - steps).abs().max()) < 1.63 / math.sqrt(REPEATS)
    # As if each had drawn its own reference, the error is too wide.
    alone = [compare(*(dataclasses.replace(each, contributions={}) for each in pair)) for pair in pairs]
    assert float(torch.tensor([each.error for each in alone]).mean()) / spread > 1 + resolved


def test_pairing_looks_at_the_images_that_both_results_hold():
    """Samples of different sizes: the lesser one stands in the greater."""
    rng = torch.Generator().manual_seed(0)
    reference, a, b = (torch.randn(size, DIM, generator=rng) for size in (M, N, N))
    whole = compare(*(frechet_of(x + 1, reference, digest) for x, digest in ((a, "aa"), (b, "cc"))))
    partly = compare(frechet_of(a + 1, reference, "aa"), frechet_of(b + 1, reference, "cc", rows=60))
    assert partly.paired == ("reference",)
    assert partly.error == pytest.approx(whole.error, rel=0.2)
    too_few = compare(frechet_of(a + 1, reference, "aa"), frechet_of(b + 1, reference, "cc", rows=29))
    assert too_few.shared == ("reference",)


def test_results_from_their_lines_are_paired_by_a_few_images():
    """Of a reference of 2,000 images, eight times as many as the lines hold, whose draw is most of each error."""
    m, n = 2000, 8000
    ratios = []
    for repeat in range(30):
        rng = torch.Generator().manual_seed(repeat)
        reference, a, b = (torch.randn(size, DIM, generator=rng) for size in (m, n, n))
        pair = [
            dataclasses.replace(
                frechet_of(2 * x + 1, reference, digest),
                sets={"generated": SetInfo("fake", digest, n), "reference": SetInfo("real", "bb", m)},
            )
            for x, digest in ((a, "aa"), (b, "cc"))
        ]
        lines = [each.json_line() for each in pair]
        assert all(len(line) < 5000 for line in lines)
        found, whole = compare(*(Result.from_json(json.loads(line)) for line in lines)), compare(*pair)
        assert (found.paired, found.shared) == (("reference",), ())
        apart = compare(*(dataclasses.replace(each, contributions={}) for each in pair))
        assert apart.error > 1.3 * whole.error
        ratios.append(found.error / whole.error)
    assert torch.tensor(ratios).sub(1).square().mean().sqrt() < 0.05
