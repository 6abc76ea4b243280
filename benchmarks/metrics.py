"""Time and memory of the metric engines beside those of other tools, on the same features.

::

    python benchmarks/metrics.py                      # everything, 3 rounds: an hour of two quiet cores
    python benchmarks/metrics.py --jobs kid-5000 precision-recall-10000 --rounds 5

Each run is a process of its own that loads two sets of made-up features ``[n, 2048]``, calls one function and
reports its seconds and the memory that it took beyond the features. Contestants of a job take turns.
A table of medians goes to standard output, every run to ``benchmarks/results/metrics-cpu-<date>.csv``.
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
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from gen_eval.bench.recording import write_csv

HERE = Path(__file__).parent
DIM = 2048
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "gen_eval",
    "faiss-gpu",
    "torch-fidelity",
    "clean-fid",
    "pytorch-fid",
    "prdc",
)
OURS = "gen_eval"

# --- Contestants: features of the generated and the reference images, [n, d] float32, to a number


def our_frechet(generated: np.ndarray, reference: np.ndarray, method: str = "auto") -> float:
    import torch

    from gen_eval.metrics.frechet.frechet import frechet
    from gen_eval.metrics.frechet.gaussian import Gaussian
    from gen_eval.stats import Moments

    sides = []
    for rows in (generated, reference):
        moments = Moments.of(torch.from_numpy(rows))
        sides.append(Gaussian(moments.n, moments.mean, moments.cov(), torch.from_numpy(rows)))
    return timed(lambda: frechet(*sides, method=method).values["frechet"])


def our_frechet_alone(generated: np.ndarray, reference: np.ndarray) -> float:
    return our_frechet(generated, reference, "value")


def of_moments(generated: np.ndarray, reference: np.ndarray, distance: Callable[..., float]) -> float:
    moments = [
        (rows.mean(0), np.cov(rows, rowvar=False))
        for rows in (generated.astype(float), reference.astype(float))
    ]
    return timed(lambda: float(distance(*moments[0], *moments[1])))


def pytorch_fid_frechet(generated: np.ndarray, reference: np.ndarray) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return of_moments(generated, reference, calculate_frechet_distance)


def torch_fidelity_frechet(generated: np.ndarray, reference: np.ndarray) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    def distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any) -> float:
        sides = [{"mu": mu, "sigma": sigma} for mu, sigma in ((mu1, sigma1), (mu2, sigma2))]
        return float(fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID])

    return of_moments(generated, reference, distance)


def our_kid(generated: np.ndarray, reference: np.ndarray) -> float:
    import torch

    from gen_eval.metrics.kernel.kid import kid

    sides = [torch.from_numpy(rows) for rows in (generated, reference)]
    return timed(lambda: kid(*sides).values["kid"])


def torch_fidelity_kid(generated: np.ndarray, reference: np.ndarray) -> float:
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    sides = [torch.from_numpy(rows) for rows in (generated, reference)]
    return timed(lambda: float(kid_features_to_metric(*sides, verbose=False)[KEY_METRIC_KID_MEAN]))


def clean_fid_kid(generated: np.ndarray, reference: np.ndarray) -> float:
    from cleanfid.fid import kernel_distance

    return timed(lambda: float(kernel_distance(reference, generated)))


def our_precision_recall(generated: np.ndarray, reference: np.ndarray) -> float:
    import torch

    from gen_eval.metrics.neighbors.manifold import precision_recall

    sides = [torch.from_numpy(rows) for rows in (generated, reference)]
    return timed(lambda: precision_recall(*sides, k=3).values["precision"])


def torch_fidelity_precision_recall(generated: np.ndarray, reference: np.ndarray) -> float:
    import torch
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, prc_features_to_metric

    sides = [torch.from_numpy(rows) for rows in (generated, reference)]
    return timed(lambda: float(prc_features_to_metric(*sides, verbose=False)[KEY_METRIC_PRECISION]))


def prdc_precision_recall(generated: np.ndarray, reference: np.ndarray) -> float:
    from prdc import compute_prdc

    return timed(lambda: float(compute_prdc(reference, generated, nearest_k=3)["precision"]))


# --- Jobs


@dataclass(frozen=True)
class Job:
    """The same work, done by several.

    Args:
        n: images in each set.
        contestants: by name, ours first.
        bar: by how much ours is to be faster than the fastest other, or than ``than``.
        than: the one that the bar is about.
    """

    n: int
    contestants: Mapping[str, Callable[[np.ndarray, np.ndarray], float]]
    bar: float | None = None
    than: str | None = None


_KID = {OURS: our_kid, "torch-fidelity": torch_fidelity_kid, "clean-fid": clean_fid_kid}
_PRECISION_RECALL = {
    OURS: our_precision_recall,
    "torch-fidelity": torch_fidelity_precision_recall,
    "prdc": prdc_precision_recall,
}
# Ours without error and bias is the same work; with them it is what `geneval fid` does.
_FRECHET = {
    OURS: our_frechet_alone,
    "pytorch-fid": pytorch_fid_frechet,
    "torch-fidelity": torch_fidelity_frechet,
    f"{OURS} with error": our_frechet,
}
JOBS = {
    "frechet-5000": Job(5_000, _FRECHET, bar=9, than="pytorch-fid"),
    **{f"kid-{n}": Job(n, _KID, bar=3.5 if n == 5_000 else 1) for n in (1_000, 2_000, 5_000, 10_000, 20_000)},
    "precision-recall-5000": Job(5_000, _PRECISION_RECALL),
    "precision-recall-10000": Job(10_000, _PRECISION_RECALL, bar=3.5),
    "precision-recall-50000": Job(50_000, {OURS: our_precision_recall}),
}


@dataclass(frozen=True)
class Run:
    """One process of one contestant."""

    job: str
    tool: str
    round: int
    wall_s: float
    extra_mib: float
    value: float


# --- One run

_clock: list[float] = []


def timed(work: Callable[[], float]) -> float:
    """Time a piece of work, apart from imports and from what prepares it, and the memory it takes."""
    reset_peak()
    before, started = resident("VmRSS"), time.perf_counter()
    value = work()
    _clock[:] = [time.perf_counter() - started, resident("VmHWM") - before]
    return value


def clock() -> dict[str, float]:
    """What the last piece of work took."""
    return {"wall_s": _clock[0], "extra_mib": _clock[1]}


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def resident(line: str) -> float:
    """A line of this process's status, in MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(each.split()[1]) / 1024 for each in status if each.startswith(line))


def run_one(job: str, tool: str, folder: Path) -> None:
    warnings.simplefilter("ignore")  # of the other tools
    sides = [np.load(folder / f"{role}-{JOBS[job].n}.npy") for role in ("generated", "reference")]
    value = JOBS[job].contestants[tool](*sides)
    print(json.dumps({**clock(), "value": value}))


def write_features(n: int, folder: Path, dim: int = DIM) -> None:
    """Two sets like Inception's features: not negative, heavy tails, shared factors, uneven scales."""
    for role, shift in (("generated", 0.12), ("reference", 0.06)):
        path = folder / f"{role}-{n}.npy"
        if path.exists():
            continue
        rng, common = np.random.default_rng([n, role == "reference"]), np.random.default_rng(0)
        loadings = common.normal(0, 0.15, (64, dim)).astype(np.float32)
        scale = common.lognormal(-1, 0.7, dim).astype(np.float32)
        out = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
        for start in range(0, n, 5_000):
            count = min(5_000, n - start)
            noise = rng.standard_normal((count, dim), dtype=np.float32)
            factors = rng.standard_t(5, (count, 64)).astype(np.float32)
            out[start : start + count] = np.maximum(noise + factors @ loadings + shift, 0) ** 1.5 * scale


# --- All runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=tuple(JOBS), metavar="JOB", help=" ".join(JOBS)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.jobs[0], args.one[0], Path(args.one[1]))
        return
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for job in args.jobs:
            write_features(JOBS[job].n, Path(scratch))
            for turn in range(args.rounds):
                runs += [measure(job, tool, turn, scratch) for tool in JOBS[job].contestants]
    out: Path = args.out or HERE / "results" / f"metrics-cpu-{date.today()}.csv"
    write_csv(out, runs, LIBRARIES)
    print_table(runs)
    print(f"\nevery run: {out}")


def measure(job: str, tool: str, turn: int, folder: str) -> Run:
    # Where OPENBLAS_CORETYPE is exported it may name an older core, at half the speed in numpy and SciPy.
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    command = [sys.executable, __file__, "--jobs", job, "--one", tool, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} failed at {job}:\n{done.stderr}")
    run = Run(job, tool, turn, **json.loads(done.stdout.splitlines()[-1]))
    print(f"{job} round {turn} {tool}: {run.wall_s:.2f} s, {run.value!r}", file=sys.stderr)
    return run


def print_table(runs: Sequence[Run]) -> None:
    """Medians over the rounds, and what ours is ahead of its rival and of the leanest other."""
    print(f"{'job':24}{'tool':20}{'wall s':>9}{'extra MiB':>11}   value")
    for name in dict.fromkeys(run.job for run in runs):
        walls, extras = {}, {}
        for tool in JOBS[name].contestants:
            mine = [run for run in runs if (run.job, run.tool) == (name, tool)]
            walls[tool] = statistics.median(run.wall_s for run in mine)
            extras[tool] = statistics.median(run.extra_mib for run in mine)
            print(f"{name:24}{tool:20}{walls[tool]:9.2f}{extras[tool]:11.0f}   {mine[-1].value:.9g}")
        others = [tool for tool in walls if not tool.startswith(OURS)]
        if others:
            rival = JOBS[name].than or min(others, key=walls.__getitem__)
            wanted = f" (wanted {JOBS[name].bar})" if JOBS[name].bar else ""
            lean = extras[OURS] / min(extras[tool] for tool in others)
            print(f"{'':24}{walls[rival] / walls[OURS]:.2f} times as fast as {rival}{wanted}, ", end="")
            print(f"{lean:.2f} of the leanest other's memory")


if __name__ == "__main__":
    main()
