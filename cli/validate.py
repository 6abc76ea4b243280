"""``geneval validate``: what is known, what came out, and whether that is near enough."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gen_eval.validation import Check, Outcome

_NUMBER, _TOLERANCE, _VERDICT, _SECONDS = 12, 14, 8, 8  # widths of columns


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--tier",
    default="quick",
    show_default=True,
    metavar="quick|standard|images",
    help="How far to go, each with those before: minutes of a core, several more, networks trained on images.",
)
@click.option("--list", "only_list", is_flag=True, help="Show the checks, and run none.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check on standard output.")
def validate(names: tuple[str, ...], tier: str, only_list: bool, as_json: bool) -> None:
    """Check metrics and models against answers that are known; exit with 1 on a miss.

    NAME is a check, or a model, world or metric, of which every check of the tier is run; without any, all are. Each
    line is one number: what it has to be, how far it may be off, and what was found. A check finds the same numbers
    each time.
    """
    from rich.console import Console

    from gen_eval.validation import CHECKS, run, select

    checks = select(CHECKS, names, tier)
    if only_list:
        _list(checks)
        return
    name_width = max(len(check.name) for check in checks)
    what_width = max(len(known.what) for check in checks for known in check.known)
    if not as_json:
        headings = (f"{'known':>{_NUMBER}}", f"{'tolerance':{_TOLERANCE}}", f"{'got':>{_NUMBER}}")
        _print(
            f"{'check':{name_width}}",
            " " * what_width,
            *headings,
            f"{'verdict':{_VERDICT}}",
            " seconds",
            bold=True,
        )
    console = Console(stderr=True)
    outcomes = []
    for check in checks:
        with console.status(check.name):
            outcome = run(check)
        outcomes.append(outcome)
        if as_json:
            click.echo(_json(outcome))
        else:
            _show(outcome, name_width, what_width)
    missed = [outcome.check.name for outcome in outcomes if not outcome.passed]
    if not as_json:
        _count(outcomes, missed)
    if missed:
        sys.exit(1)


def _show(outcome: Outcome, name_width: int, what_width: int) -> None:
    """A line for each number; the first has the name and the seconds."""
    name, seconds = outcome.check.name, f"{outcome.seconds:{_SECONDS}.2f}"
    if outcome.error is not None:
        _print(f"{name:{name_width}}", f"ERROR  {outcome.error}", colour="red")
        return
    for known, got in zip(outcome.check.known, outcome.got, strict=True):
        met = known.met(got)
        _print(
            f"{name:{name_width}}",
            f"{known.what:{what_width}}",
            f"{known.value:{_NUMBER}.6g}",
            f"{known.tolerance:{_TOLERANCE}}",
            f"{got:{_NUMBER}.6g}",
            f"{'ok' if met else 'MISS':{_VERDICT}}",
            seconds,
            colour=None if met else "red",
        )
        name = seconds = ""


def _print(*cells: str, bold: bool = False, colour: str | None = None) -> None:
    click.secho("  ".join(cells).rstrip(), bold=bold or None, fg=colour)


def _count(outcomes: Sequence[Outcome], missed: Sequence[str]) -> None:
    took = sum(outcome.seconds for outcome in outcomes)
    numbers = sum(len(outcome.check.known) for outcome in outcomes)
    of = f"{_counted(len(outcomes), 'check')} of {_counted(numbers, 'number')}, {took:.0f} s"
    click.echo(f"\n{of}: " + (f"{len(missed)} missed: {', '.join(missed)}" if missed else "all as known"))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _list(checks: Sequence[Check]) -> None:
    for check in checks:
        click.secho(check.name, bold=True, nl=False)
        click.echo(f"  ({check.tier}; {', '.join(check.models)})")
        click.echo(f"  {check.about}")
        for known in check.known:
            what = f"{known.what}: " if known.what else ""
            click.echo(f"    {what}{known.value:.6g} {known.tolerance}")
        click.echo(f"    {check.cite}")


def _json(outcome: Outcome) -> str:
    check = outcome.check
    line = {
        "check": check.name,
        "about": check.about,
        "tier": check.tier,
        "models": check.models,
        "cite": check.cite,
        "known": [{key: _finite(value) for key, value in asdict(known).items()} for known in check.known],
        "got": [_finite(number) for number in outcome.got],
        "passed": outcome.passed,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error,
    }
    return json.dumps(line, allow_nan=False)


def _finite(value: Any) -> Any:
    """What JSON can say: ``None`` in the place of infinity, where no bound is, and of NaN."""
    return value if not isinstance(value, float) or math.isfinite(value) else None
