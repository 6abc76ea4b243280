"""What models are trained on: named datasets, a user's images or vectors, and samples of another generator."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gen_eval import datasets, draws
from gen_eval.datasets import DATASETS, Dataset
from gen_eval.errors import ImagesError, NumericalError, UnknownName, UsageError
from gen_eval.images import Images, open_images, stream
from gen_eval.images.protocol import Named
from gen_eval.labels import FOLDERS, read_labels
from gen_eval.progress import Progress, silent
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind

DIVISOR = 4  # of both sides of images: networks start at a quarter of them
_AT_ONCE = 256  # images read between two reports of progress
_GRAY, _BROKEN = "gray to RGB", "left out, as they do not decode"  # what reading may say of images
_SHOWN = 3  # sizes that an error names
_CURE = f"networks make images of one size with sides divisible by {DIVISOR}: crop or resize them first, say to 32 x 32"


@dataclass(frozen=True)
class TrainingData:
    """Samples to learn from.

    Args:
        name: what they are, with the split of a named dataset: ``"mnist:train"``.
        x: uint8 images ``[n, c, h, w]``, or float32 vectors ``[n, d]``.
        labels: int64 ``[n]``, indices into ``classes``; ``None`` where there are none.
        classes: what each label means.
        notes: what reading changed, for the user to know.
    """

    name: str
    x: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def kind(self) -> Kind:
        """What samples are."""
        return Kind(tuple(self.x.shape[1:]), self.classes)

    @cached_property
    def scaling(self) -> Mapping[str, Tensor]:
        """Of vectors ``mean`` and ``sd``, ``[d]`` float32, on the CPU; empty of images.

        The sd of a component that never varies is 1.
        """
        if self.kind.images:
            return {}
        rows = self.x.cpu().double()  # the same to the last bit for data on another device
        varies = rows.amax(0) > rows.amin(0)
        scaling = {"mean": rows.mean(0), "sd": torch.where(varies, rows.std(0, correction=0), 1.0)}
        return {name: value.float() for name, value in scaling.items()}

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of samples, labels and classes, wherever they came from."""
        found = hashlib.sha256()
        for part in (self.x, self.labels):
            if part is not None:
                found.update(repr((part.dtype, tuple(part.shape))).encode())
                found.update(part.cpu().contiguous().numpy().data)
        found.update(json.dumps(self.classes).encode())
        return found.hexdigest()

    def to(self, device: torch.device) -> TrainingData:
        """The same data on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, x=self.x.to(device), labels=labels)

    def batch(self, seed: int, step: int, player: str, turn: int, size: int) -> Batch:
        """What a player learns from in one turn of a step, drawn with replacement by these five alone.

        Returns:
            images in [-1, 1], or vectors less their mean over their standard deviation; where the data lies.
        """
        chosen = draws.uniform(torch.tensor([key(seed, step, player, turn)]), size)[0]
        rows = torch.from_numpy((chosen * len(self)).astype(np.int64)).to(self.x.device)
        return Batch(self._scaled(self.x[rows].float()), None if self.labels is None else self.labels[rows])

    def _scaled(self, x: Tensor) -> Tensor:
        if self.kind.images:
            return x / 127.5 - 1
        return (x - self.scaling["mean"].to(x)) / self.scaling["sd"].to(x)


def key(*parts: int | str) -> int:
    """A seed below 2^63 that is a hash of numbers and texts."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1


def open_data(
    source: Any,
    *,
    labels: Any = None,
    n: int | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
    offline: bool | None = None,
    progress: Progress = silent,
) -> TrainingData:
    """Read all samples into memory.

    Args:
        source: a row of :data:`gen_eval.datasets.DATASETS`, with its split unless that is ``train``: ``"mnist"``,
            ``"mnist:test"``; whatever :func:`gen_eval.images.open_images` takes; floating point vectors ``[n, d]`` or
            a ``.npy`` file of them; a :class:`Sampler`.
        labels: of images and vectors, as :func:`gen_eval.labels.read_labels` takes them. By default they are the
            folders, where images are sorted into more than one.
        n: samples asked of a sampler or callable.
        seed: of the first of those.
        skip_corrupt: leave image files that do not decode out.
        offline: never use the network, as :func:`gen_eval.datasets.load` takes it.
        progress: told of bytes and images as they come.

    Raises:
        UsageError: if the source is nothing of the kind or an empty path, or an argument is not for it.
        UnknownName: if a text is neither a dataset nor a file.
        ImagesError: if images cannot be read or differ in size, or have sides that networks cannot make.
        NumericalError: if vectors are not finite.
    """
    dataset = source if isinstance(source, Dataset) else _load(source, offline, progress)
    if dataset is not None:
        _refuse("a named dataset", labels=labels, n=n)
        data = _of_dataset(dataset)
    elif isinstance(source, Sampler):
        _refuse("a generator", labels=labels)
        data = _of_sampler(source, n, seed)
    elif (array := _vectors(source)) is not None:
        _refuse("vectors", n=n)
        data = _of_vectors(array, str(source) if isinstance(source, (str, Path)) else "vectors", labels)
    else:
        data = _of_images(open_images(source, n=n, seed=seed), labels, skip_corrupt, progress)
    if data.kind.images and any(side % DIVISOR for side in data.x.shape[2:]):
        raise ImagesError(f"{data.name} holds images of {_size(data.x.shape[2:])}; {_CURE}")
    return data


def _refuse(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} is not for {what}; found {name}={value!r}")


def _load(source: Any, offline: bool | None, progress: Progress) -> Dataset | None:
    """The dataset of a name; ``None`` of anything else.

    Raises:
        UsageError: if the name is that of a file too.
        UnknownName: if it is nobody's.
    """
    if not isinstance(source, str):
        return None
    if not source:
        raise UsageError("an empty path was given; for the current folder say '.'")
    if named := datasets.named(source):
        return datasets.load(*named, offline=offline, progress=progress)
    if datasets.may_be_meant(source):
        raise UnknownName("dataset, folder or file", source, DATASETS)
    return None


def _of_dataset(dataset: Dataset) -> TrainingData:
    x = torch.from_numpy(np.ascontiguousarray(dataset.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(dataset.labels)
    return TrainingData(f"{dataset.name}:{dataset.split}", x, labels, dataset.classes)


def _of_sampler(sampler: Sampler, n: int | None, seed: int) -> TrainingData:
    if n is None:
        raise UsageError(f"{sampler.name} makes as many samples as it is asked for: say how many with n=")
    seeds = draws.seeds_from(seed, n)
    x, labels = sampler(seeds), sampler.labels_of(seeds)
    return TrainingData(f"{sampler.name}, seeds {seed} to {seed + n - 1}", x, labels, sampler.classes)


def _vectors(source: Any) -> npt.NDArray[Any] | None:
    """The array of a source that holds one with one axis or two; ``None`` of all else, which may be images."""
    if isinstance(source, Tensor):
        source = source.detach().cpu().numpy()
    elif isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".npy" and Path(source).is_file():
        try:
            source = np.load(source, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return None  # to be refused as images, with the reason
    return source if isinstance(source, np.ndarray) and source.ndim in (1, 2) else None


@dataclass(frozen=True)
class _Rows:
    """Vectors as :func:`read_labels` knows sets."""

    name: str
    count: int

    def __len__(self) -> int:
        return self.count

    def label(self, index: int) -> str:
        """Name one row: ``"#17"``."""
        return f"#{index}"


def _of_vectors(array: npt.NDArray[Any], name: str, labels: Any) -> TrainingData:
    if array.dtype.kind != "f" or array.ndim != 2 or 0 in array.shape:
        raise UsageError(
            f"{name} is {array.dtype} with shape {list(array.shape)}: expected floating point vectors [n, d], or uint8 "
            "images with 4 axes"
        )
    with np.errstate(over="ignore"):  # told below
        x = torch.from_numpy(np.array(array, np.float32, order="C"))
    if not bool(x.isfinite().all()):
        raise NumericalError(f"{name} holds vectors that are NaN, infinite or beyond float32")
    numbers, classes = _numbers(labels, _Rows(name, len(x)))
    return TrainingData(name, x, numbers, classes)


def _of_images(images: Images, labels: Any, skip_corrupt: bool, progress: Progress) -> TrainingData:
    numbers, classes = _numbers(labels, images)
    pixels, kept, notes = _read(images, skip_corrupt, progress)
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return TrainingData(images.name, x, None if numbers is None else numbers[kept], classes, notes)


def _read(
    images: Images, skip_corrupt: bool, progress: Progress
) -> tuple[npt.NDArray[np.uint8], Tensor, tuple[str, ...]]:
    """All pixels, ``[k, h, w, 3]`` or ``[k, h, w, 1]``, which images they are, ``[k]``, and what reading changed.

    Raises:
        ImagesError: if sizes differ; names them.
    """
    sizes: Counter[tuple[int, ...]] = Counter()
    notes: Counter[str] = Counter()
    pixels = np.empty((0, 0, 0, 3), np.uint8)
    kept: list[Tensor] = []
    total, done, seen = len(images), 0, 0
    chunks = stream(
        images,
        range(total),
        batch_size=_AT_ONCE,
        workers=os.cpu_count() or 1,
        prepare=lambda image: image,
        skip_corrupt=skip_corrupt,
    )
    for chunk in chunks:
        sizes.update(image.shape[:2] for image in chunk.items)
        notes += chunk.notes
        notes += Counter({_BROKEN: len(chunk.broken)})
        if len(sizes) == 1 and chunk.items:
            if not len(pixels):
                pixels = np.empty((total, *chunk.items[0].shape), np.uint8)
            pixels[done : done + len(chunk.items)] = chunk.items
        done += len(chunk.items)
        kept.append(chunk.index)
        seen += len(chunk.items) + len(chunk.broken)
        progress(images.name, seen, total, "image")
    if len(sizes) != 1:
        raise _unequal(images.name, sizes)
    pixels = pixels[:done]
    gray = all(np.array_equal(pixels[..., 0], pixels[..., channel]) for channel in (1, 2))
    return (pixels[..., :1] if gray else pixels), torch.cat(kept), _told(notes, total, gray)


def _unequal(name: str, found: Counter[tuple[int, ...]]) -> ImagesError:
    if not found:
        return ImagesError(f"{name} holds no image that can be decoded")
    some = ", ".join(f"{count} of {_size(size)}" for size, count in found.most_common(_SHOWN))
    more = f" and {len(found) - _SHOWN} sizes more" if len(found) > _SHOWN else ""
    return ImagesError(f"{name} holds images of {len(found)} sizes: {some}{more}; {_CURE}")


def _told(notes: Mapping[str, int], total: int, gray: bool) -> tuple[str, ...]:
    """What reading changed, less what is undone again where all images are gray."""
    told = [
        f"{count} of {total} images: {note}" for note, count in notes.items() if not gray or note != _GRAY
    ]
    if gray and notes.get(_GRAY, 0) < total:
        told.append("all images are gray, though stored as RGB: models make one channel")
    return tuple(told)


def _size(shape: Any) -> str:
    height, width = shape
    return f"{width} x {height}"


def _numbers(labels: Any, of: Named) -> tuple[Tensor | None, tuple[str, ...]]:
    """Labels as numbers, and what they mean: numbers in their order, or names in that of the alphabet."""
    if labels is None:
        try:
            found = read_labels(FOLDERS, of).of
        except ImagesError:
            return None, ()
        if len(set(found)) == 1:
            return None, ()
    else:
        found = read_labels(labels, of).of
    names = set(found)
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    classes = tuple(sorted(names, key=lambda name: (int(name) if whole else 0, name)))
    numbers = {name: number for number, name in enumerate(classes)}
    return torch.tensor([numbers[name] for name in found]), classes
