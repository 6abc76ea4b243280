"""``geneval sensitivity``: what each measure sees of the classic disturbances."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from .options import extraction_options, measures_option, parse_params


def _read_strengths(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, tuple[float, ...]]:
    """``noise=8,24,72`` texts as numbers by name."""
    found: dict[str, tuple[float, ...]] = {}
    for each in given:
        name, _, numbers = each.partition("=")
        try:
            found[name] = (*found.get(name, ()), *(float(number) for number in numbers.split(",")))
        except ValueError:
            raise click.BadParameter(
                f"{each}: expected NAME=NUMBER,NUMBER, such as noise=8,24", context, option
            ) from None
    return found


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("images")
@measures_option(
    "Such as fid, kid or pr:dinov2; more than once for several. By default those that look through Inception."
)
@click.option(
    "--extractor", metavar="NAME[/TAP]", help="Look through another network, where a measure names none."
)
@click.option(
    "--disturbance",
    "disturbances",
    multiple=True,
    metavar="NAME",
    help="Such as noise or blur; more than once for several. All, by default; a wrong name lists them.",
)
@click.option(
    "--strengths",
    multiple=True,
    callback=_read_strengths,
    metavar="NAME=NUMBERS",
    help="In place of a disturbance's own, such as noise=8,24,72.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[METRIC.]NAME=VALUE",
    help="A metric's parameter, such as k=5 or kid.subsets=50.",
)
@click.option(
    "--n", type=click.IntRange(2), help="Images in each set; a fifth of IMAGES by default, at most 1,000."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the disturbances.")
@click.option(
    "--labels",
    metavar="FILE",
    help="Class of each image, for dropped classes; by default the folders, or those of a named dataset.",
)
@click.option("--out", type=_FILE, help="Also write every number, as .csv or .json.")
@click.option(
    "--plot", type=_FILE, help="Also draw it, as .png, .svg or .pdf; `pip install 'gen_eval[plot]'`."
)
@click.option("--markdown", type=_FILE, help="Also write a page of it, as .md, with the picture of --plot.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep features in, and find them: other measures then cost no pass.",
)
@extraction_options
def sensitivity(
    images: str,
    measures: tuple[str, ...],
    extractor: str | None,
    disturbances: tuple[str, ...],
    settings: tuple[str, ...],
    labels: str | None,
    out: Path | None,
    plot: Path | None,
    markdown: Path | None,
    **options: Any,
) -> None:
    """Disturb real images at rising strength, and show how far each measure moves in standard errors.

    IMAGES is a folder, a zip or tar archive, an .npz or .npy array, or a named dataset such as cifar10:test. It is
    split by chance into a reference, a clean set, which is the one that is disturbed, and images to spare.
    """
    from gen_eval.sensitivity import DEFAULT_MEASURES
    from gen_eval.sensitivity import sensitivity as measure_sensitivity

    from .allocator import keep_freed_memory
    from .console import progress_bar
    from .moves import FORMATS, show_moves, write_moves, write_page
    from .outputs import require_file
    from .plots import draw_sensitivity, require_chart

    if out:
        require_file(out, FORMATS)
    if plot:
        require_chart(plot)
    if markdown:
        require_file(markdown, (".md",))
    names = measures or DEFAULT_MEASURES
    if extractor:
        names = tuple(name if ":" in name else f"{name}:{extractor}" for name in names)
    keep_freed_memory()
    with progress_bar() as progress:
        report = measure_sensitivity(
            images,
            names,
            disturbances=disturbances or None,
            labels=labels,
            params=parse_params(settings),
            progress=progress,
            **options,
        )
    show_moves(report)
    if out:
        write_moves(report, out)
    if plot:
        draw_sensitivity(report, plot)
    if markdown:
        write_page([report], [plot], [shlex.join(["geneval", *sys.argv[1:]])], markdown)
