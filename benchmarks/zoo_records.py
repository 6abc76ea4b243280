"""What was measured of the zoo, as csv files in results/: written by zoo.py, read by zoo_page.py."""

from __future__ import annotations

import csv
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parent / "results"
HELD_OUT = "held-out real"
Record = TypeVar("Record", bound="Entry | Truncated | Bound | Tolerance")


@dataclass(frozen=True)
class Entry:
    """One model on one dataset, or held-out images in the place of a model."""

    data: str
    model: str
    steps: int
    training_cpu_s: float
    parameters: int
    n: int
    reference_n: int
    fid: float
    fid_error: float
    kid: float
    kid_error: float
    precision: float
    precision_error: float
    recall: float
    recall_error: float
    coverage: float
    coverage_error: float
    likelihood: str  # which kind; empty for models without one
    bits_per_dim: float | None
    bits_per_dim_error: float | None


@dataclass(frozen=True)
class Truncated:
    """One model on one dataset at one truncation."""

    data: str
    model: str
    truncation: float
    n: int
    precision: float
    precision_error: float
    recall: float
    recall_error: float
    fid: float
    fid_error: float


@dataclass(frozen=True)
class Bound:
    """-ELBO of binary images by one model in nats, and what it adds to that of the first of them."""

    data: str
    model: str
    steps: int
    training_cpu_s: float
    n: int
    nll: float
    nll_error: float
    difference: float
    difference_error: float


@dataclass(frozen=True)
class Tolerance:
    """One solver of a continuous flow of the ring: what it asks, and how far off it is."""

    model: str
    solver: str
    n: int
    evaluations: int
    nll: float  # by a far tighter solver, nats a point
    density_error: float  # mean absolute error of log-densities
    round_trip: float  # mean distance to data and back


def files(pattern: str) -> list[Path]:
    """Recorded files, in the order of their dates, which end their names."""
    return sorted(RESULTS.glob(pattern), key=lambda path: path.stem[-len("2026-01-01") :])


def machine(path: Path) -> str:
    """What a recorded file says of where it was made, without the marks of a comment."""
    with path.open(newline="") as file:
        return "; ".join(line[1:].strip() for line in file if line.startswith("#"))


def read(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The rows of a recorded file."""
    types = typing.get_type_hints(kind)
    with path.open(newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            yield kind(**{key: _parsed(value, types[key]) for key, value in row.items()})


def _parsed(text: str, kind: Any) -> Any:
    if kind in (str, int):
        return kind(text)
    return float(text) if text else None
