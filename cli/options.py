"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gen_eval.errors import UnknownName
from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS

_ROLES = ("reference", "generated", "heldout")
Command = TypeVar("Command", bound=Callable[..., Any])


def _named_files(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    """``FILE`` as it is; ``NAME=FILE``, once or more, as a dictionary."""
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    named = dict(each.partition("=")[::2] for each in given)
    if not all(named.values()):
        raise click.BadParameter("given more than once, each is NAME=FILE", context, option)
    return named


def _files_by_role(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    """As :func:`_named_files`, where the names are those of sets."""
    named = _named_files(context, option, given)
    for role in named if isinstance(named, dict) else ():
        if role not in _ROLES:
            raise click.BadParameter(str(UnknownName("set", role, _ROLES)), context, option)
    return named


device_option = click.option("--device", help="cpu, cuda or cuda:N; CUDA by default where there is one.")
offline_option = click.option("--offline", is_flag=True, default=None, help="Never touch the network.")
backend_option = click.option(
    "--backend",
    type=click.Choice(["torch", "onnxruntime", "openvino"]),
    default="torch",
    show_default=True,
    help="What runs the Inception network; the features are the same. All but torch are for the CPU.",
)
_NETWORK = (
    click.option(
        "--protocol",
        type=click.Choice(list(PROTOCOLS)),
        default=DEFAULT_PROTOCOL,
        show_default=True,
        help="The tool whose number it is to equal.",
    ),
    click.option(
        "--weights",
        multiple=True,
        callback=_named_files,
        metavar="[NAME=]FILE",
        help="Local weights, in place of the cached or fetched ones; NAME says of which extractor.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "tf32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Arithmetic of the network; all but fp32 are faster, and compare with themselves alone.",
    ),
    device_option,
)
_TERMS = (*_NETWORK, offline_option)
_EXTRACTION = (
    *_NETWORK,
    backend_option,
    click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together."),
    click.option("--workers", type=click.IntRange(0), help="Decoding threads; 0 decodes on the main thread."),
    click.option("--skip-corrupt", is_flag=True, help="Leave broken files out, and say how many."),
    offline_option,
)
_FEATURES = (
    click.option(
        "--rows",
        type=click.IntRange(0),
        help="The most feature rows to keep of a set; what is needed, by default.",
    ),
    click.option(
        "--cache",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder to keep features in, and find them.",
    ),
)
_COMPARISON = (
    click.option("--json", "as_json", is_flag=True, help="One JSON object a measure on standard output."),
    click.option(
        "--heldout", metavar="SET", help="Real images not in REAL: what a perfect generator would get."
    ),
    *_FEATURES,
    click.option(
        "--per-image",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Also write what is known of each image, as .csv.",
    ),
    click.option(
        "--worst",
        type=click.IntRange(1, 1024),
        metavar="K",
        help="Also draw the K images of FAKE that count most against the first measure.",
    ),
    click.option(
        "--worst-out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Where to draw them; by default worst.png, or worst-2.png and so on where there is one.",
    ),
)
_LABELS = (
    click.option(
        "--labels",
        multiple=True,
        callback=_files_by_role,
        metavar="[ROLE=]FILE",
        help="Class of each image, for measures by class; by default the folders. "
        "ROLE is reference, generated or heldout.",
    ),
)
_REFERENCE = (
    click.option(
        "--reference-n",
        type=click.IntRange(2),
        help="Images behind statistics of another tool as REAL, where they do not say.",
    ),
    click.option(
        "--neighbors",
        type=click.IntRange(1, 64),
        metavar="K",
        help="Also draw the images of FAKE that look most like copies, each with the K nearest of REAL.",
    ),
    click.option(
        "--neighbors-out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Where to draw them; by default neighbors.png, or neighbors-2.png and so on where there is one.",
    ),
)


_METRIC = (
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="[METRIC.]NAME=VALUE",
        help="A metric's parameter, such as k=5 or kid.subsets=50.",
    ),
    click.option("--seed", type=int, help="Of every draw a metric makes; the same as --set seed=N."),
)


def metric_options(command: Command) -> Command:
    """The options of verbs that take any measures: parameters of their metrics, for :func:`parse_params`."""
    for option in reversed(_METRIC):
        command = option(command)
    return command


def terms_options(command: Command) -> Command:
    """The options that say through what network features are, or are claimed to be."""
    for option in reversed(_TERMS):
        command = option(command)
    return command


def extraction_options(command: Command) -> Command:
    """The options of every verb that sends images through a network."""
    for option in reversed(_EXTRACTION):
        command = option(command)
    return command


def feature_options(command: Command) -> Command:
    """The options of how many features are kept, and where."""
    for option in reversed(_FEATURES):
        command = option(command)
    return command


def comparison_options(command: Command, *, labels: bool = True, reference: bool = True) -> Command:
    """The options of :func:`extraction_options`, and those of every verb that measures one set, most against another.

    Args:
        command: the verb.
        labels: whether it measures by class.
        reference: whether it compares with real images.
    """
    command = extraction_options(command)
    chosen = (*_COMPARISON, *(_LABELS if labels else ()), *(_REFERENCE if reference else ()))
    for option in reversed(chosen):
        command = option(command)
    return command


def parse_params(given: Sequence[str], seed: int | None = None) -> dict[str, Any]:
    """``NAME=VALUE`` texts as parameters: numbers, true, false and none where they read as such; and the seed.

    >>> parse_params(("k=5", "kernel=rbf", "kid.subsets=10", "inclusive=false"))
    {'k': 5, 'kernel': 'rbf', 'kid.subsets': 10, 'inclusive': False}
    """
    params = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--set {each}: expected NAME=VALUE, or METRIC.NAME=VALUE")
        params[name] = parse_value(text)
    return params if seed is None else {**params, "seed": seed}


def parse_value(text: str) -> Any:
    """A number, a truth value, none, a tuple of numbers by commas, or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if "," in text:
        return tuple(parse_value(part) for part in text.split(","))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def spell_value(value: Any) -> str:
    """The text that :func:`parse_value` reads as this value.

    >>> parse_value(spell_value((0.5, 2.0))), spell_value(None)
    ((0.5, 2.0), 'none')
    """
    if isinstance(value, tuple):
        return ",".join(map(spell_value, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def measures_option(text: str, *default: str) -> Callable[[Command], Command]:
    """``-m``, more than once for several.

    Args:
        text: what is measured, for ``--help``.
        default: measures where none is given.
    """
    return click.option(
        *("-m", "--measure", "measures"),
        multiple=True,
        metavar="MEASURE",
        default=default,
        show_default=bool(default),
        help=text,
    )
