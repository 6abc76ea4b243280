"""What measures say of disturbed sets, as a table, a .csv or .json file, or a page of Markdown."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from .console import print_table, show_cautions, show_terms, warn
from .outputs import writing

if TYPE_CHECKING:
    from gen_eval.sensitivity import Move, Sensitivity

FORMATS = (".csv", ".json")
_STYLES = {"worse": "bold red", "better": "bold cyan", "": "dim"}
_MEANING = (
    "how far a value moves from that of the clean set, in standard errors of the difference, positive where it says "
    "that the set is worse"
)
_INTRODUCTION = (
    "Real images are disturbed in the classic ways, each at rising strength, and measured against other real images. "
    "A set of images is split once; all disturbed sets are made of the same clean part and meet the same reference, so "
    "that they differ in the disturbance alone. Each number is {meaning}. In bold are those beyond {seen:g}. They are "
    "what two models would show whose values come with these errors; as a test they are cautious, since the sets "
    "share their images. Where chance is all, as under `none`, at most about one move in twenty is beyond 2. What each "
    "value says is put into words below its table, with the strengths at which it says so, unless it does at all of "
    "them. This page is made by `geneval sensitivity`."
)


def show_moves(report: Sensitivity) -> None:
    """Print the table on standard output, and what is to be said of it on standard error."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("disturbance", "strength", *report.names):
        table.add_column(heading, justify="left" if heading == "disturbance" else "right")
    clean = report.clean_values.values()
    table.add_row("clean", "", *(f"{value:.4g}" for value, _ in clean))
    table.add_row("± s.e.", "", *("none" if error is None else f"{error:.2g}" for _, error in clean))
    for disturbance, strengths in report.disturbances.items():
        for at, strength in enumerate(strengths):
            moves = [report.of(disturbance, name)[at] for name in report.names]
            cells = [f"[{_STYLES[move.verdict]}]{_cell(move)}[/]" for move in moves]
            table.add_row("" if at else disturbance, f"{strength:g}", *cells)
    print_table(table)
    click.echo(f"Each number is {_MEANING}.")
    show_terms(report.clean)
    for reason in dict.fromkeys(report.left_out.values()):
        names = ", ".join(name for name, why in report.left_out.items() if why == reason)
        warn(f"left out: {names}: {reason}")
    show_cautions(report.clean)


def _cell(move: Move) -> str:
    return "" if move.worse is None else f"{move.worse:+.1f}"


def write_moves(report: Sensitivity, out: Path) -> None:
    """Write every number: a line of .csv for each value of each set; .json with the terms besides.

    Raises:
        UsageError: if it cannot be written.
    """
    lines = [move.to_json() for move in report.moves]
    if out.suffix.lower() == ".csv":
        with writing(out), out.open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
            rows.writeheader()
            rows.writerows(lines)
        return
    data = {
        "images": report.images,
        "n": report.n,
        "seed": report.seed,
        "clean": [json.loads(result.json_line()) for result in report.clean],
        "left_out": dict(report.left_out),
        "moves": [{key: _json(value) for key, value in line.items()} for line in lines],
    }
    with writing(out):
        out.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _json(value: object) -> object:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_page(
    reports: Sequence[Sensitivity], pictures: Sequence[Path | None], commands: Sequence[str], out: Path
) -> None:
    """Write a page of Markdown with a section for each report.

    Args:
        reports: what was measured.
        pictures: the chart of each, where there is one.
        commands: what made each.
        out: the file.

    Raises:
        UsageError: if it cannot be written.
    """
    from gen_eval.disturbances import DISTURBANCES
    from gen_eval.sensitivity import SEEN

    used = {name: None for report in reports for name in report.disturbances}
    lines = [
        "# What each measure sees",
        "",
        _INTRODUCTION.format(meaning=_MEANING, seen=SEEN),
        "",
        "| disturbance | what it does | strength |",
        "|---|---|---|",
        *(f"| {name} | {DISTURBANCES[name].meaning} | {DISTURBANCES[name].unit} |" for name in used),
        "",
    ]
    for report, picture, command in zip(reports, pictures, commands, strict=True):
        lines += _section(report, picture, command, out.parent)
    with writing(out):
        out.write_text("\n".join(lines), encoding="utf-8")


def _section(report: Sensitivity, picture: Path | None, command: str, folder: Path) -> list[str]:
    result = report.clean[0]
    lines = [
        f"## {report.images}",
        "",
        f"{report.n:,} images in each set, protocol {result.protocol}, "
        + "; ".join(dict.fromkeys(f"features {each.spec.name} {each.tap}" for each in report.clean))
        + f". Made by `{command}`.",
        "",
    ]
    if picture:
        lines += [f"![Moves under each disturbance]({Path(os.path.relpath(picture, folder)).as_posix()})", ""]
    lines += [
        "| | | " + " | ".join(report.names) + " |",
        "|---|--:|" + "--:|" * len(report.names),
        "| clean | | " + " | ".join(_with_error(*each) for each in report.clean_values.values()) + " |",
    ]
    for disturbance, strengths in report.disturbances.items():
        for at, strength in enumerate(strengths):
            moves = [report.of(disturbance, name)[at] for name in report.names]
            cells = [f"**{_cell(move)}**" if move.verdict else _cell(move) for move in moves]
            lines.append(f"| {'' if at else disturbance} | {strength:g} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {_sentence(report, name)}" for name in report.names), ""]
    return lines


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _sentence(report: Sensitivity, name: str) -> str:
    """What one value says of all disturbances, in words."""
    if all(move.worse is None for move in report.moves if move.name == name):
        return f"**{name}** has no standard error to measure its moves in."
    said: dict[str, list[str]] = {"worse": [], "better": [], "nothing": []}
    for disturbance in report.disturbances:
        moves = report.of(disturbance, name)
        for verdict in ("worse", "better"):
            seen = [move for move in moves if move.verdict == verdict]
            if seen:
                whole = len(seen) == len(moves)
                said[verdict].append(disturbance if whole else f"{disturbance} {_strengths(seen)}")
        if not any(move.verdict for move in moves):
            said["nothing"].append(disturbance)
    measure = next(move.measure for move in report.moves if move.name == name)
    of_measure = "" if measure == name else f" ({measure})"
    spoken = [f"{what} of {', '.join(found)}" for what, found in said.items() if found]
    return f"**{name}**{of_measure} says " + "; ".join(spoken) + "."


def _strengths(moves: Sequence[Move]) -> str:
    return "(" + ", ".join(f"{move.strength:g}" for move in moves) + ")"
