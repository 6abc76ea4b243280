"""Time and memory of the engines as sets grow to a million images, on features that are made up.

::

    python benchmarks/scale.py --date 2026-11-28                    # all that fits 24 GiB
    python benchmarks/scale.py --dims 256 --largest 100000 --date 2026-11-28

Each run is a process of its own that loads two sets of equally many features, calls one engine and reports its seconds
of all cores and of the clock, the memory that it took beyond the features, the value and its standard error. Those
whose time grows with the square of the images are run while they are expected to take less than ``--seconds`` of a
core. Every run goes to ``benchmarks/results/scale-cpu-<date>.csv``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from metrics import clock, timed, write_features
from torch import Tensor

from gen_eval.bench.recording import write_csv
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.metrics.kernel.kid import kid
from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.metrics.score import Score
from gen_eval.stats import Moments

RESULTS = Path(__file__).parent / "results"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LARGEST = {256: 1_000_000, 2048: 100_000}  # by dimension, what fits the memory beside its copies
SAMPLE, FREQUENCIES = 2_000, 1_000
LIBRARIES = ("torch", "numpy", "scipy", "gen_eval")
ROWS = 4096  # that are added to the moments at a time


def frechet_of_moments(generated: Tensor, reference: Tensor) -> Score:
    """The pass that takes the moments, and the distance; its error is of 1,000 rows, as statistics keep them."""
    sides = []
    for rows in (generated, reference):
        moments = Moments.of(rows[:ROWS])
        for part in torch.split(rows[ROWS:], ROWS):
            moments = moments + Moments.of(part)
        sides.append(Gaussian(moments.n, moments.mean, moments.cov(), rows[:1000]))
    return frechet(*sides)


@dataclass(frozen=True)
class Engine:
    """What is run.

    Args:
        run: from generated and reference features to a score.
        grows: the power of the number of images that its time grows with.
    """

    run: Callable[[Tensor, Tensor], Score]
    grows: int


ENGINES: Mapping[str, Engine] = {
    "moments and frechet": Engine(frechet_of_moments, 1),
    "kid": Engine(kid, 0),
    "mmd": Engine(mmd, 2),
    f"mmd, {FREQUENCIES:,} frequencies": Engine(lambda x, y: mmd(x, y, frequencies=FREQUENCIES), 1),
    "precision-recall": Engine(precision_recall, 2),
    f"precision-recall, sample of {SAMPLE:,}": Engine(lambda x, y: precision_recall(x, y, sample=SAMPLE), 1),
}


@dataclass(frozen=True)
class Run:
    """One process."""

    engine: str
    dim: int
    n: int
    cpu_s: float
    wall_s: float
    extra_mib: float
    value: float
    error: float


def run_one(name: str, n: int, folder: Path) -> None:
    sides = []
    for role in ("generated", "reference"):
        (path,) = folder.glob(f"{role}-*.npy")
        sides.append(torch.from_numpy(np.array(np.load(path, mmap_mode="r")[:n])))
    scores: list[Score] = []

    def work() -> float:
        scores.append(ENGINES[name].run(*sides))
        return next(iter(scores[0].values.values()))

    before = time.process_time()
    value = timed(work)
    cpu = time.process_time() - before
    error = scores[0].errors[next(iter(scores[0].values))]
    print(json.dumps({"cpu_s": cpu, **clock(), "value": value, "error": error}))


def measure(name: str, dim: int, n: int, folder: Path) -> Run:
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    command = [sys.executable, __file__, "--one", name, str(n), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed at n = {n}:\n{done.stderr}")
    run = Run(name, dim, n, **json.loads(done.stdout.splitlines()[-1]))
    took = f"{run.cpu_s:9.2f} CPU s{run.wall_s:9.2f} s{run.extra_mib:8.0f} MiB"
    print(f"{name:34}{dim:6}{n:10,}{took}  {run.value:.5g} ± {run.error:.2g}", flush=True)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dims", nargs="+", type=int, choices=LARGEST, default=tuple(LARGEST))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=tuple(ENGINES), metavar="ENGINE")
    parser.add_argument("--largest", type=int, default=max(SIZES), help="images of a set")
    parser.add_argument(
        "--seconds", type=float, default=100, help="of a core, for an engine of quadratic time"
    )
    parser.add_argument("--date", help="to end the name of the recorded file; without it none is written")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "N", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one[0], int(args.one[1]), Path(args.one[2]))
        return
    runs = []
    for dim in args.dims:
        sizes = [n for n in SIZES if n <= min(args.largest, LARGEST[dim])]
        with tempfile.TemporaryDirectory() as scratch:
            write_features(sizes[-1], Path(scratch), dim)
            for name in args.engines:
                last = None
                for n in sizes:
                    if last and ENGINES[name].grows == 2 and last.cpu_s * (n / last.n) ** 2 > args.seconds:
                        break
                    last = measure(name, dim, n, Path(scratch))
                    runs.append(last)
                    if args.date:  # each time, so that what is cut short leaves what it has
                        write_csv(RESULTS / f"scale-cpu-{args.date}.csv", runs, LIBRARIES)


if __name__ == "__main__":
    main()
