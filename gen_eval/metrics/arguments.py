"""What numbers that are passed to engines must be."""

from __future__ import annotations

import math

import numpy as np

from gen_eval.errors import UsageError


def require_whole(name: str, value: object, least: int, most: float = math.inf) -> None:
    """Refuse what is no whole number from ``least`` to ``most``.

    Args:
        name: of the argument, for the message.
        value: as it was passed.
        least: the smallest that makes sense.
        most: the largest that does.

    Raises:
        UsageError: as it says.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        bounds = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise UsageError(f"{name} must be a whole number {bounds}, found {value!r}")
