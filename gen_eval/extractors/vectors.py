"""An extractor that extracts nothing: features that the user brings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import UnknownName, UsageError
from gen_eval.spec import NO_RESIZE, Spec

NAME = "identity"
_REFUSAL = (
    "the extractor identity takes features, rows of a [n, d] array, and no images: give it vectors, or see "
    "images through a network such as inception"
)


class Identity:
    """Vectors as they are; ``logits`` are vectors that a metric is to read as such.

    Args:
        dim: their dimension.
        device: where they are wanted.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        if dim < 1:
            raise UsageError(f"vectors have at least one dimension, found {dim}")
        self.device = torch.device(device)
        self.resize = NO_RESIZE
        self.taps: Mapping[str, int] = {"pool": dim, "logits": dim}

    @classmethod
    def load(cls, *, dim: int | None = None, device: torch.device | str = "cpu", **_: Any) -> Identity:
        """Features that you bring, as rows of a [n, d] array; no images, no network.

        Args:
            dim: their dimension.
            device: where they are wanted.

        Raises:
            UsageError: if there is no dimension, as with images.
        """
        if dim is None:
            raise UsageError(_REFUSAL)
        return cls(dim, device)

    def spec(self, tap: str) -> Spec:
        """The identity of the features: nothing is known of what made them."""
        if tap not in self.taps:
            raise UnknownName("tap of identity", tap, self.taps)
        return Spec(NAME, "none", NO_RESIZE, "x")

    def __call__(self, rows: Tensor, taps: Collection[str] = ("pool",)) -> dict[str, Tensor]:
        """``[b, d]`` to ``{tap: [b, d] float32}``.

        Raises:
            UsageError: if these are images, or vectors of another dimension.
        """
        for tap in taps:
            self.spec(tap)
        if rows.ndim != 2:
            raise UsageError(_REFUSAL)
        if rows.shape[1] != self.taps["pool"]:
            raise UsageError(f"expected vectors of {self.taps['pool']} dimensions, found {rows.shape[1]}")
        return {tap: rows.float() for tap in taps}
