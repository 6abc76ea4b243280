"""What the command line shows: progress on standard error, results on standard output."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from gen_eval.progress import Progress

if TYPE_CHECKING:
    from gen_eval.results import Result, SetInfo

_WIDEST = 400  # columns of a table
_LOG_EVERY = 15.0  # seconds between lines where standard error is a file


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A :class:`gen_eval.progress.Progress` on standard error: bars on a terminal, a line now and then in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Log()
        return
    one_line = Column(no_wrap=True, overflow="ellipsis")
    left = TimeRemainingColumn(elapsed_when_finished=True, table_column=one_line)
    name = TextColumn(
        "{task.description}", table_column=Column(max_width=30, no_wrap=True, overflow="ellipsis")
    )
    with Bars(name, BarColumn(20), _Amount(one_line.copy()), left, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(task: str, done: int, total: int | None, unit: str) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, unit=unit)
            bars.update(tasks[task], completed=done, total=total)

        yield show


class _Amount(ProgressColumn):
    """``1,200/2,000 images, 34.1/s``."""

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        speed = task.finished_speed or task.speed
        return Text(_amount(int(task.completed), total, task.fields["unit"], speed))


class _Log:
    """A line at the start and the end of a task, and every so often between."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}  # when, and how much was done before, as if resumed
        self._said: dict[str, float] = {}

    def __call__(self, task: str, done: int, total: int | None, unit: str) -> None:
        now = time.monotonic()
        started, before = self._started.setdefault(task, (now, done))
        if done != total and now - self._said.get(task, started) < _LOG_EVERY:
            return
        self._said[task] = now
        speed = (done - before) / (now - started) if now > started else None
        left = f", {(total - done) / speed:.0f} s left" if total and speed and done < total else ""
        click.echo(f"{task}  {_amount(done, total, unit, speed)}{left}", err=True)


def _amount(done: int, total: int | None, unit: str, speed: float | None) -> str:
    scale, shape, plural = (1e-6, ",.1f", "MB") if unit == "byte" else (1.0, ",.0f", f"{unit}s")
    of_total = "" if total is None else f"/{total * scale:{shape}}"
    rate = "" if speed is None or unit == "second" else f", {speed * scale:,.1f}/s"
    return f"{done * scale:{shape}}{of_total} {plural}{rate}"


def show_results(results: Sequence[Result], as_json: bool) -> None:
    """Print results: a table and the terms, or one JSON object a line and nothing else."""
    if as_json:
        for result in results:
            click.echo(result.json_line())
        return
    print_table(_table(results))
    show_terms(results)
    show_cautions(results)


def print_table(table: Table) -> None:
    """Print a table whole: a terminal that is too narrow may break lines, but never cuts a digit off."""
    Console(highlight=False, width=_WIDEST).print(table, soft_wrap=True)


def _table(results: Sequence[Result]) -> Table:
    """A line for each value: those that models are judged by, and what stands beside them, indented."""
    from gen_eval.direction import spell
    from gen_eval.results import labelled

    table = Table(box=None, pad_edge=False, header_style="bold")
    heldout = any(result.heldout for result in results)
    for heading in ("measure", "value", "± s.e.", "bias", "n", *(("held-out",) if heldout else ()), ""):
        table.add_column(heading, justify="left" if heading in ("measure", "") else "right")
    labels = {(result.measure, name): label for label, result, name in labelled(results)}
    for result in results:
        for name, value in result.values.items():
            judged = name in result.better
            cells = [
                labels[result.measure, name] if judged else f"  {name}",
                f"{value:.6g}",
                _optional(result.errors.get(name), ".2g", "none" if judged else ""),
                _optional(result.biases.get(name), "+.2g", "unknown" if judged else ""),
                "/".join(_number(info.n) for info in result.sets.values()) if judged else "",
            ]
            if heldout:
                cells.append(_with_error(result.heldout, name))
            table.add_row(
                *cells, spell(result.better[name]) if judged else "", style=None if judged else "dim"
            )
    return table


def _optional(number: float | None, form: str, missing: str) -> str:
    return missing if number is None else f"{number:{form}}"


def _with_error(result: Result | None, name: str) -> str:
    if result is None or name not in result.values:
        return ""
    error = result.errors.get(name)
    return f"{result.values[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _number(n: int | None) -> str:
    return "?" if n is None else f"{n:,}"


def show_cautions(results: Sequence[Result]) -> None:
    """Print to standard error what was done to images on the way, and the warnings; each thing once."""
    every = [one for result in results for one in (result, result.heldout) if one]
    for info in {info.name: info for result in every for info in result.sets.values()}.values():
        show_notes(info.name, info.notes)
    for warning in dict.fromkeys(warning for result in every for warning in result.warnings):
        warn(warning)


def show_notes(name: str, notes: Mapping[str, int]) -> None:
    """Print to standard error how many images of a set decoding changed, by what it changed."""
    for note, count in notes.items():
        click.echo(f"note: {count:,} of {name}: {note}", err=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    click.secho("warning: ", fg="yellow", bold=True, err=True, nl=False)
    click.echo(text, err=True)


def show_terms(results: Sequence[Result]) -> None:
    """What was measured, through what, and under which settings; each thing once."""
    sets: dict[str, SetInfo] = {}
    for result in results:
        held = {"heldout": result.heldout.sets["generated"]} if result.heldout else {}
        for role, info in {**result.sets, **held}.items():
            if role not in sets or (info.n or 0) > (sets[role].n or 0):  # some measure a sample alone
                sets[role] = info
    for role, info in sets.items():
        shown = "held-out" if role == "heldout" else role
        click.echo(f"{shown:11}{info.name}, {info.count}, content {info.digest[:12]}")
    for spec, tap in dict.fromkeys((result.spec, result.tap) for result in results):
        claimed = " (claimed)" if any(info.claimed for info in sets.values()) else ""
        click.echo(f"{'features':11}{spec.name} {tap}, weights {spec.weights}{claimed}")
        click.echo(f"{'':11}{spec.resize}, {spec.normalize}, {spec.precision}")
    click.echo(f"{'protocol':11}{results[0].protocol}")
