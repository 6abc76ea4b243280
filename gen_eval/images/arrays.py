"""Images in arrays: numpy, torch, ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gen_eval.errors import ImagesError
from gen_eval.images.protocol import Broken, Decoded, Pixels
from gen_eval.progress import Progress

CHANNELS = (1, 3, 4)
NOTES = {1: "gray to RGB", 3: None, 4: "RGBA to RGB, alpha dropped"}

AnyArray = npt.NDArray[Any]


class Arrays:
    """Images in one uint8 array.

    Args:
        array: uint8 [n, h, w, c], [n, c, h, w] with 1, 3 or 4 channels, or gray [n, h, w]. Where both
            readings are possible, numpy arrays have channels last and torch tensors channels first.
        name: what to call them.

    Raises:
        ImagesError: if it is of another type or shape, or holds no image; says how to convert it.
    """

    thread_safe = True

    def __init__(self, array: AnyArray | torch.Tensor, name: str = "array") -> None:
        self.name = name
        self._array = to_numpy(array)
        require_uint8(self._array, name)
        if self._array.ndim not in (3, 4) or _may_be_one_image(self._array.shape):
            raise _bad_shape(name, self._array.shape)
        if 0 in self._array.shape:
            raise ImagesError(f"{name} holds no images: its shape is {list(self._array.shape)}")
        self._channel_axis = channel_axis(
            self._array.shape[1:], prefer_first=isinstance(array, torch.Tensor), name=name
        )

    def __len__(self) -> int:
        return len(self._array)

    def label(self, index: int) -> str:
        """Name one image: ``"#17"``."""
        return f"#{index}"

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Copy some images out of the array."""
        return [from_array(self._array[index], self._channel_axis) for index in indices]

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing to check: an array has no files."""
        return []

    def content(self, progress: Progress) -> str | None:
        """Digest of the array's images, in order."""
        digest = hashlib.sha256()
        for stored in self._array:
            digest.update(_digest(stored))
        return digest.hexdigest()


def _may_be_one_image(shape: Sequence[int]) -> bool:
    """Whether one image [h, w, 3] or [3, h, w] would pass for a stack of gray ones."""
    return len(shape) == 3 and (shape[2] in CHANNELS or shape[0] in CHANNELS[1:])


def to_numpy(array: AnyArray | torch.Tensor) -> AnyArray:
    """Give a tensor of any device as a numpy array; an array as it is."""
    if not isinstance(array, torch.Tensor):
        return array
    # NumPy knows no bfloat16.
    return (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()


def require_uint8(array: AnyArray, name: str) -> None:
    """Refuse all but uint8, since nobody knows the range of other types.

    Raises:
        ImagesError: says how to convert.
    """
    if array.dtype == np.uint8:
        return
    if array.dtype.kind == "f":
        scaled = (
            "for values in [0, 1] convert with {}.round().clip(0, 255).astype(uint8), for [-1, 1] {} likewise"
        )
        cure = scaled.format("(x * 255)", "((x + 1) * 127.5)")
    elif array.dtype.kind == "b":
        cure = "convert with x.astype(uint8) * 255"
    else:
        cure = "if the values lie in [0, 255], convert with x.astype(uint8)"
    raise ImagesError(f"{name} is {array.dtype}; expected uint8 pixels in [0, 255]: {cure}")


def channel_axis(shape: Sequence[int], *, prefer_first: bool, name: str) -> int | None:
    """Tell which axis of one image holds its channels.

    Args:
        shape: of one image: [h, w, c], [c, h, w], or [h, w] for gray.
        prefer_first: what is tried first where both ends could be channels.
        name: for messages.

    Returns:
        0, 2, or ``None`` for gray without an axis of channels.

    Raises:
        ImagesError: if no axis has 1, 3 or 4 channels.
    """
    if len(shape) == 2:
        return None
    if len(shape) == 3:
        for axis in (0, 2) if prefer_first else (2, 0):
            if shape[axis] in CHANNELS:
                return axis
    raise ImagesError(
        f"{name} has images of shape {list(shape)}; expected [h, w, c] or [c, h, w] with 1, 3 or 4 channels"
    )


def from_array(stored: AnyArray, axis: int | None) -> Decoded:
    """Make RGB of one uint8 image.

    Args:
        stored: uint8 [h, w, c], [c, h, w] or [h, w].
        axis: where its channels are, from :func:`channel_axis`.
    """
    image = stored[:, :, None] if axis is None else np.moveaxis(stored, axis, 2)
    channels = image.shape[2]
    pixels: Pixels = np.repeat(image, 3, axis=2) if channels == 1 else np.array(image[:, :, :3], order="C")
    return Decoded(pixels, _digest(stored), NOTES[channels])


def _digest(stored: AnyArray) -> bytes:
    digest = hashlib.sha256(repr(stored.shape).encode())
    digest.update(np.ascontiguousarray(stored).data)
    return digest.digest()


def open_array_file(path: str | Path, name: str | None = None) -> Arrays:
    """Open a ``.npy`` or ``.npz`` file, mapped into memory where it is not compressed.

    Of a ``.npz``, ``arr_0`` is taken, or else the only array that is uint8 with 4 axes.

    Raises:
        ImagesError: if the file cannot be read, or holds no array of images.
    """
    try:
        array = _load_npz(Path(path)) if str(path).lower().endswith(".npz") else _load_npy(Path(path))
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise ImagesError(f"{path} cannot be read as an array of images: {error}") from error
    return Arrays(array, name or str(path))


def _load_npy(path: Path) -> AnyArray:
    array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


class _Member(NamedTuple):
    """One array of a ``.npz``, by its header alone."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    header_size: int


def _load_npz(path: Path) -> AnyArray:
    with zipfile.ZipFile(path) as archive:
        members = {
            info.filename[: -len(".npy")]: _read_header(archive, info)
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
    member = members[_choose(members, path)]
    if member.info.compress_type == zipfile.ZIP_STORED and not member.dtype.hasobject:
        return _map_stored(path, member)
    with np.load(path, allow_pickle=False) as arrays:
        array: AnyArray = arrays[member.info.filename]
    return array


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        return _Member(info, shape, fortran, dtype, file.tell())


def _choose(members: dict[str, _Member], path: Path) -> str:
    if "arr_0" in members:
        return "arr_0"
    images = [key for key, member in members.items() if member.dtype == np.uint8 and len(member.shape) == 4]
    if len(images) == 1:
        return images[0]
    found = ", ".join(f"{key} {member.dtype} {list(member.shape)}" for key, member in members.items())
    raise ImagesError(
        f"{path} holds {'several arrays' if images else 'no array'} of images: found {found or 'nothing'}; "
        "expected 'arr_0' or a single uint8 array with 4 axes"
    )


def _map_stored(path: Path, member: _Member) -> AnyArray:
    """Map an uncompressed member where it lies in the zip file."""
    with path.open("rb") as file:
        file.seek(member.info.header_offset)
        local = file.read(30)
    # The lengths of name and extra field may differ from those in the central directory.
    name_size, extra_size = struct.unpack("<HH", local[26:30])
    offset = member.info.header_offset + 30 + name_size + extra_size + member.header_size
    return np.memmap(path, member.dtype, "r", offset, member.shape, "F" if member.fortran else "C")


def _bad_shape(name: str, shape: Sequence[int]) -> ImagesError:
    return ImagesError(
        f"{name} has shape {list(shape)}; expected [n, h, w, c] or [n, c, h, w] with 1, 3 or 4 channels, "
        "or gray [n, h, w]; one image x alone is x[None]"
    )
