"""Statistics files of other tools, read and written: what is in them, not what it was measured with.

A file is told by the kind of its container and the names in it. Nothing in a file is ever run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gen_eval.errors import StoreError, UnknownName, UsageError
from gen_eval.foreign.containers import CONTAINERS, Npz, holds_a_pickled_object
from gen_eval.foreign.formats import FORMATS, Format
from gen_eval.foreign.held import Held
from gen_eval.sealed import EXTENSION as OURS

__all__ = [
    "FORMATS",
    "File",
    "Format",
    "Held",
    "choose",
    "count_images",
    "find_format",
    "is_foreign",
    "read",
    "require_name",
    "write",
]


@dataclass(frozen=True)
class File:
    """What a file of another tool holds.

    Args:
        path: where it is.
        format: the name of its format in :data:`FORMATS`.
        held: the features in it, one entry a tap.
        images: number of images beside them; 0 where there are none.
    """

    path: Path
    format: str
    held: Sequence[Held]
    images: int = 0

    def find(self, network: str, tap: str) -> Held:
        """The features of one tap of a network.

        Raises:
            StoreError: if it holds those of others alone.
        """
        for held in self.held:
            if held.fits(network, tap):
                return held
        raise StoreError(
            f"{self.path} holds no statistics of {network} {tap}: found {'; '.join(map(str, self.held))}"
        )


def is_foreign(path: Path) -> bool:
    """Whether a file is to be read as statistics of another tool, rather than as images or vectors."""
    extension = path.suffix.lower()
    if extension not in CONTAINERS or not path.is_file():
        return False
    if extension == ".npy":
        return holds_a_pickled_object(path)
    if extension != ".npz":
        return True  # images come in no such file
    try:
        return _recognize(extension, Npz(path)) is not None
    except Exception:  # of whatever kind: no archive that can be read
        return False  # to be refused as images, with the reason


def count_images(path: Path) -> int:
    """Number of images beside the statistics in a file; 0 where there are none."""
    if path.suffix.lower() != ".npz":
        return 0
    contents = Npz(path)
    name = _recognize(".npz", contents)
    return _count_images(contents, FORMATS[name].images) if name else 0


def read(path: Path) -> File:
    """Read statistics of another tool. Nothing in the file is run.

    Raises:
        StoreError: if the file is missing, cut short or damaged, of no known format, asks to run something, or holds
            what can be no statistics; says which.
    """
    try:
        return _read(path)
    except StoreError as error:
        raise StoreError(f"{path} cannot be read as statistics: {error}") from error
    except Exception as error:  # whatever libraries make of bytes of another's making is about those bytes
        raise StoreError(f"{path} cannot be read as statistics: {_first_line(error)}") from error


def write(path: Path, form: str, held: Sequence[Held], images: np.ndarray[Any, Any] | None = None) -> None:
    """Write statistics for another tool. The file appears whole or not at all.

    Args:
        path: where.
        form: a name in :data:`FORMATS`.
        held: the features; a format that names networks picks its own among them.
        images: uint8 ``[n, h, w, 3]``, which some formats hold beside them.

    Raises:
        UnknownName: if there is no such format.
        UsageError: if it is only read, or does not take these features or images.
        StoreError: if the name does not end as the format's do, or the folder cannot be written to.
    """
    chosen = find_format(form)
    require_name(path, form)
    assert chosen.write is not None  # require_name has seen to it
    contents = chosen.write(held)
    if images is not None:
        if not chosen.images:
            raise UsageError(f"files of {form} hold no images")
        contents[chosen.images] = images
    _write_whole(path, contents)


def choose(held: Sequence[Held], only: str | None) -> Sequence[Held]:
    """Of several features those of one network and tap; all where none is named.

    Args:
        held: the features.
        only: such as ``"inception-2015-12-05 pool"``.

    Raises:
        UnknownName: if there are none of that name.
    """
    if only is None:
        return held
    named = [each for each in held if f"{each.network} {each.tap}".strip() == only]
    if not named:
        raise UnknownName("features", only, (f"{each.network} {each.tap}".strip() for each in held))
    return named


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
    """
    if name not in FORMATS:
        raise UnknownName("statistics format", name, FORMATS)
    return FORMATS[name]


def require_name(path: Path, form: str) -> None:
    """Refuse a path and a format that :func:`write` would refuse, before the work is done.

    Raises:
        UnknownName: if there is no such format.
        UsageError: if it is only read.
        StoreError: if the name does not end as the format's do, or its folder does not exist.
    """
    chosen = find_format(form)
    if chosen.write is None:
        writable = ", ".join(name for name, each in FORMATS.items() if each.write)
        raise UsageError(f"files of {form} are read, not written; written are: {writable}")
    if path.suffix.lower() != chosen.extension:
        raise StoreError(
            f"{path.name} is no name for a file of {form}: expected one that ends in {chosen.extension}"
        )
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}")


def _read(path: Path) -> File:
    if path.is_dir():
        raise StoreError(
            f"it is a folder, whose images `geneval stats {path} -o FILE{OURS}` measures into a file of statistics"
        )
    if not path.exists():
        raise StoreError("it does not exist")
    extension = path.suffix.lower()
    if extension not in CONTAINERS:
        raise StoreError(f"expected a file that ends in {', '.join(CONTAINERS)}, or in {OURS} as ours do")
    contents = CONTAINERS[extension].load(path)
    name = _recognize(extension, contents)
    if name is None:
        known = sorted({" + ".join(each.keys) for each in FORMATS.values() if each.extension == extension})
        found = ", ".join(repr(key)[:40] for key in list(contents)[:20])
        raise StoreError(f"expected {', or '.join(known)}; found {found or 'nothing'}")
    return File(path, name, FORMATS[name].read(contents), _count_images(contents, FORMATS[name].images))


def _recognize(extension: str, contents: Mapping[str, Any]) -> str | None:
    for name, each in FORMATS.items():
        if each.extension == extension and all(key in contents for key in each.keys):
            return name
    return None


def _count_images(contents: Mapping[str, Any], name: str) -> int:
    if not isinstance(contents, Npz) or name not in contents:
        return 0
    shape, dtype = contents.header(name)
    return shape[0] if len(shape) == 4 and dtype == np.uint8 else 0


def _write_whole(path: Path, contents: Mapping[str, Any]) -> None:
    dump = CONTAINERS[path.suffix.lower()].dump
    assert dump is not None  # of every format that is written
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            dump(contents, file)
        os.replace(part, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
