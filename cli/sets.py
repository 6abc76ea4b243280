"""The sets of a comparison, opened again after it, for their images and names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen_eval.sources import Source


def open_set(sets: Mapping[str, str | None], role: str) -> Source:
    """One of the sets of a comparison, as the evaluation opened it."""
    from gen_eval.sources import open_source

    reference = sets["reference"] if role == "generated" else None
    return open_source(sets[role], beside=open_source(reference) if reference else None)
