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
        biases: by how much each value is expected to exceed what infinitely many images would give; 0 for
            those that are unbiased; without an entry where it cannot be told.
        contributions: by role, how much each row raises the first value to first order, ``[k]`` float64.
        per_image: by role, what the metric says of each row by itself, ``[k]`` float64, where it does.
        warnings: reasons to read the values with care.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    contributions: Mapping[str, Tensor] = field(default_factory=dict)
    per_image: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def bias(self) -> float | None:
        """The bias of the first value, where it can be told."""
        return self.biases.get(next(iter(self.values)))


def harmonic_mean(a: float, b: float) -> float:
    """Of two numbers of 0 or more, as F1 is of precision and recall; 0 if both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0
