"""How checks are shown to catch what they are for."""

from __future__ import annotations

from typing import Any

import pytest

from gen_eval.validation import CHECKS, run


@pytest.fixture
def assert_missed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """That a check, run with something broken in the place of an attribute, runs and misses what is known."""

    def check(name: str, home: object, attribute: str, broken: object) -> None:
        monkeypatch.setattr(home, attribute, broken)
        outcome = run(CHECKS[name])
        assert outcome.error is None, outcome.error  # broken, and yet it runs
        assert not outcome.passed

    return check
