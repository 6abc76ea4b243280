"""Charts, by matplotlib: what is drawn of numbers rather than of images."""

from __future__ import annotations

import importlib.util
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_eval.errors import UsageError

from .outputs import require_file, writing

if TYPE_CHECKING:
    from gen_eval.sensitivity import Sensitivity

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's colours for all eyes, less the yellow, which is too pale for text.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))  # by turns of the colours
_INK, _FAINT, _BAND = "#262626", "#8a8a8a", "#eeeeee"
_COLUMNS, _WIDTH, _HEIGHT = 4, 3.5, 2.9  # panels in a row; inches of each
_DPI = 100  # of a .png
_LABEL, _LINE = 7.5, 9.0  # points: size of a label, and from one to the next
_TICKS = (1, 10, 100, 1000, 10000)


def require_chart(out: Path) -> None:
    """Refuse what no chart can be drawn to, before the work is done.

    Raises:
        UsageError: if its extension names no format, its folder does not exist, or matplotlib is missing.
    """
    require_file(out, FORMATS)
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            f"cannot draw {out} without matplotlib: install it with `python -m pip install 'gen_eval[plot]'`"
        )


def save_chart(figure: Any, out: Path) -> None:
    """Write a figure of matplotlib; the same figure, the same bytes.

    Raises:
        UsageError: if it cannot be written.
    """
    with writing(out):
        figure.savefig(out, dpi=_DPI, metadata={"Date": None} if out.suffix.lower() == ".svg" else None)


def draw_sensitivity(report: Sensitivity, out: Path) -> None:
    """Draw a panel for each disturbance: its strength across, and how much worse each value says it is upwards.

    Args:
        report: what was measured.
        out: the file to write; its extension chooses the format.

    Raises:
        UsageError: if it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    disturbances = list(report.disturbances)
    columns = min(_COLUMNS, len(disturbances))
    rows = math.ceil(len(disturbances) / columns)
    settings: Any = {
        "font.size": 8,
        "svg.hashsalt": "gen_eval",
        "svg.fonttype": "none",
        "axes.unicode_minus": True,
    }
    with rc_context(settings):
        terms = _terms(report, width=columns * _WIDTH)
        heading = 0.45 + 0.16 * len(terms)  # inches
        figure: Any = Figure((columns * _WIDTH, rows * _HEIGHT + heading), layout="constrained")
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - heading / figure.get_figheight()), hspace=0.06)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel in panels[len(disturbances) :]:
            panel.set_axis_off()
        for panel, name in zip(panels, disturbances, strict=False):
            _draw_panel(panel, report, name)
        _set_scale(panels[0], report)
        for row in range(rows):
            panels[row * columns].set_ylabel("← better     standard errors     worse →", color=_INK)
        _write_heading(figure, f"What each measure sees in {report.images}", terms)
        figure.draw_without_rendering()  # places the panels, by which the labels are placed
        figure.set_layout_engine("none")
        for panel, name in zip(panels, disturbances, strict=False):
            _label_lines(panel, report, name)
        save_chart(figure, out)


def _draw_panel(panel: Any, report: Sensitivity, name: str) -> None:
    from gen_eval.disturbances import DISTURBANCES
    from gen_eval.sensitivity import SEEN

    strengths = report.disturbances[name]
    ends = [0, len(strengths)]
    panel.fill_between(ends, -SEEN, SEEN, color=_BAND, linewidth=0)
    panel.plot(ends, [0, 0], color=_FAINT, linewidth=0.6)
    for place, value in enumerate(report.names):
        panel.plot(
            range(len(strengths) + 1),
            [0.0, *_heights(report, name, value)],
            color=_COLOURS[place % len(_COLOURS)],
            linestyle=_DASHES[place // len(_COLOURS) % len(_DASHES)],
            linewidth=1.4,
            marker="o",
            markersize=2.6,
        )
    panel.set_title(name, loc="left", fontweight="bold", color=_INK)
    panel.set_xticks(range(len(strengths) + 1), ["clean", *(f"{each:g}" for each in strengths)])
    panel.set_xlabel(DISTURBANCES[name].unit, color=_FAINT)
    panel.set_xlim(-0.15, len(strengths) * 1.55)  # room for the labels
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(_FAINT)
    panel.tick_params(color=_FAINT, labelcolor=_INK)


def _heights(report: Sensitivity, disturbance: str, value: str) -> list[float]:
    """How much worse at each strength; a gap where there is no standard error."""
    return [math.nan if move.worse is None else move.worse for move in report.of(disturbance, value)]


def _set_scale(panel: Any, report: Sensitivity) -> None:
    """Linear within what may be chance, logarithmic beyond; the panels share it."""
    from gen_eval.sensitivity import SEEN

    finite = [move.worse for move in report.moves if move.worse is not None and math.isfinite(move.worse)]
    low, high = min([-SEEN, *finite]), max([SEEN, *finite])
    panel.set_yscale("symlog", linthresh=SEEN, linscale=0.7)
    panel.set_ylim(1.6 * low, 1.6 * high)
    beyond = [sign * tick for tick in _TICKS for sign in (-1.0, 1.0) if tick > SEEN]
    ticks = sorted([0.0, -SEEN, SEEN, *(tick for tick in beyond if 1.6 * low < tick < 1.6 * high)])
    panel.set_yticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    panel.minorticks_off()


def _label_lines(panel: Any, report: Sensitivity, name: str) -> None:
    """Write each value's name at the end of its line, moved up or down where they would overlap."""
    strengths = report.disturbances[name]
    low, high = panel.get_ylim()
    ends = [_heights(report, name, value)[-1] for value in report.names]
    shown = [place for place, end in enumerate(ends) if not math.isnan(end)]
    clipped = [min(max(ends[place], low), high) for place in shown]
    points = panel.figure.dpi / 72
    pixels = [float(panel.transData.transform((0, end))[1]) for end in clipped]
    box = panel.get_window_extent()
    line = _LINE * points
    placed = spread(pixels, line, float(box.y0) + line, float(box.y1))  # clear of the axis
    for place, end, pixel in zip(shown, clipped, placed, strict=True):
        colour = _COLOURS[place % len(_COLOURS)]
        height = float(panel.transData.inverted().transform((0, pixel))[1])
        start, stop = len(strengths) * 1.03, len(strengths) * 1.12
        panel.plot([start, stop], [end, height], color=colour, linewidth=0.5, clip_on=False)
        panel.text(
            len(strengths) * 1.13,
            height,
            report.names[place],
            color=colour,
            fontsize=_LABEL,
            va="center_baseline",
        )


def spread(heights: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Heights near the ones given that lie apart and, as far as there is room, within bounds; in the same order.

    >>> spread([5.0, 5.0, 9.0], 2.0, 0.0, 10.0)
    [4.0, 6.0, 9.0]
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    groups: list[tuple[float, list[int]]] = []  # the middle of neighbours that touch, and who they are
    for place in order:
        middle, members = heights[place], [place]
        while groups and middle - groups[-1][0] < apart * (len(members) + len(groups[-1][1])) / 2:
            members = groups.pop()[1] + members
            middle = sum(heights[each] for each in members) / len(members)
        groups.append((middle, members))
    placed = [0.0] * len(heights)
    for middle, members in groups:
        for rank, place in enumerate(members):
            placed[place] = middle + apart * (rank - (len(members) - 1) / 2)
    return _within(placed, order, apart, low, high)


def _within(placed: list[float], order: Sequence[int], apart: float, low: float, high: float) -> list[float]:
    """The same, pushed down from the upper bound, and then up from the lower one."""
    for rank, place in enumerate(reversed(order)):
        placed[place] = min(placed[place], high - rank * apart)
    for rank, place in enumerate(order):
        placed[place] = max(placed[place], low + rank * apart)
    return placed


def _terms(report: Sensitivity, width: float) -> list[str]:
    """What the chart shows, in lines that fit a width in inches."""
    result = report.clean[0]
    return textwrap.wrap(
        "Move from the clean set in standard errors, upwards where the measure says worse; within the gray band it may "
        f"be chance. {report.n:,} images a set, {result.spec.name} features, protocol {result.protocol}.",
        round(15 * width),
    )


def _write_heading(figure: Any, title: str, terms: Sequence[str]) -> None:
    left, inch = 0.1 / figure.get_figwidth(), 1 / figure.get_figheight()
    place = {"x": left, "va": "top"}
    figure.text(y=1 - 0.12 * inch, s=title, fontsize=13, fontweight="bold", color=_INK, **place)
    figure.text(y=1 - 0.40 * inch, s="\n".join(terms), fontsize=8.5, color=_FAINT, **place)
