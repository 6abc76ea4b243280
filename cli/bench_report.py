"""What ``geneval bench`` found, as tables, JSON, a .csv file or a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.table import Table

from .console import print_table, warn
from .outputs import writing
from .plots import save_chart

if TYPE_CHECKING:
    from gen_eval.bench.limits import Rate
    from gen_eval.bench.races import Standing
    from gen_eval.bench.report import Report
    from gen_eval.bench.stages import Stage

_INK, _FAINT, _OURS, _THEIRS = "#262626", "#8a8a8a", "#0072B2", "#E69F00"  # Okabe and Ito's, for all eyes
_COLUMNS = 2  # panels in a row


class Bar(NamedTuple):
    """A bar of a chart."""

    name: str
    value: float
    figure: str
    ours: bool = False


Panel = tuple[str, list[Bar]]  # a title and its bars


def show_report(report: Report, as_json: bool) -> None:
    """Print it on standard output, and what is to be said of it on standard error."""
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        click.echo(report.machine)
        click.echo(", ".join(f"{name} {version}" for name, version in report.libraries.items()))
        print_table(_limits(report.limits))
        print_table(_stages(report))
        click.echo(_pass(report))
        if report.runs:
            print_table(_processes(report))
    for tool, reason in report.failed.items():
        warn(f"{tool} did not get to a value: {reason}")


def write_report(report: Report, out: Path) -> None:
    """Write every number as a line of .csv, below the machine and the versions.

    Raises:
        UsageError: if it cannot be written.
    """
    from gen_eval.bench.recording import write_csv

    with writing(out):
        write_csv(out, list(report.rows()), tuple(report.libraries))


def _new_table(*headings: str, left: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    return table


def _limits(rates: Sequence[Rate]) -> Table:
    """A line for each kind of work, a column for each number of threads; a GPU has none."""
    from gen_eval.bench.report import threads_in_words

    threads = sorted({rate.threads for rate in rates if rate.threads})
    table = _new_table("limit", *map(threads_in_words, threads), "", left=("limit", ""))
    lines: dict[tuple[str, str], dict[int, Rate]] = {}
    for rate in rates:
        name = f"{rate.what} {rate.numbers}" if rate.what != "copy" else "copy"
        where = "" if rate.device == "cpu" else f" on {rate.device}"
        lines.setdefault((f"{name}, {rate.library}{where}", rate.unit), {})[rate.threads] = rate
    for (name, unit), found in lines.items():
        if 0 in found:
            cells = [f"{found[0].value:,.0f}", *[""] * (len(threads) - 1)]
        else:
            cells = [_figure(found[count].value) if count in found else "" for count in threads]
        table.add_row(name, *cells, unit)
    return table


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _stages(report: Report) -> Table:
    table = _new_table("stage", "ms/image", "images/s", "GFLOP/s", "of limit", left=("stage",))
    for stage in report.stages:
        share = report.share(stage)
        if stage.per_image:
            figures = [f"{stage.milliseconds:.3g}", f"{stage.rate:,.4g}"]
        else:
            figures = [f"{stage.seconds:.3g} s", ""]
        reached = [
            "" if stage.gflops is None else _figure(stage.gflops),
            "" if share is None else f"{share:.0%}",
        ]
        table.add_row(_stage_name(stage, report), *figures, *reached)
    return table


def _stage_name(stage: Stage, report: Report) -> str:
    from gen_eval.bench.report import threads_in_words

    if stage.name == "decode":
        return f"decode {report.settings.size} px {report.settings.format}, one thread"
    if stage.name == "resize":
        return f"resize, {report.resize}"
    if stage.name == "network":
        work = "" if stage.gflop is None else f", {stage.gflop:.1f} GFLOP an image"
        on = threads_in_words(report.threads) if report.threads else report.device
        return f"network {report.settings.extractor}, {report.settings.arithmetic}{work}, {on}"
    if stage.name == "distance":
        return f"distance, {stage.n:,} rows a set"
    return stage.name


def _pass(report: Report) -> str:
    """What became of the stages in one pass, in words."""
    overlap = report.overlap
    return (
        f"A pass over {overlap.n:,} images: {overlap.rate:.4g} images/s; the network ran {overlap.busy:.1%} of the "
        f"time and waited for images {overlap.idle:.1%}."
    )


def _processes(report: Report) -> Table:
    """A line for each contestant, and one for each tool that is not installed."""
    from gen_eval.bench.races import standings

    left = ("whole process",)
    table = _new_table("whole process", "wall s", "CPU s", "MiB", "speed", "memory", "FID", "gap", left=left)
    for each in standings(report.runs):
        table.add_row(*_process(each))
    for tool in report.absent:
        table.add_row(tool, "not installed", *[""] * 6, style="dim")
    return table


def _process(each: Standing) -> list[str]:
    return [
        f"  {each.tool}" if each.speed is not None else each.tool,
        f"{each.wall_s:.1f}",
        f"{each.cpu_s:.1f}",
        f"{each.peak_mib:,.0f}",
        "" if each.speed is None else f"{each.speed:.2f} x",
        "" if each.memory is None else f"{each.memory:.2f} x",
        f"{each.fid:.6g}",
        "" if each.gap is None else f"{each.gap:.1e}",
    ]


def draw_report(report: Report, out: Path) -> None:
    """Draw the rates, the stages and the processes, each as bars.

    Args:
        report: what was measured.
        out: the file to write; its extension chooses the format.

    Raises:
        UsageError: if it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [_rates_panel(report), _stages_panel(report), *_process_panels(report)]
    rows = -(-len(panels) // _COLUMNS)
    settings: Any = {"font.size": 8, "svg.hashsalt": "gen_eval", "svg.fonttype": "none"}
    with rc_context(settings):
        figure: Any = Figure((9.5, 2.6 * rows + 0.6), layout="constrained")
        figure.suptitle(
            f"{report.machine}\n{report.settings.images} images a set, {report.settings.size} px "
            f"{report.settings.format}; network on {report.device}, {report.settings.arithmetic}",
            fontsize=9,
            color=_INK,
        )
        axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axis, (title, bars) in zip(axes, panels, strict=False):
            _draw_bars(axis, title, bars)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        save_chart(figure, out)


def _rates_panel(report: Report) -> Panel:
    """Products with as many threads as there were at most, and the network among them."""
    rates = [rate for rate in report.limits if rate.what == "gemm"]
    most = {rate.device: max(each.threads for each in rates if each.device == rate.device) for rate in rates}
    bars = [
        Bar(f"{rate.numbers}, {rate.library}", rate.value, _figure(rate.value))
        for rate in rates
        if rate.threads == most[rate.device]
    ]
    for stage in report.stages:
        share = report.share(stage)
        if stage.gflops is not None and share is not None:
            bars.append(Bar(f"network, {share:.0%} of the limit", stage.gflops, _figure(stage.gflops), True))
    return "Matrix products, GFLOP/s", bars


def _stages_panel(report: Report) -> Panel:
    each = [stage for stage in report.stages if stage.per_image]
    bars = [Bar(stage.name, stage.milliseconds, f"{stage.milliseconds:.3g}", True) for stage in each]
    return "Stages, ms an image", bars


def _process_panels(report: Report) -> list[Panel]:
    """Wall time and memory; none where nothing was compared."""
    from gen_eval.bench.races import peer_of, standings

    found = [(each, peer_of(each.tool) is not None) for each in standings(report.runs)]
    if not found:
        return []
    walls = [Bar(each.tool, each.wall_s, f"{each.wall_s:.1f}", ours) for each, ours in found]
    peaks = [Bar(each.tool, each.peak_mib, f"{each.peak_mib:,.0f}", ours) for each, ours in found]
    return [("Whole process, seconds", walls), ("Whole process, peak MiB", peaks)]


def _draw_bars(axis: Any, title: str, bars: Sequence[Bar]) -> None:
    """One below the other, each with its figure at its end; ours in another colour."""
    places = range(len(bars))
    colours = [_OURS if bar.ours else _THEIRS for bar in bars]
    drawn = axis.barh(places, [bar.value for bar in bars], color=colours, height=0.7)
    axis.bar_label(drawn, [bar.figure for bar in bars], padding=3, color=_INK)
    axis.set_yticks(places, [bar.name for bar in bars])
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(title, loc="left", fontweight="bold", color=_INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(color=_FAINT, labelcolor=_INK)
