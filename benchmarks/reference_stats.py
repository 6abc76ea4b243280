"""Makes the files of ``reference_stats/`` and their index, from the statistics of whole sets.

    for k in $(seq 10); do geneval stats cifar10:test --part $k/10 -o cifar10-test-$k.safetensors; done
    geneval stats merge cifar10-test-*.safetensors -o cifar10-test.safetensors
    python benchmarks/reference_stats.py cifar10-test.safetensors cifar10-train.safetensors ...

Each is made compact, as ``geneval stats compact`` does it. How far that moves an FID is measured, on the distances to
all of the others, given here or shipped already, and to made-up sets further away. What stands in the index and is not
given stays.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from gen_eval import store
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.references import INDEX, Shipped, shipped
from gen_eval.stats import Features
from gen_eval.summary import Summary

FOLDER = Path(__file__).parents[1] / "reference_stats"
SHIFTS = (0.05, 0.2, 0.5)
ROWS = 1000  # what KID draws from a set by default
# How the parts of a set were measured.
MEASURED = {
    "cifar10:test": ("geneval stats cifar10:test --part K/10 -o cifar10-test-K.safetensors, K from 1 to 10",),
    "cifar10:train": (
        "geneval stats cifar10:train --part K/50 -o cifar10-train-K.safetensors, K from 1 to 21 and from 33 to 50",
        "the same with --backend onnxruntime, K from 22 to 32",
    ),
    **{
        f"{name}:{split}": (
            f"geneval stats {name}:{split} --part K/{parts} -o {name}-{split}-K.safetensors, K from 1 to {parts}",
        )
        for name in ("mnist", "fashion-mnist")
        for split, parts in (("test", 20), ("train", 60))
    },
}
HEAD = """# Statistics that ship, a table for each file; gen_eval.references reads them. README.md says what they are.
# Written by benchmarks/reference_stats.py.
"""


@click.command()
@click.argument("whole", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(whole: tuple[Path, ...]) -> None:
    """Make the files and the index from statistics of whole sets."""
    exact = [store.load(path) for path in whole]
    rows = {row.file: row for row in shipped()}
    given = {summary.name for summary in exact}
    sets = [*exact, *(store.load(row.path) for row in rows.values() if row.name not in given)]
    for summary in exact:
        ((key, features),) = summary.features.items()
        others = [other.features[key] for other in sets if other is not summary]
        row = make(summary, [*others, *map(partial(moved, features), SHIFTS)])
        rows[row.file] = row
    by_name = sorted(rows.values(), key=lambda row: row.name)
    (FOLDER / INDEX).write_text(HEAD + "".join(map(to_toml, by_name)))


def moved(features: Features, by: float) -> Features:
    """Another set, whose mean and covariance are larger by a part of themselves."""
    mean, cov = features.moments.mean * (1 + by), features.cov() * (1 + by)
    return Features.of_gaussian(mean, cov, features.n)


def make(exact: Summary, others: Iterable[Features]) -> Shipped:
    """Write the compact file of a set; the row of the index that tells of it."""
    ((key, features),) = exact.features.items()
    stem = exact.name.replace(":", "-")
    path = FOLDER / f"{stem}.safetensors"
    store.save(exact.cut(ROWS), path, rounded=True)
    compact = store.load(path).features[key]
    distances = [(fid(features, other), fid(compact, other)) for other in others]
    for before, after in distances:
        print(f"{exact.name}: FID {before:.4f} moved by {after - before:+.1e}")
    return Shipped(
        name=exact.name,
        file=path.name,
        n=features.n,
        rows=compact.sample.n,
        spec=key[0].digest,
        tap=key[1],
        content=exact.digest,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        loss=float(f"{max(abs(after - before) for before, after in distances):.1e}"),
        made=(
            *MEASURED.get(exact.name, (f"geneval stats {exact.name} -o {stem}.safetensors",)),
            f"geneval stats merge {stem}-*.safetensors -o {stem}.safetensors",
            f"geneval stats compact {stem}.safetensors --rows {ROWS} -o reference_stats/{path.name}",
        ),
    )


def fid(one: Features, other: Features) -> float:
    sides = [Gaussian(None, each.moments.mean, each.cov()) for each in (one, other)]
    return frechet(*sides, method="value").values["frechet"]


def to_toml(row: Shipped) -> str:
    lines = [f"{name} = {_value(value)}" for name, value in asdict(row).items()]
    return "\n".join(["", "[[statistics]]", *lines, ""])


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[\n" + "".join(f"    {json.dumps(each)},\n" for each in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
