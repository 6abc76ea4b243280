"""Makes docs/zoo.md of what zoo.py recorded in results/, a section for each record and dataset.

python benchmarks/zoo_page.py
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from zoo_records import Bound, Entry, Tolerance, Truncated, files, machine, read

PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"
TITLES = {
    "gans": "GANs and autoencoders",
    "densities": "flows, autoregression, scores and energies",
}  # of what zoo.py recorded
SIGNS = {"exact": "", "lower": "≤ ", "unbiased": "≈ "}  # before bits per dimension, by kind of likelihood
# Bits per dimension of MNIST in table 2 of Grathwohl et al. 2019, arXiv:1810.01367.
PUBLISHED = {"realnvp": "1.06", "glow": "1.05", "ffjord-conv": "0.99 (1.05 of a single flow)"}
# -ELBO of binary MNIST in nats, of table 3 there.
PUBLISHED_BOUNDS = {"vae-iaf": "84.20 ± 0.17", "vae-sylvester": "83.32 ± 0.06", "vae-cnf": "82.82 ± 0.01"}


def main() -> None:
    truncated, binary, swept = (files(f"zoo-{what}-*.csv") for what in ("truncation", "binary", "tolerance"))
    measured = [path for path in files("zoo-*.csv") if path not in (*truncated, *binary, *swept)]
    points = [each for path in truncated for each in read(path, Truncated)]
    bounds = [each for path in binary for each in read(path, Bound)]
    parts = [head(measured)]
    for path in measured:
        entries = sorted(read(path, Entry), key=lambda each: each.fid)
        for data in sorted({each.data for each in entries}, reverse=True):
            models = [each for each in entries if each.data == data]
            parts.append(section(data, record_of(path), models))
            for model in (each.model for each in models):
                if of_model := [each for each in points if (each.data, each.model) == (data, model)]:
                    parts.append(truncations(model, of_model))
    for data, of_data in itertools.groupby(bounds, key=lambda each: each.data):
        parts.append(posteriors(data, list(of_data)))
    for path in swept:
        parts.append(tolerances(list(read(path, Tolerance))))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def record_of(path: Path) -> str:
    """What a recorded part of the zoo is called: the file's name without its head, device and date."""
    return path.stem.removeprefix("zoo-").rsplit("-", 4)[0]


def head(measured: Sequence[Path]) -> str:
    made = "\n".join(f"- `{path.name}`: {machine(path)}" for path in measured)
    return f"""# The zoo on real images

Made by `python benchmarks/zoo_page.py` of what `benchmarks/zoo.py` recorded in `benchmarks/results/`:

{made}

Each model was trained on one thread from seed 0, with its default settings (`geneval zoo list`).

These are small networks after minutes of one core: the tables say what the metrics make of them, and nothing of what
the methods can do. Each was trained from one seed, and errors are of the samples alone. Parameters are those that a
checkpoint keeps: generators alone, of `vae` and its like encoders too. Of the two domains of `cogan`, images and their
negatives, the first is measured. Bits per dimension are of 500 held-out images, where a model has a likelihood of grey
levels: at most so many (≤) of a lower bound, about so many (≈) of an estimate.
"""


def section(data: str, record: str, entries: Sequence[Entry]) -> str:
    """One recorded part of the zoo on one dataset; entries by FID."""
    some = entries[0]
    lines = [
        f"## {data}: {TITLES.get(record, record)}",
        "",
        f"{some.n:,} samples of each model, and as many held-out images, against the first {some.reference_n:,} "
        "training images. FID depends on both numbers, so tables of others do not compare.",
        "",
        *table(entries),
        "",
        order(entries),
        "",
        f"![samples](zoo/{record}/{data}.png)",
        "",
        *likelihoods(data, entries),
    ]
    return "\n".join(lines)


def table(entries: Sequence[Entry]) -> list[str]:
    lines = [
        "| model | steps | CPU s | parameters | FID | KID x 1000 | precision | recall | coverage | bits/dim |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in entries:
        trained = (f"{each.steps:,}", f"{each.training_cpu_s:.0f}", f"{each.parameters:,}")
        cells = (each.model, *(trained if each.steps else ("",) * 3), *scores(each), bits(each))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def scores(entry: Entry) -> tuple[str, ...]:
    """FID, KID, precision, recall and coverage."""
    return (
        pair(entry.fid, entry.fid_error, 1),
        pair(1000 * entry.kid, 1000 * entry.kid_error, 1),
        pair(entry.precision, entry.precision_error, 3),
        pair(entry.recall, entry.recall_error, 3),
        pair(entry.coverage, entry.coverage_error, 3),
    )


def pair(value: float, error: float, digits: int) -> str:
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def bits(entry: Entry) -> str:
    """Bits per dimension of held-out images, at most or about so many where the likelihood is not exact."""
    if entry.bits_per_dim is None or entry.bits_per_dim_error is None:
        return ""
    return SIGNS[entry.likelihood] + pair(entry.bits_per_dim, entry.bits_per_dim_error, 3)


def order(entries: Sequence[Entry]) -> str:
    """The order by FID: ``<`` where neighbours differ by more than two standard errors, ``~`` elsewhere."""
    text = entries[0].model
    for before, after in itertools.pairwise(entries):
        error = float(np.hypot(before.fid_error, after.fid_error))
        text += f" {'<' if after.fid - before.fid > 2 * error else '~'} {after.model}"
    near = "within two standard errors of the one before, which says nothing of those further off"
    return f"Order by FID: {text}. (`~`: {near}.)"


def likelihoods(data: str, entries: Sequence[Entry]) -> list[str]:
    """Likelihood beside what samples say, of the models that have both."""
    both = [each for each in entries if each.bits_per_dim is not None]
    if len(both) < 3:
        return []
    lines = [
        f"### {data}: likelihood beside samples",
        "",
        "| by bits/dim | bits/dim | by FID | FID | KID x 1000 | precision | recall | coverage | CPU s |"
        + (" published bits/dim |" if data == "mnist" else ""),
        "|---" * (10 if data == "mnist" else 9) + "|",
    ]
    by_bits = sorted(both, key=lambda each: each.bits_per_dim or 0)
    for rank, each in enumerate(by_bits, 1):
        cells = [f"{rank}. {each.model}", bits(each), f"{both.index(each) + 1}.", *scores(each)]
        cells.append(f"{each.training_cpu_s:.0f}")
        if data == "mnist":
            cells.append(PUBLISHED.get(each.model, ""))
        lines.append("| " + " | ".join(cells) + " |")
    rank = spearmanr([each.bits_per_dim for each in both], [each.fid for each in both]).statistic
    lines += [
        "",
        f"Rank correlation of bits per dimension with FID, of these {len(both)} models: {rank:.2f}.",
        "",
    ]
    if data == "mnist":
        lines += [
            "The published figures are of Grathwohl et al. 2019 (arXiv:1810.01367, table 2): larger networks, trained "
            "for far longer.",
            "",
        ]
    return lines


def posteriors(data: str, bounds: Sequence[Bound]) -> str:
    """What a flow adds to the posterior of an autoencoder of binary images."""
    lines = [
        f"### {data}: flows as posteriors",
        "",
        f"-ELBO in nats of {bounds[0].n:,} held-out images whose pixels are drawn as 0 or 1 by their gray levels. The "
        f"posterior is Gaussian in {bounds[0].model}, and moved by a flow in the others; differences are paired by "
        "image.",
        "",
        f"| model | -ELBO | less {bounds[0].model} | steps | CPU s | published, MNIST |",
        "|---|---|---|---|---|---|",
    ]
    for each in bounds:
        first = each.model == bounds[0].model
        cells = (
            each.model,
            pair(each.nll, each.nll_error, 2),
            "" if first else pair(each.difference, each.difference_error, 2),
            f"{each.steps:,}",
            f"{each.training_cpu_s:.0f}",
            PUBLISHED_BOUNDS.get(each.model, ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "The published figures are of Grathwohl et al. 2019 (arXiv:1810.01367, table 3): larger networks, trained "
        "for far longer.",
        "",
    ]
    return "\n".join(lines)


def truncations(model: str, points: Sequence[Truncated]) -> str:
    """A model's precision, recall and FID along truncations."""
    lines = [
        f"Truncation of {model}, {points[0].n:,} samples, so FID is above that of the table:",
        "",
        "| truncation | " + " | ".join(f"{each.truncation:g}" for each in points) + " |",
        "|---" * (len(points) + 1) + "|",
    ]
    for value, digits in (("precision", 3), ("recall", 3), ("fid", 1)):
        cells = (pair(getattr(each, value), getattr(each, f"{value}_error"), digits) for each in points)
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def tolerances(rows: Sequence[Tolerance]) -> str:
    """What a continuous flow gains by a finer solver."""
    lines = [
        f"## ring8: the solver of a continuous flow, {rows[0].model}",
        "",
        f"Made by `benchmarks/tolerances.py` of {rows[0].n:,} points, whose mean -log p is {rows[0].nll:.4f} "
        "nats by a far tighter solver: the mean error of log p, and the mean distance between points and where the "
        "way to the latent and back leads, both by the solver named.",
        "",
        "| solver | evaluations of the field | error of log p, nats | there and back |",
        "|---|---|---|---|",
    ]
    for each in rows:
        lines.append(
            f"| `{each.solver}` | {each.evaluations} | {each.density_error:.1e} | {each.round_trip:.1e} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
