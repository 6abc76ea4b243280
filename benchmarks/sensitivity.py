"""Makes docs/what-each-metric-sees.md: what measures see of the classic disturbances, on two datasets.

    python benchmarks/sensitivity.py --n 500 --cache FOLDER

At n = 500 it takes about an hour on two busy CPU cores, and six minutes once the features are in the cache.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from gen_eval_cli.allocator import keep_freed_memory
from gen_eval_cli.console import progress_bar
from gen_eval_cli.moves import show_moves, write_moves, write_page
from gen_eval_cli.plots import draw_sensitivity, require_chart

from gen_eval.datasets import load
from gen_eval.images import open_images
from gen_eval.sensitivity import DEFAULT_MEASURES, Sensitivity, sensitivity

DATASETS = ("cifar10", "fashion-mnist")
SPLIT = "test"


def main() -> None:
    arguments = parse()
    pictures = [arguments.out.with_suffix("") / f"{name}.png" for name in DATASETS]
    pictures[0].parent.mkdir(parents=True, exist_ok=True)
    require_chart(pictures[0])
    keep_freed_memory()
    reports = [measure(name, arguments) for name in DATASETS]
    for report, picture in zip(reports, pictures, strict=True):
        write_moves(report, picture.with_suffix(".csv"))
        draw_sensitivity(report, picture)
    write_page(reports, pictures, [command(report) for report in reports], arguments.out)


def command(report: Sensitivity) -> str:
    """The same from the command line."""
    measures = " ".join(f"-m {each.measure}" for each in report.clean)
    return f"geneval sensitivity {report.images} --n {report.n} --seed {report.seed} {measures}"


def measure(name: str, arguments: argparse.Namespace) -> Sensitivity:
    started = time.perf_counter()
    with progress_bar() as progress:
        dataset = load(name, SPLIT, progress=progress)
        report = sensitivity(
            open_images(dataset.images, name=f"{name}:{SPLIT}"),
            arguments.measures or DEFAULT_MEASURES,
            n=arguments.n,
            labels=[dataset.classes[label] for label in dataset.labels],
            cache=arguments.cache,
            device=arguments.device,
            progress=progress,
        )
    show_moves(report)
    print(f"{time.perf_counter() - started:.0f} s")
    return report


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=500, help="images in each set")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument(
        "-m", "--measure", dest="measures", action="append", help="in place of the usual ones"
    )
    docs = Path(__file__).parents[1] / "docs"
    parser.add_argument("--out", type=Path, default=docs / "what-each-metric-sees.md", help="the page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
