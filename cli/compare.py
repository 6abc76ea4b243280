"""``geneval compare``: two result files, measure by measure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .reading import read

if TYPE_CHECKING:
    from gen_eval.comparison import Comparison
    from gen_eval.results import Result

_Subject = tuple[str, str, str]  # metric, network as the user called it, tap

INCOMPLETE = 2  # the exit code where a measure was not compared


@dataclass
class _Report:
    """What was found: what was compared, and rows of a label, a comparison and its p-value corrected for all."""

    compared: set[_Subject] = field(default_factory=set)
    rows: list[tuple[str, Comparison, float]] = field(default_factory=list)
    untested: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    only: dict[str, list[str]] = field(default_factory=dict)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Probability of calling two equal models different, all values together.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def compare(a: str, b: str, alpha: float, as_json: bool) -> None:
    """Compare two models by the result files A and B, as `geneval evaluate --json` wrote them; - is standard input.

    Results are matched by measure. Of each value that both have it shows the difference, its standard error, z and
    the p-value, which Holm's method corrects for the number of values. Results on different terms are refused: the
    terms are named, and what to do about them. Ends with 0 where all measures of both were compared, with 2 where
    one was not (refused, in one file alone, or without a value of known error), and with 1 where a file holds no
    results.
    """
    if a == b:
        raise click.UsageError(f"A and B are both {a}")
    results = {a: _by_subject(a), b: _by_subject(b)}
    report = _compare(*results.values())
    for name, other in ((a, b), (b, a)):
        report.only[name] = [each.measure for of, each in results[name].items() if of not in results[other]]
    if not report.rows and not report.untested and not report.refused:
        report.refused["all"] = (
            f"{a} has {_names(results[a])} and {b} has {_names(results[b])}: no measure is in both"
        )
    verdict = _verdict(report, {"a": a, "b": b}, alpha)
    if as_json:
        click.echo(json.dumps(_to_json(report, {"a": a, "b": b}, alpha, verdict), allow_nan=False))
    else:
        _show(report, {"a": a, "b": b}, verdict)
    for text in report.refused.values():
        click.secho("refused: ", fg="red", bold=True, err=True, nl=False)
        click.echo(text, err=True)
    if report.compared != set().union(*results.values()):
        click.get_current_context().exit(INCOMPLETE)


def _names(results: Mapping[_Subject, Result]) -> str:
    return ", ".join(result.measure for result in results.values())


def _by_subject(name: str) -> dict[_Subject, Result]:
    """The results of a file by what they measure: ``fid`` and ``fd`` are one."""
    found: dict[_Subject, Result] = {}
    for result in read(name):
        network = result.measure.partition(":")[2].partition("/")[0]
        subject = (result.metric, network, result.tap)
        if subject in found:
            sets = ", ".join(next(iter(each.sets.values())).name for each in (found[subject], result))
            raise click.UsageError(
                f"{name} holds {result.measure} more than once, of {sets}: keep the results of one generated set in a "
                "file"
            )
        found[subject] = result
    return found


def _compare(a: Mapping[_Subject, Result], b: Mapping[_Subject, Result]) -> _Report:
    from gen_eval.comparison import compare
    from gen_eval.errors import IncomparableError
    from gen_eval.metrics.two_sample.significance import holm
    from gen_eval.results import labelled, require_comparable

    report = _Report()
    found: list[tuple[str, Comparison]] = []
    labels = {(one.measure, value): label for label, one, value in labelled(a.values())}
    for subject, one in a.items():
        if subject not in b:
            continue
        other = b[subject]
        try:
            require_comparable([one, other])
        except IncomparableError as error:
            report.refused[one.measure] = str(error)
            continue
        for role, info in one.sets.items():
            if info.digest and info.digest == other.sets[role].digest:
                report.shared[role] = info.name
        for value in one.better:
            label = labels[one.measure, value]
            if all(_tells_error(each, value) for each in (one, other)):
                found.append((label, compare(one, other, value)))
                report.compared.add(subject)
            else:
                numbers = [each.values[value] for each in (one, other)]
                reason = "no standard error" if all(map(math.isfinite, numbers)) else "not each value"
                report.untested[label] = (
                    f"{numbers[0]:.6g} against {numbers[1]:.6g}, of which {reason} is known"
                )
    adjusted = holm([each.p_value for _, each in found]) if found else []
    report.rows = [(label, each, float(p)) for (label, each), p in zip(found, adjusted, strict=True)]
    return report


def _tells_error(result: Result, value: str) -> bool:
    error = result.errors.get(value)
    return error is not None and math.isfinite(error) and math.isfinite(result.values[value])


def _verdict(report: _Report, names: Mapping[str, str], alpha: float) -> str:
    if not report.rows:
        return "Nothing was compared."
    better: dict[str, list[str]] = {"a": [], "b": [], "": []}
    for label, each, adjusted in report.rows:
        side = ("a" if each.a_looks_better else "b") if adjusted <= alpha else ""
        better[side].append(label)
    parts = [f"{names[side]} is better by {', '.join(better[side])}" for side in ("a", "b") if better[side]]
    if better[""]:
        parts.append(f"not told apart by {', '.join(better[''])}")
    values = "1 value" if len(report.rows) == 1 else f"{len(report.rows)} values, Holm"
    text = "; ".join(parts)
    return f"{text[0].upper() if parts[0].startswith('not') else text[0]}{text[1:]} (level {alpha:g} for {values})."


def _to_json(report: _Report, names: Mapping[str, str], alpha: float, verdict: str) -> dict[str, Any]:
    return {
        **names,
        "alpha": alpha,
        "comparisons": [
            {"label": label, **each.to_json(), "z": _z(each), "adjusted": adjusted}
            for label, each, adjusted in report.rows
        ],
        "untested": report.untested,
        "refused": report.refused,
        "shared": report.shared,
        "only": report.only,
        "verdict": verdict,
    }


def _z(each: Comparison) -> float | None:
    return each.difference / each.error if each.error else None


def _show(report: _Report, names: Mapping[str, str], verdict: str) -> None:
    from rich.table import Table

    from gen_eval.direction import spell

    from .console import print_table

    if report.rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("value", names["a"], names["b"], "difference", "± s.e.", "z", "p", "p adjusted", ""):
            table.add_column(heading, justify="left" if heading in ("value", "") else "right")
        for label, each, adjusted in report.rows:
            table.add_row(label, *_cells(each), f"{adjusted:.2g}", spell(each.better))
        print_table(table)
    for label, text in report.untested.items():
        click.echo(f"{label}: {text}")
    for role, name in report.shared.items():
        click.echo(f"both have the {role} images {name}{_accounted(role, report.rows)}")
    for name, measures in report.only.items():
        if measures:
            click.echo(f"only in {name}: {', '.join(measures)}")
    click.secho(verdict, bold=True)


def _cells(each: Comparison) -> list[str]:
    z = _z(each)
    return [
        f"{each.a:.6g}",
        f"{each.b:.6g}",
        f"{each.difference:+.4g}",
        f"{each.error:.2g}",
        "" if z is None else f"{z:+.2f}",
        f"{each.p_value:.2g}",
    ]


def _accounted(role: str, rows: Sequence[tuple[str, Comparison, float]]) -> str:
    """What became of the sampling error of images that stand in both."""
    paired = [label for label, each, _ in rows if role in each.paired]
    twice = [label for label, each, _ in rows if role in each.shared]
    parts = [f"the error of {', '.join(paired)} is without their sampling"] if paired else []
    if twice:
        parts.append(f"the error of {', '.join(twice)} counts their sampling twice, which is rather too wide")
    return ": " + "; ".join(parts) if parts else ""
