"""What ``geneval validate`` runs, but for what takes minutes: every number is what is known."""

from __future__ import annotations

import pytest
import torch

from gen_eval.datasets import load
from gen_eval.errors import FetchError
from gen_eval.validation import CHECKS, Outcome, run, select

SLOW = {"real-digits-are-best"}  # through Inception


def told(outcome: Outcome) -> str:
    """What missed, for a person."""
    if outcome.error is not None:
        return outcome.error
    pairs = zip(outcome.check.known, outcome.got, strict=True)
    missed = [
        f"{known.what} is {got:.6g}, known {known.value:.6g} {known.tolerance}"
        for known, got in pairs
        if not known.met(got)
    ]
    return "; ".join(missed)


@pytest.mark.parametrize("name", [check.name for check in select(CHECKS, [], "quick")])
def test_quick_checks_are_met(name):
    before = torch.random.get_rng_state()
    outcome = run(CHECKS[name])
    assert outcome.passed, told(outcome)
    assert torch.equal(before, torch.random.get_rng_state()), "the global random state was touched"


@pytest.mark.network
@pytest.mark.parametrize(
    "name", [name for name, check in CHECKS.items() if check.tier == "images" and name not in SLOW]
)
def test_checks_on_digits_are_met(name):
    """The lecture's claims, on generators that ship: truncation trades recall for precision, labels are honoured."""
    try:
        load("mnist")
    except FetchError as error:
        pytest.skip(f"the digits cannot be had here: {error}")
    outcome = run(CHECKS[name])
    assert outcome.passed, told(outcome)
