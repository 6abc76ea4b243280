"""What every metric returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Numbers and how sure they are.

    Args:
        values: the numbers by name; the metric's own comes first.
        errors: the standard error of each value that has one.
        bias: by how much the first value is expected to exceed what infinitely many images would give;
            ``None`` where it cannot be told.
        contributions: by role, how much each row raises the first value to first order, ``[k]`` float64.
        warnings: reasons to read the value with care.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)
    bias: float | None = None
    contributions: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
