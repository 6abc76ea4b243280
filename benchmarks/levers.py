"""What the settings that bound speed are chosen by: each at several values, on the same work.

::

    python benchmarks/levers.py --date 2026-11-29
    python benchmarks/levers.py --levers batch-size workers --rounds 3

Values of a lever take turns in one process, on a machine that should have nothing else to do. A table of medians goes
to standard output with the default marked, every run to ``benchmarks/results/levers-cpu-<date>.csv``. The weights of
Inception are to be in the cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from gen_eval import passing
from gen_eval.bench.pictures import write_folder
from gen_eval.bench.recording import write_csv
from gen_eval.extractors import Inception, inception
from gen_eval.images import Images, open_images
from gen_eval.metrics.kernel import sums
from gen_eval.metrics.kernel.kernels import polynomial
from gen_eval.metrics.neighbors import distances, tiles
from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.stats import Moments

RESULTS = Path(__file__).parent / "results"
IMAGES, SIZE = 128, 256
ROWS, DIM = 4096, 2048


@dataclass(frozen=True)
class Lever:
    """A setting, and work that shows what it does.

    Args:
        work: done at one value of it, in a folder of images.
        values: what is tried.
        default: what the package takes here.
        of: how much work it is, and of what.
    """

    work: Callable[[int, Path], object]
    values: Sequence[int]
    default: Callable[[], int]
    of: str


@cache
def _inception(precision: str = "fp32", *, fused: bool = True, by_core: bool = True) -> Inception:
    """With convolutions of :mod:`gen_eval.extractors.onednn` and images of its own for each core, or without."""
    before = inception.is_usable
    if not fused:
        inception.is_usable = lambda dtype: False
    try:
        network = Inception.load(precision=precision, offline=True)
    finally:
        inception.is_usable = before
    network.by_core &= by_core
    return network


@cache
def _images(folder: Path) -> Images:
    return open_images(folder)


@cache
def _features(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(seed))


def _pass(folder: Path, network: Inception | None = None, **options: int) -> object:
    request = passing.Request(network or _inception(), ("pool",))
    return passing.summarize(_images(folder), [request], **options)


def _default_batch_size(precision: str) -> int:
    return passing.default_batch_size([passing.Request(_inception(precision), ("pool",))])


def _in_threads(threads: int, folder: Path) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _pass(folder)
    finally:
        torch.set_num_threads(before)


def _moments(block: int, _: Path) -> object:
    parts = [Moments.of(rows) for rows in torch.split(_features(0), block)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _tiles(block: int, _: Path) -> object:
    before, tiles.BLOCK = tiles.BLOCK, block
    try:
        return precision_recall(_features(0), _features(1))
    finally:
        tiles.BLOCK = before


def _gram(block: int, _: Path) -> object:
    return sums.Gram(polynomial(DIM), _features(0), _features(1), block=block).sums()


_A_PASS = f"a pass over {IMAGES} JPEG images of {SIZE} px"
LEVERS: Mapping[str, Lever] = {
    "batch-size": Lever(
        lambda size, folder: _pass(folder, batch_size=size),
        (4, 8, 16, 32, 64),
        lambda: _default_batch_size("fp32"),
        _A_PASS,
    ),
    "batch-size-bf16": Lever(
        lambda size, folder: _pass(folder, _inception("bf16"), batch_size=size),
        (4, 8, 16, 32, 64),
        lambda: _default_batch_size("bf16"),
        f"{_A_PASS}, in bf16",
    ),
    "fused": Lever(
        lambda fused, folder: _pass(folder, _inception(fused=bool(fused))),
        (0, 1),
        lambda: int(inception.is_usable(torch.float32)),
        f"{_A_PASS}, ReLUs by themselves (0) or within the convolutions",
    ),
    "fused-bf16": Lever(
        lambda fused, folder: _pass(folder, _inception("bf16", fused=bool(fused))),
        (0, 1),
        lambda: int(inception.is_usable(torch.bfloat16)),
        f"{_A_PASS}, in bf16, the same",
    ),
    "by-core": Lever(
        lambda by_core, folder: _pass(folder, _inception(by_core=bool(by_core))),
        (0, 1),
        lambda: 1,
        f"{_A_PASS}, cores that share each layer (0) or have images of their own",
    ),
    "by-core-bf16": Lever(
        lambda by_core, folder: _pass(folder, _inception("bf16", by_core=bool(by_core))),
        (0, 1),
        lambda: 1,
        f"{_A_PASS}, in bf16, the same",
    ),
    "workers": Lever(
        lambda workers, folder: _pass(folder, workers=workers),
        (0, 1, 2, 4),
        passing.default_workers,
        _A_PASS,
    ),
    "threads": Lever(_in_threads, (1, 2, 4), torch.get_num_threads, _A_PASS),
    "moments-block": Lever(
        _moments,
        (64, 256, 512, 1024, 2048, 4096),
        lambda: passing._BLOCK,
        f"moments of {ROWS} x {DIM} features",
    ),
    "tile": Lever(
        _tiles,
        (320, 640, 1280, 2560),
        lambda: distances.BLOCK,
        f"precision and recall of 2 x {ROWS} x {DIM} features",
    ),
    "gram-block": Lever(
        _gram, (250, 500, 1000, 2000), lambda: sums._BLOCK, f"kernel sums of 2 x {ROWS} x {DIM} features"
    ),
}


@dataclass(frozen=True)
class Run:
    """One run of a lever's work."""

    lever: str
    value: int
    round: int
    wall_s: float
    cpu_s: float


def measure(name: str, rounds: int, folder: Path) -> list[Run]:
    """Every value of a lever in turns, after one run that is not counted."""
    lever, runs = LEVERS[name], []
    lever.work(lever.default(), folder)
    for turn in range(rounds):
        for value in lever.values:
            wall, cpu = time.perf_counter(), time.process_time()
            lever.work(value, folder)
            runs.append(Run(name, value, turn, time.perf_counter() - wall, time.process_time() - cpu))
            print(runs[-1], file=sys.stderr, flush=True)
    return runs


def print_table(runs: Sequence[Run]) -> None:
    """Medians over the rounds."""
    for name in dict.fromkeys(run.lever for run in runs):
        lever = LEVERS[name]
        print(f"{name}: {lever.of}")
        for value in lever.values:
            own = [run for run in runs if (run.lever, run.value) == (name, value)]
            wall, cpu = (statistics.median(getattr(run, unit) for run in own) for unit in ("wall_s", "cpu_s"))
            mark = "  the default here" if value == lever.default() else ""
            print(f"{value:8}{wall:9.2f} s{cpu:9.2f} CPU s{mark}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--levers", nargs="+", choices=LEVERS, default=tuple(LEVERS), metavar="LEVER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--date", help="to end the name of the recorded file; by default none is written")
    args = parser.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_folder(Path(scratch) / "images", IMAGES, SIZE, "jpg", fake=False)
        for name in args.levers:
            runs += measure(name, args.rounds, folder)
            if args.date:
                write_csv(
                    RESULTS / f"levers-cpu-{args.date}.csv",
                    runs,
                    ("torch", "numpy", "scipy", "pillow", "gen_eval"),
                )
    print_table(runs)


if __name__ == "__main__":
    main()
