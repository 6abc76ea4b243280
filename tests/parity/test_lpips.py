"""LPIPS beside the package lpips and torch-fidelity's module, on the same tensors; path lengths beside the latter's.

torchvision's VGG16 and AlexNet cannot be had from a package index. Their trunks are, so the other tools find
them in files of torchvision's names, whose fully connected layers, which no one runs, are zeros.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.bench import peers
from gen_eval.errors import FetchError
from gen_eval.extractors.lpips import LPIPS
from gen_eval.extractors.lpips_weights import WEIGHTS, read_weights
from gen_eval.fetch import fetch
from gen_eval.perceptual import CONVENTIONS, perceptual_path_length

# Of each network: the name in the package lpips, the file that torchvision asks for, its layers that are not run.
NETS = {
    "vgg16": ("vgg", "vgg16-397923af.pth", {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}),
    "alexnet": ("alex", "alexnet-owt-7be5be79.pth", {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}),
}
HEADS_FILE = "weights-vgg16-lpips.pth"
SEED, PATHS, DIM = 2020, 40, 16
NUMPY_PERCENTILE = np.percentile


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    try:
        path = fetch(WEIGHTS)
    except FetchError as error:
        pytest.skip(str(error))
    return {net: dict(read_weights([path], net)) for net in NETS}


@pytest.fixture(scope="module")
def home(states: dict[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> peers.PeerWeights:
    """A ``TORCH_HOME`` with the files that torchvision and torch-fidelity would download."""
    weights = peers.PeerWeights(tmp_path_factory.mktemp("home"))
    folder = weights.home / "hub/checkpoints"
    folder.mkdir(parents=True)
    for net, (_, file, unused) in NETS.items():
        trunk = {name: value for name, value in states[net].items() if name.startswith("features.")}
        for layer, shape in unused.items():  # a file of one number each
            trunk[f"classifier.{layer}.weight"] = torch.zeros(1).expand(shape)
            trunk[f"classifier.{layer}.bias"] = torch.zeros(1).expand(shape[0])
        torch.save(trunk, folder / file)
    heads = {f"lin{k}.model.1.weight": states["vgg16"][f"lin{k}"].view(1, -1, 1, 1) for k in range(5)}
    torch.save(heads, folder / HEADS_FILE)
    return weights


@pytest.fixture(scope="module")
def similarity(home: peers.PeerWeights) -> nn.Module:
    """torch-fidelity's LPIPS, as its path length makes it."""
    with peers.surroundings(home, "torch_fidelity.sample_similarity_lpips") as peer:
        return peer.SampleSimilarityLPIPS("lpips-vgg16", 64, "uint8")


def pairs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Smooth images and others near them, uint8 ``[4, 3, h, w]``; the last pair is of noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 5, 5, generator=generator) * 255
    a = F.interpolate(coarse, (height, width), mode="bicubic")
    b = a + 12 * torch.randn(a.shape, generator=generator)
    a[3], b[3] = (torch.rand(2, 3, height, width, generator=generator) * 255).unbind()
    return tuple(each.round().clamp(0, 255).to(torch.uint8) for each in (a, b))


@pytest.mark.network
@pytest.mark.parametrize("size", [(64, 64), (33, 70)])
@pytest.mark.parametrize("net", NETS)
def test_distances_of_the_package_lpips(
    net: str, size: tuple[int, int], states: dict[str, dict[str, Tensor]], home: peers.PeerWeights
) -> None:
    """Its heads are its own: those of the file read here must be the same."""
    pytest.importorskip("lpips")
    with peers.surroundings(home, "lpips") as peer:
        theirs = peer.LPIPS(net=NETS[net][0], verbose=False)
    a, b = pairs(*size)
    with torch.no_grad():
        expected = theirs(a / 127.5 - 1, b / 127.5 - 1).flatten()
    found = LPIPS(states[net], net=net)(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.network
def test_their_module_is_a_weights_file(
    states: dict[str, dict[str, Tensor]], home: peers.PeerWeights, tmp_path: Path
) -> None:
    pytest.importorskip("lpips")
    with peers.surroundings(home, "lpips") as peer:
        torch.save(peer.LPIPS(net="alex", verbose=False).state_dict(), tmp_path / "lpips.pth")
    read = read_weights([tmp_path / "lpips.pth"], "alexnet")
    assert all(torch.equal(read[name], value) for name, value in states["alexnet"].items())


@pytest.mark.network
def test_distances_of_torch_fidelity(states: dict[str, dict[str, Tensor]], similarity: nn.Module) -> None:
    a, b = pairs(64, 64)
    torch.testing.assert_close(LPIPS(states["vgg16"])(a, b), similarity(a, b), rtol=1e-5, atol=0)


@pytest.mark.network
def test_the_files_of_torchvision_and_torch_fidelity_are_weights(
    states: dict[str, dict[str, Tensor]], home: peers.PeerWeights
) -> None:
    files = [home.home / "hub/checkpoints" / name for name in (NETS["vgg16"][1], HEADS_FILE)]
    assert LPIPS.load(weights=files).weights == LPIPS(states["vgg16"]).weights


class Waves(nn.Module):
    """Whole levels from latents: sines that latents turn."""

    def __init__(self, side: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.turn = torch.randn(DIM, 3 * side * side, generator=draw) * 0.3
        self.side = side

    def forward(self, z: Tensor) -> Tensor:
        pixels = 127.5 + 120 * torch.sin(z @ self.turn)
        return pixels.view(-1, 3, self.side, self.side).round().to(torch.uint8)


class AsOurs:
    """The same with the latents that torch-fidelity draws: those of path i belong to seeds 2 i and 2 i + 1."""

    def __init__(self, network: Waves) -> None:
        rng = np.random.RandomState(SEED)
        first, last = (torch.from_numpy(rng.randn(PATHS, DIM)).float() for _ in range(2))
        self.latents = torch.stack([first, last], 1).flatten(0, 1)
        self.synthesize = network

    def latent(self, seeds: Tensor) -> Tensor:
        return self.latents[seeds]


def percentile(values: np.ndarray, at: float, *, interpolation: str) -> float:
    """NumPy's, which from 2.4 on no longer knows this argument by the name that torch-fidelity calls it by."""
    return float(NUMPY_PERCENTILE(values, at, method=interpolation))


@pytest.mark.network
@pytest.mark.parametrize("side", [32, 64, 96])  # enlarged, as they are, reduced
def test_path_length_of_torch_fidelity(
    side: int, states: dict[str, dict[str, Tensor]], home: peers.PeerWeights
) -> None:
    network = Waves(side)
    with (
        peers.surroundings(home, "torch_fidelity") as peer,
        mock.patch.object(np, "percentile", percentile),
    ):
        theirs = peer.calculate_metrics(
            input1=peer.GenerativeModelModuleWrapper(network, DIM, "normal", 0),
            input1_model_num_samples=PATHS,
            ppl=True,
            rng_seed=SEED,
            batch_size=20,
            cuda=False,
            verbose=False,
        )
    ours = perceptual_path_length(
        AsOurs(network), n=PATHS, distance=LPIPS(states["vgg16"]), **CONVENTIONS["torch-fidelity"]
    ).values
    assert ours["perceptual_path_length"] == pytest.approx(theirs["perceptual_path_length_mean"], rel=1e-4)
    assert ours["std"] == pytest.approx(theirs["perceptual_path_length_std"], rel=1e-4)
    assert ours["std"] > 0
