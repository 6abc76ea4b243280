"""The one pass: each image is decoded once, resized once a distinct resize, and sent once a network."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from gen_eval import resize
from gen_eval.errors import ImagesError, NumericalError, UsageError
from gen_eval.extractors import Extractor, Inception
from gen_eval.images import Chunk, Images, stream
from gen_eval.images.protocol import Pixels
from gen_eval.progress import Progress, silent
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features, Moments, Sample, SampleBuilder
from gen_eval.summary import Part, Summary, made_with
from gen_eval.threads import cores
from gen_eval.transfer import Pace

# Rows gathered before they are added to the moments: a rank-one update at a time would be all overhead. Of 2,048
# features they take a quarter less time by 2,048 than by 1,024, and by 4,096 a tenth less again but 300 MiB more; of
# few features the same. A GPU, which is waited for then, gathers more.
_BLOCK, _BLOCK_ON_GPU = 2048, 4096
# Images that a thread decodes at a time, and bytes of them that are held until there are enough for the network: where
# its device resizes them they wait whole.
_PORTION, _PORTION_FOR_GPU, _HELD = 8, 64, 2**26
_SMALL = 32  # side of the images whose features are small, in pixels
_MOST = 64  # images that go through the networks together by default
_LOG = logging.getLogger(__name__)
DEFAULT_ROWS = 10_000
_Prepared: TypeAlias = dict[Resize, Tensor]  # an image as each of the resizes wants it


@dataclass(frozen=True)
class Request:
    """What to read from one extractor in a pass."""

    extractor: Extractor
    taps: tuple[str, ...]

    @property
    def keys(self) -> list[tuple[Spec, str]]:
        """The spec and tap of each feature, as a summary has them."""
        return [(self.extractor.spec(tap), tap) for tap in self.taps]


def summarize(
    images: Images,
    requests: Sequence[Request],
    *,
    rows: int | None = DEFAULT_ROWS,
    part: range | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    skip_corrupt: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Pass over a set of images once and keep what metrics need of it.

    Args:
        images: the set.
        requests: extractors and their taps.
        rows: the most feature rows to keep of each tap; ``None`` keeps all.
        part: the images to pass over; ``None`` for all. Summaries of parts are joined by
            :func:`gen_eval.merging.merge`.
        batch_size: images that go through the network together; by default what suits the device. It changes
            results by float rounding only.
        workers: decoding threads; by default what suits the machine.
        skip_corrupt: leave broken files out instead of stopping.
        progress: told of images as they are done.

    Raises:
        CorruptImages: if files are broken and ``skip_corrupt`` is false.
        ImagesError: if no image is left.
        NumericalError: if features are not finite.
    """
    resizes = {request.extractor.resize for request in requests}

    def prepare(pixels: Pixels) -> _Prepared:
        return {one: resize.prepare(pixels, one) for one in resizes}

    wanted = range(len(images)) if part is None else part

    def sample(request: Request, tap: str) -> SampleBuilder:
        dim, device = request.extractor.taps[tap], request.extractor.device
        return SampleBuilder(len(images), dim, rows, device, wanted)

    readings = [
        Reading(
            request, {tap: Gather(images.name, images.label, sample(request, tap)) for tap in request.taps}
        )
        for request in requests
    ]
    digest, notes, skipped, done = hashlib.sha256(), Counter[str](), list[tuple[str, str]](), 0
    contents: list[bytes] = []
    portions = stream(
        images,
        wanted,
        batch_size=batch_size or (_PORTION if _on_cpu(requests) else _PORTION_FOR_GPU),
        workers=default_workers() if workers is None else workers,
        prepare=prepare,
        skip_corrupt=skip_corrupt,
    )
    progress(images.name, 0, len(wanted), "image")
    # An error that ends the pass ends its threads too, which would else live until the error is collected.
    with closing(portions):
        for chunk in _batches(portions, batch_size or default_batch_size(requests)):
            if chunk.items:
                for reading in readings:
                    reading.add(chunk.items, chunk.index)
            digest.update(b"".join(chunk.digests))
            contents += chunk.digests if part is not None else ()
            notes += chunk.notes
            skipped += chunk.broken
            done += len(chunk.items) + len(chunk.broken)
            progress(images.name, done, len(wanted), "image")
    if len(skipped) == len(wanted):
        raise ImagesError(
            f"none of the {len(wanted)} images of {images.name} can be decoded: {skipped[0][1]}"
        )
    return Summary(
        name=images.name,
        digest=digest.hexdigest(),
        features={key: features for reading in readings for key, features in reading.finish().items()},
        made_with=made_with(requests[0].extractor.device, [request.extractor for request in requests]),
        skipped=tuple(skipped),
        notes=dict(notes),
        part=None if part is None else Part(part.start, part.stop, len(images), b"".join(contents)),
    )


def _batches(portions: Iterable[Chunk[_Prepared]], most: int) -> Iterator[Chunk[_Prepared]]:
    """Portions put together, until they are so many images or take much memory."""
    held: list[Chunk[_Prepared]] = []
    count = taken = 0
    for portion in portions:
        if held and count + len(portion.items) > most:  # the images of some portions are broken
            yield Chunk.joined(held)
            held, count, taken = [], 0, 0
        held.append(portion)
        count += len(portion.items)
        taken += sum(image.nbytes for prepared in portion.items for image in prepared.values())
        if count >= most or taken >= _HELD:
            yield Chunk.joined(held)
            held, count, taken = [], 0, 0
    if held:
        yield Chunk.joined(held)


class Sampling(Protocol):
    """Where feature rows are kept as they come."""

    def put(self, rows: Tensor, index: Tensor) -> None:
        """Keep those of the ``[b, d]`` rows of images ``index`` that belong to the sample."""

    def finish(self) -> Sample:
        """The sample so far."""


class Reading:
    """One extractor's part of a pass.

    Args:
        request: the extractor and its taps.
        gathers: by tap, where features go.
    """

    def __init__(self, request: Request, gathers: Mapping[str, Gather]) -> None:
        self._extractor = request.extractor
        self._gathers = gathers
        self._pace = Pace(request.extractor.device)
        self._together = 0  # images that fit through it together, where that was seen; else 0

    def add(self, prepared: Sequence[Mapping[Resize, Tensor]], index: Tensor) -> None:
        """Pass images through the network together, and keep their features."""
        self.keep(self.features(prepared), index)

    def features(self, prepared: Sequence[Mapping[Resize, Tensor]]) -> dict[str, Tensor]:
        """What the network says of images, as :func:`gen_eval.resize.prepare` left them: ``[b, d]`` by tap.

        Where they do not fit in the memory of the device together, they go in halves, as do those that come later.

        Raises:
            UsageError: if a single one does not fit.
        """
        while True:
            size = self._together or len(prepared)
            try:
                parts = [self._of(prepared[start : start + size]) for start in range(0, len(prepared), size)]
            except RuntimeError as error:
                if not _is_lack_of_room(error):
                    raise
                self._fewer(min(size, len(prepared)), error)
            else:
                self._pace.step()
                return {tap: torch.cat([part[tap] for part in parts]) for tap in self._gathers}

    def _of(self, prepared: Sequence[Mapping[Resize, Tensor]]) -> dict[str, Tensor]:
        wanted = self._extractor.resize
        batch = resize.finish([image[wanted] for image in prepared], wanted, self._extractor.device)
        return self._extractor(batch, tuple(self._gathers))

    def _fewer(self, size: int, error: RuntimeError) -> None:
        name, device = self._extractor.spec(next(iter(self._gathers))).name, self._extractor.device
        if size == 1:
            raise UsageError(
                f"not even one image goes through {name} in the memory that is free on {device}: free some there, or "
                "measure on the CPU, with --device cpu (device='cpu')"
            ) from error
        self._together = size // 2
        _LOG.warning(
            "%d images do not fit through %s together in the memory of %s: it takes %d from here on, which moves "
            "numbers by rounding only",
            *(size, name, device, self._together),
        )

    def keep(self, features: Mapping[str, Tensor], index: Tensor) -> None:
        """Take in the features, ``[b, d]`` by tap, of images ``index``."""
        for tap, gather in self._gathers.items():
            gather.add(features[tap], index)

    def finish(self) -> dict[tuple[Spec, str], Features]:
        """The features so far; more may come."""
        return {(self._extractor.spec(tap), tap): gather.finish() for tap, gather in self._gathers.items()}


def _is_lack_of_room(error: RuntimeError) -> bool:
    """Whether a GPU said, in one of its ways, that its memory or the pinned one does not hold more."""
    ways = ("out of memory", "unable to find an engine", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(way in str(error) for way in ways)


class Gather:
    """The features of one tap, as they come.

    Args:
        name: what the set is called.
        label: names one of its images by its index.
        sample: keeps rows of them.
        moments: to go on from.
    """

    def __init__(
        self, name: str, label: Callable[[int], str], sample: Sampling, moments: Moments | None = None
    ) -> None:
        self._name, self._label = name, label
        self._moments = moments
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._waiting = 0  # rows of these
        self._sample = sample

    def add(self, features: Tensor, index: Tensor) -> None:
        """Take in the features ``[b, d]`` of images ``index``."""
        self._sample.put(features, index)
        self._pending.append((features, index))
        self._waiting += len(features)
        if self._waiting >= (_BLOCK_ON_GPU if features.is_cuda else _BLOCK):
            self._flush()

    def finish(self) -> Features:
        """The features so far; more may come."""
        self._flush()
        assert self._moments is not None  # nobody asks before the first image
        return Features(self._moments.n, self._moments.symmetric(), self._sample.finish())

    def _flush(self) -> None:
        if not self._pending:
            return
        rows, index = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        try:
            block = Moments.of(rows)
        except NumericalError as error:
            bad = index[~rows.isfinite().all(1).cpu()]
            raise NumericalError(
                f"the features of {len(bad)} images of {self._name} are NaN or infinite, first those of "
                f"{self._label(int(bad[0]))}: check that image, and the extractor's weights"
            ) from error
        self._moments = block if self._moments is None else self._moments + block
        self._pending.clear()
        self._waiting = 0


def default_batch_size(requests: Sequence[Request]) -> int:
    """Images that go through the networks together: on a CPU few, whose features stay in its cache.

    In bf16, of half the size, more stay there. Of
    images of up to 32 pixels more stay there: small networks take 6 to 60 % less time an image by 32 than by 8, and a
    ResNet-18 for CIFAR 3 % less. Where each core has images of its own, as in Inception, it is 8 for each, and 4 where
    there are more than 8 cores.
    """
    if not _on_cpu(requests):
        return _MOST
    if all(request.extractor.resize.size <= _SMALL for request in requests):
        return 32
    few = 16 if any(spec.precision == "bf16" for request in requests for spec, _ in request.keys) else 8
    if not any(isinstance(one.extractor, Inception) and one.extractor.by_core for one in requests):
        return few
    cores = torch.get_num_threads()
    size = cores * (8 if cores <= 8 else 4)
    return max(few, size) if size <= _MOST and size % _PORTION == 0 else few


def _on_cpu(requests: Sequence[Request]) -> bool:
    return all(request.extractor.device.type == "cpu" for request in requests)


def default_workers() -> int:
    """Decoding threads that keep a network fed: the cores at hand, and no more than helps."""
    return min(cores(), 16)
