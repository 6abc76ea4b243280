"""What the command line shows: progress on standard error, results on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from gen_eval.progress import Progress

if TYPE_CHECKING:
    from gen_eval.results import Result, SetInfo


class _Amount(ProgressColumn):
    """``1,200/2,000 images  34.1 images/s``, or the same in megabytes."""

    def render(self, task: Task) -> Text:
        if task.fields["unit"] == "byte":
            scale, unit = 1e-6, "MB"
        else:
            scale, unit = 1.0, f"{task.fields['unit']}s"
        shape = ",.0f" if scale == 1 else ",.1f"
        total = "" if task.total is None else f"/{task.total * scale:{shape}}"
        speed = task.finished_speed or task.speed
        rate = f"  {speed * scale:,.1f} {unit}/s" if speed else ""
        return Text(f"{task.completed * scale:{shape}}{total} {unit}{rate}")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A :class:`gen_eval.progress.Progress` that draws bars on standard error while it is open."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        _Amount(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=Console(stderr=True), speed_estimate_period=20) as bars:
        tasks: dict[str, TaskID] = {}

        def show(task: str, done: int, total: int | None, unit: str) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, unit=unit)
            bars.update(tasks[task], completed=done, total=total)

        yield show


def show_results(results: Sequence[Result], as_json: bool) -> None:
    """Print results: a table and the terms, or one JSON object a line and nothing else."""
    if as_json:
        for result in results:
            click.echo(result.json_line())
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("measure", "value", "± s.e.", "bias", ""):
        table.add_column(heading, justify="left" if heading in ("measure", "") else "right")
    for result in results:
        bias = "?" if result.bias is None else f"{result.bias:+.2g}"
        error = "" if result.error is None else f"{result.error:.2g}"
        table.add_row(result.measure, f"{result.value:.6g}", error, bias, f"{result.better} is better")
    console.print(table)
    _show_terms(results[0], console)
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        click.secho("warning: ", fg="yellow", bold=True, err=True, nl=False)
        click.echo(warning, err=True)


def _show_terms(result: Result, console: Console) -> None:
    terms = Table(box=None, pad_edge=False, show_header=False)
    for role, info in result.sets.items():
        terms.add_row(role, f"{info.name}  {_count(info)}  sha256 {info.digest[:12]}")
    spec = result.spec
    weights = f"weights {spec.weights}" + (
        " (claimed)" if any(s.claimed for s in result.sets.values()) else ""
    )
    terms.add_row(
        "features", f"{spec.name} {result.tap}, {spec.resize}, {spec.normalize}, {spec.precision}, {weights}"
    )
    terms.add_row("protocol", result.protocol)
    console.print(terms, soft_wrap=True)


def _count(info: SetInfo) -> str:
    if info.n is None:
        return "unknown n"
    return f"{info.n:,} images"
