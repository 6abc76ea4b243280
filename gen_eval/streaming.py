"""A set of images that comes batch by batch, where :mod:`gen_eval.passing` passes over one that lies somewhere."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gen_eval import resize
from gen_eval.errors import ImagesError, StoreError, UsageError
from gen_eval.images.arrays import NOTES, channel_axis
from gen_eval.images.floats import CLAMPED, FloatRange, require_numbers
from gen_eval.passing import Gather, Reading, Request, default_batch_size
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features, Moments, Sample, SampleStream, scrambled
from gen_eval.summary import Summary

_KEPT = 1 << 20  # numbers of an image whose weights are kept from one to the next: 16 MiB of them
_LANES = 2  # numbers of 64 bits in the fingerprint of an image
_CONTENTS = 2**256
_Waiting: TypeAlias = tuple[dict[Resize, Tensor], int]  # an image, prepared, and its place in the whole set


@dataclass(frozen=True)
class Tally:
    """What is known of some images of a set; tallies of one set add up.

    Args:
        n: number of images.
        content: the sum over images of a hash of index and pixels, modulo 2^256 (Bellare and Micciancio 1997): the
            same whatever the order, the batches and the processes.
        features: by the spec and tap that they were measured with; empty where there are no images.
        notes: how many images were changed on the way, by what changed.
        index: int64 ``[n]`` on the CPU, the places of the images in the whole set where the caller told them; else
            ``[0]``, and they come by turns.
    """

    n: int = 0
    content: int = 0
    features: Mapping[tuple[Spec, str], Features] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __add__(self, other: Tally) -> Tally:
        if not self.n or not other.n:
            return self if self.n else other
        if bool(len(self.index)) != bool(len(other.index)):
            raise UsageError("either all batches of a set come with index=, on every rank, or none")
        return Tally(
            self.n + other.n,
            (self.content + other.content) % _CONTENTS,
            {key: features + other.features[key] for key, features in self.features.items()},
            dict(Counter(self.notes) + Counter(other.notes)),
            torch.cat([self.index, other.index]),
        )

    def to(self, device: torch.device) -> Tally:
        """The same with its features on another device."""
        return replace(self, features={key: found.to(device) for key, found in self.features.items()})

    def summary(self, name: str, made_with: Mapping[str, str]) -> Summary:
        """The set as metrics take it, with the record of what it was made with.

        Raises:
            UsageError: if images came twice.
        """
        self._require_distinct(name)
        digest = hashlib.sha256(f"{self.n} {self.content:064x}".encode()).hexdigest()
        return Summary(name, digest, self.features, made_with, notes=self.notes)

    def state(self) -> dict[str, Any]:
        """Tensors and plain data, as ``torch.load`` takes them with ``weights_only``."""
        features = [
            {
                "spec": json.dumps(spec.to_json()),
                "tap": tap,
                "n": found.moments.n,
                "mean": found.moments.mean,
                "scatter": found.moments.scatter,
                "rows": found.sample.rows,
                "index": found.sample.index,
                "limit": found.sample.limit,
            }
            for (spec, tap), found in self.features.items()
            if found.sample is not None
        ]
        return {
            "n": self.n,
            "content": f"{self.content:x}",
            "notes": dict(self.notes),
            "index": self.index,
            "features": features,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], requests: Sequence[Request]) -> Tally:
        """The inverse of :meth:`state`.

        Args:
            state: what it gave.
            requests: whose features it must hold, if it holds images.

        Raises:
            StoreError: if something is missing, of another kind, or does not fit the rest.
        """
        try:
            features = {
                (Spec.from_json(json.loads(one["spec"])), str(one["tap"])): Features(
                    one["n"],
                    Moments(one["n"], one["mean"], one["scatter"]),
                    Sample(one["rows"], one["index"], one["limit"]),
                )
                for one in state["features"]
            }
            tally = cls(state["n"], int(state["content"], 16), features, dict(state["notes"]), state["index"])
            fits = tally._fits({key for request in requests for key in request.keys})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"this is no state of a monitor's images: {error!r}") from error
        if not fits:
            raise StoreError(
                f"this state of a monitor is damaged: its features are not those of the {tally.n} images it tells of"
            )
        return tally

    def _fits(self, keys: Set[tuple[Spec, str]]) -> bool:
        """Whether the numbers of images are one number, and the features those of the keys."""
        if self.n == 0:
            return not self.features
        return (
            self.features.keys() == keys
            and self.index.dtype == torch.int64
            and self.index.shape in [(0,), (self.n,)]
            and all(_holds(found, self.n) for found in self.features.values())
        )

    def _require_distinct(self, name: str) -> None:
        places, counts = torch.unique(self.index, return_counts=True)
        if len(repeated := places[counts > 1]):
            raise UsageError(
                f"{name} are {self.n:,}, and {len(repeated):,} of their indices came more than once, first "
                f"{int(repeated[0])}: each image counts once. DistributedSampler repeats some so that all ranks have "
                "equally many: share them by range(rank, n, world_size) instead, reset(), and feed them anew"
            )


class Stream:
    """Passes images through networks as they come, and keeps what metrics need of them.

    Networks see them in batches of one size, however they come, so that how they come moves nothing. Where one fails,
    the images that just came are not taken, and may come again.

    Args:
        name: what to call the set.
        requests: extractors and their taps.
        rows: the most feature rows to keep of each tap; ``None`` keeps all.
        batch_size: images that go through a network together; by default what suits the device.
        start: what is known already.
    """

    def __init__(
        self,
        name: str,
        requests: Sequence[Request],
        *,
        rows: int | None,
        batch_size: int | None = None,
        start: Tally | None = None,
    ) -> None:
        self.name = name
        self._resizes = {request.extractor.resize for request in requests}
        self._batch_size = batch_size or default_batch_size(requests)
        self._readings = [_reading(name, request, rows, start or Tally()) for request in requests]
        self._weights = _weights(0, torch.device("cpu"))  # of the last images' fingerprints
        self._seen = replace(start or Tally(), features={})
        self._pending: list[_Waiting] = []
        self._whole = True  # not while features are kept, here already and there not yet

    def __len__(self) -> int:
        return self._seen.n

    def add(
        self, images: Tensor, index: Tensor, floats: FloatRange | None = None, *, told: bool = False
    ) -> None:
        """Take in some images.

        Args:
            images: uint8 or floating point ``[b, c, h, w]`` or ``[b, h, w, c]`` with 1, 3 or 4 channels, on any device.
            index: int64 ``[b]`` on the CPU, their places in the whole set.
            floats: what floating point values mean.
            told: whether the caller told their places, which are kept then to find those that came twice.

        Raises:
            ImagesError: if they are of another type or shape, or floats without a meaning.
            NumericalError: if features are not finite.
            UsageError: if an error ended a call before while it kept features, or some places were told alone.
        """
        pixels, notes = _pixels(images, floats)
        marks = _fingerprints(pixels, self._weights_of(pixels))
        content = sum(_hash(place, mark) for place, mark in zip(index.tolist(), marks, strict=True))
        kept = index if told else index[:0]
        seen = self._seen + Tally(len(pixels), content % _CONTENTS, notes=notes, index=kept)
        came = list(zip(self._prepared(pixels), index.tolist(), strict=True))
        pending = self._pending + came
        self._pass_on(pending, len(pending) - len(pending) % self._batch_size, seen)

    def tally(self) -> Tally:
        """What is known of the images so far; more may come.

        Raises:
            NumericalError: if features are not finite.
            UsageError: if an error ended a call before while it kept features.
        """
        self._pass_on(self._pending, len(self._pending), self._seen)
        if not self._seen.n:
            return Tally()
        features = {key: found for reading in self._readings for key, found in reading.finish().items()}
        return replace(self._seen, features=features)

    def _weights_of(self, pixels: Tensor) -> Tensor:
        """Those of the last images where these are as large: at 224 x 224 they take 4 ms to make."""
        count = pixels[0].numel()
        if self._weights.shape[1] == count and self._weights.device == pixels.device:
            return self._weights
        weights = _weights(count, pixels.device)
        if count <= _KEPT:
            self._weights = weights
        return weights

    def _prepared(self, pixels: Tensor) -> list[dict[Resize, Tensor]]:
        on_tensors = {one for one in self._resizes if one.kernel in resize.TENSOR_KERNELS}
        prepared = [dict.fromkeys(on_tensors, image) for image in pixels]
        if on_host := self._resizes - on_tensors:  # Pillow's kernels run nowhere else
            for resizes, array in zip(prepared, pixels.cpu().numpy(), strict=True):
                for one in on_host:
                    resizes[one] = resize.prepare(array, one)
        return prepared

    def _pass_on(self, pending: list[_Waiting], count: int, seen: Tally) -> None:
        """Pass the first of the images that wait through the networks. Before the last has passed, nothing changes."""
        if not self._whole:
            raise UsageError(
                f"an error ended the feeding of {self.name} midway, and some are kept in part: reset(), or "
                "reset(real=True) for a reference, and feed them anew"
            )
        features = [
            self._features(pending[start : start + self._batch_size])
            for start in range(0, count, self._batch_size)
        ]
        self._whole = False
        for index, by_reading in features:
            for reading, found in zip(self._readings, by_reading, strict=True):
                reading.keep(found, index)
        self._pending, self._seen = pending[count:], seen
        self._whole = True

    def _features(self, batch: list[_Waiting]) -> tuple[Tensor, list[dict[str, Tensor]]]:
        images, places = zip(*batch, strict=True)
        return torch.tensor(places), [reading.features(images) for reading in self._readings]


def _reading(name: str, request: Request, rows: int | None, start: Tally) -> Reading:
    # It knows nothing of the stream: in a cycle the features would live on until the garbage is collected.
    def gather(tap: str) -> Gather:
        found = start.features.get((request.extractor.spec(tap), tap))
        if found is None:
            return Gather(name, _label, SampleStream(rows))
        found = found.to(request.extractor.device)
        return Gather(name, _label, SampleStream(rows, found.sample), found.moments)

    return Reading(request, {tap: gather(tap) for tap in request.taps})


def _label(index: int) -> str:
    """Name one image: ``"#17"``."""
    return f"#{index}"


def _holds(found: Features, n: int) -> bool:
    """Whether features are whole, and those of n images."""
    moments, sample = found.moments, found.sample
    assert sample is not None  # a stream keeps one, be it empty
    kept = n if sample.limit is None else min(n, sample.limit)
    return (
        moments.n == n
        and moments.scatter.shape == (moments.dim, moments.dim)
        and bool(moments.mean.isfinite().all())
        and sample.rows.is_floating_point()
        and sample.rows.shape == (kept, moments.dim)
        and sample.index.shape == (kept,)
    )


def _pixels(images: Tensor, floats: FloatRange | None) -> tuple[Tensor, dict[str, int]]:
    """RGB images ``[b, h, w, 3]`` uint8 of their own memory, and what was changed to get there."""
    if images.ndim != 4 or 0 in images.shape:
        raise ImagesError(
            f"found images of shape {list(images.shape)}: expected [b, 3, h, w], none of them empty"
        )
    axis = channel_axis(images.shape[1:], prefer_first=True, name="the batch")
    notes: dict[str, int] = {}
    if images.is_floating_point() and floats is not None:
        notes[str(floats)] = len(images)
        if beyond := int(floats.beyond(images).sum()):
            notes[CLAMPED] = beyond
        images = floats.to_uint8(images)
    if images.dtype != torch.uint8:
        raise _bad_type(images)
    pixels = images.permute(0, 2, 3, 1) if axis == 0 else images
    channels = pixels.shape[3]
    if note := NOTES[channels]:
        notes[note] = len(images)
    rgb = pixels.expand(-1, -1, -1, 3) if channels == 1 else pixels[..., :3]
    return rgb.clone(memory_format=torch.contiguous_format), notes


def _bad_type(images: Tensor) -> ImagesError:
    kind = str(images.dtype).removeprefix("torch.")
    if images.is_floating_point():
        require_numbers(images)
        least, most = (float(end) for end in images.aminmax())
        return ImagesError(
            f"{kind} images were given, from {least:g} to {most:g}, and nothing says what these values mean: declare "
            "value_range=(0, 1) or (-1, 1), and rounding= if they are not rounded as torchvision's save_image does"
        )
    return ImagesError(
        f"{kind} images were given; expected uint8 in [0, 255], or floats with value_range= declared"
    )


def _weights(count: int, device: torch.device) -> Tensor:
    """What the numbers of an image count for in its fingerprint, int64 ``[_LANES, count]``."""
    return scrambled(torch.arange(_LANES * count, device=device)).view(_LANES, -1)


def _fingerprints(pixels: Tensor, weights: Tensor) -> list[bytes]:
    """128 bits of each image's shape and pixels, worked out where the pixels are."""
    levels = (image.flatten().long() for image in pixels)
    # CUDA has no products of integers; on a CPU they take half the time of a sum, and no memory.
    sums = torch.stack([(weights * one).sum(1) if one.is_cuda else weights.mv(one) for one in levels])
    shape = repr(tuple(pixels.shape[1:]))
    return [f"{shape} {marks}".encode() for marks in sums.tolist()]


def _hash(index: int, mark: bytes) -> int:
    return int.from_bytes(hashlib.sha256(f"{index} ".encode() + mark).digest(), "big")
