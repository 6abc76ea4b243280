"""Refusals of numbers that no recipe can be made of, before anything is written."""

from __future__ import annotations

import math
from typing import Any

from gen_eval.errors import UsageError


def require_whole(recipe: Any, **least: int) -> None:
    """See that fields are whole numbers, each from its least on.

    Raises:
        UsageError: names the field and what was found.
    """
    for name, lowest in least.items():
        value = getattr(recipe, name)
        if not isinstance(value, int) or value < lowest:
            raise UsageError(f"{name} is {lowest} or more, found {value}: expected a whole number")


def require_positive(recipe: Any, *names: str) -> None:
    """See that fields, such as rates, are finite and above 0.

    Raises:
        UsageError: names the field and what was found.
    """
    for name in names:
        value = getattr(recipe, name)
        if not 0 < value < math.inf:
            raise UsageError(f"{name} is above 0 and finite, found {value}")
