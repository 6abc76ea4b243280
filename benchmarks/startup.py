"""What a tiny job takes beside importing torch and running the network: ``geneval fid`` on two folders of 32 images.

::

    python benchmarks/startup.py --date 2026-11-28

Each round is a process of its own that imports torch, and then does what the entry point does, with a stopwatch about
the network. What is left is ours: other imports, weights that are read, checked and folded, decoding, the distance.
CPU seconds tell it on a machine that others use too. The weights are to be in the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

N, SIZE = 32, 64


@dataclass(frozen=True)
class Run:
    """One process: seconds of the clock, and of all its threads."""

    round: int
    torch_s: float
    torch_cpu_s: float
    network_s: float
    network_cpu_s: float
    ours_s: float
    ours_cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--date", help="to end the name of the recorded file; by default none is written")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(*args.one)))
        return
    from memory import RESULTS, write_images

    from gen_eval.bench.recording import write_csv

    with tempfile.TemporaryDirectory() as folder:
        sets = [str(Path(folder) / role) for role in "ab"]
        for seed, path in enumerate(sets):
            write_images(Path(path), N, SIZE, seed)
        runs = []
        for turn in range(args.rounds):
            command = [sys.executable, __file__, "--one", *sets]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(Run(turn, **json.loads(done.stdout)))
            print(runs[-1], file=sys.stderr, flush=True)
    if args.date:
        write_csv(RESULTS / f"startup-cpu-{args.date}.csv", runs, ("torch", "numpy", "scipy", "gen_eval"))
    for name in list(asdict(runs[0]))[1:]:
        print(f"{name:15}{statistics.median(getattr(run, name) for run in runs):8.2f}")


def run_one(real: str, fake: str) -> dict[str, float]:
    """Seconds of torch's import, of the network, and of all else from there to the printed result."""
    start = _now()
    import torch  # noqa: F401

    imported, network = _now(), [0.0, 0.0]
    from gen_eval_cli.main import cli

    def timed(extractor: Any, *given: Any) -> Any:
        before = _now()
        features = through(extractor, *given)
        network[:] = [spent + after - at for spent, after, at in zip(network, _now(), before, strict=True)]
        return features

    from gen_eval.extractors.inception import Inception

    through, Inception.__call__ = Inception.__call__, timed  # type: ignore[method-assign]
    with contextlib.redirect_stdout(io.StringIO()):
        cli(["fid", real, fake, "--json", "--offline"], standalone_mode=False)
    done = _now()
    found = {}
    for at, unit in enumerate(("_s", "_cpu_s")):
        torch_s = imported[at] - start[at]
        found |= {f"torch{unit}": torch_s, f"network{unit}": network[at]}
        found[f"ours{unit}"] = done[at] - imported[at] - network[at]
    return found


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
