"""The overlapped pass over images: read, decode and prepare in threads while the consumer computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

from gen_eval.errors import CorruptImages
from gen_eval.images.decode import quiet_pillow
from gen_eval.images.protocol import Broken, Decoded, Images, Pixels
from gen_eval.threads import in_order

T = TypeVar("T")


@dataclass
class Chunk(Generic[T]):
    """Consecutive images of a pass, less those that are broken.

    Attributes:
        index: int64 [b], which images these are.
        items: what ``prepare`` made of each.
        digests: sha256 of each.
        notes: how many images decoding changed, by what it changed.
        broken: ``(label, reason)`` of the files left out.
    """

    index: torch.Tensor
    items: list[T]
    digests: list[bytes]
    notes: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def joined(cls, chunks: Sequence[Chunk[T]]) -> Chunk[T]:
        """Chunks that follow one another as one."""
        return cls(
            torch.cat([chunk.index for chunk in chunks]),
            [item for chunk in chunks for item in chunk.items],
            [digest for chunk in chunks for digest in chunk.digests],
            sum((chunk.notes for chunk in chunks), Counter[str]()),
            [broken for chunk in chunks for broken in chunk.broken],
        )


@dataclass(frozen=True)
class _Prepared(Generic[T]):
    index: int
    item: T
    digest: bytes
    note: str | None


def stream(
    images: Images,
    indices: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    prepare: Callable[[Pixels], T],
    skip_corrupt: bool,
) -> Generator[Chunk[T], None, None]:
    """Pass over images, in order, at most ``workers + 2`` chunks ahead of the consumer.

    ``prepare`` runs in worker threads. So does reading where ``images.thread_safe``; elsewhere it stays
    on the calling thread, ahead of the workers. Threads end with the iteration, however it ends.

    Args:
        images: where pixels come from.
        indices: which images, in which order.
        batch_size: images in a chunk; the last one may be smaller.
        workers: number of threads; 0 does everything on the calling thread.
        prepare: uint8 [h, w, 3] to whatever is wanted of it, such as its resizes.
        skip_corrupt: leave broken files out instead of raising.

    Yields:
        The chunks; one may be empty where all of its files are broken.

    Raises:
        CorruptImages: if files are broken and ``skip_corrupt`` is false; names all that are known by then.
    """
    broken: list[tuple[str, str]] = []

    def chunks() -> Iterator[Sequence[int]]:
        for start in range(0, len(indices), batch_size):
            if broken:  # the chunks under way are finished, for what else is broken in them
                return
            yield indices[start : start + batch_size]

    with quiet_pillow(), closing(_outcomes(images, chunks(), workers, prepare)) as results:
        for outcomes in results:
            chunk = _gather(outcomes)
            if not skip_corrupt:
                broken += chunk.broken
            if not broken:
                yield chunk
    if broken:
        raise CorruptImages(images.name, broken)


def _outcomes(
    images: Images, chunks: Iterable[Sequence[int]], workers: int, prepare: Callable[[Pixels], T]
) -> Generator[list[_Prepared[T] | Broken], None, None]:
    def finish(index: int, outcome: Decoded | Broken) -> _Prepared[T] | Broken:
        if isinstance(outcome, Broken):
            return outcome
        return _Prepared(index, prepare(outcome.pixels), outcome.digest, outcome.note)

    if images.thread_safe:
        # One image at a time: where `prepare` resizes, the full-size pixels of a chunk are never in memory together.
        return in_order(lambda index: finish(index, images.read([index])[0]), chunks, workers)
    read = (list(zip(chunk, images.read(chunk), strict=True)) for chunk in chunks)
    return in_order(lambda pair: finish(*pair), read, workers)


def _gather(outcomes: Iterable[_Prepared[T] | Broken]) -> Chunk[T]:
    good = [outcome for outcome in outcomes if isinstance(outcome, _Prepared)]
    return Chunk(
        index=torch.tensor([image.index for image in good], dtype=torch.int64),
        items=[image.item for image in good],
        digests=[image.digest for image in good],
        notes=Counter(image.note for image in good if image.note),
        broken=[(bad.label, bad.reason) for bad in outcomes if isinstance(bad, Broken)],
    )
