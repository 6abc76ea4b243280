"""From a verb's options to printed results."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gen_eval.results import Result

EVERY_ROW = 2**62  # so that every image has its contribution


def run(
    measures: Sequence[str],
    *,
    reference: str | None,
    generated: str,
    as_json: bool,
    per_image: Path | None,
    worst: int | None,
    worst_out: Path,
    **options: Any,
) -> None:
    """Measure, and print the results.

    Args:
        measures: their names.
        reference: the real images, where a measure needs them.
        generated: the generated ones.
        as_json: whether to print JSON lines in place of the table.
        per_image: the file to write what is known of single images to.
        worst: how many of the generated images that count most against the first measure to draw.
        worst_out: the picture of them.
        options: as :func:`gen_eval.evaluation.evaluate` takes them.
    """
    from gen_eval.evaluation import evaluate

    from .allocator import keep_freed_memory
    from .console import progress_bar, show_results

    if per_image and not per_image.parent.is_dir():
        raise click.UsageError(f"cannot write {per_image}: there is no folder {per_image.parent}")
    if worst:
        _require_drawable(generated, worst_out)
        if options["rows"] is None:
            options["rows"] = EVERY_ROW
    keep_freed_memory()
    with progress_bar() as progress:
        results = evaluate(measures, generated=generated, reference=reference, progress=progress, **options)
    show_results(results, as_json)
    if per_image:
        _write_per_image(results, {"generated": generated, "reference": reference}, per_image)
    if worst:
        _draw_worst(results[0], generated, worst, worst_out)


def _write_per_image(results: Sequence[Result], sets: Mapping[str, str | None], path: Path) -> None:
    """One line an image and measure: what the metric says of it, or else what it adds to the value."""
    from gen_eval.errors import ImagesError
    from gen_eval.images import open_images

    def name(role: str) -> Any:
        try:
            return open_images(sets[role]).label
        except ImagesError:  # statistics and vectors, whose images have no names
            return lambda index: f"#{index}"

    labels = {role: name(role) for role in sets if sets[role]}
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(["set", "image", "measure", "is", "number"])
        for result in results:
            for what, numbers in (("score", result.per_image), ("contribution", result.contributions)):
                for role, (index, number) in numbers.items():
                    for at, value in zip(index.tolist(), number.tolist(), strict=True):
                        write([role, labels[role](at), result.measure, what, repr(value)])


def _require_drawable(generated: str, out: Path) -> None:
    from gen_eval.images import Images
    from gen_eval.sources import open_source

    from .pictures import require_picture

    require_picture(out)
    if not isinstance(open_source(generated), Images):
        raise click.UsageError(f"--worst draws images, and {generated} holds their features only")


def _draw_worst(result: Result, generated: str, k: int, out: Path) -> None:
    from gen_eval.images import Decoded, open_images

    from .pictures import draw_grid

    worst = result.worst(k)
    if not worst:
        raise click.UsageError(
            f"{result.measure} does not tell what each image counts for; --worst draws nothing"
        )
    images = open_images(generated)
    read = images.read([index for index, _ in worst])
    pixels = [image.pixels for image in read if isinstance(image, Decoded)]
    draw_grid(pixels, [f"{contribution:+.3g}" for _, contribution in worst], out)
    click.echo(f"{out} shows the images that raise {result.measure} most:", err=True)
    for index, contribution in worst:
        click.echo(f"  {contribution:+.4g}  {images.label(index)}", err=True)
