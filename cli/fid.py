"""``geneval fid`` and ``geneval fid-inf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import Command, extraction_options


def _distance_options(command: Command) -> Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output."),
        click.option(
            "--reference-n", type=click.IntRange(2), help="Images behind a {mu, sigma} REAL, if known."
        ),
        extraction_options,
        click.argument("fake"),
        click.argument("real"),
    ):
        command = option(command)
    return command


@click.command()
@_distance_options
@click.option(
    "--worst",
    type=click.IntRange(1, 1024),
    metavar="K",
    help="Also draw the K images of FAKE that raise FID most.",
)
@click.option(
    "--worst-out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("worst.png"),
    show_default=True,
    help="Where to draw them.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "nuclear", "cholesky", "sqrtm"]),
    default="auto",
    show_default=True,
    help="How the distance is computed; sqrtm is a slow cross-check that gives no error bar.",
)
def fid(
    real: str,
    fake: str,
    as_json: bool,
    worst: int | None,
    worst_out: Path,
    method: str,
    **options: Any,
) -> None:
    """Fréchet Inception Distance from the images FAKE to the images REAL.

    REAL and FAKE are folders, zip or tar archives, .npz or .npy arrays, or statistics: files of `geneval
    stats`, or {mu, sigma} .npz of pytorch-fid, clean-fid and TTUR.
    """
    if worst:
        _require_drawable(fake, worst_out)
        options["rows"] = None  # every image is to have its contribution
    options["params"] = {"method": method}
    result = _run("fid", real, fake, as_json, options)
    if worst:
        _draw_worst(result, fake, worst, worst_out)


@click.command("fid-inf")
@_distance_options
def fid_inf(real: str, fake: str, as_json: bool, **options: Any) -> None:
    """FID extrapolated to infinitely many images of FAKE, with the error of the fit.

    REAL and FAKE are as for `geneval fid`; FAKE must be images or statistics that hold all their rows.
    """
    _run("fid-inf", real, fake, as_json, options)


def _run(measure: str, real: str, fake: str, as_json: bool, options: dict[str, Any]) -> Any:
    from gen_eval.evaluation import evaluate

    from .allocator import keep_freed_memory
    from .console import progress_bar, show_results

    keep_freed_memory()
    with progress_bar() as progress:
        results = evaluate([measure], generated=fake, reference=real, progress=progress, **options)
    show_results(results, as_json)
    return results[0]


def _require_drawable(fake: str, out: Path) -> None:
    from gen_eval.store import is_statistics

    from .pictures import require_picture

    require_picture(out)
    if is_statistics(Path(fake)):
        raise click.UsageError(f"--worst draws images, and {fake} holds their statistics only")


def _draw_worst(result: Any, fake: str, k: int, out: Path) -> None:
    from gen_eval.images import Decoded, open_images

    from .pictures import draw_grid

    images = open_images(fake)
    worst = result.worst(k)
    read = images.read([index for index, _ in worst])
    pixels = [image.pixels for image in read if isinstance(image, Decoded)]
    draw_grid(pixels, [f"{contribution:+.3g}" for _, contribution in worst], out)
    click.echo(f"{out} shows the images that raise FID most:", err=True)
    for index, contribution in worst:
        click.echo(f"  {contribution:+.4g}  {images.label(index)}", err=True)
