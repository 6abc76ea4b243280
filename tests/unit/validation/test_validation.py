"""Checks of known answers: what they take for met, what a miss is, which are chosen."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.validation import CHECKS, TIERS, Check, Known, at_least, at_most, near, run, select, shipped
from gen_eval.validation.digits import Split
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.variational import Variational
from gen_eval.zoo.worlds import Gaussian


def check(known, found, name="sum", tier="quick", models=()):
    return Check(name, "One and one.", models, tier, known, lambda: found, "arithmetic")


# --- Known numbers


@pytest.mark.parametrize(
    ("known", "met", "missed", "tolerance"),
    [
        (near(2.0, 0.1), (1.95, 2.1), (1.89, 2.11), "±0.1"),
        (near(2.0, 0.0), (2.0,), (2.0000001, 1.9999999), "exactly"),
        (at_least(2.0), (2.0, 9.0, math.inf), (1.999, -math.inf), "or more"),
        (at_most(2.0), (2.0, -9.0), (2.001, math.inf), "or less"),
        (Known(1.0, 0.03, 0.001), (0.97, 1.001), (0.969, 1.0011), "-0.03 +0.001"),
    ],
)
def test_numbers_within_the_tolerance_are_met(known, met, missed, tolerance):
    assert all(known.met(number) for number in met)
    assert not any(known.met(number) for number in (*missed, math.nan))
    assert known.tolerance == tolerance


# --- Outcomes


def test_one_number_or_several():
    assert run(check((near(2, 0),), 2.0)).passed
    outcome = run(check((near(2, 0), at_most(3)), [2, 3]))
    assert outcome.passed
    assert outcome.got == (2.0, 3.0)
    assert outcome.seconds >= 0


@pytest.mark.parametrize("found", [3.0, math.nan, [2.0, 2.0], []])
def test_what_is_not_known_is_a_miss(found):
    assert not run(check((near(2, 0),), found)).passed


def test_one_miss_of_several_is_a_miss():
    assert not run(check((near(2, 0), near(2, 0)), [2.0, 2.1])).passed


def test_an_exception_is_a_miss_that_says_what_happened():
    def broken():
        raise ValueError("singular")

    outcome = run(dataclasses.replace(check((near(2, 0),), 2.0), run=broken))
    assert not outcome.passed
    assert outcome.got == ()
    assert outcome.error == "ValueError: singular"
    assert "knows 1 numbers and found 2" in run(check((near(2, 0),), [2.0, 2.0])).error


def test_an_interrupt_is_let_through():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dataclasses.replace(check((near(2, 0),), 2.0), run=interrupted))


def test_a_check_that_could_not_fail_or_has_no_tier_is_refused():
    with pytest.raises(UsageError, match="could not fail"):
        check((), [])
    with pytest.raises(UnknownName, match="did you mean 'quick'"):
        check((near(2, 0),), 2.0, tier="quik")


# --- Choosing

TABLE = {
    each.name: each
    for each in (
        check((near(2, 0),), 2.0, "a", "standard", ("gan", "vae")),
        check((near(2, 0),), 2.0, "b", "quick", ("gan",)),
        check((near(2, 0),), 2.0, "c", "images", ("vae",)),
    )
}


@pytest.mark.parametrize(
    ("names", "tier", "chosen"),
    [
        ([], "quick", "b"),
        ([], "standard", "ab"),
        ([], "images", "abc"),
        (["gan"], "quick", "b"),
        (["gan"], "images", "ab"),
        (["vae"], "standard", "a"),
        (["c"], "quick", "c"),
        (["c", "gan"], "quick", "bc"),
    ],
)
def test_checks_are_chosen_by_name_by_model_and_by_tier(names, tier, chosen):
    assert "".join(each.name for each in select(TABLE, names, tier)) == chosen


def test_names_that_choose_nothing_are_refused():
    with pytest.raises(UnknownName, match="unknown check or model 'gam': did you mean 'gan'"):
        select(TABLE, ["gam"], "quick")
    with pytest.raises(UnknownName, match="tier"):
        select(TABLE, [], "slow")
    with pytest.raises(UsageError, match="ask for the tier standard"):
        select(TABLE, ["vae"], "quick")


# --- The table


def test_every_row_says_what_it_is():
    for name, each in CHECKS.items():
        assert each.models
        assert each.cite
        assert each.about.endswith(".")
        whats = [known.what for known in each.known]
        assert len(set(whats)) == len(whats), f"{name} has two numbers of one name"
        if len(whats) > 1:
            assert all(whats)
    assert {each.tier for each in CHECKS.values()} <= set(TIERS)


def test_every_model_is_held_to_its_contract():
    assert {f"contract-{name}" for name in MODELS} <= set(CHECKS)


def test_what_ships_is_checked_for_what_it_has(monkeypatch):
    recipes = {
        "dcgan": Adversarial(),
        "cogan": Adversarial(net="coupled"),
        "biggan": Adversarial(norm="conditional", head="projection"),
        "cvae": Variational(conditional=True),
    }
    monkeypatch.setattr(shipped, "SHIPPED", recipes)
    found = {each.name: each for each in shipped.of_shipped()}
    assert list(found) == [
        "real-digits-are-best",
        "truncation-of-digits-dcgan",
        "domains-of-digits-cogan",
        "labels-of-digits-biggan",
        "truncation-of-digits-biggan",
        "labels-of-digits-cvae",
    ]
    assert [known.what for known in found["real-digits-are-best"].known] == [
        f"{name} less real" for name in recipes
    ]
    assert {each.tier for each in found.values()} == {"images"}
    monkeypatch.setattr(shipped, "SHIPPED", {})
    assert list(shipped.of_shipped()) == []


class Passing:
    """A classifier whose features are what it is given."""

    def features(self, images):
        return images


def test_a_truncation_that_trades_is_told_from_one_that_does_not(monkeypatch):
    """Gaussians too wide by half stand for digits: precision rises and recall falls."""
    wide, narrow = (Gaussian(torch.zeros(4), sd**2 * torch.eye(4)) for sd in (1.5, 1.0))
    monkeypatch.setattr(shipped, "judge", Passing)
    monkeypatch.setattr(
        shipped, "digits", lambda split: Split(narrow.sample(1000, seed=5000), torch.zeros(0))
    )
    order, fall, rise = shipped.truncation_trade(wide, (1.0, 0.9, 0.8, 0.5, 0.3))
    assert order == pytest.approx(1)
    assert fall > 0.1
    assert rise > 0.05
    assert shipped.truncation_trade(narrow, (1.0, 0.9, 0.8, 0.5, 0.3))[2] < 0.05  # nothing is left to gain
