"""Tensors and terms in one safetensors file with checksums of both: whole or absent, and nothing in it can run."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gen_eval.errors import StoreError

EXTENSION = ".safetensors"
_HEADER = "gen_eval"


def require_name(path: Path, what: str) -> None:
    """Refuse a path that :func:`write` would refuse, before the work is done.

    Args:
        path: where the file is to be.
        what: what it is to hold, in words.

    Raises:
        StoreError: if it does not end in ``.safetensors`` or its folder does not exist.
    """
    if path.suffix != EXTENSION:
        raise StoreError(f"{path.name} is no name for {what}: expected one that ends in {EXTENSION}")
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}")


def write(path: Path, form: str, terms: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str) -> None:
    """Write tensors under terms, with a sha256 of all. The file appears whole or not at all.

    Args:
        path: ending in ``.safetensors``.
        form: the name and version of what the file holds.
        terms: as JSON knows them.
        tensors: by name.
        what: what that is, in words.

    Raises:
        StoreError: if the name is another, or the folder cannot be written to.
    """
    require_name(path, what)
    plain = _apart(tensors)
    header = {"format": form, **terms, "sha256": {name: _sha256(tensor) for name, tensor in plain.items()}}
    # Not by process id: containers that share a disk share those too.
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # as the user's umask says, where safetensors would keep others out
        # One entry: safetensors writes several in no fixed order, and what is equal shall be equal files.
        save_file(plain, part, {_HEADER: json.dumps(header | {"terms_sha256": _terms_sha256(header)})})
        part.chmod(mode)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path, form: str, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The terms and tensors that :func:`write` wrote, checked against their sha256.

    Args:
        path: the file.
        form: what it must hold.
        what: that, in words.

    Raises:
        StoreError: if the file is missing, cut short, altered, or something else.
    """
    try:
        header, tensors = _contents(path)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} cannot be read as {what}: {error}") from error
    if not isinstance(header, dict) or header.get("format") != form:
        raise StoreError(f"{path} is a safetensors file, but does not hold {what} in the format '{form}'")
    if header.pop("terms_sha256", None) != _terms_sha256(header) or "sha256" not in header:
        raise StoreError(f"{path} is damaged: its terms are not what was written. Make it anew.")
    expected = header.pop("sha256")
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or _sha256(tensors[name]) != expected.get(name):
            raise StoreError(f"{path} is damaged: its tensor {name} is not what was written. Make it anew.")
    del header["format"]
    return header, tensors


def _contents(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Header and tensors of one file: safetensors opens it twice, and a writer may replace it in between."""
    while True:
        before = _version(path)
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError, json.JSONDecodeError):
            if _version(path) == before:
                raise
            continue
        if _version(path) == before:
            return header, tensors


def _version(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; ``None`` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _terms_sha256(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()  # of the memory itself, not of a copy


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, copied where they share memory, as tied weights do: safetensors refuses that."""
    plain: dict[str, Tensor] = {}
    seen = set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        at = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if at in seen else own
        seen.add(at)
    return plain
