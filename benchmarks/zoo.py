"""Trains models of the zoo on MNIST and Fashion-MNIST and records what the metrics say of them, for docs/zoo.md.

    python benchmarks/zoo.py flows --models nice realnvp glow --folder FOLDER --cache FOLDER --date 2026-11-28
    python benchmarks/zoo_page.py

Each model is trained by `geneval zoo train` on one thread, --jobs of them side by side; then all are measured. What is
in the folder already is not trained again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gen_eval_cli.allocator import keep_freed_memory
from gen_eval_cli.console import progress_bar
from gen_eval_cli.pictures import Row, draw_rows
from zoo_records import HELD_OUT, RESULTS, Bound, Entry, Truncated

from gen_eval import Evaluation, Result
from gen_eval.bench.recording import write_csv
from gen_eval.datasets import Dataset, load
from gen_eval.likelihood import Likelihood, compare_likelihoods, evaluate_likelihood
from gen_eval.progress import Progress
from gen_eval.truncation import truncation_curve
from gen_eval.zoo import MODELS, Checkpoint, Sampler, load_checkpoint
from gen_eval.zoo.checkpoint import kept_modules
from gen_eval.zoo.training import state_path

DATASETS = ("mnist", "fashion-mnist")
MEASURES = ("fid", "kid", "pr", "dc")
SHOWN = ("fid", "kid", "precision", "recall", "coverage")
SWEEPS = {  # what is truncated, and where
    "sngan": (4.0, 1.5, 1.0, 0.5),
    "biggan": (4.0, 1.5, 1.0, 0.5),
    "stylegan": (1.0, 0.8, 0.5, 0.2),
}
DOMAIN = {"cogan": 0}  # of two, the one that the data is of
_PICTURED = 10


def main() -> None:
    arguments = parse()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    train_all(arguments)
    if arguments.train_only:
        return
    keep_freed_memory()
    (arguments.pictures / arguments.record).mkdir(parents=True, exist_ok=True)
    entries, sweeps, bounds = [], [], []
    for name in arguments.data:
        found, truncated, bounded = measure(name, arguments)
        entries += found
        sweeps += truncated
        bounds += bounded
    write(f"zoo-{arguments.record}", entries, arguments)
    write(f"zoo-truncation-{arguments.record}", sweeps, arguments)
    write(f"zoo-binary-{arguments.record}", bounds, arguments)


def write(
    name: str, rows: list[Entry] | list[Truncated] | list[Bound], arguments: argparse.Namespace
) -> None:
    if not rows:
        return
    file = f"{name}-{arguments.device or 'cpu'}-{arguments.date}.csv"
    write_csv(RESULTS / file, rows, ("torch", "numpy"))


def file_of(model: str, data: str, arguments: argparse.Namespace) -> Path:
    return Path(arguments.folder / f"{model}_{data}.safetensors")


def train_all(arguments: argparse.Namespace) -> None:
    """Train what is missing, several side by side, each by the command that a user would give."""
    missing = [
        file_of(model, data, arguments)
        for data in arguments.data
        for model in arguments.models
        if not file_of(model, data, arguments).exists()
    ]
    environment = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}}

    def train(out: Path) -> None:
        model, _, data = out.stem.partition("_")
        seed = str(arguments.seed)
        words = ["geneval", "zoo", "train", model, "--data", data, "--seed", seed, "-o", out.name]
        if state_path(out).exists():
            words.append("--resume")
        print(shlex.join(words), flush=True)
        done = subprocess.run(words, cwd=arguments.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"FAILED: {shlex.join(words)}\n{done.stderr}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(train, missing))


def measure(name: str, arguments: argparse.Namespace) -> tuple[list[Entry], list[Truncated], list[Bound]]:
    """Every model on one dataset, and the picture of their samples."""
    train, test = load(name, "train"), load(name, "test")
    reference, heldout = some(train, arguments.reference_n), some(test, arguments.n)
    with progress_bar() as progress:
        evaluation = Evaluation(
            MEASURES,
            reference=rgb(reference),
            cache=arguments.cache,
            device=arguments.device,
            progress=progress,
        )
        entries = [entry(name, HELD_OUT, None, evaluation.measure(rgb(heldout)), None)]
        samples = {HELD_OUT: heldout}
        checkpoints, binary = {}, {}
        for model in arguments.models:
            path = file_of(model, name, arguments)
            if not path.exists():
                continue
            checkpoints[model] = load_checkpoint(path)
            sampler = checkpoints[model].sampler()
            drawn = sampler.sample(arguments.n, seed=arguments.seed, labels=DOMAIN.get(model))
            samples[model] = drawn.permute(0, 2, 3, 1).numpy()
            results = evaluation.measure(rgb(samples[model]))
            likelihood = likelihood_of(sampler, heldout[: arguments.likelihood_n], progress)
            if likelihood and likelihood.terms.dequantization == "binary":  # of other images, as it were
                binary[model], likelihood = likelihood, None
            entries.append(entry(name, model, checkpoints[model], results, likelihood))
            print(entries[-1], flush=True)
        swept = checkpoints if name in arguments.sweep else {}
        sweeps = sweep(name, swept, rgb(reference), arguments, progress)
    draw(name, entries, samples, arguments.pictures / arguments.record / f"{name}.png")
    bounds = [bound(name, model, checkpoints[model], binary) for model in binary]
    return entries, sweeps, bounds


def some(dataset: Dataset, n: int) -> np.ndarray:
    """The first of a split, which is in no order of classes."""
    return dataset.images[:n]


def rgb(images: np.ndarray) -> np.ndarray:
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def likelihood_of(sampler: Sampler, heldout: np.ndarray, progress: Progress) -> Likelihood | None:
    """What the sampler makes of held-out images, if it has a likelihood of their gray levels."""
    if not hasattr(sampler, "log_prob") or getattr(sampler, "dequantization", "uniform") == "binary":
        return None
    return evaluate_likelihood(sampler, heldout, progress=progress)


def entry(
    data: str,
    model: str,
    checkpoint: Checkpoint | None,
    results: list[Result],
    likelihood: Likelihood | None,
) -> Entry:
    judged = {
        result.label(value): (result.values[value], result.errors[value])
        for result in results
        for value in result.better
    }
    numbers = {}
    for value in SHOWN:
        numbers[value], numbers[f"{value}_error"] = judged[value]
    sets = results[0].sets
    parameters = learnt(checkpoint) if checkpoint else 0
    return Entry(
        data,
        model,
        checkpoint.steps if checkpoint else 0,
        checkpoint.cpu_seconds if checkpoint else 0.0,
        parameters,
        sets["generated"].n,
        sets["reference"].n,
        **numbers,
        likelihood=likelihood.terms.kind if likelihood else "",
        bits_per_dim=likelihood.values["bits_per_dim"] if likelihood else None,
        bits_per_dim_error=likelihood.errors["bits_per_dim"] if likelihood else None,
    )


def learnt(checkpoint: Checkpoint) -> int:
    """Numbers that training moves, of the modules that a checkpoint keeps: no masks, no statistics of batches."""
    kept = kept_modules(checkpoint.recipe.task(checkpoint.kind))
    return sum(parameter.numel() for parameter in kept.parameters() if parameter.requires_grad)


def bound(name: str, model: str, checkpoint: Checkpoint, binary: dict[str, Likelihood]) -> Bound:
    found = binary[model]
    difference = compare_likelihoods(found, next(iter(binary.values())))
    return Bound(
        name,
        model,
        checkpoint.steps,
        checkpoint.cpu_seconds,
        found.data.n,
        found.value,
        found.error,
        difference.values["nll"],
        difference.errors["nll"],
    )


def sweep(
    name: str,
    checkpoints: dict[str, Checkpoint],
    reference: np.ndarray,
    arguments: argparse.Namespace,
    progress: Progress,
) -> list[Truncated]:
    """Precision, recall and FID along truncations, of the models that have one."""
    n, found = arguments.n // 2, []
    for model, psis in SWEEPS.items():
        if model not in checkpoints:
            continue
        sampler = checkpoints[model].sampler()

        def at(psi: float, sampler: Sampler = sampler) -> np.ndarray:
            drawn = sampler.sample(n, seed=arguments.seed, truncation=psi)
            return rgb(drawn.permute(0, 2, 3, 1).numpy())

        points = truncation_curve(
            at,
            reference=reference,
            psis=psis,
            cache=arguments.cache,
            device=arguments.device,
            progress=progress,
        )
        for point in points:
            (precision, recall, fid) = (point.values[value] for value in ("precision", "recall", "fid"))
            found.append(Truncated(name, model, point.psi, n, *precision, *recall, *fid))
    return found


def draw(name: str, entries: list[Entry], samples: dict[str, np.ndarray], picture: Path) -> None:
    rows = [
        Row(
            list(rgb(samples[each.model][:_PICTURED])),
            each.model,
            f"FID {each.fid:.1f} ± {each.fid_error:.1f}",
            f"{each.steps:,} steps" if each.steps else "",
        )
        for each in sorted(entries, key=lambda each: each.fid)
    ]
    draw_rows(
        rows, f"{name}: samples of seeds 0 to 9, not chosen", "FID (Inception), lower is better", picture
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", help="what to call this part of the zoo, in the names of its files")
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints go, and are found")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--data", nargs="+", default=DATASETS, help="datasets")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="rows of MODELS")
    parser.add_argument("--n", type=int, default=1000, help="samples of each model")
    parser.add_argument("--reference-n", type=int, default=5000, help="training images")
    parser.add_argument("--likelihood-n", type=int, default=500, help="held-out images of a likelihood")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the first sample")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--train-only", action="store_true", help="measure nothing")
    parser.add_argument("--sweep", nargs="*", default=DATASETS, help="datasets whose truncations are swept")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--date", required=True, help="to end the names of the recorded files")
    docs = Path(__file__).parents[1] / "docs"
    parser.add_argument("--pictures", type=Path, default=docs / "zoo", help="where pictures go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
