"""The table of extractors: what turns images into features, and the protocol that any of them follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.extractors.inception import Inception
from gen_eval.spec import Resize, Spec

__all__ = ["EXTRACTORS", "Extractor", "Inception", "load_extractor"]


class Extractor(Protocol):
    """Turns batches of images into features.

    Attributes:
        device: where batches are expected.
        resize: how images are to reach the input size.
        taps: the places that features can be read at, and their dimensions.
    """

    device: torch.device
    resize: Resize
    taps: Mapping[str, int]

    def spec(self, tap: str) -> Spec:
        """The identity of the features of a tap."""

    def __call__(self, images: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        """``[b, 3, size, size]`` float32 in [0, 255] to ``{tap: [b, d] float32}``."""
