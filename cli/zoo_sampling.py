"""``geneval zoo sample``: samples of a generator, as files that every verb takes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gen_eval.errors import UsageError

from .options import device_option
from .outputs import writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from gen_eval.progress import Progress
    from gen_eval.zoo import Sampler

EVERY_CLASS = "all"
SEED = click.IntRange(0, 2**62)  # below 2^63 by more than the seeds that follow it
_ARCHIVE, _ARRAYS = ".zip", (".npy", ".npz")
_AT_ONCE = 1024  # samples that are drawn between two reports of progress


@click.command()
@click.argument("name")
@click.option("-n", "--n", type=click.IntRange(1), required=True, help="How many.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder or .zip of PNG files, or an array .npz or .npy; vectors go into .npz or .npy.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the first one; the next is that of the next seed.",
)
@click.option(
    "--labels",
    metavar="CLASS,...",
    help="Classes by name or number, dealt out in turn, or 'all'; by default each seed draws its own.",
)
@click.option(
    "--truncation", type=click.FloatRange(0), help="How far to go from the mode; all the way by default."
)
@device_option
def sample(
    name: str,
    n: int,
    out: Path,
    seed: int,
    labels: str | None,
    truncation: float | None,
    device: str | None,
) -> None:
    """Draw samples of the generator NAME, and write them to files.

    NAME is a world, a checkpoint that ships (`geneval zoo list` shows both) or a checkpoint file. Image i is that of
    seed `--seed` + i, however many are drawn. Of a generator with classes, a folder has a folder for each class, as
    `geneval intra-fid` takes it, and an .npz has the labels as its second array.
    """
    from gen_eval.planning import pick_device
    from gen_eval.zoo import open_sampler

    from .console import progress_bar

    sampler = open_sampler(name, pick_device(device))
    _require_new(out, sampler)
    chosen = read_labels(labels, sampler, n)
    with progress_bar() as progress:
        samples = draw(sampler, n, seed, chosen, truncation, progress)
    import torch

    if chosen is None:
        chosen = sampler.labels_of(torch.arange(seed, seed + n))
    with writing(out):
        _write(samples.numpy(), chosen, sampler.classes, seed, out)
    what = "images" if len(sampler.shape) == 3 else "vectors"
    size = " x ".join(map(str, sampler.shape[1:] or sampler.shape))
    asked = getattr(sampler, "evaluations", 0)  # of what goes step by step: along an equation, or a chain
    cost = f", {asked} evaluations of the network each" if asked else ""
    click.echo(f"{out}  {n:,} {what} of {size}, seeds {seed} to {seed + n - 1}{cost}")


def read_labels(text: str | None, sampler: Sampler, n: int) -> Tensor | None:
    """Classes by name or number, separated by commas, dealt out over ``n`` samples; ``None`` as it is.

    Raises:
        UnknownName: if there is no such class.
        UsageError: if the generator has none.
    """
    import torch

    from gen_eval.errors import UnknownName

    if text is None:
        return None
    classes = sampler.classes
    if not classes:
        raise UsageError(f"{sampler.name} knows no classes, so it takes no labels")
    numbers = {str(number): number for number in range(len(classes))}
    numbers |= {each: number for number, each in enumerate(classes)}
    given = list(classes) if text == EVERY_CLASS else [each.strip() for each in text.split(",")]
    for each in given:
        if each not in numbers:
            raise UnknownName(f"class of {sampler.name}", each, [EVERY_CLASS, *classes])
    return torch.tensor([numbers[each] for each in given]).repeat(-(-n // len(given)))[:n]


def draw(
    sampler: Sampler, n: int, seed: int, labels: Tensor | None, truncation: float | None, progress: Progress
) -> Tensor:
    """As :meth:`Sampler.sample`, and tells how far it is."""
    samples = None
    unit = "image" if len(sampler.shape) == 3 else "sample"
    progress(sampler.name, 0, n, unit)
    for start in range(0, n, _AT_ONCE):
        count = min(_AT_ONCE, n - start)
        of_these = None if labels is None else labels[start : start + count]
        some = sampler.sample(count, seed=seed + start, labels=of_these, truncation=truncation)
        if samples is None:  # room for all: parts put together in the end would be there twice
            samples = some.new_empty(n, *some.shape[1:])
        samples[start : start + count] = some
        progress(sampler.name, start + count, n, unit)
    assert samples is not None  # n is 1 at least
    return samples


def _require_new(out: Path, sampler: Sampler) -> None:
    """Refuse what is there already, and forms that cannot hold the samples. Nothing is ever overwritten."""
    form = out.suffix.lower()
    if form[1:2].isalpha() and form not in (_ARCHIVE, *_ARRAYS):  # samples-0.7 is a folder
        known = ", ".join((_ARCHIVE, *_ARRAYS))
        raise UsageError(f"cannot write {out}: expected a folder, or a name that ends in {known}")
    if len(sampler.shape) != 3 and form not in _ARRAYS:
        raise UsageError(f"{sampler.name} makes vectors: give -o a name that ends in {' or '.join(_ARRAYS)}")
    if not out.parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.parent}")
    if out.is_dir() and form not in (_ARCHIVE, *_ARRAYS):
        if any(out.iterdir()):
            raise UsageError(f"{out} is not empty: choose another folder, or remove what is in it")
    elif out.exists():
        raise UsageError(f"{out} exists: choose another name, or remove it")


def _write(
    samples: npt.NDArray[np.generic],
    labels: Tensor | None,
    classes: tuple[str, ...],
    seed: int,
    out: Path,
) -> None:
    import numpy as np

    array = samples.transpose(0, 2, 3, 1) if samples.ndim == 4 else samples
    if out.suffix.lower() == ".npy":
        np.save(out, array)
    elif out.suffix.lower() == ".npz":
        np.savez(out, *([array] if labels is None else [array, labels.numpy()]))
    elif out.suffix.lower() == _ARCHIVE:
        with zipfile.ZipFile(out, "x") as archive:
            for name, data in _files(array, labels, classes, seed):
                archive.writestr(zipfile.ZipInfo(name), data)  # of no date: the same samples, the same bytes
    else:
        for name, data in _files(array, labels, classes, seed):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)


def _files(
    images: npt.NDArray[np.generic], labels: Tensor | None, classes: tuple[str, ...], seed: int
) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image: ``[CLASS/]SEED.png``, gray where there is one channel."""
    from PIL import Image

    width = max(6, len(str(seed + len(images) - 1)))
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
        folder = "" if labels is None else f"{folder_of(classes[int(labels[index])])}/"
        yield f"{folder}{seed + index:0{width}}.png", file.getvalue()


def folder_of(name: str) -> str:
    """The folder of a class: its name, less what no folder may have in it.

    >>> folder_of("T-shirt/top")
    'T-shirt-top'
    """
    return name.replace("/", "-").replace("\\", "-")
