"""How well the stages overlap: when the network runs in a real pass, and when it waits."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gen_eval.extractors import Extractor
from gen_eval.images import Images
from gen_eval.passing import Request, summarize
from gen_eval.progress import Progress, silent


@dataclass(frozen=True)
class Overlap:
    """Where the time of a pass went, as the network sees it.

    Args:
        n: images of the pass.
        seconds: from its beginning to the last of its batches.
        network_s: of them, seconds that the network ran.
        waiting_s: seconds from the end of one batch to the beginning of the next one's network: the images had to
            be decoded or resized.
    """

    n: int
    seconds: float
    network_s: float
    waiting_s: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.n / self.seconds

    @property
    def idle(self) -> float:
        """The share of the time that the network waited for images."""
        return self.waiting_s / self.seconds

    @property
    def busy(self) -> float:
        """The share of the time that the network ran; the rest went into features that are added up and kept."""
        return self.network_s / self.seconds


def measure_overlap(
    images: Images,
    request: Request,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Overlap:
    """Pass over images as every verb does, and see when the network runs.

    On a GPU the moments are those at which the device gets there, not those at which it is told to go.

    Args:
        images: the set.
        request: the network and its taps.
        batch_size: as in :func:`gen_eval.passing.summarize`.
        workers: likewise.
        progress: told of images as they are done.
    """
    clock = _Clock(request.extractor.device)
    watched = _Watched(request.extractor, clock)
    ends: list[Any] = []

    def see(task: str, done: int, total: int | None, unit: str) -> None:
        ends.append(clock.mark())
        progress(task, done, total, unit)

    summarize(images, [Request(watched, request.taps)], batch_size=batch_size, workers=workers, progress=see)
    return overlap_of(
        len(images), clock.seconds(ends), clock.seconds(watched.begun), clock.seconds(watched.done)
    )


def overlap_of(n: int, ends: Sequence[float], begun: Sequence[float], done: Sequence[float]) -> Overlap:
    """The account of a pass, by the seconds at which things happened.

    Args:
        n: images of the pass.
        ends: the beginning of the pass, and the end of each batch.
        begun: when the network began each batch.
        done: when it was done.

    >>> overlap_of(2, ends=[0.0, 4.0, 10.0], begun=[1.0, 7.0], done=[3.0, 9.0])
    Overlap(n=2, seconds=10.0, network_s=4.0, waiting_s=4.0)
    """
    waiting = sum(start - end for end, start in zip(ends, begun, strict=False))
    return Overlap(n, ends[-1] - ends[0], sum(done) - sum(begun), waiting)


class _Clock:
    """Moments on a device: those of the processor, or those at which a GPU has done all it was told before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._first: Any = None

    def mark(self) -> Any:
        """Now."""
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._first = self._first or event
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """The moments in seconds, from whatever beginning."""
        if self._device.type != "cuda":
            return list(marks)
        torch.cuda.synchronize(self._device)
        return [1e-3 * self._first.elapsed_time(mark) for mark in marks]


@dataclass
class _Watched:
    """An extractor that notes when it begins and when it is done; in all else the one within."""

    within: Extractor
    clock: _Clock
    begun: list[Any] = field(default_factory=list)
    done: list[Any] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.within, name)

    def __call__(self, images: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        begun = self.clock.mark()
        features = self.within(images, taps)
        self.begun.append(begun)
        self.done.append(self.clock.mark())
        return features
