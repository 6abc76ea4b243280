"""Whole-process time and memory of ``geneval fid`` beside pytorch-fid, torch-fidelity and clean-fid.

::

    python benchmarks/fid.py --weights inception.pt --rounds 3

Two sets, each a pair of folders: JPEG of 256 px and PNG of 64 px. Contestants take turns (round-robin), each
a process of its own on the CPU with every core, at its own defaults. A table of medians goes to standard
output, every single run to ``benchmarks/results/fid-cpu-<date>.csv``.

``peak_mib`` is the peak resident memory of a contestant's largest process: workers count, but are not added.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gen_eval.bench.recording import write_csv

# No torch in here: a child's peak memory, as the kernel counts it, starts at what its parent holds.

HERE = Path(__file__).parent
PEERS = ("pytorch-fid", "torch-fidelity", "clean-fid")
TOOLS = (*PEERS, *(f"geneval:{peer}" for peer in PEERS))  # geneval under the protocol of each peer
SETS = {"jpeg256": (256, "jpg"), "png64": (64, "png")}
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "pillow", "gen_eval", *PEERS)


@dataclass(frozen=True)
class Run:
    """One process of one contestant."""

    set: str
    images: int
    tool: str
    round: int
    wall_s: float
    user_s: float
    system_s: float
    peak_mib: float
    fid: float
    gap_to_peer: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="Inception weights, for all contestants")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="images a folder (default 512)")
    parser.add_argument(
        "--tools", nargs="+", choices=TOOLS, default=TOOLS, metavar="TOOL", help=" ".join(TOOLS)
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=tuple(SETS))
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()
    out: Path = args.out or HERE / "results" / f"fid-cpu-{date.today()}.csv"
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        prepare = [sys.executable, str(HERE / "peers.py"), "prepare", "--weights", str(args.weights)]
        subprocess.run([*prepare, "--home", str(home)], check=True)
        runs: list[Run] = []
        for name in args.sets:
            folders = [
                make_set(Path(scratch) / name / kind, name, kind, args.images) for kind in ("real", "fake")
            ]
            for turn in range(args.rounds):
                for tool in args.tools:
                    run = measure(command(tool, folders, home, args.weights), name, args.images, tool, turn)
                    print(
                        f"{name} round {turn} {tool}: {run.wall_s:.1f} s, FID {run.fid:.6f}", file=sys.stderr
                    )
                    runs.append(run)
    runs = with_gaps(runs)
    write_csv(out, runs, LIBRARIES)
    print_table(runs)
    print(f"\nevery run: {out}")


def command(tool: str, folders: Sequence[Path], home: Path, weights: Path) -> list[str]:
    """The command line of a contestant; its standard output ends in the value."""
    real, fake = map(str, folders)
    if tool in PEERS:
        return [sys.executable, str(HERE / "peers.py"), tool, real, fake, "--home", str(home)]
    geneval = Path(sys.executable).with_name("geneval")
    options = [
        "--protocol",
        tool.removeprefix("geneval:"),
        "--weights",
        str(weights),
        "--device",
        "cpu",
        "--json",
    ]
    return [str(geneval), "fid", real, fake, *options]


def measure(argv: Sequence[str], set_name: str, images: int, tool: str, turn: int) -> Run:
    """Run a process to its end; the kernel's account covers the workers that it waited for."""
    # Where OPENBLAS_CORETYPE is exported it may name an older core, at half the speed in numpy and SciPy.
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(argv, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(argv)}\nexited with {process.returncode}:\n{errors.read()}")
        value = value_in(output.read())
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return Run(set_name, images, tool, turn, wall, usage.ru_utime, usage.ru_stime, peak, value)


def value_in(output: str) -> float:
    """The FID in what a contestant printed last: a bare number, or geneval's JSON object."""
    last = json.loads(output.strip().splitlines()[-1])
    return float(last["value"] if isinstance(last, dict) else last)


def with_gaps(runs: Iterable[Run]) -> list[Run]:
    """Add to geneval's runs how far each is, relatively, from the peer whose protocol it followed."""
    runs = list(runs)
    values = {(run.set, run.tool): run.fid for run in runs}
    peers = [values.get((run.set, run.tool.removeprefix("geneval:"))) for run in runs]
    return [
        replace(run, gap_to_peer=abs(run.fid / peer - 1)) if peer and run.tool not in PEERS else run
        for run, peer in zip(runs, peers, strict=True)
    ]


def print_table(runs: Sequence[Run]) -> None:
    """Medians over the rounds; ``speed`` against the fastest peer of the same set."""
    print(f"{'set':8} {'tool':22} {'wall s':>7} {'cpu s':>7} {'MiB':>6} {'speed':>6} {'FID':>14} {'gap':>8}")
    for name in dict.fromkeys(run.set for run in runs):
        of_tool = {tool: [run for run in runs if (run.set, run.tool) == (name, tool)] for tool in TOOLS}
        walls = {tool: statistics.median(r.wall_s for r in mine) for tool, mine in of_tool.items() if mine}
        fastest = min((wall for tool, wall in walls.items() if tool in PEERS), default=None)
        for tool, wall in walls.items():
            mine = of_tool[tool]
            cpu = statistics.median(run.user_s + run.system_s for run in mine)
            peak = statistics.median(run.peak_mib for run in mine)
            speed = f"{fastest / wall:.2f}" if fastest else "-"
            gap = "-" if mine[-1].gap_to_peer is None else f"{max(run.gap_to_peer or 0 for run in mine):.1e}"
            row = f"{name:8} {tool:22} {wall:7.1f} {cpu:7.1f} {peak:6.0f} {speed:>6}"
            print(f"{row} {mine[-1].fid:14.7f} {gap:>8}")


def make_set(folder: Path, set_name: str, kind: str, images: int) -> Path:
    """Write seeded images; those of ``fake`` have other colours, sizes and grain than those of ``real``."""
    size, suffix = SETS[set_name]
    folder.mkdir(parents=True)
    seeds = np.random.SeedSequence([size, kind == "fake"]).spawn(images)
    for index, seed in enumerate(seeds):
        image = dead_leaves(np.random.default_rng(seed), size, fake=kind == "fake")
        image.save(folder / f"{index:05d}.{suffix}", **({"quality": 90} if suffix == "jpg" else {}))
    return folder


def dead_leaves(rng: np.random.Generator, size: int, *, fake: bool) -> Image.Image:
    """Shapes that hide one another, of radii r with density 1/r^3, under 1/f grain.

    Their spectrum and edges are those of photographs (Lee, Mumford and Huang 2001, "Occlusion models for
    natural images"), and so is the size of their files.
    """
    base = rng.uniform(60, 195) + rng.normal(0, 30 if fake else 20, 3)
    image = Image.new("RGB", (size, size), tuple(np.clip(base, 0, 255).astype(int).tolist()))
    draw = ImageDraw.Draw(image)
    smallest = 0.025 if fake else 0.03
    for _ in range(400):
        radius = size * min(smallest / np.sqrt(1 - rng.uniform()), 0.5)
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        box = [x - radius, y - radius, x + radius, y + radius * rng.uniform(0.2, 1.0)]
        colour = np.clip(base + rng.normal(0, 45) + rng.normal(0, 25 if fake else 15, 3), 0, 255).astype(int)
        (draw.ellipse if fake or rng.uniform() < 0.6 else draw.rectangle)(box, fill=tuple(colour.tolist()))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(3, size, size))) / frequency ** (0.9 if fake else 1.0)
    grain = np.fft.irfft2(spectrum, s=(size, size))
    pixels = np.asarray(image, np.float64) + 8 * (grain / grain.std()).transpose(1, 2, 0)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
