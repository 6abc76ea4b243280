"""Whole-process time and memory of ``geneval fid`` beside each peer that is installed.

::

    python benchmarks/fid.py --weights inception.pt --rounds 3
    python benchmarks/fid.py --weights inception.pt --sets jpeg256 \\
        --tools clean-fid clean-fid+tuned geneval:clean-fid geneval:clean-fid+tuned geneval+openvino:clean-fid

Two sets, each a pair of folders: JPEG of 256 px and PNG of 64 px. Contestants take turns (round-robin), each
a process of its own with every core, at its own defaults or with what its name adds to them. A table of medians
goes to standard output, every single run to ``benchmarks/results/fid-<device>-<date>.csv``. ``geneval bench`` does
the same for one set, and more.

``peak_mib`` is the peak resident memory of a contestant's largest process: workers count, but are not added.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from gen_eval.bench.pictures import write_folder
from gen_eval.bench.races import (
    Run,
    commands_of,
    installed,
    libraries_of,
    peer_of,
    prepare_peers,
    race,
    standings,
    tools_of,
)
from gen_eval.bench.recording import write_csv

HERE = Path(__file__).parent
SETS = {"jpeg256": (256, "jpg"), "png64": (64, "png")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="Inception weights, for all contestants")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="images a folder (default 512)")
    tools = tools_of(installed())
    parser.add_argument(
        "--tools",
        nargs="+",
        default=tools,
        metavar="TOOL",
        help=f"contestants, as gen_eval/bench/races.py names them (default {' '.join(tools)})",
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=tuple(SETS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()
    kind = args.device.partition(":")[0]
    out: Path = args.out or HERE / "results" / f"fid-{kind}-{date.today()}.csv"
    geneval = Path(sys.executable).with_name("geneval")
    ours = [str(geneval), "fid", "--weights", str(args.weights), "--device", args.device]
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        prepare_peers(args.weights, home)
        for name in args.sets:
            real, fake = (
                write_folder(Path(scratch) / name / role, args.images, *SETS[name], fake=role == "fake")
                for role in ("real", "fake")
            )
            commands = commands_of(args.tools, ours, real, fake, home, args.device)
            found, failed = race(commands, rounds=args.rounds, images=args.images, name=name, progress=show)
            if failed:
                raise SystemExit("\n".join(failed.values()))
            runs += found
            write_csv(out, runs, libraries_of(args.tools))
    print_table(runs)
    print(f"\nevery run: {out}")


def show(task: str, done: int, total: int | None, unit: str) -> None:
    print(f"{task}: {done} of {total} processes", file=sys.stderr)


def print_table(runs: Sequence[Run]) -> None:
    """Medians over the rounds; ``speed`` against the fastest peer of the same set."""
    print(f"{'set':8} {'tool':36} {'wall s':>7} {'cpu s':>7} {'MiB':>6} {'speed':>6} {'FID':>14} {'gap':>8}")
    for name in dict.fromkeys(run.set for run in runs):
        found = standings([run for run in runs if run.set == name])
        fastest = min((each.wall_s for each in found if peer_of(each.tool) is None), default=None)
        for each in found:
            speed = f"{fastest / each.wall_s:.2f}" if fastest else "-"
            gap = "-" if each.gap is None else f"{each.gap:.1e}"
            row = f"{name:8} {each.tool:36} {each.wall_s:7.1f} {each.cpu_s:7.1f} {each.peak_mib:6.0f} {speed:>6}"
            print(f"{row} {each.fid:14.7f} {gap:>8}")


if __name__ == "__main__":
    main()
