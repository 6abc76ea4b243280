"""Tensors read from a file of weights without running its code, and what identifies them."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gen_eval.errors import WeightsError

State = Mapping[str, Tensor]

# Where checkpoints of a training put the state dict.
_WRAPPERS = ("state_dict", "model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU.

    Args:
        path: a state dict (``.pth``), a TorchScript archive (``.pt``) or a ``.safetensors`` file.

    Raises:
        WeightsError: if the file is none of these, or would run code to be read.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise WeightsError(f"no weights file at {path}") from None
    except (pickle.UnpicklingError, SafetensorError) as error:
        # torch's own message advises to switch its safety off.
        raise WeightsError(
            f"{path} is not a weights file that can be read safely: expected a state dict of tensors (.pth), a "
            "TorchScript archive (.pt) or a .safetensors file"
        ) from error
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:  # a damaged file makes unpicklers raise nearly anything
        raise WeightsError(f"{path} is not a weights file that can be read safely: {error!r}") from error


def fingerprint(state: State) -> str:
    """16 hex digits of the tensors themselves: names, shapes and float32 values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked"):
            continue  # of training alone; files come with and without it
        tensor = state[name].detach().cpu()
        array = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).contiguous().float().numpy()
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        # Both of torch's layouts. Its own reader may run an archive's code, whatever it was asked for.
        with zipfile.ZipFile(path) as archive:
            return _gather(_TensorUnpickler(archive).load())
    return _gather(torch.load(path, map_location="cpu", weights_only=True))


class _Record:
    """Stands in for an object of the archive's own classes: keeps its attributes, runs nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state


class _TensorUnpickler(pickle.Unpickler):
    """Rebuilds tensors and plain containers; every class or function it does not know is an error."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._root = archive.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self._root}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Record
        allowed: dict[tuple[str, str], Callable[..., Any] | torch.dtype] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): torch.float32,
            ("torch", "DoubleStorage"): torch.float64,
            ("torch", "HalfStorage"): torch.float16,
            ("torch", "BFloat16Storage"): torch.bfloat16,
            ("torch", "LongStorage"): torch.int64,
            ("torch", "IntStorage"): torch.int32,
            ("torch", "ByteStorage"): torch.uint8,
            ("torch", "BoolStorage"): torch.bool,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a tensor")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        values = np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), np.uint8).copy()
        return torch.from_numpy(values).view(dtype)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _gather(module: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a TorchScript module and those inside it, by dotted name."""
    if isinstance(module, dict):
        tensors = {str(name): value for name, value in module.items() if isinstance(value, Tensor)}
        inner = [module[name] for name in _WRAPPERS if isinstance(module.get(name), dict)]
        return _gather(inner[0]) if inner and not tensors else tensors
    if not isinstance(module, _Record):
        raise ValueError(f"expected tensors by name, found {type(module).__name__}")
    tensors = {}
    for name, value in module.attributes.items():
        if isinstance(value, _Record):
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in _gather(value).items()}
        elif isinstance(value, Tensor):
            tensors[name] = value
    return tensors
