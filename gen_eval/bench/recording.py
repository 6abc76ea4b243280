"""Runs as a csv file that says on what they were measured."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gen_eval.threads import cores

ABSENT = "absent"


def write_csv(path: Path, runs: Sequence[Any], libraries: Sequence[str]) -> None:
    """One row a run, below comment lines that name the machine and the libraries.

    Args:
        path: the file.
        runs: dataclasses, all of one kind; times and sizes, ``..._s`` and ``..._mib``, are written with four
            significant digits.
        libraries: packages whose versions matter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# {machine()}\n")
        file.write("# " + ", ".join(f"{name} {version(name)}" for name in libraries) + "\n")
        rows = csv.DictWriter(file, fieldnames=list(asdict(runs[0])), lineterminator="\n")
        rows.writeheader()
        for run in runs:
            rows.writerow({key: _short(key, value) for key, value in asdict(run).items()})


def _short(key: str, value: Any) -> Any:
    """Times and sizes to what a clock tells; values in full."""
    if isinstance(value, float) and key.endswith(("_s", "_mib")):
        return float(f"{value:.4g}")
    return value


def machine() -> str:
    """The cores at hand, the processor, the system and Python, in one line."""
    return f"{cores()} cores of {processor()}, {platform.system()}, Python {platform.python_version()}"


def version(library: str) -> str:
    """The installed version, or that there is none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


def processor() -> str:
    """The processor's name, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
