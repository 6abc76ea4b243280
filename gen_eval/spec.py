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
    """

    size: int
    kernel: str

    def __str__(self) -> str:
        return f"{self.kernel} to {self.size}"


@dataclass(frozen=True)
class Spec:
    """The identity of a feature extraction.

    Args:
        name: the extractor, such as ``"inception-2015-12-05"``.
        weights: fingerprint of the tensors that the tap depends on, whatever file they came from.
        resize: how images reach the input size.
        normalize: the affine map of pixels in [0, 255] before the network, such as ``"(x-128)/128"``.
        precision: arithmetic of the network: ``"fp32"`` means float32 without TF32.
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
        return asdict(self)

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
