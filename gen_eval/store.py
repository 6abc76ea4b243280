"""Statistics on disk: our own files, and those of other tools adopted with what the user claims of them.

Ours are sealed files (:mod:`gen_eval.sealed`) whose header holds the summary's terms; symmetric matrices are stored
as their upper triangle.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval import sealed
from gen_eval.errors import StoreError
from gen_eval.sealed import EXTENSION
from gen_eval.spec import Spec
from gen_eval.stats import Features, Moments, Sample
from gen_eval.summary import Summary

FORMAT = "gen_eval statistics 1"
_WHAT = "statistics"
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
    sealed.require_name(path, _WHAT)


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
    terms = {
        "name": summary.name,
        "digest": summary.digest,
        "features": entries,
        "made_with": dict(summary.made_with),
        "skipped": list(summary.skipped),
        "notes": dict(summary.notes),
        "claimed": summary.claimed,
    }
    sealed.write(path, FORMAT, terms, tensors, _WHAT)


def load(path: str | Path) -> Summary:
    """Read a summary that :func:`save` wrote.

    Raises:
        StoreError: if the file is missing, cut short, altered, or something else.
    """
    terms, tensors = sealed.read(Path(path), FORMAT, _WHAT)
    try:
        return _from_terms(terms, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: its terms cannot be read ({error!r}). Make it anew.") from error


def _from_terms(terms: dict[str, Any], tensors: dict[str, Tensor]) -> Summary:
    features = {}
    for place, entry in enumerate(terms["features"]):
        mine = {
            name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{place}.")
        }
        features[Spec.from_json(entry["spec"]), entry["tap"]] = _from_tensors(mine, entry)
    return Summary(
        name=terms["name"],
        digest=terms["digest"],
        features=features,
        made_with=terms["made_with"],
        skipped=tuple((label, reason) for label, reason in terms["skipped"]),
        notes=terms["notes"],
        claimed=terms["claimed"],
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
