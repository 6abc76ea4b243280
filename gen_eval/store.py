"""Statistics on disk: our own files, and those of other tools adopted with what the user claims of them.

Ours are sealed files (:mod:`gen_eval.sealed`) whose header holds the summary's terms; symmetric matrices are stored
as their upper triangle, or all is as :mod:`gen_eval.compact` has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_eval import compact, foreign, sealed
from gen_eval.errors import StoreError
from gen_eval.fetch import sha256_of
from gen_eval.foreign import File
from gen_eval.sealed import EXTENSION
from gen_eval.spec import Spec
from gen_eval.stats import Features, Moments, Sample
from gen_eval.summary import Part, Summary

FORMAT = "gen_eval statistics 1"
_WHAT = "statistics"
_CONTENTS = "contents"


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics, ours or those of another tool, as opposed to images or vectors."""
    return path.is_file() if path.suffix == EXTENSION else foreign.is_foreign(path)


def require_name(path: Path) -> None:
    """Refuse a path that :func:`save` would refuse, before the work is done.

    Raises:
        StoreError: if it does not end in ``.safetensors`` or its folder does not exist.
    """
    sealed.require_name(path, _WHAT)


def save(summary: Summary, path: str | Path, *, rounded: bool = False) -> None:
    """Write a summary. The file appears whole or not at all.

    Args:
        summary: what is written.
        path: where.
        rounded: whether as :mod:`gen_eval.compact` has it, which the file records.

    Raises:
        StoreError: if the name does not end in ``.safetensors`` or the folder cannot be written to.
        UsageError: if the summary cannot be rounded.
    """
    path = Path(path)
    require_name(path)
    tensors: dict[str, Tensor] = {}
    entries = []
    for place, ((spec, tap), features) in enumerate(summary.features.items()):
        packed = compact.pack(features) if rounded else _to_tensors(features)
        tensors |= {f"{place}.{name}": value for name, value in packed.items()}
        limit = features.sample.limit if features.sample else None
        entry = {"spec": spec.to_json(), "tap": tap, "n": features.n, "limit": limit}
        entries.append({**entry, "rounded": True} if rounded else entry)
    terms = {
        "name": summary.name,
        "digest": summary.digest,
        "features": entries,
        "made_with": {**summary.made_with, **({"rounding": compact.MEANING} if rounded else {})},
        "skipped": list(summary.skipped),
        "notes": dict(summary.notes),
        "claimed": summary.claimed,
    }
    if summary.part:
        part = summary.part
        terms["part"] = {"first": part.first, "stop": part.stop, "total": part.total}
        tensors[_CONTENTS] = torch.frombuffer(bytearray(part.contents), dtype=torch.uint8)
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
        packed = entry.get("rounded", False)  # files from before there were such say nothing of it
        found = compact.unpack(mine, entry["n"], entry["limit"]) if packed else _from_tensors(mine, entry)
        features[Spec.from_json(entry["spec"]), entry["tap"]] = found
    part = terms.get("part")  # files from before there were parts say nothing of them
    return Summary(
        name=terms["name"],
        digest=terms["digest"],
        features=features,
        made_with=terms["made_with"],
        skipped=tuple((label, reason) for label, reason in terms["skipped"]),
        notes=terms["notes"],
        claimed=terms["claimed"],
        part=part and Part(**part, contents=tensors[_CONTENTS].numpy().tobytes()),
    )


def adopt(file: Path | File, spec: Spec, tap: str, *, dim: int, n: int | None = None) -> Summary:
    """Statistics of another tool, on terms that the user claims.

    Such a file does not say how images reached the network, and seldom which network that was, nor how many
    images there were. The summary is marked as claimed, and so is every result made from it.

    Args:
        file: a file of a format in :data:`gen_eval.foreign.FORMATS`, or what was read of one.
        spec: the terms it is claimed to have been measured on.
        tap: the tap that it is claimed to hold.
        dim: the number of features of that tap.
        n: the number of images claimed; ``None`` if unknown.

    Raises:
        StoreError: if it cannot be read, or holds features of another network, tap or dimension.
        UsageError: if it says another number of images.
    """
    if isinstance(file, Path):
        file = foreign.read(file)
    held = file.find(spec.name, tap)
    if held.dim != dim:
        raise StoreError(
            f"{file.path}: expected mu [{dim}] and sigma [{dim}, {dim}], found {held.dim} features in {held.where}"
        )
    features = held.counted(n).features
    beside = "images beside the statistics, which were used; images:PATH takes the images"
    return Summary(
        name=str(file.path),
        digest=sha256_of(file.path),
        features={(spec, tap): features},
        made_with={},
        notes={beside: file.images} if file.images else {},
        claimed=True,
    )


def describe(path: Path) -> dict[str, Any]:
    """What a statistics file holds, ours or that of another tool, as plain data.

    Raises:
        StoreError: if it cannot be read.
    """
    if path.suffix == EXTENSION:
        return _describe_summary(load(path), path)
    file = foreign.read(path)
    return {
        "file": str(path),
        "format": file.format,
        "digest": sha256_of(path),
        "claimed": True,
        "images": file.images,
        "features": [
            {"network": held.network or None, "tap": held.tap or None, "where": held.where}
            | _describe_features(held.features)
            for held in file.held
        ],
    }


def _describe_summary(summary: Summary, path: Path) -> dict[str, Any]:
    part = summary.part
    return {
        "file": str(path),
        "format": FORMAT,
        "name": summary.name,
        "digest": summary.digest,
        "claimed": summary.claimed,
        "part": part and {"first": part.first, "stop": part.stop, "total": part.total},
        "skipped": [list(each) for each in summary.skipped],
        "notes": dict(summary.notes),
        "made_with": dict(summary.made_with),
        "features": [
            {"network": spec.name, "tap": tap, "spec": {**spec.to_json(), "digest": spec.digest}}
            | _describe_features(features)
            for (spec, tap), features in summary.features.items()
        ],
    }


def _describe_features(features: Features) -> dict[str, Any]:
    sample = features.sample
    several = features.n is None or features.n > 1
    return {
        "n": features.n,
        "dim": features.moments.dim,
        "rows": sample.n if sample else 0,
        "mean_norm": float(features.moments.mean.norm()),
        "trace": float(features.cov().trace()) if several else None,
    }


def _to_tensors(features: Features) -> dict[str, Tensor]:
    moments, sample = features.moments, features.sample
    upper = torch.triu_indices(moments.dim, moments.dim)
    # Where nobody knows the number of images, the covariance stands in the place of the scatter.
    scatter = features.cov() if features.n is None else moments.scatter
    tensors = {"mean": moments.mean, "scatter": scatter.cpu()[upper[0], upper[1]]}
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
    if n is None:
        return Features.of_gaussian(mean, scatter)
    return Features(n, Moments(n, mean, scatter), sample)
