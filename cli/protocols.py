"""``geneval protocols``: what each protocol fixes, side by side, or one in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .options import spell_value

if TYPE_CHECKING:
    from gen_eval.protocols import Protocol

_NONE = "·"  # of what the tool does not have
_HEADINGS = (
    *("protocol", "network", "measures", "resize", "whole levels", "normalisation"),
    *("covariance /", "mean", "P and R", "IS splits", "KID subsets", "equals", "shown"),
)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a protocol on standard output.")
def protocols(name: str | None, as_json: bool) -> None:
    """Show what the protocols fix, side by side; with NAME, one of them in words.

    A line is a protocol and a network that its tool looks through. Settings stand where the tool has the measure
    that they are of; of other measures a protocol fixes the preprocessing alone. `live`: the tests run the tool
    beside ours; `sources`: the settings are as its source reads.
    """
    from gen_eval.protocols import PROTOCOLS, find_protocol

    chosen = [find_protocol(name)] if name else list(PROTOCOLS.values())
    if as_json:
        for each in chosen:
            click.echo(json.dumps(_to_json(each), allow_nan=False))
    elif name:
        click.echo("\n".join(_words(chosen[0])))
    else:
        _show(chosen)


def _by_network(protocol: Protocol) -> dict[str, dict[str, Mapping[str, Any]]]:
    """By network and measure, the parameters under the protocol."""
    from gen_eval.metrics import find_measure

    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name in protocol.measures:
        measure = find_measure(name)
        params = protocol.params_for(measure.metric.name, measure.metric.params)
        found.setdefault(measure.extractor, {})[name] = params
    return found


def _to_json(protocol: Protocol) -> dict[str, Any]:
    return {
        "name": protocol.name,
        "tool": protocol.tool,
        "shown": protocol.shown,
        "meaning": protocol.meaning,
        "networks": [
            {
                "network": network,
                "measures": list(measures),
                **protocol.preprocessing.get(network, {}),
                "quantize": _rounds(protocol, network),
                "params": {measure: dict(params) for measure, params in measures.items()},
            }
            for network, measures in _by_network(protocol).items()
        ],
        "default_networks": dict(protocol.networks),
        "notes": list(protocol.notes),
    }


def _rounds(protocol: Protocol, network: str) -> bool:
    """Whether the resize gives whole levels."""
    return protocol.preprocessing.get(network, {}).get("resize", "").endswith("-uint8")


def _settings(measures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The cells of covariance, mean, balls, splits and subsets."""

    def of(*names: str) -> Mapping[str, Any] | None:
        return next((params for params in measures.values() if set(names) <= set(params)), None)

    moments, balls, splits, subsets = of("ddof"), of("k", "inclusive"), of("splits"), of("subsets")
    return [
        _NONE if moments is None else "n - 1" if moments["ddof"] else "n",
        _NONE if moments is None else moments["mean_dtype"],
        _NONE if balls is None else f"k={balls['k']} {'≤' if balls['inclusive'] else '<'}{_rounded(balls)}",
        _NONE if splits is None else _spell_splits(splits),
        _NONE if subsets is None else f"{subsets['subsets']} of {subsets['subset_size']:,}",
    ]


def _rounded(balls: Mapping[str, Any]) -> str:
    dtype = balls["feature_dtype"]
    return "" if dtype == "float32" else f", {dtype}"


def _spell_splits(params: Mapping[str, Any]) -> str:
    parts = f"n/{params['split_size']:,}" if params["split_size"] else f"{params['splits']}"
    return f"{parts}, {'shuffled' if params['shuffle'] else 'in order'}"


def _show(chosen: list[Protocol]) -> None:
    from rich.table import Table

    from gen_eval.protocols import DEFAULT_PROTOCOL

    from .console import print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True)
    for protocol in chosen:
        first = True
        for network, measures in _by_network(protocol).items():
            preprocessing = protocol.preprocessing.get(network, {})
            table.add_row(
                protocol.name if first else "",
                network,
                " ".join(name.partition(":")[0] for name in measures),
                preprocessing.get("resize", "its own"),
                "yes" if _rounds(protocol, network) else "no",
                preprocessing.get("normalize", "its own"),
                *_settings(measures),
                protocol.tool if first else "",
                protocol.shown if first else "",
            )
            first = False
    print_table(table)
    click.echo(f"\n{DEFAULT_PROTOCOL} is the default. `geneval protocols NAME` tells one in words.")


def _words(protocol: Protocol) -> Iterator[str]:
    from gen_eval.protocols import DEFAULT_PROTOCOL, SHOWN

    default = ", the default" if protocol.name == DEFAULT_PROTOCOL else ""
    yield f"{protocol.name}{default}: {protocol.meaning}."
    yield f"Its numbers are those of {protocol.tool}: {SHOWN[protocol.shown]}."
    for network, measures in _by_network(protocol).items():
        settings = protocol.preprocessing.get(network, {})
        rounds = "rounds to whole levels" if _rounds(protocol, network) else "keeps fractions of levels"
        yield (
            f"{network}: resize {settings.get('resize', 'its own')}, which {rounds}; normalisation "
            f"{settings.get('normalize', 'its own')}."
        )
        for measure, params in measures.items():
            shown = " ".join(f"{name}={spell_value(value)}" for name, value in params.items())
            yield f"  {measure:22}{shown or 'no parameters'}"
    if protocol.networks:
        looks = ", ".join(f"{name} through {network}" for name, network in protocol.networks.items())
        yield f"A measure that names no network looks through that of the tool: {looks}."
    for note in protocol.notes:
        yield f"- {note}"
