"""Well-known sets of images by name, ``cifar10:train``: their images, and statistics of some that ship.

What ships lies in the folder ``reference_stats`` of the repository, which installs as ``gen_eval.reference_stats``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

from gen_eval import datasets, store
from gen_eval.datasets import Dataset
from gen_eval.images.arrays import Arrays
from gen_eval.images.protocol import Broken, Decoded
from gen_eval.progress import Progress, silent
from gen_eval.summary import Request, Summary

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INDEX = "index.toml"
_PACKAGE = "gen_eval.reference_stats"


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
        StoreError: if the file is damaged.
    """
    asked = {(request.extractor.spec(tap).digest, tap) for request in requests for tap in request.taps}
    held = {(row.spec, row.tap): row for row in shipped() if row.name == name}
    if len(asked) != 1 or not asked <= held.keys():  # each file holds one tap
        return None
    return store.load(held[asked.pop()].path)


def _folder() -> Path:
    return Path(str(resources.files(_PACKAGE)))


class DatasetImages:
    """The images of a named dataset, fetched when the first of them is read.

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

    @cached_property
    def _dataset(self) -> Dataset:
        return datasets.load(*self._key, offline=self._offline, progress=self._progress)

    @cached_property
    def _arrays(self) -> Arrays:
        return Arrays(self._dataset.images, self.name)

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
        return self._arrays.read(indices)

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing to check: datasets are verified as they are fetched."""
        return []

    def content(self, progress: Progress) -> str | None:
        """Digest of the images, in order."""
        return self._arrays.content(progress)

    def classes(self) -> list[str]:
        """The class of each image."""
        return [self._dataset.classes[label] for label in self._dataset.labels.tolist()]
