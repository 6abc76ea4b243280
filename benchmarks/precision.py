"""Makes docs/precision.md: what bf16 does to FID, KID, precision and recall of real images.

::

    python benchmarks/precision.py --cache /tmp/features

CIFAR-10's test images, as they are, blurred and noisy, against training images. Both sets of a number in one
precision, as the Spec demands; and, past it, the distance between the same images in the two precisions. A processor
without bf16 instructions rounds alike by slower means: there bf16 takes six times as long as fp32.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from gen_eval_cli.allocator import keep_freed_memory
from gen_eval_cli.console import progress_bar

from gen_eval.bench.recording import machine, write_csv
from gen_eval.cache import FeatureCache
from gen_eval.datasets import load
from gen_eval.disturbances.pixels import blur, noise
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Inception
from gen_eval.images import open_images
from gen_eval.metrics import METRICS
from gen_eval.passing import Request
from gen_eval.summary import Summary

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "precision.md"
LIBRARIES = ("gen_eval", "torch", "numpy")
MEASURES = ("fid", "kid", "precision-recall", "density-coverage")
PRECISIONS = ("fp32", "bf16")
REFERENCE = "training images"
SETS = {"test images": None, "blurred (sd 1 pixel)": (blur, 1.0), "noisy (sd 25 of 255)": (noise, 25.0)}
TAP = "pool"


@dataclass(frozen=True)
class Measured:
    """One number of one set, in both precisions.

    Args:
        set: of the generated images.
        n: images of each set.
        value: its name.
        fp32: the value in that precision.
        error: its standard error there; ``nan`` if it has none.
        bf16: the value in that precision.
    """

    set: str
    n: int
    value: str
    fp32: float
    error: float
    bf16: float

    @property
    def moved(self) -> float:
        """By how much bf16 raises it."""
        return self.bf16 - self.fp32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="images of each set (default 500)")
    parser.add_argument("--cache", type=Path, required=True, help="folder of features, to go on from")
    args = parser.parse_args()
    keep_freed_memory()
    cache = FeatureCache(args.cache, frugal=True)
    images = {name: open_images(images_of(name, args.n), name=name) for name in (REFERENCE, *SETS)}
    found: dict[str, dict[str, Summary]] = {}
    with progress_bar() as progress:
        for precision in PRECISIONS:
            asked = [Request(Inception.load(precision=precision), (TAP,))]
            found[precision] = {
                name: cache.summarize(each, asked, rows=None, progress=progress)
                for name, each in images.items()
            }
    rows = list(compared(found, args.n))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    write_csv(HERE / "results" / f"precision-{device}-{date.today()}.csv", rows, LIBRARIES)
    PAGE.write_text(page(rows, apart(found), args.n), encoding="utf-8")


def images_of(name: str, n: int) -> np.ndarray:
    """The first n, ``[n, 32, 32, 3]`` uint8, disturbed as the name says."""
    images = load("cifar10", "train" if name == REFERENCE else "test").images[:n]
    if not (disturbance := SETS.get(name)):
        return images
    disturb, strength = disturbance
    rng = np.random.default_rng(0)
    return np.stack([disturb(image, strength, rng) for image in images])


def compared(found: Mapping[str, Mapping[str, Summary]], n: int) -> Iterator[Measured]:
    """Each measure of each set against the reference, both in one precision."""
    for name in SETS:
        results = [
            evaluate(MEASURES, generated=found[one][name], reference=found[one][REFERENCE], precision=one)
            for one in PRECISIONS
        ]
        for exact, fast in zip(*results, strict=True):
            for value in exact.better:
                error = exact.errors.get(value, math.nan)
                yield Measured(name, n, value, exact.values[value], error, fast.values[value])


def apart(found: Mapping[str, Mapping[str, Summary]]) -> dict[str, float]:
    """FID between the same images in the two precisions."""
    metric = METRICS["frechet"]
    distances = {}
    for name in found["fp32"]:
        (exact,), (fast,) = (found[precision][name].features.values() for precision in PRECISIONS)
        score = metric.compute({"generated": fast, "reference": exact}, **metric.params)
        distances[name] = score.values["frechet"]
    return distances


def page(rows: Sequence[Measured], distances: Mapping[str, float], n: int) -> str:
    """The page, in Markdown."""
    lines = [
        "# What bf16 does to the numbers",
        "",
        "`--precision bf16` runs the network in bfloat16, of 8 bits of mantissa; resizing, moments and metrics stay",
        "as they are. It is a term of the features: bf16 sets compare with bf16 sets alone.",
        "",
        f"Here {n:,} of CIFAR-10's test images, as they are, blurred and noisy, are measured against {n:,} training",
        "images through the Inception network of FID, both sets in one precision. At this n the values mostly",
        "measure n: what counts is by how much bf16 moves them, beside the standard error of the fp32 value.",
        "",
        "| set | value | fp32 | ± s.e. | bf16 | moved | in s.e. |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = f"{row.moved / row.error:+.2f}" if row.error else "-"
        values = f"{row.fp32:.5g} | {row.error:.2g} | {row.bf16:.5g} | {row.moved:+.2g} | {share}"
        lines.append(f"| {row.set} | {row.value} | {values} |")
    lines += [
        "",
        "The same images in the two precisions are this far apart, so neither stands in for the other:",
        "",
        "| the same images in fp32 and bf16 | FID |",
        "|---|---|",
        *(f"| {name} | {distance:.4f} |" for name, distance in distances.items()),
        "",
        f"Made by `python benchmarks/precision.py --n {n} --cache FOLDER` on {machine()}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
