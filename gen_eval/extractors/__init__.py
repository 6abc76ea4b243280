"""The table of extractors, and the protocol that any extractor follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.extractors import efficientnet_lite, timm_models, torchvision_models
from gen_eval.extractors.custom import Custom
from gen_eval.extractors.inception import Inception
from gen_eval.extractors.network import Normalize
from gen_eval.extractors.pixels import Pixels
from gen_eval.extractors.vectors import Identity
from gen_eval.spec import Resize, Spec

__all__ = [
    "EXTRACTORS",
    "Custom",
    "Extractor",
    "Identity",
    "Inception",
    "Normalize",
    "Pixels",
    "find_extractor",
]


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


_FAMILY = ":NAME"
# Loaders, called with what :meth:`Inception.load` documents. Rows that end in :NAME are families, which
# are called with the model's name first and give its loader.
EXTRACTORS: dict[str, Callable[..., Any]] = {
    "inception": Inception.load,
    "dinov2": timm_models.load_dinov2,
    "clip": timm_models.load_clip,
    "vgg16": torchvision_models.load_vgg16,
    **{f"efficientnet-lite{variant}": efficientnet_lite.loader(variant) for variant in range(3)},
    f"torchvision{_FAMILY}": torchvision_models.find,
    f"timm{_FAMILY}": timm_models.find,
    "identity": Identity.load,
    "pixels": Pixels.load,
}
WITH_BACKENDS = ("inception",)  # whose loaders take ``backend``: what :mod:`.backends` has runs them too


def find_extractor(name: str) -> Callable[..., Extractor]:
    """The loader of an extractor, such as ``"inception"`` or ``"torchvision:resnet50"``.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
        UsageError: if it needs a package that is not installed.
    """
    if name in EXTRACTORS and not name.endswith(_FAMILY):
        return EXTRACTORS[name]
    family, _, model = name.partition(":")
    if model and family + _FAMILY in EXTRACTORS:
        loader: Callable[..., Extractor] = EXTRACTORS[family + _FAMILY](model)
        return loader
    raise UnknownName("extractor", name, EXTRACTORS)
