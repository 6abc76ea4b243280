"""``geneval stats``: measure a set once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import extraction_options


@click.command()
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
    "-m",
    "--measure",
    "measures",
    multiple=True,
    default=("fid",),
    show_default=True,
    help="A measure that the statistics are to serve; more than once for several.",
)
def stats(
    images: str,
    out: Path,
    rows: int,
    measures: tuple[str, ...],
    protocol: str,
    weights: Any,
    precision: str,
    device: str | None,
    offline: bool | None,
    **options: Any,
) -> None:
    """Measure IMAGES and write statistics that `geneval fid` and the other verbs take in place of a folder."""
    from gen_eval import store
    from gen_eval.errors import TooFewImages
    from gen_eval.images import Images
    from gen_eval.planning import Plan, find_measures, load_extractors, pick_device
    from gen_eval.protocols import find_protocol
    from gen_eval.sources import open_source
    from gen_eval.summary import require_whole, summarize

    from .allocator import keep_freed_memory
    from .console import progress_bar

    keep_freed_memory()
    store.require_name(out)
    opened = open_source(images)
    if not isinstance(opened, Images):
        raise click.UsageError(f"statistics are made of images, and {images} holds none")
    if len(opened) < 2:
        raise TooFewImages(f"statistics need at least 2 images; {images} has 1 image")
    if not options["skip_corrupt"]:
        require_whole(opened)
    terms = find_protocol(protocol)
    wanted = find_measures(measures, terms)
    with progress_bar() as progress:
        extractors = load_extractors(
            wanted,
            terms,
            weights=weights,
            precision=precision,
            device=pick_device(device),
            offline=offline,
            progress=progress,
        )
        requests = Plan(wanted, extractors, terms).requests("generated")
        summary = summarize(opened, requests, rows=rows, progress=progress, **options)
    store.save(summary, out)
    count = next(iter(summary.features.values())).n
    click.echo(f"{out}  {count:,} images  {protocol}  sha256 {summary.digest[:12]}")
