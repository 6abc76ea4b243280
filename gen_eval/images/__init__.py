"""Where pixels come from: folders, archives, arrays, datasets, lists and generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen_eval.errors import ImagesError, UsageError
from gen_eval.images.archives import ARCHIVE_EXTENSIONS, open_archive
from gen_eval.images.arrays import Arrays, open_array_file
from gen_eval.images.files import Folder, Paths
from gen_eval.images.floats import FloatRange
from gen_eval.images.objects import Generated, Items
from gen_eval.images.protocol import Broken, Decoded, Images, require_unbroken
from gen_eval.images.stream import Chunk, stream

__all__ = [
    "Broken",
    "Chunk",
    "Decoded",
    "Generated",
    "Images",
    "open_images",
    "require_unbroken",
    "stream",
]

_ARRAY_EXTENSIONS = (".npy", ".npz")
_ACCEPTED = (
    "a folder, an archive (" + ", ".join(ARCHIVE_EXTENSIONS) + "), an array file (.npy, .npz), "
    "a uint8 numpy array or torch tensor with 4 axes, a list of paths, PIL images or uint8 arrays, "
    "a dataset with a length and items, or a callable from seeds to uint8 images"
)


def open_images(
    source: Any,
    *,
    n: int | None = None,
    seed: int = 0,
    name: str | None = None,
    floats: FloatRange | None = None,
) -> Images:
    """Open whatever holds images.

    Args:
        source: a folder, an archive, an array file, a uint8 array or tensor, a list of paths or images, a
            dataset, a callable from int64 seeds [b] to uint8 images [b, 3, h, w] or [b, h, w, 3], or an
            :class:`Images`, which is returned as it is.
        n: how many images a callable is asked for; only a callable takes it.
        seed: of the first image of a callable; image i depends on ``seed + i`` alone.
        name: what to call it in tables and messages; by default the path as given, or the type.
        floats: what floats of a callable mean; by default they are refused.

    Raises:
        UsageError: if it is nothing of the kind, a callable without ``n``, or anything else with it.
        ImagesError: if it cannot be read, or holds no images.

    >>> images = open_images(np.zeros((4, 8, 8, 3), dtype="uint8"), name="black")
    >>> len(images), images.label(2)
    (4, '#2')
    """
    generates = callable(source) and not isinstance(source, (type, Images)) and not _is_dataset(source)
    if n is not None and not generates:
        raise UsageError(f"n is only for a callable from seeds to images; found {_describe(source)}")
    if isinstance(source, (str, Path)):
        return _open_path(Path(source), name or str(source))
    if isinstance(source, np.ndarray):
        return Arrays(source, name or "array")
    if isinstance(source, torch.Tensor):
        return Arrays(source, name or "tensor")
    if isinstance(source, Images):
        return source
    if isinstance(source, (list, tuple)):
        return _open_list(source, name or "list")
    if _is_dataset(source):
        return Items(source, name or type(source).__name__)
    if generates:
        called = name or str(getattr(source, "__name__", type(source).__name__))
        if n is None:
            raise UsageError(
                f"{called} is a callable, which has no length: say how many images with n="
                "; as a reference, pass gen_eval.open_images(it, n=...)"
            )
        return Generated(source, n, seed, called, floats)
    raise UsageError(f"cannot read images from {_describe(source)}: {_way_out(source)}expected {_ACCEPTED}")


def _is_dataset(source: Any) -> bool:
    # An nn.Sequential has a length and items too, but generates.
    if isinstance(source, (Mapping, bytes, bytearray, type, torch.nn.Module)):
        return False
    return hasattr(source, "__len__") and hasattr(source, "__getitem__")


def _describe(source: Any) -> str:
    return f"the class {source.__name__}" if isinstance(source, type) else f"a {type(source).__name__}"


def _way_out(source: Any) -> str:
    """What to do with a source that comes in batches or once, where a set is opened, counted and read by index."""
    if isinstance(source, torch.utils.data.DataLoader):
        return "pass its dataset= without transforms to floats, or feed its batches to a gen_eval.Monitor; otherwise "
    if hasattr(source, "__iter__") and not isinstance(source, (Mapping, str, bytes, bytearray, type)):
        return "feed what it yields to a gen_eval.Monitor, or make a list of it; otherwise "
    return ""


def _open_list(items: Sequence[Any], name: str) -> Images:
    if items and all(isinstance(item, (str, Path)) for item in items):
        return Paths(items, name)
    return Items(items, name)


def _open_path(path: Path, name: str) -> Images:
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise ImagesError(f"{name} cannot be opened: {error.strerror}") from error
    if is_folder:
        return Folder(path, name)
    if not exists:
        raise ImagesError(f"{name} does not exist{_did_you_mean(path)}")
    if path.name.lower().endswith(ARCHIVE_EXTENSIONS):
        return open_archive(path, name)
    if path.name.lower().endswith(_ARRAY_EXTENSIONS):
        return open_array_file(path, name)
    raise ImagesError(
        f"{name} is a file that holds no set of images: expected a folder, an archive "
        f"({', '.join(ARCHIVE_EXTENSIONS)}) or an array file ({', '.join(_ARRAY_EXTENSIONS)})"
    )


def _did_you_mean(path: Path) -> str:
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return f", nor does a folder {path.parent}"
    close = get_close_matches(path.name, siblings, n=3)
    return f": did you mean {' or '.join(str(path.parent / name) for name in close)}?" if close else ""
