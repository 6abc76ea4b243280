"""The sets of a comparison, opened again beside it, for their images and names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gen_eval.progress import Progress, silent

if TYPE_CHECKING:
    from gen_eval.sources import Source


def open_set(
    sets: Mapping[str, str | None], role: str, *, offline: bool | None, progress: Progress = silent
) -> Source:
    """One of the sets of a comparison, as the evaluation opened it.

    Args:
        sets: what the user called each, by role.
        role: which of them.
        offline: never fetch a dataset.
        progress: told of a dataset's bytes as they arrive.
    """
    from gen_eval.sources import open_source

    opening: dict[str, Any] = {"offline": offline, "progress": progress}
    reference = sets["reference"] if role == "generated" else None
    return open_source(sets[role], beside=open_source(reference, **opening) if reference else None, **opening)
