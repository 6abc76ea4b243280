"""``geneval weights``: which network weights are on this machine, and how to get them there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import offline_option

if TYPE_CHECKING:
    from gen_eval.fetch import Asset

INCEPTION = "inception"


@click.group()
def weights() -> None:
    """List, fetch, add and verify the network weights in the cache."""


@weights.command("list")
def list_() -> None:
    """Show which weights are on this machine, and where."""
    from gen_eval.fetch import cache_dir, find, verify

    click.echo(f"cache: {cache_dir()}")
    for name, asset in _assets().items():
        held = dict(verify(asset))
        found = find(asset)
        if found is not None:
            held[found] = True
        if not held:
            click.echo(f"{asset.name}  absent (get it with `geneval weights fetch {name}`)")
        for path, ok in held.items():
            content = "CORRUPT" if not ok else _content(path) if name == INCEPTION else "whole"
            click.echo(f"{asset.name}  {content}  {path}")


@weights.command()
@click.argument("name", default=INCEPTION)
@click.option(
    "--head", is_flag=True, help="Only files that hold the classifier head (for the Inception Score)."
)
@offline_option
def fetch(name: str, head: bool, offline: bool | None) -> None:
    """Fetch the weights of NAME, inception by default, if they are not on this machine yet."""
    from gen_eval import fetch as fetching
    from gen_eval.extractors.inception_weights import WEIGHTS_WITH_HEAD

    from .console import progress_bar

    asset = WEIGHTS_WITH_HEAD if head else _asset(name)
    with progress_bar() as progress:
        path = fetching.fetch(asset, offline=offline, progress=progress)
    click.echo(f"{asset.name}  {path}")


@weights.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name", default=INCEPTION)
def add(file: Path, name: str) -> None:
    """Copy FILE, weights of the extractor NAME that were fetched by other means, into the cache."""
    from gen_eval import fetch as fetching

    asset = _asset(name)
    click.echo(f"{asset.name}  {fetching.add(asset, file)}")


@weights.command()
def verify() -> None:
    """Check the weights in the cache against their sha256; exit with 1 if any is corrupt."""
    from gen_eval import fetch as fetching

    checked = [pair for asset in _assets().values() for pair in fetching.verify(asset)]
    for path, ok in checked:
        click.echo(f"{'ok' if ok else 'CORRUPT':8}{path}")
    if not checked:
        click.echo("no weights in the cache")
    if not all(ok for _, ok in checked):
        click.echo("Run `geneval weights fetch` to replace what is corrupt.")
        sys.exit(1)


def _assets() -> dict[str, Asset]:
    """The weights that have a place in the cache, by extractor."""
    from gen_eval.extractors import efficientnet_lite
    from gen_eval.extractors.inception_weights import WEIGHTS
    from gen_eval.extractors.lpips_weights import WEIGHTS as LPIPS

    return {INCEPTION: WEIGHTS, **{asset.name: asset for asset in efficientnet_lite.WEIGHTS}, "lpips": LPIPS}


def _asset(name: str) -> Asset:
    from gen_eval.errors import UnknownName

    assets = _assets()
    if name not in assets:
        raise UnknownName("extractor with weights here", name, assets)
    return assets[name]


def _content(path: Path) -> str:
    from gen_eval.errors import WeightsError
    from gen_eval.extractors.inception_weights import HEAD, read_weights

    try:
        return "with classifier head" if HEAD in read_weights(path) else "trunk only, no classifier head"
    except WeightsError:
        return "UNREADABLE"
