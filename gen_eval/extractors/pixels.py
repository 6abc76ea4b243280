"""An extractor without a network: the pixels of a small image. For tests, dry runs and sanity checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.spec import Resize, Spec

_SIZE = 8


class Pixels:
    """The pixels themselves, at 8x8, as 192 features in [0, 255].

    Args:
        resize: name of the kernel that brings images to 8 pixels.
        device: where features are wanted.
    """

    def __init__(self, *, resize: str = "tf1-bilinear", device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.resize = Resize(_SIZE, resize)
        self.taps: Mapping[str, int] = {"pool": 3 * _SIZE * _SIZE}

    @classmethod
    def load(cls, *, resize: str = "tf1-bilinear", device: torch.device | str = "cpu", **_: Any) -> Pixels:
        """The pixels of a small image, no network; what networks need is ignored."""
        return cls(resize=resize, device=device)

    def spec(self, tap: str) -> Spec:
        """The identity of the features."""
        if tap not in self.taps:
            raise UnknownName("tap of pixels", tap, self.taps)
        return Spec("pixels", "none", self.resize, "x")

    def __call__(self, images: Tensor, taps: Collection[str] = ("pool",)) -> dict[str, Tensor]:
        """``[b, 3, 8, 8]`` to ``{"pool": [b, 192]}``."""
        return {tap: images.flatten(1).contiguous() for tap in taps}
