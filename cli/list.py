"""``geneval list``: what there is to choose from."""

from __future__ import annotations

import click

from .options import spell_value


@click.command("list")
def list_() -> None:
    """Show the measures, metrics with their parameters, extractors, and sets of images that have a name."""
    from gen_eval.datasets import DATASETS, size
    from gen_eval.direction import spell
    from gen_eval.extractors import EXTRACTORS
    from gen_eval.metrics import ALIASES, METRICS
    from gen_eval.references import shipped

    click.secho("measures", bold=True, nl=False)
    click.echo("   (NAME:EXTRACTOR looks through another network, such as kid:dinov2)")
    for name, (through, extractor, tap) in ALIASES.items():
        click.echo(f"  {name:28}{through} through {extractor} {tap}")
    click.secho("metrics", bold=True, nl=False)
    click.echo("    (set a parameter with --set NAME=VALUE, or METRIC.NAME=VALUE)")
    for metric in METRICS.values():
        judged = ", ".join(f"{name}, {spell(better)}" for name, better in metric.better.items())
        click.echo(f"  {metric.name:28}{judged}; version {metric.version}; {metric.cite}")
        if metric.params:
            settings = " ".join(f"{name}={spell_value(value)}" for name, value in metric.params.items())
            click.echo(f"  {'':28}{settings}")
    click.secho("extractors", bold=True)
    for name, load in EXTRACTORS.items():
        click.echo(f"  {name:28}{(load.__doc__ or '').splitlines()[0]}")
    click.secho("sets", bold=True, nl=False)
    click.echo("       (in place of a folder; statistics of some ship)")
    ships = {row.name: row for row in shipped()}
    for name, source in DATASETS.items():
        for split in source.sizes:
            what, row = f"{size(name, split):,} images", ships.get(f"{name}:{split}")
            click.echo(
                f"  {f'{name}:{split}':28}{what}" + (f"; statistics through {row.tap} ship" if row else "")
            )
    click.secho("protocols", bold=True, nl=False)
    click.echo("  (`geneval protocols` shows what they fix)")
