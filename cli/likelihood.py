"""``geneval likelihood``: from the log-likelihoods that a model wrote to bits per dimension, with their errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from gen_eval.likelihood import Likelihood
    from gen_eval.metrics.score import Score

    Differences = Sequence[tuple[str, Score]]


@click.command()
@click.argument("files", metavar="LOGP...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--dims", type=click.IntRange(1), required=True, help="Dimensions of an image: height x width x channels."
)
@click.option(
    "--kind",
    type=click.Choice(["exact", "lower", "unbiased"]),
    required=True,
    help="What LOGP is of log p(x): exact, a lower bound (ELBO, IWAE, AIS), or an unbiased estimate (Hutchinson).",
)
@click.option(
    "--dequantization",
    type=click.Choice(["uniform", "variational", "none", "binary"]),
    default="uniform",
    show_default=True,
    help="What fills the gaps between levels; none for discrete models and vectors, binary for those of bits.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, min_open=True),
    help="Levels to a unit of the density's space: 256 for pixels on [0, 1], 128 on [-1, 1], 1 on [0, 256]; "
    "256 by default, 1 without dequantization and of binary images.",
)
@click.option(
    "--draws", type=click.IntRange(1), default=1, help="K, if each of [n] is a bound made of several draws."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a file and difference on standard output."
)
def likelihood(
    files: tuple[Path, ...],
    dims: int,
    kind: str,
    dequantization: str,
    scale: float | None,
    draws: int,
    as_json: bool,
) -> None:
    """Negative log-likelihood and bits per dimension of held-out images, with standard errors.

    LOGP is a .npy, .csv or .txt file of log-likelihoods in nats, one an image, [n]; or of log-weights
    log p(x, z) - log q(z | x), a row an image and a column a draw, [n, K], whose bound (IWAE) is taken. Of several
    files, which must be of the same images in the same order, each is compared with the first.
    """
    from gen_eval.dequantization import UNSCALED
    from gen_eval.likelihood import Likelihood, Terms
    from gen_eval.results import SetInfo

    if scale is None:
        scale = 1.0 if dequantization in UNSCALED else 256.0
    terms = Terms(kind, dims, dequantization, draws, scale)
    likelihoods = []
    for file in files:
        log_probs = read_log_probs(file)
        nested = (
            [10**power for power in range(9) if 10**power < log_probs.shape[-1]]
            if log_probs.ndim == 2
            else ()
        )
        data = SetInfo(str(file), "", len(log_probs), claimed=True)
        likelihoods.append(Likelihood.of(log_probs, terms, data, model=str(file), nested=nested))
    report(likelihoods, as_json)


def report(likelihoods: Sequence[Likelihood], as_json: bool) -> None:
    """Print likelihoods, and the differences of the first from each of the others.

    Raises:
        IncomparableError: if their terms or images differ.
    """
    from gen_eval.likelihood import compare_likelihoods, require_comparable_likelihoods

    require_comparable_likelihoods(likelihoods)
    first, *others = likelihoods
    differences = [
        (f"{first.model} less {other.model}", compare_likelihoods(first, other)) for other in others
    ]
    if as_json:
        _print_json(likelihoods, differences)
    else:
        _show(likelihoods, differences)


def read_log_probs(path: Path) -> Tensor:
    """Numbers from a file, ``[n]`` or ``[n, K]``.

    Raises:
        UsageError: if it is no file of numbers.
    """
    import numpy as np
    import torch

    from gen_eval.errors import UsageError

    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
        elif path.suffix.lower() in (".csv", ".txt"):
            array = np.loadtxt(path, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=2)
            array = array[:, 0] if array.shape[1] == 1 else array
        else:
            raise ValueError("expected .npy, .csv or .txt")
        return torch.from_numpy(array.astype(np.float64))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as log-likelihoods: {error}") from error


def _print_json(likelihoods: Sequence[Likelihood], differences: Differences) -> None:
    for one in likelihoods:
        click.echo(one.json_line())
    for name, score in differences:
        line = {
            "measure": "likelihood-difference",
            "name": name,
            "values": dict(score.values),
            "errors": dict(score.errors),
            "warnings": list(score.warnings),
        }
        click.echo(json.dumps(line, allow_nan=False))


def _show(likelihoods: Sequence[Likelihood], differences: Differences) -> None:
    from rich.table import Table

    from .console import print_table, warn

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("measure", "value", "± s.e.", "p", "n", ""):
        table.add_column(heading, justify="left" if heading in ("measure", "") else "right")
    for one in likelihoods:
        _add_likelihood(table, one, f" of {one.model}" if len(likelihoods) > 1 else "")
    for name, score in differences:
        n = f"{len(score.per_image['heldout']):,}"
        for value, unit in (("nll", "nats an image"), ("bits_per_dim", "")):
            cells = (f"{score.values[value]:+.6g}", f"{score.errors[value]:.2g}")
            table.add_row(f"{value}, {name}", *cells, f"{score.values['p_value']:.2g}", n, unit)
    print_table(table)
    _show_terms(likelihoods)
    warnings = [text for one in likelihoods for text in one.warnings]
    for warning in dict.fromkeys([*warnings, *(text for _, score in differences for text in score.warnings)]):
        warn(warning)


def _add_likelihood(table: Table, one: Likelihood, of: str) -> None:
    n = f"{one.data.n:,}"
    for name, note in (("nll", "nats an image, lower is better"), ("bits_per_dim", "lower is better")):
        table.add_row(f"{name}{of}", f"{one.values[name]:.6g}", f"{one.errors[name]:.2g}", "", n, note)
    for draws, (value, error) in one.bounds.items():
        table.add_row(f"  nll at K = {draws:,}", f"{value:.6g}", f"{error:.2g}", style="dim")
    for name, value in one.values.items():
        if name not in one.errors:
            table.add_row(f"  {name}", f"{value:.4g}", style="dim")


def _show_terms(likelihoods: Sequence[Likelihood]) -> None:
    from gen_eval.dequantization import DEQUANTIZATIONS
    from gen_eval.likelihood import KINDS

    terms, claimed = likelihoods[0].terms, " (claimed)" if likelihoods[0].data.claimed else ""
    bound = f", {terms.draws:,} draws" if terms.kind == "lower" else ""
    click.echo(f"{'kind':11}{terms.kind}{bound}: {KINDS[terms.kind]}")
    click.echo(f"{'x':11}{terms.dequantization}: {DEQUANTIZATIONS[terms.dequantization]}")
    click.echo(f"{'space':11}{terms.dims:,} dimensions, {terms.scale:g} levels to a unit{claimed}")
    if len(likelihoods) > 1:
        click.echo(f"{'images':11}the same of each, in the same order{claimed}")
