"""Which way a value is better: ``"lower"``, ``"higher"``, or ``"near X"`` with a number X."""

from __future__ import annotations

import re

_FORM = re.compile(r"lower|higher|near (-?\d+(?:\.\d+)?)")
WORDS = "lower, higher or near and a number"  # what a direction may be


def is_direction(text: str) -> bool:
    """Whether a text is one."""
    return _FORM.fullmatch(text) is not None


def target(better: str) -> float | None:
    """The number that a value is to be near; ``None`` where it is to be low or high."""
    found = _FORM.fullmatch(better)
    return None if found is None or found[1] is None else float(found[1])


def judged(value: float, better: str) -> tuple[float, int]:
    """What is compared of a value, its distance from a target if it has one, and the sign with which it follows it."""
    if (to := target(better)) is None:
        return value, 1
    return abs(value - to), 1 if value >= to else -1


def is_improvement(difference: float, better: str) -> bool:
    """Whether a difference of what is :func:`judged` is one to the better."""
    return difference > 0 if better == "higher" else difference < 0


def spell(better: str) -> str:
    """In words: ``lower is better``, or ``nearer to 0.5 is better``."""
    return f"{better.replace('near ', 'nearer to ')} is better"
