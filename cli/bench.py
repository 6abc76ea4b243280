"""``geneval bench``: how near the machine's limit we are, and how far ahead of the other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gen_eval.bench.peer_process import MOST_WORKERS

from .options import backend_option, terms_options

_FILE = click.Path(path_type=Path, dir_okay=False)
# Our own verb as a process, whatever folder scripts were installed to.
OURS = (sys.executable, "-c", "from gen_eval_cli.main import main; main()", "fid")


@click.command()
@click.option(
    "--images", type=click.IntRange(2), default=128, show_default=True, help="Made up, of each of two sets."
)
@click.option("--size", type=click.IntRange(8), default=256, show_default=True, help="Pixels a side.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jpg", "png"]),
    default="jpg",
    show_default=True,
    help="Of the files.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each whole process."
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(list(MOST_WORKERS)),
    help="Compare with this tool; more than once for several. All that are installed, by default.",
)
@click.option("--no-peers", is_flag=True, help="Compare with none, which takes half a minute.")
@click.option(
    "--extractor",
    default="inception",
    show_default=True,
    help="The network of the stages; peers know Inception.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Each rate of the machine is measured for so long.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together.")
@click.option("--workers", type=click.IntRange(0), help="Decoding threads; 0 decodes on the main thread.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option(
    "--csv", "csv_", type=_FILE, metavar="FILE", help="Also write every number, below the versions."
)
@click.option(
    "--plot",
    type=_FILE,
    metavar="FILE",
    help="Also draw it, as .png, .svg or .pdf; `pip install 'gen_eval[plot]'`.",
)
@backend_option
@terms_options
def bench(
    peers: tuple[str, ...],
    no_peers: bool,
    format_: str,
    as_json: bool,
    csv_: Path | None,
    plot: Path | None,
    **options: Any,
) -> None:
    """Measure this machine, each stage of `geneval fid` on it, and whole processes beside other tools.

    First the limit: how fast each library multiplies matrices and memory is copied. Then each stage on made-up images:
    decoding, resizing, the network, the moments and the distance, and how long the network waits for images in a
    real pass. Then the wall time and peak memory of `geneval fid` and of each tool that is installed, every one a
    process of its own, in turns, on the same files and weights. Leave the machine alone meanwhile.
    """
    from gen_eval.bench.report import Settings, benchmark

    from .allocator import keep_freed_memory
    from .bench_report import draw_report, show_report, write_report
    from .console import progress_bar
    from .outputs import require_file
    from .plots import require_chart

    if peers and no_peers:
        raise click.UsageError("--peer and --no-peers exclude each other")
    if csv_:
        require_file(csv_, (".csv",))
    if plot:
        require_chart(plot)
    settings = Settings(format=format_, peers=() if no_peers else peers or None, **options)
    keep_freed_memory()
    with progress_bar() as progress:
        report = benchmark(settings, OURS, progress)
    show_report(report, as_json)
    if csv_:
        write_report(report, csv_)
    if plot:
        draw_report(report, plot)
