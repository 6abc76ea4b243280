"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS

Command = TypeVar("Command", bound=Callable[..., Any])

_EXTRACTION = (
    click.option(
        "--protocol",
        type=click.Choice(list(PROTOCOLS)),
        default=DEFAULT_PROTOCOL,
        show_default=True,
        help="The tool whose number it is to equal.",
    ),
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        help="Local Inception weights, in place of the cached or fetched ones.",
    ),
    click.option("--device", help="cpu, cuda or cuda:N; CUDA by default where there is one."),
    click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together."),
    click.option("--workers", type=click.IntRange(0), help="Decoding threads; 0 decodes on the main thread."),
    click.option("--skip-corrupt", is_flag=True, help="Leave broken files out, and say how many."),
    click.option("--offline", is_flag=True, default=None, help="Never touch the network."),
)


def extraction_options(command: Command) -> Command:
    """The options of every verb that sends images through a network."""
    for option in reversed(_EXTRACTION):
        command = option(command)
    return command
