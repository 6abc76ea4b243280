"""What single images contribute to a value: the parts of its error, by which two values of one set are paired.

A contribution is how much an image raises the value to first order. Over a set they add up to the part of the value's
variance that the draw of the set accounts for, and the products of two values' contributions to their covariance
(Hampel 1974). All images of a set are too many for a line of JSON: there go a few hundred, drawn alike whoever draws.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gen_eval.stats import scrambled

Contributions = Mapping[str, tuple[Tensor, Tensor]]  # by role, image indices [k] and contributions [k]

_KEPT = 256  # images: a correlation r is then known to (1 - r^2) / 16
# A covariance of fewer images than this tells nothing.
_FEWEST = 30
# Contributions that say more than this of the error's square are no first-order parts of it.
_ROUGHLY_ALL = 1.1
_PACKED = np.dtype([("index", "<u4"), ("contribution", "<f4")])


def explained(contributions: Contributions, sizes: Mapping[str, int | None], error: float | None) -> bool:
    """Whether they are parts of the error.

    Args:
        contributions: of all sets behind a value.
        sizes: number of images of each set, where it is known.
        error: the standard error of the value.
    """
    total = sum(
        _covariance(numbers, numbers, sizes[role] or len(numbers))
        for role, (_, numbers) in contributions.items()
    )
    return total <= _ROUGHLY_ALL * (error or 0.0) ** 2


def covariance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], n: int) -> float | None:
    """Of two values by the draw of one set, from the images whose contributions both know.

    Args:
        a: indices ``[k]`` of images and what each contributes to the one value, ``[k]``.
        b: those to the other.
        n: number of images in the set.

    Returns:
        The covariance; ``None`` where too few images are known of both.
    """
    sides = [_in_order(*each) for each in (a, b)]
    common = [torch.isin(index, other) for (index, _), (other, _) in (sides, sides[::-1])]
    x, y = (numbers[kept] for (_, numbers), kept in zip(sides, common, strict=True))
    return _covariance(x, y, n) if len(x) >= min(_FEWEST, n) else None


def packed(index: Tensor, numbers: Tensor) -> str:
    """Some contributions as text: of at most 256 images, scaled so that their variance is that of all.

    The images are those of the smallest scrambled indices, so two values of one set keep the same. With variances as
    they were, what is lost of a covariance is what a few images do not tell of the correlation.
    """
    index, numbers = _in_order(index, numbers)
    kept = scrambled(index).argsort()[:_KEPT].sort().values
    few = numbers[kept] - numbers[kept].mean()
    variance = float(few.var()) if len(few) > 1 else 0.0
    scale = math.sqrt(float(numbers.var()) / variance) if variance else 0.0
    rows = np.empty(len(kept), _PACKED)
    rows["index"], rows["contribution"] = index[kept].numpy(), (scale * few).numpy()
    return base64.b64encode(rows.tobytes()).decode("ascii")


def unpacked(text: str) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`packed`: indices and contributions of the images that it kept.

    Raises:
        ValueError: if it is no such text.
    """
    rows = np.frombuffer(base64.b64decode(text, validate=True), _PACKED)
    index, numbers = (
        torch.from_numpy(rows[name].astype(to)) for name, to in (("index", "i8"), ("contribution", "f8"))
    )
    if not bool(numbers.isfinite().all()):
        raise ValueError("contributions that are not finite")
    return index, numbers


def _covariance(x: Tensor, y: Tensor, n: int) -> float:
    return n / (len(x) - 1) * float((x - x.mean()) @ (y - y.mean()))


def _in_order(index: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    order = index.cpu().argsort()
    return index.cpu()[order], numbers.cpu()[order].double()
