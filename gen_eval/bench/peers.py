"""The other tools, run live and without a network on any two folders.

Each function runs a peer's own code from its loader to its distance. Nothing of a peer is replaced but where
it looks for weights, and that mostly by its own means:

- pytorch-fid, torchmetrics and clean-fid's ``legacy_pytorch`` ask torch.hub for a file, which finds it below
  ``TORCH_HOME``; torch-fidelity has an option for it.
- clean-fid's ``clean`` has a TorchScript file in the system's temporary folder hard-coded. That folder is
  everybody's, so its own wrapper is given the file from elsewhere (``custom_feat_extractor``).
- SciPy 1.18 took ``disp`` from ``sqrtm``: there, the peers that pass it get a ``linalg`` that still has it.

Of gen_eval nothing is imported here: the process of a peer shall not pay for ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

HUB_FILE = "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"  # as pytorch-fid's URL names it
FIDELITY_FILE = "hub/checkpoints/weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity's does
SCRIPT_FILE = "inception-2015-12-05.pt"  # as clean-fid names it
DIM = 2048


@dataclass(frozen=True)
class PeerWeights:
    """A folder with one trunk in the two forms that the peers read; serves as ``TORCH_HOME``."""

    home: Path

    @property
    def state(self) -> Path:
        """State dict of torchvision's names, read by pytorch-fid, torch-fidelity and clean-fid."""
        return self.home / HUB_FILE

    @property
    def script(self) -> Path:
        """TorchScript module with ``layers``, read by clean-fid."""
        return self.home / SCRIPT_FILE


@dataclass(frozen=True)
class PeerResult:
    """What a peer reports, and the features ``[n, 2048]`` it reports it from, by sorted path."""

    fid: float
    real_features: npt.NDArray[Any]
    fake_features: npt.NDArray[Any]


def peer_weights(trunk: Mapping[str, Tensor], folder: Path) -> PeerWeights:
    """Write the trunk as the peers read it.

    Args:
        trunk: what ``read_weights`` returns, or a state dict of pytorch-fid. Where ``fc`` is missing, a
            seeded random one is added: the peers load it though FID does not use it.
        folder: where to write; made if need be.
    """
    weights = PeerWeights(Path(folder))
    weights.state.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    head = {
        "fc.weight": torch.randn(1008, DIM, generator=generator) * 0.02,
        "fc.bias": torch.randn(1008, generator=generator) * 0.02,
    }
    torch.save({**head, **_state_dict(trunk)}, weights.state)
    os.link(weights.state, weights.home / FIDELITY_FILE)
    with surroundings(weights):
        if importlib.util.find_spec("cleanfid"):  # the only one that reads it
            _write_script(weights)
    return weights


def pytorch_fid(
    real: Path,
    fake: Path,
    weights: PeerWeights,
    *,
    batch_size: int = 50,
    workers: int = 0,
    device: str = "cpu",
) -> PeerResult:
    """FID by pytorch-fid; images of mixed sizes need ``batch_size=1``."""
    paths = [str(real), str(fake)]
    with (
        surroundings(weights, "pytorch_fid.fid_score") as peer,
        _recorded(peer, "get_activations") as features,
    ):
        fid = peer.calculate_fid_given_paths(paths, batch_size, torch.device(device), DIM, workers)
    return PeerResult(float(fid), *features)


def torch_fidelity(
    real: Path,
    fake: Path,
    weights: PeerWeights,
    *,
    batch_size: int = 64,
    workers: int = 0,
    device: str = "cpu",
) -> PeerResult:
    """FID by torch-fidelity; images of mixed sizes need ``batch_size=1``; it fixes any ``workers > 0``."""
    with surroundings(weights, "torch_fidelity.metric_fid") as peer:
        with _recorded(peer, "extract_featuresdict_from_input_id_cached") as features:
            metrics = importlib.import_module("torch_fidelity").calculate_metrics(
                input1=str(real),
                input2=str(fake),
                fid=True,
                cuda=device != "cpu",
                cache=False,
                verbose=False,
                batch_size=batch_size,
                save_cpu_ram=workers == 0,
                feature_extractor_weights_path=str(weights.state),
            )
        fid = metrics[peer.KEY_METRIC_FID]
    return PeerResult(float(fid), *(layers[str(DIM)].cpu().numpy() for layers in features))


def clean_fid(
    real: Path,
    fake: Path,
    weights: PeerWeights,
    *,
    mode: Literal["clean", "legacy_pytorch"] = "clean",
    batch_size: int = 32,
    workers: int = 0,
    device: str = "cpu",
) -> PeerResult:
    """FID by clean-fid, in one of its modes."""
    with surroundings(weights, "cleanfid.fid") as peer:
        extractor = None  # its own choice, which in mode "legacy_pytorch" asks torch.hub
        if mode == "clean":
            wrapper = importlib.import_module("cleanfid.inception_torchscript").InceptionV3W
            extractor = wrapper(str(weights.home), download=False, resize_inside=False).to(device)
        with _recorded(peer, "get_folder_features") as features:
            fid = peer.compute_fid(
                str(real),
                str(fake),
                mode=mode,
                custom_feat_extractor=extractor,
                batch_size=batch_size,
                num_workers=workers,
                device=torch.device(device),
                use_dataparallel=False,  # wants the first GPU wherever there is one
                verbose=False,
            )
    return PeerResult(float(fid), *features)


def torchmetrics(
    real: Path,
    fake: Path,
    weights: PeerWeights,
    *,
    batch_size: int = 50,
    workers: int = 0,
    device: str = "cpu",
) -> PeerResult:
    """FID by torchmetrics, which has no loader: Pillow's pixels in its stead, for any ``workers`` the same.

    Mixed sizes need ``batch_size=1``.
    """
    features = []
    with surroundings(weights, "torchmetrics.image.fid") as peer, torch.no_grad():
        metric = peer.FrechetInceptionDistance().to(device)
        for folder, is_real in ((real, True), (fake, False)):
            with _recorded(metric.inception, "forward") as rows:
                for batch in uint8_batches(folder, batch_size):
                    metric.update(batch.to(device), real=is_real)
            features.append(torch.cat(rows).cpu().numpy())
        return PeerResult(float(metric.compute()), *features)


def uint8_batches(folder: Path, batch_size: int) -> Iterator[Tensor]:
    """The images of a folder by sorted path, ``[b, 3, h, w]`` uint8."""
    paths = sorted(folder.iterdir())
    for first in range(0, len(paths), batch_size):
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths[first : first + batch_size]]
        yield torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


PEERS: Mapping[str, Callable[..., PeerResult]] = {
    "pytorch-fid": pytorch_fid,
    "torch-fidelity": torch_fidelity,
    "clean-fid": clean_fid,
    "torchmetrics": torchmetrics,
}


def _state_dict(trunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names of a convolution's parts as torchvision's; the scale, which we leave out, is one."""
    names = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    state: dict[str, Tensor] = {}
    for key, tensor in trunk.items():
        layer, _, part = key.rpartition(".")
        ours = f"{layer}.beta" in trunk
        state[f"{layer}.{names[part]}" if ours else key] = tensor
        if ours and part == "beta":
            state[f"{layer}.bn.weight"] = torch.ones_like(tensor)
    return state


class _Network(nn.Module):
    """The interface of the TorchScript file that clean-fid downloads: the trunk is ``layers``."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features.flatten(1)


def _write_script(weights: PeerWeights) -> None:
    """Trace clean-fid's copy of pytorch-fid's trunk: the operations of the original script, in its order."""
    inception = importlib.import_module("cleanfid.inception_pytorch").InceptionV3()
    network = _Network(nn.Sequential(*inception.blocks)).eval()
    with torch.no_grad():
        trace: Any = torch.jit.trace  # has no types
        trace(network, torch.zeros(2, 3, 299, 299)).save(str(weights.script))


@contextmanager
def surroundings(weights: PeerWeights, module: str | None = None) -> Iterator[Any]:
    """Imports and yields a peer's module where its weights are found and its warnings are its own."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # also undoes the filters that peers install
        stack.enter_context(mock.patch.dict(os.environ, {"TORCH_HOME": str(weights.home)}))
        peer = importlib.import_module(module) if module else None
        if hasattr(peer, "linalg") and "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters:
            stack.enter_context(mock.patch.object(peer, "linalg", SimpleNamespace(sqrtm=_sqrtm_with_disp)))
        yield peer


@contextmanager
def _recorded(owner: Any, name: str) -> Iterator[list[Any]]:
    """Whatever a function of a peer returns meanwhile, call by call."""
    real = getattr(owner, name)
    returned: list[Any] = []

    def recorder(*args: Any, **kwargs: Any) -> Any:
        returned.append(real(*args, **kwargs))
        return returned[-1]

    with mock.patch.object(owner, name, recorder):
        yield returned


def _sqrtm_with_disp(matrix: npt.NDArray[np.float64], disp: bool = True) -> Any:
    root = scipy.linalg.sqrtm(matrix)
    return root if disp else (root, np.nan)
