"""Well-known sets of images by name, ``cifar10:train``: their images, and statistics of some that ship.

What ships lies in the folder ``reference_stats`` of the repository, which installs as ``gen_eval.reference_stats``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from gen_eval import datasets, store
from gen_eval.cache import FeatureCache, combine
from gen_eval.datasets import Dataset
from gen_eval.errors import StoreError
from gen_eval.fetch import cache_dir
from gen_eval.images.arrays import Arrays
from gen_eval.images.protocol import Broken, Decoded
from gen_eval.passing import Request
from gen_eval.progress import Progress, silent
from gen_eval.spec import Spec
from gen_eval.summary import Summary

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INDEX = "index.toml"
_FOLDER = "reference_stats"
_LOG = logging.getLogger(__name__)
_PASS = (
    "%s: its %d images go through %s now, as nothing that ships or was kept serves what is asked. What is found is "
    "kept. progress=print tells how far it is"
)


@dataclass(frozen=True)
class Shipped:
    """A row of the index: statistics that ship.

    Args:
        name: dataset and split, ``"cifar10:train"``.
        file: in the folder of the index.
        n: number of images behind the moments.
        rows: number of feature rows beside them.
        spec: digest of the terms that they were measured on.
        tap: of the network.
        content: digest of the images.
        sha256: of the file.
        loss: the most by which rounding was seen to move an FID, when the file was made.
        made: the commands that made it.
    """

    name: str
    file: str
    n: int
    rows: int
    spec: str
    tap: str
    content: str
    sha256: str
    loss: float
    made: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the file lies on this machine."""
        return _folder() / self.file


@cache
def shipped() -> tuple[Shipped, ...]:
    """All statistics that ship, in the order of the index."""
    rows = tomllib.loads((_folder() / INDEX).read_text(encoding="utf-8")).get("statistics", [])
    return tuple(Shipped(**{**row, "made": tuple(row["made"])}) for row in rows)


def find(name: str, spec: Spec, tap: str) -> Shipped | None:
    """The statistics that ship of a set on some terms, if there are such.

    Args:
        name: dataset and split.
        spec: the terms.
        tap: of the network; each file holds one.
    """
    asked = (name, spec.digest, tap)
    return next((row for row in shipped() if (row.name, row.spec, row.tap) == asked), None)


def named(name: str) -> list[Shipped]:
    """The statistics that ship of a set that a user names as :func:`gen_eval.datasets.named` reads it; or of none.

    Raises:
        UsageError: if the name is that of a file or folder too, or the dataset has no such split.
        UnknownName: if it is nearly the name of a dataset.
    """
    key = datasets.named(name)
    return [row for row in shipped() if key and row.name == ":".join(key)]


def load(row: Shipped) -> Summary:
    """Statistics that ship.

    Raises:
        StoreError: if the file is damaged, or another than the index says.
    """
    summary = store.load(row.path)
    if summary.digest != row.content:
        raise StoreError(
            f"{row.path} does not hold the statistics of {row.name} that {INDEX} tells of: install anew"
        )
    return summary


def _folder() -> Path:
    """Inside the package where it is installed, beside it where a checkout is used as it lies."""
    package = Path(__file__).parent
    for parent in (package, package.parent):
        if (parent / _FOLDER / INDEX).is_file():
            return parent / _FOLDER
    raise StoreError(f"no {_FOLDER}/{INDEX} in {package}: install gen_eval anew")


class DatasetImages:
    """The images of a named dataset, fetched when they are checked or the first of them is read.

    Args:
        dataset: a row of :data:`gen_eval.datasets.DATASETS`.
        split: as :func:`gen_eval.datasets.load` takes it.
        may_be_statistics: whether statistics that ship may stand in the place of the images.
        offline: as :func:`gen_eval.datasets.load` takes it.
        progress: told of bytes as they arrive.
    """

    thread_safe = True

    def __init__(
        self,
        dataset: str,
        split: str,
        *,
        may_be_statistics: bool = True,
        offline: bool | None = None,
        progress: Progress = silent,
    ) -> None:
        self.name = f"{dataset}:{split}"
        self.may_be_statistics = may_be_statistics
        self._key = dataset, split
        self._offline, self._progress = offline, progress
        self._lock = Lock()
        self._loaded: Dataset | None = None

    def _dataset(self) -> Dataset:
        with self._lock:  # images are read by several threads, and loaded by one
            if self._loaded is None:
                self._loaded = datasets.load(*self._key, offline=self._offline, progress=self._progress)
            return self._loaded

    def _arrays(self) -> Arrays:
        return Arrays(self._dataset().images, self.name)

    def __len__(self) -> int:
        return datasets.size(*self._key)

    def label(self, index: int) -> str:
        """Name one image: ``"#17"``."""
        return f"#{index}"

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Copy some images out of the dataset.

        Raises:
            FetchError: if it can be had from none of its sources.
        """
        return self._arrays().read(indices)

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Fetch them, while nothing else was done in vain; datasets are verified as they are read.

        Raises:
            FetchError: if they can be had from none of their sources.
        """
        self._dataset()
        return []

    def content(self, progress: Progress) -> str | None:
        """Digest of the images, in order; none is fetched where the table of datasets tells it.

        Raises:
            FetchError: if only the images tell, and they can be had from none of their sources.
        """
        return datasets.content(*self._key) or self._arrays().content(progress)

    def classes(self) -> list[str]:
        """The class of each image."""
        dataset = self._dataset()
        return [dataset.classes[label] for label in dataset.labels.tolist()]


@dataclass(frozen=True)
class References:
    """Features of named datasets, from wherever they cost least: what ships, what was kept, and last a pass.

    Each tap of each network is settled by itself. What ships of it is taken if it serves every measure that looks at
    it; else what an earlier pass kept, of which images not even the files are needed; else a pass over the images,
    which is kept. So FID beside a measure through another network or tap is the FID alone, to the last bit, and no
    image goes through Inception for it. Beside a measure that takes all rows of the same tap, such as precision, it is
    of those rows: they are at hand, and what ships would save nothing. Its value is then the same within
    :attr:`Shipped.loss`, its error bar is of more rows, and KID is of all rows, as its n says.

    Args:
        serves: whether moments of all images, and so many rows, do for what a request asks for.
        cache: where features are kept; by default, and what was asked for alone, in the folder of fetched files.
    """

    serves: Callable[[Request, int], bool]
    cache: FeatureCache | None = None

    def find(
        self,
        images: DatasetImages,
        requests: Sequence[Request],
        *,
        rows: int | None = None,
        progress: Progress = silent,
    ) -> Summary | None:
        """What is asked for, if all of it is had without a pass; ``None`` otherwise.

        Args:
            images: the dataset.
            requests: extractors and their taps.
            rows: the most feature rows to keep of each tap; ``None`` keeps all.
            progress: told of bytes, should the content of the images be unknown without them.

        Raises:
            StoreError: if what ships is damaged, or there can be no cache.
            FetchError: if only the images tell their content, and they cannot be had.
        """
        parts, missing = self._known(images, requests, rows, progress)
        return None if missing else combine(parts, requests, images.name)

    def summarize(
        self,
        images: DatasetImages,
        requests: Sequence[Request],
        *,
        rows: int | None = None,
        progress: Progress = silent,
        **options: Any,
    ) -> Summary:
        """As :func:`gen_eval.passing.summarize`, with a pass for what is missing alone.

        Where nobody is told of its progress, a pass is logged as it begins: it may take hours.

        Raises:
            GenEvalError: as :meth:`find`, and what the pass raises.
        """
        parts, missing = self._known(images, requests, rows, progress)
        if missing:
            if progress is silent:
                _LOG.warning(_PASS, images.name, len(images), " and ".join(map(_network, missing)))
            measured = self._kept().summarize(images, missing, rows=rows, progress=progress, **options)
            parts.insert(0, measured)
        return combine(parts, requests, images.name)

    def _known(
        self, images: DatasetImages, requests: Sequence[Request], rows: int | None, progress: Progress
    ) -> tuple[list[Summary], list[Request]]:
        """What costs no pass, and requests for all else."""
        parts, left = list[Summary](), list[Request]()
        for request in requests:
            ships = {
                tap: self._shipped(images, Request(request.extractor, (tap,)), progress)
                for tap in request.taps
            }
            parts += [summary.cut(rows) for summary in ships.values() if summary]
            if others := tuple(tap for tap, summary in ships.items() if summary is None):
                left.append(Request(request.extractor, others))
        content = images.content(progress) if left else None
        if content is None:
            return parts, left
        kept, missing = self._kept().known(content, left, rows)
        return [*parts, *kept], missing

    def _shipped(self, images: DatasetImages, request: Request, progress: Progress) -> Summary | None:
        """What ships of one tap, if it serves, and is of these images: a file of the user's own may hold others."""
        ((spec, tap),) = request.keys
        row = find(images.name, spec, tap) if images.may_be_statistics else None
        if row is None or not self.serves(request, row.rows):
            return None
        summary = load(row)
        return summary if summary.digest == images.content(progress) else None

    def _kept(self) -> FeatureCache:
        # Measured once in a lifetime. The folder is made when it is needed: what ships serves without one.
        return self.cache or FeatureCache(cache_dir() / "reference_stats", frugal=True)


def _network(request: Request) -> str:
    return request.extractor.spec(request.taps[0]).name
