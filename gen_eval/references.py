"""Well-known sets of images by name, ``cifar10:train``: their images, and statistics of some that ship.

What ships lies in the folder ``reference_stats`` of the repository, which installs as ``gen_eval.reference_stats``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

from gen_eval import datasets, store
from gen_eval.datasets import Dataset
from gen_eval.errors import StoreError
from gen_eval.images.arrays import Arrays
from gen_eval.images.protocol import Broken, Decoded
from gen_eval.progress import Progress, silent
from gen_eval.summary import Request, Summary

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INDEX = "index.toml"
_FOLDER = "reference_stats"


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


def find(name: str, requests: Sequence[Request]) -> Summary | None:
    """Statistics that ship of a set, if all that is asked for ships.

    Args:
        name: dataset and split.
        requests: extractors and their taps.

    Raises:
        StoreError: if the file is damaged, or another than the index says.
    """
    asked = {(request.extractor.spec(tap).digest, tap) for request in requests for tap in request.taps}
    held = {(row.spec, row.tap): row for row in shipped() if row.name == name}
    if len(asked) != 1 or not asked <= held.keys():  # each file holds one tap
        return None
    row = held[asked.pop()]
    summary = store.load(row.path)
    if summary.digest != row.content:
        raise StoreError(
            f"{row.path} does not hold the statistics of {name} that {INDEX} tells of: install anew"
        )
    return summary


def rows_held(summary: Summary) -> int:
    """The number of feature rows beside the moments of a set."""
    return min(found.sample.n if found.sample else 0 for found in summary.features.values())


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
        """Digest of the images, in order."""
        return self._arrays().content(progress)

    def classes(self) -> list[str]:
        """The class of each image."""
        dataset = self._dataset()
        return [dataset.classes[label] for label in dataset.labels.tolist()]
