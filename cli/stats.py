"""``geneval stats``: measure a set once, and what can be done with the file then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_eval.errors import UsageError

from .options import extraction_options, measures_option
from .stats_files import compact, convert, merge, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gen_eval.images import Images
    from gen_eval.passing import Request
    from gen_eval.planning import Plan

_VERBS = {"merge": merge, "compact": compact, "show": show, "convert": convert}
_MEASURE = ""  # no set of images has that name


class _Measure(click.Command):
    """The verb without a word of its own: its usage is that of the group."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Stand in the place of the group."""
        return super().make_context("stats", args, parent=parent and parent.parent, **extra)


class _Stats(click.Group):
    """Verbs on files of statistics; a first word that is none of them is a set of images to measure."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word for measuring where it is left out."""
        if args and args[0] not in (*_VERBS, *ctx.help_option_names):
            args = [_MEASURE, *args]
        elif args and args[0] in _VERBS and Path(args[0]).exists():
            click.echo(f"note: {args[0]} is the verb; the images called so are ./{args[0]}", err=True)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb, or the measuring."""
        return measure if cmd_name == _MEASURE else super().get_command(ctx, cmd_name)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """That of measuring, and the verbs."""
        measure.format_help(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=_Stats, commands=_VERBS)
def stats() -> None:
    """Measure a set once, for any later use as a reference; and merge, compact, show and convert such files."""


def _read_part(context: click.Context, option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """``2/3`` as numbers."""
    if text is None:
        return None
    k, _, parts = text.partition("/")
    if not (k.isdecimal() and parts.isdecimal() and 1 <= int(k) <= int(parts)):
        raise click.BadParameter(
            f"expected K/N with K from 1 to N, such as 2/3; found {text}", context, option
        )
    return int(k), int(parts)


@click.command(cls=_Measure)
@click.argument("images")
@extraction_options
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .safetensors.",
)
@click.option(
    "--rows",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="The most feature rows to keep beside the moments; error bars are made from them.",
)
@click.option(
    "--part",
    metavar="K/N",
    callback=_read_part,
    help="Only the K-th of N parts of the images, which `geneval stats merge` joins.",
)
@measures_option("A measure that the statistics are to serve; more than once for several.", "fid")
def measure(
    images: str,
    out: Path,
    rows: int,
    part: tuple[int, int] | None,
    measures: tuple[str, ...],
    protocol: str,
    weights: Any,
    precision: str,
    backend: str,
    device: str | None,
    offline: bool | None,
    **options: Any,
) -> None:
    """Measure IMAGES and write statistics that `geneval fid` and the other verbs take in place of a folder.

    IMAGES is a folder, an archive, an array file or the name of a dataset, such as cifar10:train.

    A folder that is called as a command below, such as merge, is ./merge.
    """
    from gen_eval import store
    from gen_eval.errors import TooFewImages
    from gen_eval.images import require_unbroken
    from gen_eval.passing import summarize
    from gen_eval.planning import Plan, find_measures, load_extractors, pick_device
    from gen_eval.protocols import find_protocol
    from gen_eval.sources import IMAGES, open_as_images

    from .allocator import keep_freed_memory
    from .console import progress_bar, show_notes, warn

    keep_freed_memory()
    store.require_name(out)
    terms = find_protocol(protocol)
    wanted = find_measures(measures, terms)
    with progress_bar() as progress:
        opened = open_as_images(images, offline=offline, progress=progress)
        if opened.name == IMAGES + images:
            click.echo(f"note: {images} holds statistics too; its images are measured", err=True)
        if len(opened) < 2:
            raise TooFewImages(f"statistics need at least 2 images; {images} has 1 image")
        chosen = _range_of(part, len(opened))
        if not options["skip_corrupt"]:
            require_unbroken(opened)
        extractors = load_extractors(
            wanted,
            terms,
            weights=weights,
            precision=precision,
            backend=backend,
            device=pick_device(device),
            offline=offline,
            progress=progress,
        )
        plan = Plan(wanted, extractors, terms)
        _require_served(plan, rows, len(opened) if chosen is None else len(chosen))
        requests = plan.requests("generated")
        _tell_what_ships(opened, requests)
        summary = summarize(opened, requests, rows=rows, part=chosen, progress=progress, **options)
    store.save(summary, out)
    show_notes(images, summary.notes)
    for label, reason in summary.skipped:
        warn(f"{label} of {images} was left out: {reason}")
    count = next(iter(summary.features.values())).n
    which = f" ({summary.part})" if summary.part else ""
    click.echo(f"{out}  {count:,} images{which}  {protocol}  sha256 {summary.digest[:12]}")


def _require_served(plan: Plan, rows: int, n: int) -> None:
    """Refuse before the work measures that statistics of so many rows could not serve."""
    for measure in plan.measures:
        metric = measure.metric
        if metric.by_class:
            raise UsageError(
                f"{measure.name} is a measure by class, which statistics do not serve: it needs the images"
            )
        role = "reference" if "reference" in metric.roles else metric.roles[0]
        needed = n if role in metric.whole else plan.least_n(measure, role) if metric.by_rows else 0
        if rows < needed:
            raise UsageError(
                f"{measure.name} needs {needed:,} feature rows of the {role} images, and --rows {rows:,} keeps fewer: "
                f"raise it to {needed:,} or more"
            )


def _tell_what_ships(images: Images, requests: Sequence[Request]) -> None:
    """Say of a dataset what need not be measured."""
    from gen_eval import references

    if not (isinstance(images, references.DatasetImages) and images.may_be_statistics):
        return
    for spec, tap in (key for request in requests for key in request.keys):
        if row := references.find(images.name, spec, tap):
            click.echo(
                f"note: statistics of {row.name} through {spec.name} {tap} ship, of all {row.n:,} images with "
                f"{row.rows:,} rows: `geneval fid {row.name} FAKE` takes them, and so do `stats show`, `compact` and "
                "`convert`; they are measured anew, as asked",
                err=True,
            )


def _range_of(part: tuple[int, int] | None, n: int) -> range | None:
    if part is None:
        return None
    k, parts = part
    if parts > n:
        raise click.UsageError(f"{n} images do not make {parts} parts")
    return range(n * (k - 1) // parts, n * k // parts)
