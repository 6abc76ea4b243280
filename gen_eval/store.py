"""Statistics on disk: our own files, and those of other tools adopted with what the user claims of them.

Our format is one safetensors file, so nothing in it can run. The header holds the summary's terms and a
sha256 of every tensor; symmetric matrices are stored as their upper triangle.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gen_eval.errors import StoreError
from gen_eval.spec import Spec
from gen_eval.stats import Features, Moments, Sample
from gen_eval.summary import Summary

FORMAT = "gen_eval statistics 1"
EXTENSION = ".safetensors"
_HEADER = "gen_eval"
# Stands in for an n that is unknown: any count gives the covariance back that it was multiplied by.
_ANY_COUNT = 2


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics, ours or ``{mu, sigma}``, as opposed to images."""
    if path.suffix == EXTENSION:
        return path.is_file()
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except zipfile.BadZipFile:
        return False  # to be refused as images, with the reason


def require_name(path: Path) -> None:
    """Refuse a path that :func:`save` would refuse, before the work is done.

    Raises:
        StoreError: if it does not end in ``.safetensors`` or its folder does not exist.
    """
    if path.suffix != EXTENSION:
        raise StoreError(f"statistics are stored as {EXTENSION} files; found the name {path.name}")
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}")


def save(summary: Summary, path: str | Path) -> None:
    """Write a summary. The file appears whole or not at all.

    Raises:
        StoreError: if the name does not end in ``.safetensors`` or the folder cannot be written to.
    """
    path = Path(path)
    require_name(path)
    tensors: dict[str, Tensor] = {}
    entries = []
    for place, ((spec, tap), features) in enumerate(summary.features.items()):
        tensors |= {f"{place}.{name}": value for name, value in _to_tensors(features).items()}
        limit = features.sample.limit if features.sample else None
        entries.append({"spec": spec.to_json(), "tap": tap, "n": features.n, "limit": limit})
    header = {
        "format": FORMAT,
        "name": summary.name,
        "digest": summary.digest,
        "features": entries,
        "made_with": dict(summary.made_with),
        "skipped": list(summary.skipped),
        "notes": dict(summary.notes),
        "claimed": summary.claimed,
        "sha256": {name: _sha256(tensor) for name, tensor in tensors.items()},
    }
    # Not by process id: containers that share a disk share those too.
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        # One entry: safetensors writes several in no fixed order, and equal summaries shall be equal files.
        save_file(tensors, part, {_HEADER: json.dumps(header | {"terms_sha256": _terms_sha256(header)})})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error}") from error


def load(path: str | Path) -> Summary:
    """Read a summary that :func:`save` wrote.

    Raises:
        StoreError: if the file is missing, cut short, altered, or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} cannot be read as statistics: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StoreError(f"{path} is a safetensors file, but holds no statistics in the format '{FORMAT}'")
    if header.pop("terms_sha256", None) != _terms_sha256(header):
        raise StoreError(f"{path} is damaged: its terms are not what was written. Make it anew.")
    try:
        return _from_header(header, tensors, path)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: its terms cannot be read ({error!r}). Make it anew.") from error


def _from_header(header: dict[str, Any], tensors: dict[str, Tensor], path: str | Path) -> Summary:
    expected = header["sha256"]
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or _sha256(tensors[name]) != expected.get(name):
            raise StoreError(f"{path} is damaged: its tensor {name} is not what was written. Make it anew.")
    features = {}
    for place, entry in enumerate(header["features"]):
        mine = {
            name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{place}.")
        }
        features[Spec.from_json(entry["spec"]), entry["tap"]] = _from_tensors(mine, entry)
    return Summary(
        name=header["name"],
        digest=header["digest"],
        features=features,
        made_with=header["made_with"],
        skipped=tuple((label, reason) for label, reason in header["skipped"]),
        notes=header["notes"],
        claimed=header["claimed"],
    )


def adopt(path: Path, spec: Spec, tap: str, *, dim: int, n: int | None = None) -> Summary:
    """Read ``{mu, sigma}`` of pytorch-fid, clean-fid or TTUR, on terms that the user claims.

    Such a file does not say what it was measured with, nor on how many images. The summary is marked as
    claimed, and so is every result made from it.

    Args:
        path: an ``.npz`` with ``mu`` ``[d]`` and ``sigma`` ``[d, d]``.
        spec: the terms it is claimed to have been measured on.
        tap: the tap that it is claimed to hold.
        dim: the number of features of that tap.
        n: the number of images claimed; ``None`` if unknown.

    Raises:
        StoreError: if the arrays are missing or of other shapes, or are not finite.
    """
    try:
        # Opened here: numpy leaves a file open that it fails to read.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            mu, sigma = (file[name].astype(np.float64) for name in ("mu", "sigma"))
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{path} cannot be read as {{mu, sigma}} statistics: {error}") from error
    if mu.shape != (dim,) or sigma.shape != (dim, dim):
        raise StoreError(
            f"{path}: expected mu [{dim}] and sigma [{dim}, {dim}], found {mu.shape} and {sigma.shape}"
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise StoreError(f"{path} holds NaN or infinity")
    scale = float(np.abs(sigma).max())
    if sigma.diagonal().min() < 0 or np.abs(sigma - sigma.T).max() > 1e-3 * scale:
        raise StoreError(f"{path}: sigma is no covariance; it has a negative variance or is not symmetric")
    mean, cov = torch.from_numpy(mu), torch.from_numpy(sigma)
    count = n or _ANY_COUNT  # the file holds sigma with ddof 1
    moments = Moments(count, mean, (cov + cov.T) / 2 * (count - 1))
    return Summary(
        name=str(path),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        features={(spec, tap): Features(n, moments)},
        made_with={},
        claimed=True,
    )


def _to_tensors(features: Features) -> dict[str, Tensor]:
    moments, sample = features.moments, features.sample
    upper = torch.triu_indices(moments.dim, moments.dim)
    tensors = {"mean": moments.mean, "scatter": moments.scatter.cpu()[upper[0], upper[1]]}
    if sample is not None:
        tensors |= {"rows": sample.rows, "index": sample.index}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _from_tensors(tensors: dict[str, Tensor], entry: dict[str, Any]) -> Features:
    mean = tensors["mean"]
    dim = len(mean)
    upper = torch.triu_indices(dim, dim)
    scatter = torch.zeros(dim, dim, dtype=mean.dtype)
    scatter[upper[0], upper[1]] = tensors["scatter"]
    scatter = scatter + scatter.triu(1).T
    sample = Sample(tensors["rows"], tensors["index"], entry["limit"]) if "rows" in tensors else None
    n = entry["n"]
    return Features(n, Moments(n or _ANY_COUNT, mean, scatter), sample)


def _terms_sha256(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
