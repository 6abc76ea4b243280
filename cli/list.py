"""``geneval list``: what there is to choose from."""

from __future__ import annotations

import click


@click.command("list")
def list_() -> None:
    """Show the measures, metrics, extractors and protocols."""
    from gen_eval.extractors import EXTRACTORS
    from gen_eval.metrics import ALIASES, METRICS
    from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS

    click.secho("measures", bold=True)
    for name, (through, extractor, tap) in ALIASES.items():
        click.echo(f"  {name:30}{through} through {extractor} {tap}")
    click.secho("metrics", bold=True)
    for metric in METRICS.values():
        click.echo(f"  {metric.name:30}version {metric.version}, {metric.better} is better; {metric.cite}")
    click.secho("extractors", bold=True)
    for name, load in EXTRACTORS.items():
        click.echo(f"  {name:30}{(load.__doc__ or '').splitlines()[0]}")
    click.secho("protocols", bold=True)
    for protocol in PROTOCOLS.values():
        default = " (default)" if protocol.name == DEFAULT_PROTOCOL else ""
        click.echo(f"  {protocol.name:30}{protocol.meaning}{default}")
