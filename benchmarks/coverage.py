"""How often the 95 % intervals hold: value ± 1.96 standard errors about the estimator's mean, by simulation.

::

    python benchmarks/coverage.py --repetitions 2000

Each repetition draws both sets anew. A line for each value goes to standard output, and all of them to
``benchmarks/results/coverage-<date>.csv``: the share of intervals that hold the mean over all repetitions, and the mean
standard error over the spread that was seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from gen_eval.bench.recording import write_csv
from gen_eval.metrics import METRICS, Score
from gen_eval.stats import Features

HERE = Path(__file__).parent
LIBRARIES = ("torch", "numpy", "scipy", "gen_eval")

Draw = Callable[[np.random.Generator], Mapping[str, np.ndarray]]


def gaussians(dim: int, n: int, m: int, shift: float, scale: float) -> Draw:
    """Two normal distributions whose variances fall from feature to feature."""
    spread = np.linspace(1.5, 0.5, dim)

    def draw(rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        generated = rng.normal(shift, scale, (n, dim)) * spread
        return {"generated": generated, "reference": rng.normal(size=(m, dim)) * spread}

    return draw


def mixtures(dim: int, n: int, m: int, dropped: int) -> Draw:
    """Six modes, of which the generated images lack some."""
    centres = np.random.default_rng(0).normal(0, 2, (6, dim))

    def draw(rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        kept = {"generated": 6 - dropped, "reference": 6}
        sizes = {"generated": n, "reference": m}
        return {
            role: centres[rng.integers(0, kept[role], size)] + rng.normal(size=(size, dim))
            for role, size in sizes.items()
        }

    return draw


def logits(classes: int, n: int, scale: float) -> Draw:
    """Posteriors of images that a classifier is more or less sure of."""
    return lambda rng: {"generated": scale * rng.normal(size=(n, classes))}


@dataclass(frozen=True)
class Setting:
    """A world, and the rows of METRICS to try in it."""

    draw: Draw
    metrics: Mapping[str, Mapping[str, object]]


_KID = {"kid": {"subsets": 50, "subset_size": 200}, "mmd-polynomial": {}, "mmd": {}}
_BALLS: dict[str, Mapping[str, object]] = {"precision-recall": {}, "density-coverage": {}}
SETTINGS = {
    "Gaussians, d = 16, 500 v 700": Setting(gaussians(16, 500, 700, 0.4, 1.2), {"frechet": {}, **_KID}),
    "Gaussians, d = 64, 600 v 600": Setting(gaussians(64, 600, 600, 0.3, 1.1), {"frechet": {}, **_BALLS}),
    "mixtures, d = 16, 400 v 700": Setting(mixtures(16, 400, 700, 2), {"frechet": {}, **_KID, **_BALLS}),
    "Gaussians, d = 8, 1000 v 1000": Setting(gaussians(8, 1000, 1000, 0.5, 1.0), _BALLS),
    "logits of 10 classes, n = 1000": Setting(logits(10, 1000, 2.0), {"inception-score": {}}),
    "logits of 100 classes, n = 3000": Setting(logits(100, 3000, 3.0), {"inception-score": {}}),
}


@dataclass(frozen=True)
class Coverage:
    """What became of the intervals of one value."""

    setting: str
    metric: str
    value: str
    repetitions: int
    coverage: float
    error_over_spread: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name, setting in SETTINGS.items():
        for line in simulate(name, setting, args.repetitions):
            found.append(line)
            print(
                f"{line.setting:34}{line.metric:18}{line.value:18}{line.coverage:7.3f}{line.error_over_spread:7.2f}",
                flush=True,
            )
    out: Path = args.out or HERE / "results" / f"coverage-{date.today()}.csv"
    write_csv(out, found, LIBRARIES)
    print(f"\nall of them: {out}")


def simulate(name: str, setting: Setting, repetitions: int) -> Iterator[Coverage]:
    scores: dict[str, list[Score]] = {metric: [] for metric in setting.metrics}
    for seed in range(repetitions):
        drawn = setting.draw(np.random.default_rng([seed, len(name)]))
        features = {role: Features.of(torch.from_numpy(rows).float()) for role, rows in drawn.items()}
        for metric, params in setting.metrics.items():
            row = METRICS[metric]
            scores[metric].append(row.compute(features, **{**row.params, **params}))
    for metric, of_metric in scores.items():
        for value in METRICS[metric].better:
            values = np.array([score.values[value] for score in of_metric])
            errors = np.array([score.errors[value] for score in of_metric])
            held = np.abs(values - values.mean()) <= 1.96 * errors
            ratio = float(errors.mean() / values.std(ddof=1))
            yield Coverage(name, metric, value, repetitions, float(held.mean()), round(ratio, 3))


if __name__ == "__main__":
    main()
