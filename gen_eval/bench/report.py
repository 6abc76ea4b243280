"""The whole benchmark: the machine's limit, the stages and their share of it, and the peers beside ours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gen_eval.bench.limits import Rate, best_gemm, device_name, measure_limits
from gen_eval.bench.overlap import Overlap
from gen_eval.bench.pictures import write_folder
from gen_eval.bench.races import (
    LIBRARIES,
    PEERS,
    Run,
    commands_of,
    installed,
    prepare_peers,
    race,
    standings,
    tools_of,
)
from gen_eval.bench.recording import machine, version
from gen_eval.bench.stages import NETWORK, Stage, measure_stages
from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import Extractor
from gen_eval.extractors.backends import TORCH
from gen_eval.extractors.inception_weights import WEIGHTS
from gen_eval.fetch import fetch
from gen_eval.images import open_images
from gen_eval.metrics import Measure, find_measure
from gen_eval.planning import load_extractors, pick_device
from gen_eval.progress import Progress, silent
from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
from gen_eval.threads import cores

INCEPTION = "inception"  # what the peers look through
# The numbers that a network multiplies, by the precision that it is asked for.
_NUMBERS = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16"}
_USUAL = ("fp32", TORCH)  # what ours needs no word for


@dataclass(frozen=True)
class Settings:
    """What is benchmarked.

    Args:
        images: made up, of each of the two sets.
        size: pixels a side.
        format: a key of :data:`gen_eval.bench.pictures.FORMATS`.
        rounds: how often each process of the comparison runs.
        peers: those to compare with; ``None`` for all that are installed.
        seconds: how long each rate of the machine is measured, at least.
        extractor: the network; peers look through Inception alone.
        protocol: under which the stages are measured. Beside a peer ours follows that peer's.
        weights: a local file, or files by extractor; by default the cached or fetched ones.
        precision: of our network.
        backend: what runs it, a name in :data:`gen_eval.extractors.backends.BACKENDS`.
        device: ``cpu``, ``cuda`` or ``cuda:N``; CUDA by default where there is one.
        offline: never touch the network.
        batch_size: of the stages; by default what suits the device.
        workers: decoding threads of the pass; by default what suits the machine.
    """

    images: int = 128
    size: int = 256
    format: str = "jpg"
    rounds: int = 3
    peers: tuple[str, ...] | None = None
    seconds: float = 0.5
    extractor: str = INCEPTION
    protocol: str = DEFAULT_PROTOCOL
    weights: str | Path | Mapping[str, str | Path] | None = None
    precision: str = "fp32"
    backend: str = TORCH
    device: str | None = None
    offline: bool | None = None
    batch_size: int | None = None
    workers: int | None = None

    @property
    def arithmetic(self) -> str:
        """The precision of our network, and what runs it where that is not torch."""
        return self.precision if self.backend == TORCH else f"{self.precision} by {self.backend}"

    @property
    def set(self) -> str:
        """What the made-up sets are called, such as ``jpg256``."""
        return f"{self.format}{self.size}"


@dataclass(frozen=True)
class Row:
    """One number of a report, for a file of them.

    Args:
        section: ``limit``, ``stage``, ``pass``, or ``process``.
        name: what was measured.
        setting: on what terms.
        value: the number.
        unit: its unit.
    """

    section: str
    name: str
    setting: str
    value: float
    unit: str


@dataclass(frozen=True)
class Report:
    """What came out.

    Args:
        settings: what was asked for.
        device: where the network ran: ``cpu``, or what the GPU is called.
        threads: that torch ran it with on the processor; 0 on a GPU.
        resize: how images came to the network's size.
        limits: the machine's rates.
        stages: one by one.
        overlap: one real pass.
        runs: every process of the comparison; empty if there was none.
        absent: peers that are not installed.
        failed: by contestant, why it did not get to a value.
    """

    settings: Settings
    device: str
    threads: int
    resize: str
    limits: Sequence[Rate]
    stages: Sequence[Stage]
    overlap: Overlap
    runs: Sequence[Run] = ()
    absent: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=machine)

    @property
    def libraries(self) -> Mapping[str, str]:
        """Versions of the packages that matter, with that which ran the network."""
        return {library: version(library) for library in (*LIBRARIES, self.settings.backend)}

    @property
    def network(self) -> str:
        """The network and its terms, such as ``inception, fp32, 2 threads``."""
        on = threads_in_words(self.threads) if self.threads else self.device
        return f"{self.settings.extractor}, {self.settings.arithmetic}, {on}"

    @property
    def limit(self) -> Rate | None:
        """The machine's fastest matrix product in the numbers of the network, where it runs."""
        return best_gemm(self.limits, _NUMBERS[self.settings.precision], self.device)

    def share(self, stage: Stage) -> float | None:
        """The share of :attr:`limit` that a stage reaches; ``None`` where it multiplies nothing or there is none."""
        return stage.gflops / self.limit.value if stage.gflops is not None and self.limit else None

    def to_json(self) -> dict[str, Any]:
        """All of it, as what JSON can hold."""
        stages = [
            {
                **asdict(stage),
                "images_per_s": stage.rate if stage.per_image else None,
                "gflops": stage.gflops,
                "share": self.share(stage),
            }
            for stage in self.stages
        ]
        overlap = {**asdict(self.overlap), "images_per_s": self.overlap.rate, "idle": self.overlap.idle}
        settings = asdict(self.settings)
        del settings["weights"]  # a path of this machine, perhaps
        return {
            "machine": self.machine,
            "device": self.device,
            "threads": self.threads,
            "libraries": dict(self.libraries),
            "settings": settings,
            "limits": [{**asdict(rate), "unit": rate.unit} for rate in self.limits],
            "stages": stages,
            "pass": overlap,
            "processes": [asdict(each) for each in standings(self.runs)],
            "runs": [asdict(run) for run in self.runs],
            "absent": list(self.absent),
            "failed": dict(self.failed),
        }

    def rows(self) -> Iterator[Row]:
        """Every number, one by one."""
        for rate in self.limits:
            yield Row("limit", rate.what, _terms(rate), rate.value, rate.unit)
        for stage in self.stages:
            where = f"{stage.n} images of {self.settings.set}"
            if stage.name == NETWORK:
                where += f", {self.network}"
            if stage.per_image:
                yield Row("stage", stage.name, where, stage.milliseconds, "ms/image")
            else:
                yield Row("stage", stage.name, f"{stage.n} rows a set", stage.milliseconds, "ms")
            if stage.gflops is not None:
                yield Row("stage", stage.name, where, stage.gflops, "GFLOP/s")
            share = self.share(stage)
            if share is not None:
                yield Row("stage", stage.name, where, share, "of the limit")
        where = f"{self.overlap.n} images of {self.settings.set}, {self.network}"
        yield Row("pass", "all", where, self.overlap.rate, "images/s")
        yield Row("pass", "network runs", where, self.overlap.busy, "of the time")
        yield Row("pass", "network waits", where, self.overlap.idle, "of the time")
        for run in self.runs:
            where = f"{run.images} images a set of {run.set}, round {run.round}"
            yield Row("process", run.tool, where, run.wall_s, "s wall")
            yield Row("process", run.tool, where, run.user_s + run.system_s, "s CPU")
            yield Row("process", run.tool, where, run.peak_mib, "MiB")
            yield Row("process", run.tool, where, run.fid, "FID")


def _terms(rate: Rate) -> str:
    threads = f", {threads_in_words(rate.threads)}" if rate.threads else ""
    return f"{rate.numbers} by {rate.library} on {rate.device}{threads}"


def threads_in_words(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def benchmark(settings: Settings, ours: Sequence[str], progress: Progress = silent) -> Report:
    """Measure all of it; names and weights are settled before the first clock runs.

    Args:
        settings: what to benchmark.
        ours: the beginning of our own command for FID, which takes ``REAL FAKE --protocol NAME --json`` and the
            weights and the device besides, and the precision and the backend where they are not the usual ones.
        progress: told how far it is.

    Raises:
        UnknownName: if there is no such extractor, protocol or peer.
        UsageError: if a peer is not installed, or does not look through the extractor.
        FetchError: if weights can be had from nowhere.
        RunFailed: if the weights cannot be written as the peers read them.
    """
    peers = _require_peers(settings)
    device = pick_device(settings.device)
    measure, extractor = _load(settings, device, progress)
    by_torch = replace(settings, backend=TORCH)
    counted = extractor if settings == by_torch else _load(by_torch, device, progress)[1]
    weights = _weights_of_peers(settings, progress) if peers else None
    threads = sorted({1, torch.get_num_threads(), cores()})
    limits = measure_limits(device, threads, seconds=settings.seconds, progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        real, fake = (
            write_folder(
                Path(scratch) / role, settings.images, settings.size, settings.format, fake=role == "fake"
            )
            for role in ("real", "fake")
        )
        stages, overlap = measure_stages(
            open_images(real, name="real"),
            open_images(fake, name="fake"),
            extractor,
            measure,
            find_protocol(settings.protocol),
            batch_size=settings.batch_size,
            workers=settings.workers,
            counted=counted,
            progress=progress,
        )
        runs, failed = list[Run](), dict[str, str]()
        if weights:
            options = ["--weights", str(weights), "--device", str(device), "--offline"]
            if device.type == "cuda":
                torch.cuda.empty_cache()  # what this process holds there, the others could not have
            given = [word for word in (settings.precision, settings.backend) if word not in _USUAL]
            home = Path(scratch) / "home"
            prepare_peers(weights, home)
            commands = commands_of(tools_of(peers, *given), [*ours, *options], real, fake, home, str(device))
            runs, failed = race(
                commands, rounds=settings.rounds, images=settings.images, name=settings.set, progress=progress
            )
    absent = [peer for peer in PEERS if peer not in installed()]
    return Report(
        settings,
        device_name(device),
        0 if device.type == "cuda" else torch.get_num_threads(),
        str(extractor.resize),
        limits,
        stages,
        overlap,
        runs,
        absent,
        failed,
    )


def _require_peers(settings: Settings) -> list[str]:
    """The peers to compare with."""
    found = installed()
    if settings.peers is None:
        return found if settings.extractor == INCEPTION else []
    for peer in settings.peers:
        if peer not in PEERS:
            raise UnknownName("peer", peer, PEERS)
        if peer not in found:
            raise UsageError(f"{peer} is not installed: `python -m pip install {peer}`, or leave it out")
    if settings.peers and settings.extractor != INCEPTION:
        raise UsageError(
            f"{', '.join(settings.peers)} can look through {INCEPTION} alone, not {settings.extractor}: "
            "leave out one or the other"
        )
    return list(settings.peers)


def _load(settings: Settings, device: torch.device, progress: Progress) -> tuple[Measure, Extractor]:
    measure = find_measure(f"fid:{settings.extractor}")
    extractors = load_extractors(
        [measure],
        find_protocol(settings.protocol),
        device=device,
        weights=settings.weights,
        precision=settings.precision,
        backend=settings.backend,
        offline=settings.offline,
        progress=progress,
    )
    return measure, extractors[measure.extractor]


def _weights_of_peers(settings: Settings, progress: Progress) -> Path:
    """The file of Inception that all contestants read."""
    weights = settings.weights
    given = weights.get(INCEPTION) if isinstance(weights, Mapping) else weights
    return Path(given) if given else fetch(WEIGHTS, offline=settings.offline, progress=progress)
