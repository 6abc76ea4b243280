"""``geneval truncation``: each metric along psi, from a set of images for each psi."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import extraction_options, feature_options, measures_option, metric_options, parse_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gen_eval.truncation import Point


def _by_psi(context: click.Context, argument: click.Parameter, given: tuple[str, ...]) -> dict[float, str]:
    sets: dict[float, str] = {}
    for each in given:
        psi, _, name = each.partition("=")
        try:
            sets[float(psi)] = name
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"{each}: expected PSI=SET, such as 0.7=samples-0.7", context, argument)
    if len(sets) < len(given):
        raise click.BadParameter("a psi was given twice", context, argument)
    return sets


@click.command()
@click.argument("real")
@click.argument("fakes", nargs=-1, required=True, metavar="PSI=FAKE...", callback=_by_psi)
@measures_option("As in `geneval evaluate`; more than once for several. By default pr and fid.")
@metric_options
@feature_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a psi and measure on standard output.")
@extraction_options
def truncation(
    real: str,
    fakes: dict[float, str],
    measures: tuple[str, ...],
    settings: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the images of one generator at several truncations psi against the images REAL.

    Such as: geneval truncation real/ 1=samples-1/ 0.7=samples-0.7/ 0.5=samples-0.5/, or
    1=zoo:biggan-mnist 0.5=zoo:biggan-mnist,truncation=0.5. REAL and each FAKE are what every verb takes; REAL is passed
    through the networks once. Each FAKE has the same number of images.
    """
    from gen_eval.truncation import truncation_curve

    from .allocator import keep_freed_memory
    from .console import progress_bar

    params = parse_params(settings, seed)
    keep_freed_memory()
    with progress_bar() as progress:
        _require_sets(real, fakes, offline=options["offline"], progress=progress)
        points = truncation_curve(
            fakes.__getitem__,
            reference=real,
            measures=measures or ("pr", "fid"),
            psis=list(fakes),
            params=params,
            progress=progress,
            **options,
        )
    if as_json:
        for point in points:
            for line in point.json_lines():
                click.echo(line)
    else:
        _show(points)


def _require_sets(real: str, fakes: dict[float, str], **opening: Any) -> None:
    """Refuse sets that are missing, or of several sizes, before the first is measured."""
    from gen_eval.errors import UsageError
    from gen_eval.images import Images
    from gen_eval.sources import Vectors, open_source

    reference = open_source(real, **opening)
    sources = {psi: open_source(name, beside=reference, **opening) for psi, name in fakes.items()}
    sizes = {psi: len(source) for psi, source in sources.items() if isinstance(source, (Images, Vectors))}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{n} at {psi:g}" for psi, n in sizes.items())
        raise UsageError(f"the points of a curve need equally many images, found {found}")


def _show(points: Sequence[Point]) -> None:
    from rich.table import Table

    from .console import print_table, show_cautions, show_terms

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("psi", *points[0].values):
        table.add_column(heading, justify="right")
    for point in points:
        cells = [
            f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")
            for value, error in point.values.values()
        ]
        table.add_row(f"{point.psi:g}", *cells)
    print_table(table)
    show_terms(points[0].results)
    show_cautions([result for point in points for result in point.results])
