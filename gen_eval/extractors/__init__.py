"""The table of extractors, and the protocol that any extractor follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.extractors.inception import Inception
from gen_eval.extractors.pixels import Pixels
from gen_eval.spec import Resize, Spec

__all__ = ["EXTRACTORS", "Extractor", "Inception", "Pixels", "find_extractor"]


class Extractor(Protocol):
    """Turns batches of images into features.

    Attributes:
        device: where batches are expected.
        resize: how images are to reach the input size.
        taps: the places that features can be read at, and their dimensions; ``pool`` is the usual one.
    """

    device: torch.device
    resize: Resize
    taps: Mapping[str, int]

    def spec(self, tap: str) -> Spec:
        """The identity of the features of a tap."""

    def __call__(self, images: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        """``[b, 3, size, size]`` float32 in [0, 255] to ``{tap: [b, d] float32}``."""


# Loaders, called with what :meth:`Inception.load` documents.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {"inception": Inception.load, "pixels": Pixels.load}


def find_extractor(name: str) -> Callable[..., Extractor]:
    """The loader of an extractor.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
    """
    if name not in EXTRACTORS:
        raise UnknownName("extractor", name, EXTRACTORS)
    return EXTRACTORS[name]
