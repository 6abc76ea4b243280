"""The class of each image: from the folders it lies in, a file, or an array."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from gen_eval.errors import ImagesError, UsageError
from gen_eval.images.protocol import Named

FOLDERS = "folders"
_SHOWN = 3


@dataclass(frozen=True)
class Labels:
    """The class of each image of a set.

    Args:
        of: names of classes, one an image, in the order of the images.
    """

    of: tuple[str, ...]


def read_labels(source: Any, images: Named) -> Labels:
    """The labels of a set of images.

    Args:
        source: ``"folders"`` for the first folder below the root, as in ``cat/001.png``; a file; or one label
            an image, as a sequence, array or tensor. A ``.csv``, ``.tsv`` or ``.json`` file names the images:
            rows ``name,label``, an object ``{name: label}``, or StyleGAN's ``{"labels": [[name, label], ...]}``.
            A ``.txt`` or ``.npy`` file, or a list in ``.json``, holds one label an image, in the order of the set.
        images: the set.

    Raises:
        ImagesError: if the file cannot be read, or leaves images without a label.
        UsageError: if there are not as many labels as images, or the source is nothing of the kind.
    """
    if isinstance(source, str) and source == FOLDERS:
        return _from_folders(images)
    if isinstance(source, (str, Path)):
        found, where = _read_file(Path(source)), str(source)
    elif isinstance(source, Mapping):
        found, where = source, "the labels"
    elif isinstance(source, (torch.Tensor, np.ndarray)):
        found, where = _of_array(source.tolist(), source.ndim, "the labels"), "the labels"
    elif isinstance(source, Sequence) and not isinstance(source, bytes):
        found, where = list(source), "the labels"
    else:
        raise UsageError(
            f"labels cannot be {type(source).__name__}: expected '{FOLDERS}', a file, or one label an image"
        )
    return _by_name(found, images, where) if isinstance(found, Mapping) else _in_order(found, images, where)


def _from_folders(images: Named) -> Labels:
    names = [images.label(index) for index in range(len(images))]
    loose = [name for name in names if "/" not in name or PurePosixPath(name).is_absolute()]
    if loose:
        raise ImagesError(
            f"{images.name} does not sort its images into a folder a class: {_some(loose)} lie in none. "
            "Name the classes with a label file (--labels FILE, labels=)."
        )
    return Labels(tuple(name.split("/", 1)[0] for name in names))


def _read_file(path: Path) -> Mapping[str, Any] | list[Any]:
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            return _of_array(array.tolist(), array.ndim, str(path))
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return _from_json(json.loads(text), path)
        if path.suffix in (".csv", ".tsv"):
            rows = csv.reader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t")
            return _pairs([row for row in rows if row], path)
        if path.suffix == ".txt":
            return text.split()
    except (OSError, ValueError, TypeError, EOFError, csv.Error) as error:
        raise ImagesError(
            f"{path} cannot be read as labels: {error}. A .csv or .tsv holds rows `name,label`."
        ) from error
    raise UsageError(f"{path}: labels are read from .csv, .tsv, .json, .txt and .npy files")


def _from_json(found: Any, path: Path) -> Mapping[str, Any] | list[Any]:
    if isinstance(found, dict) and isinstance(found.get("labels"), list):
        return _pairs(found["labels"], path)
    if isinstance(found, (dict, list)):
        return found
    raise UsageError(f"{path} holds a {type(found).__name__}; expected an object {{name: label}} or a list")


def _pairs(rows: Sequence[Any], path: Path) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    for name, label in rows:
        if labels.setdefault(name, label) != label:
            raise ImagesError(f"{path} gives {name} two labels: {labels[name]} and {label}")
    return labels


def _of_array(found: Any, axes: int, where: str) -> list[Any]:
    if axes != 1:
        raise UsageError(f"{where}: expected one label an image, an array with one axis; found {axes} axes")
    return list(found)


def _by_name(found: Mapping[str, Any], images: Named, where: str) -> Labels:
    labels = {PurePosixPath(str(name)).as_posix(): label for name, label in found.items()}
    names = [images.label(index) for index in range(len(images))]
    missing = [name for name in names if name not in labels]
    if missing:
        raise ImagesError(
            f"{where} has no label for {len(missing)} of the {len(names)} images of {images.name}: {_some(missing)}; "
            f"it names {_some(list(labels))}. Names are paths relative to the set."
        )
    return Labels(tuple(_text(labels[name], where) for name in names))


def _in_order(found: Sequence[Any], images: Named, where: str) -> Labels:
    if len(found) != len(images):
        raise UsageError(f"{where} holds {len(found)} labels for the {len(images)} images of {images.name}")
    return Labels(tuple(_text(label, where) for label in found))


def _text(label: Any, where: str) -> str:
    """One spelling of a class, whether it came as 3, 3.0 or "3"."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        label = int(label)
    text = str(label).strip() if isinstance(label, (str, int, float, np.number)) else ""
    if text in ("", "nan"):
        raise UsageError(f"{where}: {label!r} is no label; expected the name or the number of a class")
    return text


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
