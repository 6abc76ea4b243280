"""What files of other tools are made of: arrays and numbers by name, and nothing that runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from gen_eval.errors import StoreError
from gen_eval.foreign import pickles
from gen_eval.foreign.pickles import ForeignName

ROWS = "features"  # what a file that holds one array and no name for it is read as


@dataclass(frozen=True)
class Container:
    """One kind of file.

    Args:
        load: its contents by name.
        dump: writes contents by name; ``None`` where it is only read.
    """

    load: Callable[[Path], Mapping[str, Any]]
    dump: Callable[[Mapping[str, Any], BinaryIO], None] | None = None


class Npz(Mapping[str, Any]):
    """The arrays of a ``.npz``, each read when it is asked for. Pickled ones are refused.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        self._names = {name[: -len(".npy")]: name for name in names if name.endswith(".npy")}

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        with zipfile.ZipFile(self._path) as archive, archive.open(self._names[name]) as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, where the checksum is compared
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array, without reading it."""
        with zipfile.ZipFile(self._path) as archive, archive.open(self._names[name]) as file:
            return _npy_header(file)


def holds_a_pickled_object(path: Path) -> bool:
    """Whether a ``.npy`` file holds one Python object, as ``numpy.save`` makes of a dictionary, and no array."""
    try:
        with path.open("rb") as file:
            shape, dtype = _npy_header(file)
    except Exception:  # of whatever kind: no such file
        return False
    return shape == () and dtype.hasobject


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What stands before the numbers of a ``.npy`` file; leaves the file at them."""
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _load_npy(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        shape, dtype = _npy_header(file)
        if not dtype.hasobject:
            raise StoreError(
                f"it is an array, {dtype} {list(shape)}, and no dictionary of statistics; if of images, `geneval stats "
                f"{path} -o FILE.safetensors` measures them"
            )
        return _by_name(pickles.load(file.read()))


def _load_pickle(path: Path) -> Mapping[str, Any]:
    return _by_name(pickles.load(path.read_bytes()))


def _load_torch(path: Path) -> Mapping[str, Any]:
    """Numpy's arrays by our own reading of the pickle within, tensors by torch's weights-only load.

    Torch would read the former too, were it allowed to call the functions of numpy's that set the state of a type.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            program = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            data = archive.read(program) if program else b""
        try:
            return _by_name(pickles.load(data))
        except ForeignName:
            pass  # tensors are none of its names
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text advises to load it unsafely
        raise StoreError("it holds more than tensors and arrays of numbers; nothing of it was run") from error
    return _by_name(value)


def _by_name(value: Any) -> Mapping[str, Any]:
    if isinstance(value, torch.Tensor):
        value = {ROWS: value}
    if isinstance(value, tuple) and len(value) == 2:
        value = dict(zip(("mu", "sigma"), value, strict=True))
    if not isinstance(value, dict):
        raise StoreError(f"it holds a {type(value).__name__}: expected statistics by name")
    return {
        name: each.detach().numpy() if isinstance(each, torch.Tensor) else each
        for name, each in value.items()
    }


def _dump_npz(contents: Mapping[str, Any], file: BinaryIO) -> None:
    np.savez(file, **contents)


def _dump_pickle(contents: Mapping[str, Any], file: BinaryIO) -> None:
    pickle.dump(contents, file, protocol=4)


def _dump_torch(contents: Mapping[str, Any], file: BinaryIO) -> None:
    whole = torch.from_numpy(contents[ROWS]) if set(contents) == {ROWS} else contents
    buffer = io.BytesIO()  # torch closes what it writes to where it fails
    torch.save(whole, buffer)
    file.write(buffer.getbuffer())


CONTAINERS: dict[str, Container] = {
    ".npz": Container(Npz, _dump_npz),
    ".pt": Container(_load_torch, _dump_torch),
    ".pkl": Container(_load_pickle, _dump_pickle),
    ".npy": Container(_load_npy),
}
