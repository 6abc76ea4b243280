"""What is known of a set of images, and the record of what it was made with."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata

import torch

from gen_eval.errors import IncomparableError
from gen_eval.extractors import Extractor
from gen_eval.spec import Spec
from gen_eval.stats import Features


@dataclass(frozen=True)
class Part:
    """Which images of a set were measured, where not all of them were.

    Args:
        first: the first image.
        stop: the image after the last.
        total: number of images of the whole set.
        contents: the sha256 of each image that could be read, 32 bytes each, in order: with those of the other
            parts they give the digest of the whole.
    """

    first: int
    stop: int
    total: int
    contents: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"images {self.first + 1:,} to {self.stop:,} of {self.total:,}"


@dataclass(frozen=True)
class Summary:
    """What is known of a set of images.

    Args:
        name: what the user called the set.
        digest: sha256 over the content of its images in order; empty if it came without.
        features: by the spec and tap that they were measured with.
        made_with: versions and device, for the record.
        skipped: ``(label, reason)`` of the files left out as corrupt.
        notes: how many images decoding changed, by what it changed.
        claimed: whether the spec is only what the user says, as with files of other tools.
        part: which images these are, where they are a part of a set.
        file: what it was read from, for messages; empty where that goes without saying.
    """

    name: str
    digest: str
    features: Mapping[tuple[Spec, str], Features]
    made_with: Mapping[str, str]
    skipped: Sequence[tuple[str, str]] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    claimed: bool = False
    part: Part | None = None
    file: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """What to call it in messages: by its file, where it has one, and the set that this is of."""
        return f"{self.file}, statistics of {self.name}," if self.file else f"the statistics of {self.name}"

    def to(self, device: torch.device) -> Summary:
        """The same with its features on another device."""
        return replace(self, features={key: features.to(device) for key, features in self.features.items()})

    def cut(self, rows: int | None) -> Summary:
        """The same with at most so many feature rows of each tap; ``None`` for all that there are."""
        return replace(self, features={key: features.cut(rows) for key, features in self.features.items()})

    def require(self, spec: Spec, tap: str) -> Features:
        """The features measured on exactly these terms.

        Raises:
            IncomparableError: if there are none; names each term that differs, and the cure.
        """
        if (spec, tap) in self.features:
            return self.features[spec, tap]
        lines = [f"{self.title} were not measured on the terms asked for ({spec.name}, {tap}):"]
        for other, other_tap in self.features:
            differences = other.differences(spec)
            if other_tap != tap:
                differences.append(f"tap: {other_tap} against {tap}")
            lines += [f"  {difference}" for difference in differences]
        cure = "Measure both sets under one protocol: choose that of the statistics with --protocol"
        if spec.name not in [other.name for other, _ in self.features]:
            cure = "Look through the network that they are of: choose it with --extractor, or as in fd:dinov2"
        raise IncomparableError("\n".join([*lines, f"{cure}, or make them anew with `geneval stats`."]))


def all_made_with(summaries: Iterable[Summary]) -> dict[str, str]:
    """Versions and devices that summaries were made with; several where they differ."""
    found: dict[str, dict[str, None]] = {}
    for summary in summaries:
        for what, version in summary.made_with.items():
            found.setdefault(what, {})[version] = None
    return {what: ", ".join(versions) for what, versions in found.items()}


@cache
def _versions() -> Mapping[str, str]:
    """Of the packages that numbers depend on; read once, as it takes 4 ms of files."""
    return {name: metadata.version(name) for name in ("gen_eval", "torch", "numpy", "scipy", "pillow")}


def made_with(device: torch.device, extractors: Iterable[Extractor] = ()) -> dict[str, str]:
    """Versions, device and what ran the networks, which may move a number by rounding and are recorded with it."""
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    backends = dict.fromkeys(filter(None, (getattr(one, "backend", None) for one in extractors)))
    return {
        **_versions(),
        "device": f"{device.type} ({on})",
        **({"backend": ", ".join(backends)} if backends else {}),
    }
