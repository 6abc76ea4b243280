"""Floats to uint8: by a range that is declared, and a rule that has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import ImagesError, UnknownName, UsageError

CLAMPED = "values beyond the range clamped"  # a note of such images
RANGES = ((0.0, 1.0), (-1.0, 1.0))
# A generator may overshoot; beyond half a span more than the range, it is another range.
_SLACK = 0.5


def _save_image(unit: Tensor) -> Tensor:
    """As torchvision's ``save_image``: to the nearest level, halves upwards."""
    return unit * 255 + 0.5


def _truncate(unit: Tensor) -> Tensor:
    """As torchmetrics' ``(x * 255).byte()``: to the level below."""
    return unit * 255


def _stylegan(signed: Tensor) -> Tensor:
    """As StyleGAN's ``x * 127.5 + 128``."""
    return signed * 127.5 + 128


# From values in [0, 1], but StyleGAN's own in [-1, 1], to levels whose whole part is taken.
ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "save_image": _save_image,
    "truncate": _truncate,
    "stylegan": _stylegan,
}


@dataclass(frozen=True)
class FloatRange:
    """What floats mean, and how they become levels.

    Args:
        low: the value of black.
        high: the value of white.
        rounding: a name in :data:`ROUNDINGS`.

    Raises:
        UsageError: if the range is none of :data:`RANGES`, or the rule is not for it.
        UnknownName: if there is no such rule.

    >>> FloatRange(-1, 1).to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """

    low: float
    high: float
    rounding: str = "save_image"

    def __post_init__(self) -> None:
        if (self.low, self.high) not in RANGES:
            raise UsageError(f"the range of floats is (0, 1) or (-1, 1), found ({self.low:g}, {self.high:g})")
        if self.rounding not in ROUNDINGS:
            raise UnknownName("rounding", self.rounding, ROUNDINGS)
        if self.rounding == "stylegan" and self.low == 0:
            raise UsageError(
                "the rounding 'stylegan', x * 127.5 + 128, is for the range (-1, 1), found (0, 1)"
            )

    @classmethod
    def declared(cls, value_range: Any, rounding: str) -> FloatRange | None:
        """What a caller says that floats mean, ``(low, high)``; ``None`` if nothing is said, and none are taken.

        Raises:
            UsageError: if it is no range, or the rule is not for it.
            UnknownName: if there is no such rule, be it for nothing.
        """
        if rounding not in ROUNDINGS:
            raise UnknownName("rounding", rounding, ROUNDINGS)
        if value_range is None:
            return None
        try:
            low, high = map(float, value_range)
        except (TypeError, ValueError):
            raise UsageError(f"value_range is (0, 1) or (-1, 1), found {value_range!r}") from None
        return cls(low, high, rounding)

    def __str__(self) -> str:
        return f"float [{self.low:g}, {self.high:g}] to 8 bits by {self.rounding}"

    def to_uint8(self, values: Tensor) -> Tensor:
        """Values of any shape, images one after the other, to uint8; what lies beyond the range is clamped.

        Raises:
            ImagesError: if values are NaN, or so far beyond the range that it must be another.
        """
        # float16 and bfloat16 do not hold 256 levels.
        values = values if values.dtype == torch.float64 else values.float()
        require_numbers(values)
        slack = _SLACK * (self.high - self.low)
        least, most = (float(end) for end in values.aminmax())
        if not (self.low - slack <= least and most <= self.high + slack):
            raise ImagesError(
                f"floats from {least:g} to {most:g} were given, and the range declared is [{self.low:g}, {self.high:g}]"
                ": declare another with value_range=, or scale them"
            )
        if self.rounding != "stylegan" and self.low:
            values = (values - self.low) / (self.high - self.low)
        return ROUNDINGS[self.rounding](values).clamp(0, 255).to(torch.uint8)

    def beyond(self, images: Tensor) -> Tensor:
        """Which of ``[b, ...]`` images have values outside of the range, bool ``[b]``."""
        return ((images < self.low) | (images > self.high)).flatten(1).any(1)


def require_numbers(images: Tensor) -> None:
    """Refuse ``[b, ...]`` floating point images that hold NaN, whatever their range.

    Raises:
        ImagesError: names the first of them.
    """
    bad = images.isnan().reshape(len(images), -1).any(1).nonzero().flatten().tolist()
    if bad:
        raise ImagesError(
            f"{len(bad)} of the {len(images)} images given hold NaN, first #{bad[0]} of them: look at the "
            "generator, which may have diverged, or overflowed in half precision"
        )
