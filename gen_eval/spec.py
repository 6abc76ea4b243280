"""What produced a feature: resize, normalisation, network tensors, tap and precision, as one value.

Two features may be compared when, and only when, their specs are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gen_eval.errors import StoreError


@dataclass(frozen=True)
class Resize:
    """How an image of any size becomes a square one.

    Args:
        size: side of the square, in pixels.
        kernel: a name in :data:`gen_eval.resize.KERNELS`.
        fit: what becomes of the shape, a name in :data:`gen_eval.resize.FITS`: ``"whole"`` squashes the image,
            ``"shorter"`` brings its shorter side to ``scaled``, ``"square"`` cuts out its central square first.
        scaled: side, in pixels, that is resized to before the central square of ``size`` is cut out; 0 stands
            for ``size``, where nothing of a square is cut off.
    """

    size: int
    kernel: str
    fit: str = "whole"
    scaled: int = 0

    def __post_init__(self) -> None:
        if self.scaled == self.size:
            object.__setattr__(self, "scaled", 0)  # one resize, one value

    def __str__(self) -> str:
        if self == NO_RESIZE:
            return "no resize"
        what = {"whole": "", "shorter": " of the shorter side", "square": " of the central square"}[self.fit]
        cut = f", centre {self.size}" if self.scaled or self.fit == "shorter" else ""
        return f"{self.kernel}{what} to {self.scaled or self.size}{cut}"

    def to_json(self) -> dict[str, Any]:
        """The terms as plain data; those at their default are left out, as older files know nothing of them."""
        return {
            term.name: getattr(self, term.name)
            for term in fields(self)
            if getattr(self, term.name) != term.default
        }


NO_RESIZE = Resize(0, "none")  # of features that were not made from images here


@dataclass(frozen=True)
class Spec:
    """The identity of a feature extraction.

    Args:
        name: the extractor, such as ``"inception-2015-12-05"``.
        weights: fingerprint of the tensors that the tap depends on, whatever file they came from.
        resize: how images reach the input size.
        normalize: the affine map of pixels in [0, 255] before the network, such as ``"(x-128)/128"``.
        precision: arithmetic of the network, a name in :data:`gen_eval.precision.PRECISIONS`; and by whom, where
            others would round otherwise.
    """

    name: str
    weights: str
    resize: Resize
    normalize: str
    precision: str = "fp32"

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever any term does."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The terms as plain data, for files and result lines."""
        return {**asdict(self), "resize": self.resize.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """The inverse of :meth:`to_json`.

        Raises:
            StoreError: if terms are missing or unknown.
        """
        try:
            return cls(**{**data, "resize": Resize(**data["resize"])})
        except (KeyError, TypeError) as error:
            raise StoreError(f"not a spec: {data!r} ({error})") from error

    def differences(self, other: Spec) -> list[str]:
        """One line for each term in which two specs differ; empty when they are equal."""
        return [
            f"{term.name}: {getattr(self, term.name)} against {getattr(other, term.name)}"
            for term in fields(self)
            if getattr(self, term.name) != getattr(other, term.name)
        ]
