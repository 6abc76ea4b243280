"""Makes docs/zoo.md: every model of the zoo trained on MNIST and Fashion-MNIST, and what the metrics say of it.

    python benchmarks/zoo.py --folder FOLDER --cache FOLDER

Each model is trained by `geneval zoo train` on one thread, --jobs of them side by side; then all are measured. What is
in the folder already is not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gen_eval_cli.allocator import keep_freed_memory
from gen_eval_cli.console import progress_bar
from gen_eval_cli.pictures import Row, draw_rows
from recording import cores, processor, write_csv
from scipy.stats import spearmanr

from gen_eval import Evaluation, Result
from gen_eval.datasets import Dataset, load
from gen_eval.likelihood import Likelihood, evaluate_likelihood
from gen_eval.progress import Progress
from gen_eval.truncation import truncation_curve
from gen_eval.zoo import MODELS, Checkpoint, Sampler, load_checkpoint
from gen_eval.zoo.training import state_path

Points = Sequence[
    tuple[float, Mapping[str, tuple[float, float | None]]]
]  # truncation: value: number and error
DATASETS = ("mnist", "fashion-mnist")
MEASURES = ("fid", "kid", "pr", "dc")
SHOWN = ("fid", "kid", "precision", "recall", "coverage")
HELD_OUT = "held-out real"
SIGNS = {"exact": "", "lower": "≤ ", "unbiased": "≈ "}  # before bits per dimension, by kind of likelihood
SWEEPS = {  # what is truncated, and where
    "sngan": (4.0, 1.5, 1.0, 0.5),
    "biggan": (4.0, 1.5, 1.0, 0.5),
    "stylegan": (1.0, 0.8, 0.5, 0.2),
}
DOMAIN = {"cogan": 0}  # of two, the one that the data is of
_PICTURED = 10


@dataclass(frozen=True)
class Entry:
    """One row of a table, as it is recorded."""

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


def main() -> None:
    arguments = parse()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    train_all(arguments)
    if arguments.train_only:
        return
    keep_freed_memory()
    pictures = arguments.out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    sections, entries = [], []
    for name in arguments.data:
        found, section = measure(name, arguments, pictures / f"{name}.png")
        entries += found
        sections.append(section)
    results = Path(__file__).parent / "results" / f"zoo-{arguments.device or 'cpu'}-{arguments.date}.csv"
    write_csv(results, entries, ("torch", "numpy"))
    arguments.out.write_text(page(sections, arguments), encoding="utf-8")


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
        words = [
            "geneval",
            "zoo",
            "train",
            model,
            "--data",
            data,
            "--seed",
            str(arguments.seed),
            "-o",
            out.name,
        ]
        if state_path(out).exists():
            words.append("--resume")
        print(shlex.join(words), flush=True)
        done = subprocess.run(words, cwd=arguments.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"FAILED: {shlex.join(words)}\n{done.stderr}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(train, missing))


def measure(name: str, arguments: argparse.Namespace, picture: Path) -> tuple[list[Entry], str]:
    """Every model on one dataset: the recorded rows, and the section of the page."""
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
        checkpoints = {}
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
            entries.append(entry(name, model, checkpoints[model], results, likelihood))
            print(entries[-1], flush=True)
        swept = checkpoints if name in arguments.sweep else {}
        sweeps = sweep(swept, rgb(reference), arguments, progress)
    draw(name, entries, samples, picture)
    return entries, section(name, entries, sweeps, picture, arguments)


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
    parameters = sum(tensor.numel() for tensor in checkpoint.weights.values()) if checkpoint else 0
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


def sweep(
    checkpoints: dict[str, Checkpoint],
    reference: np.ndarray,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Points]:
    """Precision, recall and FID along truncations, of the models that have one."""
    found = {}
    for model, psis in SWEEPS.items():
        if model not in checkpoints:
            continue
        sampler = checkpoints[model].sampler()

        def at(psi: float, sampler: Sampler = sampler) -> np.ndarray:
            drawn = sampler.sample(arguments.n // 2, seed=arguments.seed, truncation=psi)
            return rgb(drawn.permute(0, 2, 3, 1).numpy())

        points = truncation_curve(
            at,
            reference=reference,
            psis=psis,
            cache=arguments.cache,
            device=arguments.device,
            progress=progress,
        )
        found[model] = [(point.psi, point.values) for point in points]
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


def section(
    name: str,
    entries: list[Entry],
    sweeps: Mapping[str, Points],
    picture: Path,
    arguments: argparse.Namespace,
) -> str:
    lines = [
        f"## {name}",
        "",
        f"{entries[0].n:,} samples of each model, and as many held-out images, against the first "
        f"{entries[0].reference_n:,} training images.",
        "",
        "| model | steps | CPU s | parameters | FID | KID x 1000 | precision | recall | coverage | bits/dim |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(entries, key=lambda each: each.fid):
        trained = (
            (f"{each.steps:,}", f"{each.training_cpu_s:.0f}", f"{each.parameters:,}")
            if each.steps
            else ("",) * 3
        )
        cells = (
            each.model,
            *trained,
            pair(each.fid, each.fid_error, 1),
            pair(1000 * each.kid, 1000 * each.kid_error, 1),
            *(pair(getattr(each, value), getattr(each, f"{value}_error"), 3) for value in SHOWN[2:]),
            bits(each),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        order(entries),
        "",
        parting(entries),
        "",
        f"![samples]({picture.parent.name}/{picture.name})",
        "",
    ]
    for model, points in sweeps.items():
        heading = f"Truncation of {model}, {entries[0].n // 2:,} samples, so FID is above that of the table:"
        lines += [heading, "", *sweep_table(points), ""]
    return "\n".join(lines)


def sweep_table(points: Points) -> list[str]:
    names = list(points[0][1])
    lines = [
        "| truncation | " + " | ".join(f"{psi:g}" for psi, _ in points) + " |",
        "|---" * (len(points) + 1) + "|",
    ]
    for value in names:
        digits = 1 if value.startswith("fid") else 3
        cells = [pair(values[value][0], values[value][1] or 0, digits) for _, values in points]
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return lines


def pair(value: float, error: float, digits: int) -> str:
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def order(entries: list[Entry]) -> str:
    """The order by FID: ``<`` where neighbours differ by more than two standard errors, ``~`` elsewhere."""
    ranked = sorted(entries, key=lambda each: each.fid)
    text = ranked[0].model
    for before, after in itertools.pairwise(ranked):
        error = float(np.hypot(before.fid_error, after.fid_error))
        text += f" {'<' if after.fid - before.fid > 2 * error else '~'} {after.model}"
    near = "within two standard errors of the one before, which says nothing of those further off"
    return f"Order by FID: {text}. (`~`: {near}.)"


def bits(entry: Entry) -> str:
    """Bits per dimension of held-out images, at most or about so many where the likelihood is not exact."""
    if entry.bits_per_dim is None or entry.bits_per_dim_error is None:
        return ""
    return SIGNS[entry.likelihood] + pair(entry.bits_per_dim, entry.bits_per_dim_error, 3)


def parting(entries: list[Entry]) -> str:
    """Whether the order by likelihood is that by FID, of the models that have both."""
    both = [each for each in entries if each.bits_per_dim is not None]
    if len(both) < 3:
        return ""
    ranked = " < ".join(each.model for each in sorted(both, key=lambda each: each.bits_per_dim or 0))
    rank = spearmanr([each.bits_per_dim for each in both], [each.fid for each in both]).statistic
    of = f"of these {len(both)} models"
    return f"Order by bits per dimension: {ranked}. Its rank correlation with FID, {of}, is {rank:.2f}."


def page(sections: list[str], arguments: argparse.Namespace) -> str:
    command = (
        f"python benchmarks/zoo.py --folder FOLDER --n {arguments.n} --reference-n {arguments.reference_n}"
    )
    command += f" --sweep {' '.join(arguments.sweep)}"
    if arguments.models != list(MODELS):
        command += f" --models {' '.join(arguments.models)}"
    head = f"""# The zoo on real images

Made by `{command}`
on {cores()} cores of {processor()} with torch {torch.__version__}: each model
trained on one thread from seed {arguments.seed}, with its default settings (`geneval zoo list`).

These are small networks after minutes of one core: the tables say what the metrics make of them, and nothing of what
the methods can do. Each was trained from one seed, and errors are of the samples alone. Parameters are those that a
checkpoint keeps: generators alone, of `vae` and its like encoders too. Of the two domains of `cogan`, images and their
negatives, the first is measured. Bits per dimension are of {arguments.likelihood_n} held-out images, where a model
has a likelihood: at most so many (≤) of a lower bound.
"""
    return head + "\n" + "\n".join(sections)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints go, and are found")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--data", nargs="+", default=DATASETS, help="datasets")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="rows of MODELS")
    parser.add_argument("--n", type=int, default=1000, help="samples of each model")
    parser.add_argument("--reference-n", type=int, default=2500, help="training images")
    parser.add_argument("--likelihood-n", type=int, default=500, help="held-out images of a likelihood")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the first sample")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--train-only", action="store_true", help="measure nothing")
    parser.add_argument("--sweep", nargs="*", default=DATASETS, help="datasets whose truncations are swept")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--date", default="", help="to end the name of the recorded file")
    docs = Path(__file__).parents[1] / "docs"
    parser.add_argument("--out", type=Path, default=docs / "zoo.md", help="the page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
