"""Each stage of a measure by itself: decoding, resizing, the network, the moments and the distance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_eval import resize
from gen_eval.bench.flops import flops
from gen_eval.bench.overlap import Overlap, measure_overlap
from gen_eval.errors import CorruptImages, UsageError
from gen_eval.extractors import Extractor
from gen_eval.images import Broken, Decoded, Images
from gen_eval.metrics import Measure
from gen_eval.passing import DEFAULT_ROWS, Gather, Request, default_batch_size, summarize
from gen_eval.progress import Progress, silent
from gen_eval.protocols import Protocol
from gen_eval.stats import Features, SampleBuilder

DECODE, RESIZE, NETWORK, MOMENTS, DISTANCE = "decode", "resize", "network", "moments", "distance"
# Rows of each set, of which the distance is also measured: those that a pass over a large set keeps.
MANY = DEFAULT_ROWS


@dataclass(frozen=True)
class Stage:
    """What one stage took.

    Args:
        name: which one.
        n: images that went through it; of the distance, the rows of each set.
        seconds: for all of them together.
        gflop: a network's products and sums for one image, in billions; ``None`` where there are none.
        per_image: whether it is done for each image, and not once.
    """

    name: str
    n: int
    seconds: float
    gflop: float | None = None
    per_image: bool = True

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.n / self.seconds

    @property
    def milliseconds(self) -> float:
        """Milliseconds an image, or of a stage that is done once, of all of it."""
        return 1e3 * self.seconds / (self.n if self.per_image else 1)

    @property
    def gflops(self) -> float | None:
        """GFLOP/s, where the stage is a network."""
        return None if self.gflop is None else self.gflop * self.rate


def measure_stages(
    real: Images,
    fake: Images,
    extractor: Extractor,
    measure: Measure,
    protocol: Protocol,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    counted: Extractor | None = None,
    many: int | None = None,
    progress: Progress = silent,
) -> tuple[list[Stage], Overlap]:
    """Time each stage of a distance between two sets of images, one after the other, and one overlapped pass.

    Decoding runs on one thread; all else as it does in a pass, with the threads that are in force.

    Args:
        real: one set; the stages before the distance are timed on it.
        fake: the other.
        extractor: the network.
        measure: the distance.
        protocol: its parameters.
        batch_size: images that go through the network together; by default what suits the device.
        workers: decoding threads of the pass; by default what suits the machine.
        counted: the same network run by torch, which alone can count its products; by default the extractor itself.
        many: rows of each of the made-up sets whose distance is timed besides, by default :data:`MANY`; 0 for none.
        progress: told of the stages done, and of the images of the passes.

    Raises:
        UsageError: if there are fewer than two images.
        CorruptImages: if files are broken; names them.
    """
    if min(len(real), len(fake)) < 2:
        raise UsageError(f"found {len(real)} and {len(fake)} images: stages are timed on 2 or more a set")
    tap, many = measure.tap, MANY if many is None else many
    request = Request(extractor, (tap,))
    size = batch_size or default_batch_size([request])
    steps = 5 if many else 4
    progress("stages", 0, steps, "step")
    decoding, pixels = _decode(real)
    resizing, batches = _resize(pixels, extractor, size)
    progress("stages", 1, steps, "step")
    network, features = _network(batches, extractor, tap, flops(counted or extractor, tap))
    progress("stages", 2, steps, "step")
    moments, ours = _moments(real, features, extractor.device)
    theirs = summarize(fake, [request], batch_size=size, workers=workers, progress=progress)
    progress("stages", 3, steps, "step")
    sides = {"reference": ours, "generated": theirs.require(extractor.spec(tap), tap)}
    distances = [_distance(sides, measure, protocol)]
    progress("stages", 4, steps, "step")
    if many:
        distances.append(_distance(_made_up(many, extractor.taps[tap], extractor.device), measure, protocol))
        progress("stages", 5, steps, "step")
    overlap = measure_overlap(real, request, batch_size=size, workers=workers, progress=progress)
    return [decoding, resizing, network, moments, *distances], overlap


def _timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of one run, to the end of what a GPU was told, and what came of it."""
    wait: Callable[[], None] = (
        (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    )
    wait()
    start = time.perf_counter()
    made = work()
    wait()
    return time.perf_counter() - start, made


def _decode(images: Images) -> tuple[Stage, list[Any]]:
    """One by one, as a worker does it; the first one goes before the clock runs, and loads the reader of its format."""
    images.read([0])
    seconds, read = _timed(
        lambda: [images.read([index])[0] for index in range(len(images))], torch.device("cpu")
    )
    if broken := [(image.label, image.reason) for image in read if isinstance(image, Broken)]:
        raise CorruptImages(images.name, broken)
    return Stage(DECODE, len(read), seconds), [image.pixels for image in read if isinstance(image, Decoded)]


def _resize(pixels: Sequence[Any], extractor: Extractor, size: int) -> tuple[Stage, list[Tensor]]:
    """To batches on the network's device; one batch goes before the clock runs."""
    to = extractor.resize

    def batch(part: Sequence[Any]) -> Tensor:
        prepared = [resize.prepare(image, to) for image in part]
        return resize.finish(prepared, to, extractor.device)

    parts = [pixels[first : first + size] for first in range(0, len(pixels), size)]
    batch(parts[0])
    seconds, batches = _timed(lambda: [batch(part) for part in parts], extractor.device)
    return Stage(RESIZE, len(pixels), seconds), batches


def _network(
    batches: Sequence[Tensor], extractor: Extractor, tap: str, counted: int
) -> tuple[Stage, list[Tensor]]:
    """One batch goes before the clock runs: it prepares weights, memory and kernels."""
    extractor(batches[0], (tap,))
    seconds, features = _timed(lambda: [extractor(batch, (tap,))[tap] for batch in batches], extractor.device)
    n = sum(map(len, batches))
    return Stage(NETWORK, n, seconds, 1e-9 * counted if counted else None), features


def _moments(images: Images, features: Sequence[Tensor], device: torch.device) -> tuple[Stage, Features]:
    """Added up, and the rows kept, as in a pass."""
    n = len(images)

    def gather() -> Features:
        kept = Gather(
            images.name, images.label, SampleBuilder(n, features[0].shape[1], DEFAULT_ROWS, device, range(n))
        )
        first = 0
        for batch in features:
            kept.add(batch, torch.arange(first, first + len(batch)))
            first += len(batch)
        return kept.finish()

    gather()
    seconds, gathered = _timed(gather, device)
    return Stage(MOMENTS, n, seconds), gathered


def _distance(sides: dict[str, Features], measure: Measure, protocol: Protocol) -> Stage:
    """The metric itself, with its standard error and bias."""
    metric = measure.metric
    params = protocol.params_for(metric.name, metric.params)
    device = sides["reference"].moments.mean.device

    def compute() -> Any:
        return metric.compute(sides, **params)

    n = int(sides["reference"].n or 0)
    if n < MANY:  # so many take far longer than what a first run prepares
        compute()
    seconds, _ = _timed(compute, device)
    return Stage(DISTANCE, n, seconds, per_image=False)


def _made_up(n: int, dim: int, device: torch.device) -> dict[str, Features]:
    """Two sets of normal features with some correlation, of ``n`` rows each."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.eye(dim) + torch.randn(dim, dim, generator=generator) / dim**0.5
    rows = {role: torch.randn(n, dim, generator=generator) for role in ("reference", "generated")}
    rows["generated"] += 0.1
    return {role: Features.of((each @ mix).to(device)) for role, each in rows.items()}
