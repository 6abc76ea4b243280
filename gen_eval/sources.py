"""What may stand on either side of a comparison: images, feature vectors, and statistics made before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gen_eval import datasets, foreign, sealed, store
from gen_eval.errors import ImagesError, NumericalError, UnknownName, UsageError
from gen_eval.extractors.vectors import NAME as IDENTITY
from gen_eval.images import Generated, Images, open_images
from gen_eval.images.floats import FloatRange
from gen_eval.passing import Request
from gen_eval.progress import Progress, silent
from gen_eval.references import DatasetImages
from gen_eval.stats import Features
from gen_eval.summary import Summary, made_with
from gen_eval.zoo.names import PREFIX, Named, open_named
from gen_eval.zoo.sampler import Sampler


@dataclass(frozen=True)
class Drawn:
    """Which samples of a generator a set holds.

    Args:
        named: the generator, and how it is asked.
        first: seed of the first sample.
        n: how many.
    """

    named: Named
    first: int
    n: int

    def require_apart(self, other: Drawn) -> None:
        """Refuse to measure samples against themselves.

        Raises:
            UsageError: if both are of one generator, and have seeds in common.
        """
        common = min(self.first + self.n, other.first + other.n) - max(self.first, other.first)
        if self.named.source == other.named.source and common > 0:
            raise UsageError(
                f"{self.named.text} and {other.named.text} have the samples of {common} seeds in common, and would be "
                f"measured against themselves: give one of them another seed, such as {PREFIX}NAME,seed={2**20}"
            )


class Samples(Generated):
    """Images that a generator of the zoo makes.

    Args:
        drawn: which.
    """

    def __init__(self, drawn: Drawn) -> None:
        super().__init__(drawn.named, drawn.n, drawn.first, drawn.named.text)
        self.drawn = drawn

    def classes(self) -> list[str] | None:
        """The class that each image was asked to be of; ``None`` of a generator without classes."""
        sampler, label = self.drawn.named.sampler, self.drawn.named.label
        labels = sampler.labels_of(torch.arange(self.drawn.first, self.drawn.first + self.drawn.n))
        if labels is None:
            return None
        return [sampler.classes[each if label is None else label] for each in labels.tolist()]


@dataclass(frozen=True)
class Vectors:
    """Features that the user brings along, one row an image.

    Args:
        given: ``[n, d]``, floating point; or the ``.npy`` file of them, which is read whenever they are asked for, so
            that no more than a summary of them stays in memory.
        shape: n and d.
        name: what to call them.
        drawn: whose samples they are, if a generator's.
    """

    given: Tensor | Path
    shape: tuple[int, int]
    name: str
    drawn: Drawn | None = None

    @classmethod
    def of(cls, rows: Tensor, name: str, drawn: Drawn | None = None) -> Vectors:
        """Those that are at hand."""
        return cls(rows, (len(rows), rows.shape[1]), name, drawn)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def rows(self) -> Tensor:
        """The vectors, ``[n, d]`` float32 or float64.

        Raises:
            ImagesError: if the file is not what it was when it was opened.
        """
        if isinstance(self.given, Tensor):
            return self.given
        try:
            rows = _tensor(np.load(self.given, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise ImagesError(f"{self.name} cannot be read: {error}") from error
        if tuple(rows.shape) != self.shape:
            raise ImagesError(
                f"{self.name} held vectors of shape {list(self.shape)}, and now {list(rows.shape)}: it was written to "
                "meanwhile"
            )
        return rows

    def label(self, index: int) -> str:
        """Name one row: ``"#17"``."""
        return f"#{index}"

    def summary(self, request: Request, rows: int | None) -> Summary:
        """What summarizing images would have given, had these been their features: at most so many rows."""
        extractor, given = request.extractor, self.rows
        try:
            features = Features.of(given.to(extractor.device), rows)
        except NumericalError as error:
            raise NumericalError(f"{self.name}: {error}") from error
        digest = hashlib.sha256(repr((tuple(given.shape), given.dtype)).encode())
        digest.update(given.cpu().contiguous().numpy().data)
        return Summary(
            name=self.name,
            digest=digest.hexdigest(),
            features={(extractor.spec(tap), tap): features for tap in request.taps},
            made_with=made_with(extractor.device),
        )


Source: TypeAlias = "Images | Vectors | Summary | Path"

IMAGES = "images:"  # before the path of a file that holds statistics too, or a name whose statistics ship


def open_source(
    source: Any,
    *,
    n: int | None = None,
    seed: int = 0,
    beside: Source | None = None,
    floats: FloatRange | None = None,
    offline: bool | None = None,
    progress: Progress = silent,
) -> Source:
    """Images, vectors, a summary, or the path of another tool's statistics, whichever the source is.

    Args:
        source: whatever :func:`gen_eval.images.open_images` takes; a floating point array ``[n, d]`` or a
            ``.npy`` file of one; a :class:`Summary`; a statistics file, or the images in it as ``images:PATH``; a
            :class:`Sampler` of the zoo, or its name as :func:`gen_eval.zoo.open_named` reads it; a dataset as
            :func:`gen_eval.datasets.named` reads it, for which statistics may ship, or its images as
            ``images:cifar10:train``.
        n: number of images asked of a callable or a sampler.
        seed: seed of its first image.
        beside: the set that it is measured against: a sampler makes as many where nobody says how many.
        floats: what floats of a callable mean; by default they are refused.
        offline: never fetch a dataset; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.
        progress: told of a dataset's bytes as they arrive.

    Raises:
        UsageError: if it is nothing of the kind, or a generator that nobody says how many samples to ask of.
        GenEvalError: if it cannot be read.
    """
    if isinstance(source, (Summary, Vectors)):
        return source
    if isinstance(source, str) and source.startswith(PREFIX):
        source = open_named(source)
    of_images = isinstance(source, str) and source.startswith(IMAGES)
    path = source.removeprefix(IMAGES) if of_images else source
    if key := datasets.named(path):
        if n is not None:
            raise UsageError(
                f"n is only for a generator; {':'.join(key)} holds {datasets.size(*key):,} images"
            )
        return DatasetImages(*key, may_be_statistics=not of_images, offline=offline, progress=progress)
    if of_images:
        return open_images(path, n=n, seed=seed, name=source)
    if isinstance(source, Sampler):
        source = Named(source.name, source)
    if isinstance(source, Named):
        return _samples(source, n, seed, beside)
    if isinstance(source, (np.ndarray, Tensor)) and source.ndim in (1, 2):
        return _vectors(source, "vectors")
    if isinstance(source, (str, Path)):
        if not str(source):
            raise UsageError("an empty path was given; for the current folder say '.'")
        path = Path(source)
        if store.is_statistics(path):
            return replace(store.load(path), file=str(source)) if path.suffix == sealed.EXTENSION else path
        if path.suffix.lower() == ".npy" and path.is_file() and (array := _read_vectors(path)) is not None:
            _require_vectors(array, str(source))
            return Vectors(path, array.shape, str(source))
    try:
        return open_images(source, n=n, seed=seed, floats=floats)
    except ImagesError as error:
        if not datasets.may_be_meant(source):
            raise
        raise ImagesError(f"{error}; {UnknownName('dataset', source, datasets.DATASETS)}") from error


def open_as_images(source: Any, *, offline: bool | None = None, progress: Progress = silent) -> Images:
    """The images of a set, where its statistics or vectors would not do.

    Args:
        source: as :func:`open_source` takes it; of a file that holds statistics too, its images are taken.
        offline: never fetch a dataset; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.
        progress: told of a dataset's bytes as they arrive.

    Raises:
        UsageError: if it is nothing of the kind, or holds no images.
        GenEvalError: if it cannot be read.
    """
    opened = open_source(source, offline=offline, progress=progress)
    if isinstance(opened, Path) and foreign.count_images(opened):
        opened = open_source(f"{IMAGES}{opened}")
    if not isinstance(opened, Images):
        name = opened if isinstance(opened, Path) else opened.name
        raise UsageError(
            f"{name} holds no images: expected a folder, an archive, an array or the like of them"
        )
    return opened


def known_classes(source: Source) -> list[str] | None:
    """The class of each image, where the set itself tells it: a dataset, or a generator with classes.

    Raises:
        FetchError: if it is a dataset that cannot be had.
    """
    return source.classes() if isinstance(source, (Samples, DatasetImages)) else None


def _samples(named: Named, n: int | None, seed: int, beside: Source | None) -> Source:
    if None not in (n, named.n) and n != named.n:
        raise UsageError(f"n is {n}, and {named.text} says {named.n}: leave one out")
    count = named.n if n is None else n
    if count is None and beside is not None and not isinstance(beside, Path):
        count = size(beside)
    if count is None:
        raise UsageError(
            f"say how many samples of {named.text} to draw: n=, or a name such as {PREFIX}NAME,n=1000"
        )
    drawn = Drawn(named, int(named.seeds(count, seed)[0]), count)
    if isinstance(beside, (Vectors, Samples)) and beside.drawn is not None:
        drawn.require_apart(beside.drawn)
    if len(named.sampler.shape) > 1:
        return Samples(drawn)
    return Vectors.of(named(named.seeds(count, seed)), named.text, drawn)


def size(source: Images | Vectors | Summary) -> int | None:
    """How many images or vectors a set has; ``None`` of statistics that do not say."""
    if not isinstance(source, Summary):
        return len(source)
    return next(iter(source.features.values())).n


def settle(
    source: Source, requests: Sequence[Request], *, rows: int | None = None, n: int | None = None
) -> Images | Summary:
    """Vectors and statistics as summaries, where they are needed; images, which cost a pass, as they are.

    Args:
        source: one side.
        requests: what is wanted of it.
        rows: the most feature rows to keep of a summary; ``None`` keeps all.
        n: number of images behind statistics of another tool that do not say.

    Raises:
        UsageError: if images and vectors are taken for one another, or ``n`` is given for what says another.
        StoreError: if statistics cannot be read.
    """
    extractor = requests[0].extractor
    if n is not None and not isinstance(source, Path):
        raise UsageError("reference_n is for {mu, sigma} statistics, which do not say; this reference does")
    if isinstance(source, Summary):
        return source.cut(rows).to(extractor.device)
    if isinstance(source, Vectors):
        return _settle_vectors(source, requests, rows)
    if not isinstance(source, Path):
        _require_images_wanted(source, requests)
        return source
    return _adopt(source, requests, n).cut(rows).to(extractor.device)


def _adopt(path: Path, requests: Sequence[Request], n: int | None) -> Summary:
    """What a file of another tool holds of the taps asked for: of a file that names no network, the first alone."""
    file = foreign.read(path)
    wanted = [(request.extractor, tap) for request in requests for tap in request.taps]
    if not all(held.network for held in file.held):
        del wanted[1:]
    first, *others = (
        store.adopt(file, extractor.spec(tap), tap, dim=extractor.taps[tap], n=n) for extractor, tap in wanted
    )
    features = dict(first.features)
    for other in others:
        features |= other.features
    return replace(first, features=features)


def dim_of_vectors(sources: Sequence[Source]) -> int | None:
    """The dimension of the first vectors among some sources; ``None`` where there are none."""
    for source in sources:
        if isinstance(source, Vectors):
            return source.shape[1]
        if isinstance(source, Summary):
            for (spec, _), features in source.features.items():
                if spec.name == IDENTITY:
                    return features.moments.dim
    return None


def _settle_vectors(source: Vectors, requests: Sequence[Request], rows: int | None) -> Summary:
    for request in requests:
        if request.extractor.spec(request.taps[0]).name != IDENTITY:
            raise UsageError(
                f"{source.name} are feature vectors, which only measures through '{IDENTITY}' take, such as "
                f"fd:{IDENTITY}, kid:{IDENTITY} and pr:{IDENTITY}; images are uint8 with 4 axes"
            )
    return source.summary(requests[0], rows)


def _require_images_wanted(source: Images, requests: Sequence[Request]) -> None:
    if any(request.extractor.spec(request.taps[0]).name == IDENTITY for request in requests):
        raise UsageError(
            f"a measure through '{IDENTITY}' takes feature vectors, floating point [n, d]; {source.name} holds images"
        )


def _vectors(array: Any, name: str) -> Vectors:
    _require_vectors(array, name)
    # A copy: what the caller does to an array must not show here.
    rows = _tensor(np.array(array, order="C")) if isinstance(array, np.ndarray) else array.detach()
    return Vectors.of(rows if rows.dtype == torch.float64 else rows.float(), name)


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Floats of any width, order and machine as float32 or float64."""
    return torch.from_numpy(
        np.ascontiguousarray(array, np.float64 if array.dtype.itemsize >= 8 else np.float32)
    )


def _require_vectors(array: Any, name: str) -> None:
    floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
    if not floating or array.ndim != 2:
        raise ImagesError(
            f"{name} is {array.dtype} with shape {list(array.shape)}: expected floating point feature vectors "
            "[n, d], or uint8 images with 4 axes"
        )


def _read_vectors(path: Path) -> Any:
    """The array of a ``.npy`` file, if it has one axis or two; ``None`` leaves the file to be opened as images."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return array if array.ndim in (1, 2) else None
