"""Features on disk, found again by what they are made of.

The name of an entry is a digest of the images' bytes, the spec and the tap, and of the code that read them:
whatever may change a feature changes the name, so an entry is never stale. Entries appear whole or not at
all, so processes may share a folder; two that miss at once do the work twice, and agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from gen_eval import sealed, store
from gen_eval.errors import StoreError
from gen_eval.extractors.custom import UNKNOWN
from gen_eval.images import Images
from gen_eval.passing import DEFAULT_ROWS, Request, summarize
from gen_eval.progress import Progress, silent
from gen_eval.spec import Spec
from gen_eval.summary import Summary, all_made_with


@dataclass(frozen=True)
class FeatureCache:
    """Summaries of one spec and tap each, in a folder.

    Args:
        folder: made if it does not exist.
        frugal: keep what was asked for, where otherwise a pass keeps all rows of all taps of its networks, so that no
            later measure through them needs another.

    Raises:
        StoreError: if it cannot be made.
    """

    folder: Path
    frugal: bool = False

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the cache folder {self.folder}: {error}") from error

    def summarize(
        self,
        images: Images,
        requests: Sequence[Request],
        *,
        rows: int | None = DEFAULT_ROWS,
        progress: Progress = silent,
        **options: Any,
    ) -> Summary:
        """As :func:`gen_eval.passing.summarize`, but of what is not yet here alone.

        Images that are made on demand have no content to be found by, and of a set with broken files too little
        is known: these are measured each time, as they are asked for.
        """
        content = images.content(progress)
        if content is None:
            return summarize(images, requests, rows=rows, progress=progress, **options)
        parts, missing = self.known(content, requests, rows)
        if missing:
            if not self.frugal:
                missing = [Request(each.extractor, tuple(each.extractor.taps)) for each in missing]
            kept = rows if self.frugal else None
            whole = summarize(images, missing, rows=kept, progress=progress, **options)
            if whole.digest == content:  # else files are broken, or changed while they were read
                self.keep(content, whole)
            parts.insert(0, whole.cut(rows))
        return combine(parts, requests, images.name)

    def known(
        self, content: str, requests: Sequence[Request], rows: int | None
    ) -> tuple[list[Summary], list[Request]]:
        """What is here of what is asked for, and what of it is not.

        Args:
            content: as :meth:`find` takes it.
            requests: extractors and their taps.
            rows: as :meth:`find` takes them.

        Returns:
            A summary for each tap that is here, and requests for those that are not.
        """
        parts, missing = [], []
        for request in requests:
            found = {tap: self.find(content, spec, tap, rows) for spec, tap in request.keys}
            parts += [part for part in found.values() if part]
            if absent := tuple(tap for tap, part in found.items() if part is None):
                missing.append(Request(request.extractor, absent))
        return parts, missing

    def find(self, content: str, spec: Spec, tap: str, rows: int | None) -> Summary | None:
        """An entry, if there is one with as many rows as asked for.

        Args:
            content: digest of the images' bytes, of :meth:`gen_eval.images.Images.content`.
            spec: the terms.
            tap: the tap.
            rows: the rows wanted; ``None`` for all.

        Returns:
            The summary, cut to those rows; ``None`` where there is none, or none that is whole.
        """
        path = self._path(content, spec, tap)
        if not path.is_file():
            return None
        try:
            summary = store.load(path)
        except StoreError:
            return None  # damaged: it is made anew, and replaced
        features = summary.features.get((spec, tap))
        if features is None or features.sample is None or features.n is None:
            return None
        if features.sample.n < min(features.n, features.n if rows is None else rows):
            return None
        return replace(summary, features={(spec, tap): features}).cut(rows)

    def keep(self, content: str, summary: Summary) -> None:
        """Store a summary, an entry for each of its features.

        Raises:
            StoreError: if the folder cannot be written to.
        """
        for (spec, tap), features in summary.features.items():
            if spec.weights.startswith(UNKNOWN):
                continue  # what made them may change unseen
            entry = replace(summary, features={(spec, tap): features})
            store.save(entry, self._path(content, spec, tap))

    def _path(self, content: str, spec: Spec, tap: str) -> Path:
        versions = [store.FORMAT, metadata.version("gen_eval"), metadata.version("pillow")]
        key = json.dumps([content, spec.to_json(), tap, versions], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}{sealed.EXTENSION}"


def combine(parts: Sequence[Summary], requests: Sequence[Request], name: str) -> Summary:
    """Features of the same images that several passes or files hold, as one summary.

    Args:
        parts: which hold them all; of a feature that several hold, the last is taken.
        requests: the features, which go to the devices of their extractors.
        name: what the user called the set.
    """
    found = {key: features for part in parts for key, features in part.features.items()}
    features = {key: found[key].to(request.extractor.device) for request in requests for key in request.keys}
    return replace(parts[0], name=name, features=features, made_with=all_made_with(parts))
