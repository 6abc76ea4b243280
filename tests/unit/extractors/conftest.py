"""Weights of Inception in every form that they come in, written once a session, and pictures to try them on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gen_eval import datasets
from gen_eval.errors import FetchError
from gen_eval.extractors.inception_weights import HEAD_SHAPE, WEIGHTS, read_weights
from gen_eval.fetch import fetch

# torchvision's names of what a convolution's batch norm holds.
NAMES = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def or_skip(get, *args):
    try:
        return get(*args)
    except FetchError as error:
        pytest.skip(f"no network and nothing in the cache: {error}")


@pytest.fixture(scope="session")
def trunk_file():
    return or_skip(fetch, WEIGHTS)


@pytest.fixture(scope="session")
def trunk(trunk_file):
    """The canonical state without a head, whichever file was found."""
    return {name: value for name, value in read_weights(trunk_file).items() if not name.startswith("fc.")}


@pytest.fixture(scope="session")
def head():
    generator = torch.Generator().manual_seed(0)
    return {
        "fc.weight": torch.randn(HEAD_SHAPE, generator=generator) * 0.02,
        "fc.bias": torch.randn(HEAD_SHAPE[0], generator=generator),
    }


@pytest.fixture(scope="session")
def whole(trunk, head):
    """A state dict as pytorch-fid and torch-fidelity publish it, with a head made up here."""
    state = dict(head)
    for key, value in trunk.items():
        layer, _, part = key.rpartition(".")
        state[f"{layer}.{NAMES[part]}"] = value
        if part == "beta":
            state[f"{layer}.bn.weight"] = torch.ones_like(value)
            state[f"{layer}.bn.num_batches_tracked"] = torch.tensor(0)
    return state


@pytest.fixture(scope="session")
def trunk_state(trunk):
    """A state dict with neither head nor scales."""
    return {
        f"{key.rpartition('.')[0]}.{NAMES[key.rpartition('.')[2]]}": value.clone()
        for key, value in trunk.items()
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path(tmp_path):
    """Each file of weights takes 95 MB, and pytest would keep those of three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="session")
def whole_file(whole, folder):
    path = folder / "pt_inception-2015-12-05.pth"
    torch.save(whole, path)
    return path


@pytest.fixture(scope="session")
def whole_safetensors(whole, folder):
    path = folder / "inception.safetensors"
    save_file(whole, path)
    return path


@pytest.fixture(scope="session")
def photographs():
    """Four photographs, and noise, which reaches what photographs do not. uint8 ``[5, 3, 32, 32]``."""
    images = or_skip(datasets.load, "cifar10", "test").images[:4]
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    return torch.from_numpy(np.concatenate([images, noise])).permute(0, 3, 1, 2).contiguous()
