"""The published anchor: FID of CIFAR-10's training images against its test images.

The original TensorFlow code gives 3.1508 (README of pytorch-gan-metrics). About half an hour on two cores:

    python benchmarks/anchor.py --out benchmarks/results/anchor.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from gen_eval_cli.allocator import keep_freed_memory
from gen_eval_cli.console import progress_bar

from gen_eval import store
from gen_eval.datasets import load
from gen_eval.evaluation import evaluate
from gen_eval.images import open_images
from gen_eval.metrics import find_measure
from gen_eval.passing import Request, summarize
from gen_eval.planning import load_extractors, pick_device
from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
from gen_eval.summary import Summary

PUBLISHED = 3.1508
TOLERANCE = 0.003


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@click.option(
    "--stats", type=click.Path(path_type=Path, file_okay=False), help="Keep the statistics in this folder."
)
@click.option("--device", help="cpu or cuda.")
def main(out: Path, stats: Path | None, device: str | None) -> None:
    keep_freed_memory()
    started = time.perf_counter()
    with progress_bar() as progress:
        (extractor,) = load_extractors(
            [find_measure("fid")],
            find_protocol(DEFAULT_PROTOCOL),
            device=pick_device(device),
            progress=progress,
        ).values()
        summaries: dict[str, Summary] = {}
        for split in ("train", "test"):
            images = open_images(load("cifar10", split).images, name=f"cifar10 {split}")
            summaries[split] = summarize(
                images, [Request(extractor, ("pool",))], rows=None, progress=progress
            )
            if stats:
                stats.mkdir(parents=True, exist_ok=True)
                store.save(summaries[split], stats / f"cifar10-{split}.safetensors")
    results = evaluate(
        ["fid", "fid-inf"], generated=summaries["train"], reference=summaries["test"], device=device
    )
    gap = results[0].value - PUBLISHED
    record = {
        "command": "python benchmarks/anchor.py",
        "published": PUBLISHED,
        "gap": gap,
        "seconds": round(time.perf_counter() - started),
        "results": [result.to_json() for result in results],
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    for result in results:
        click.echo(f"{result.measure} {result.value:.5f} +- {result.error:.5f}")
    click.echo(f"published {PUBLISHED}, gap {gap:+.5f}, allowed {TOLERANCE}")
    if abs(gap) > TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
