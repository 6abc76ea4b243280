"""``geneval zoo train``: train a model, watch it learn, stop and go on."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_eval.errors import UnknownName, UsageError

from .options import device_option, offline_option, parse_params, spell_value
from .zoo_pictures import pixels_of, plane_of
from .zoo_sampling import SEED

if TYPE_CHECKING:
    from torch import Tensor

    from gen_eval.progress import Progress
    from gen_eval.zoo import Checkpoint, Model, Sampler, TrainingData

_OF_A_WORLD = 10_000  # samples to learn from
_FIRST_OF_A_WORLD = 2**40  # their first seed: evaluations start at 0, and are not to meet what was learnt
_COLUMNS, _POINTS = 10, 2_000  # images in a row of the picture; points in a panel of it
_RESUME = "--resume"
_INTERRUPTED = 130  # what a shell calls the end by Ctrl-C


@click.command()
@click.argument("model")
@click.option(
    "--data",
    "source",
    required=True,
    metavar="DATA",
    help="A dataset such as mnist or fashion-mnist:train, a folder, archive or array of images, a .npy of vectors, or "
    "a world such as ring8.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint, .safetensors; by default MODEL-DATA.safetensors.",
)
@click.option("--steps", type=click.IntRange(1), help="How long; by default as the model says.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long instead, by the clock.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the weights, batches and noise.")
@click.option(
    _RESUME,
    is_flag=True,
    help="Go on where a training to the same file was stopped; it ends in the same weights.",
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds between two states that can be resumed.",
)
@click.option(
    "--samples",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PICTURE",
    help="Also draw the same seeds over and over as it learns, as .png.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A number or word of the model's own, such as width=32 or batch=128; a wrong name lists them.",
)
@click.option(
    "--labels",
    metavar="FILE",
    help="Class of each image or vector; by default the folders, or the dataset's.",
)
@click.option(
    "-n", "--n", type=click.IntRange(1), help=f"Samples of a world to learn from; {_OF_A_WORLD:,} by default."
)
@click.option("--skip-corrupt", is_flag=True, help="Leave image files that do not decode out.")
@device_option
@offline_option
def train(
    model: str,
    source: str,
    out: Path | None,
    samples: Path | None,
    settings: tuple[str, ...],
    labels: str | None,
    n: int | None,
    skip_corrupt: bool,
    device: str | None,
    offline: bool | None,
    resume: bool,
    **options: Any,
) -> None:
    """Train MODEL on DATA, and write a checkpoint that `geneval zoo sample` draws from.

    Such as: geneval zoo train sngan --data mnist --samples progress.png. Losses are shown as it learns, and the
    generator is that of averaged weights. Beside the checkpoint lies the state of the training: after Ctrl-C or a
    crash, the same command with --resume goes on from there.
    """
    from gen_eval.planning import pick_device
    from gen_eval.zoo import train as train_model

    from .console import progress_bar, warn
    from .pictures import free_name, require_picture

    row, place = _configured(model, settings), pick_device(device)
    out = out or _default_name(model, source)
    if samples:
        require_picture(samples)
        samples = free_name(samples) if resume else samples  # which has what came before
    try:
        with progress_bar() as progress:
            data = open_training_data(source, labels, n, skip_corrupt, offline, progress)
            for note in data.notes:
                warn(f"{data.name}: {note}")
            checkpoint = train_model(
                row,
                data,
                out=out,
                resume=resume,
                device=place,
                command=shlex.join(["geneval", *(each for each in sys.argv[1:] if each != _RESUME)]),
                progress=progress,
                observe=_Observer(data, samples),
                **options,
            )
    except KeyboardInterrupt as stop:
        _say_how_to_go_on(out, str(stop))
        sys.exit(_INTERRUPTED)
    click.echo(f"{out}  {describe(checkpoint, out)}")
    if samples:
        click.echo(f"{samples}  samples of the same seeds as it learnt")
    if data.x.ndim == 4 or data.x.shape[1] == 2:
        click.echo(f"Look at it: geneval zoo grid {shlex.quote(str(out))} -o grid.png")
    else:
        click.echo(f"Draw from it: geneval zoo sample {shlex.quote(str(out))} -o samples.npy")


def describe(checkpoint: Checkpoint, path: Path) -> str:
    """How a trained generator came about, and how large it is, in a line."""
    return (
        f"{checkpoint.model} of {checkpoint.data}, {checkpoint.steps:,} steps of seed {checkpoint.seed} in "
        f"{checkpoint.seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB"
    )


def open_training_data(
    source: str,
    labels: str | None,
    n: int | None,
    skip_corrupt: bool,
    offline: bool | None,
    progress: Progress,
    *,
    first: int = _FIRST_OF_A_WORLD,
) -> TrainingData:
    """What a user's text names: a dataset, a path, or else a world, whose samples are those from seed ``first`` on.

    Raises:
        UnknownName: if it is none of these.
        GenEvalError: as :func:`gen_eval.zoo.data.open_data` does.
    """
    from gen_eval.datasets import DATASETS
    from gen_eval.zoo import WORLDS, open_data

    given: Any = source
    seed = 0
    if source in WORLDS and not Path(source).exists():
        given, n, seed = WORLDS[source](), n or _OF_A_WORLD, first
    elif source.partition(":")[0] not in DATASETS and not Path(source).exists():
        raise UnknownName("data", source, [*DATASETS, *WORLDS, "FOLDER", "FILE"])
    return open_data(
        given,
        labels=labels,
        n=n,
        seed=seed,
        skip_corrupt=skip_corrupt,
        offline=offline,
        progress=progress,
    )


def _configured(name: str, given: tuple[str, ...]) -> Model:
    """A row of MODELS, with some settings of its recipe replaced."""
    from gen_eval.zoo import find_model

    model = find_model(name)
    fields = vars(model.recipe)
    changed = parse_params(given)
    for setting, value in changed.items():
        if setting not in fields:
            raise UnknownName(f"setting of {name}", setting, fields)
        changed[setting] = _like(fields[setting], value, f"{setting} of {name}")
    return dataclasses.replace(model, recipe=dataclasses.replace(model.recipe, **changed))  # type: ignore[type-var]


def _like(before: Any, value: Any, what: str) -> Any:
    """A setting as the recipe has it, such as 2.0 for 2, and the word "none" where words are."""
    if isinstance(before, str):
        value = spell_value(value)
    if isinstance(before, tuple) and before:
        value = tuple(
            _like(before[0], each, what) for each in (value if isinstance(value, tuple) else (value,))
        )
    if type(before) is float and type(value) is int:
        value = float(value)
    if before is not None and type(value) is not type(before):
        raise UsageError(
            f"{what} is {spell_value(before)} by default: expected its like, found {spell_value(value)}"
        )
    return value


def _default_name(model: str, source: str) -> Path:
    from gen_eval.sealed import EXTENSION

    data = Path(source).stem if Path(source).exists() else source.replace(":", "-")
    return Path(f"{model}-{data}{EXTENSION}")


def _say_how_to_go_on(out: Path, kept: str) -> None:
    from gen_eval.zoo.training import state_path

    if state_path(out).exists():
        command = shlex.join(["geneval", *(each for each in sys.argv[1:] if each != _RESUME), _RESUME])
        click.echo(
            f"\nStopped. {kept or f'The state is in {state_path(out)}.'} Go on from there: {command}",
            err=True,
        )


class _Observer:
    """Tells the losses, and draws a picture that grows by a row each time.

    Args:
        data: what is learnt; some of it comes first.
        out: the picture; ``None`` for none.
    """

    def __init__(self, data: TrainingData, out: Path | None) -> None:
        from .pictures import extent_of

        self._out, self._name = out, data.name
        self._plane = data.kind.shape == (2,)
        if out and not self._plane and not data.kind.images:
            raise UsageError(
                "--samples draws images and points of the plane; these are vectors of other lengths"
            )
        if self._plane:
            self._extent = extent_of(data.x.double().numpy(), margin=0.3)  # for what is off the mark
        count = _POINTS if self._plane else _COLUMNS
        spread = [place * len(data) // count for place in range(count)]  # data may be sorted
        self._shown = [("data", self._pixels(data.x[spread]))] if out else []
        self._last: tuple[float, int] | None = None  # when it was last called, and after which step

    def __call__(self, step: int, losses: Mapping[str, float], sampler: Sampler) -> None:
        rate = ""
        if self._last:
            since, before = self._last
            rate = f"{(step - before) / (time.monotonic() - since):.1f} it/s"
        values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        click.echo(f"{step:8,} steps  {rate:>12}  {values}", err=True)
        if self._out:
            drawn = sampler.sample(_POINTS if self._plane else _COLUMNS, seed=0)
            self._shown.append((f"step {step:,}", self._pixels(drawn)))
            self._draw(self._out, sampler.name)
        self._last = time.monotonic(), step

    def _pixels(self, samples: Tensor) -> Any:
        return plane_of(samples, self._extent) if self._plane else pixels_of(samples)

    def _draw(self, out: Path, name: str) -> None:
        from .pictures import Row, draw_grid, draw_rows

        if self._plane:
            draw_grid([pixels for _, pixels in self._shown], [title for title, _ in self._shown], out)
            return
        rows = [Row(pixels, title) for title, pixels in self._shown]
        draw_rows(rows, f"{name} on {self._name}", "each column is a seed", out)
