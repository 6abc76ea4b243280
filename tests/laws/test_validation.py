"""The quick tier of what ``geneval validate`` runs: every number is what is known."""

from __future__ import annotations

import pytest
import torch

from gen_eval.validation import CHECKS, Outcome, run, select


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
