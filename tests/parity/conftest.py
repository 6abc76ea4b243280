"""Images, weights and runs of the other tools, each made once a session and shared by all parity tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
import torch
from PIL import Image

from gen_eval.datasets import load
from gen_eval.errors import FetchError
from gen_eval.evaluation import load_extractors
from gen_eval.extractors.inception_weights import WEIGHTS, read_weights
from gen_eval.fetch import fetch
from gen_eval.images import open_images
from gen_eval.metrics import find_measure
from gen_eval.protocols import find_protocol
from gen_eval.summary import Request, Summary, summarize

SMALL = 40  # images of the one folder; the other has as many and a quarter more
LARGE = 500
Pair = tuple[Path, Path]  # real, fake

# How each peer runs, by the protocol that stands for it. Peers that stack images cannot batch mixed sizes.
RUNS: dict[str, Callable[..., peers.PeerResult]] = {
    "pytorch-fid": peers.pytorch_fid,
    "torch-fidelity": peers.torch_fidelity,
    "clean-fid": peers.clean_fid,
    "clean-fid-legacy-pytorch": lambda *args, **kwargs: peers.clean_fid(
        *args, mode="legacy_pytorch", **kwargs
    ),
}
SETS: dict[str, dict[str, int]] = {"cifar10": {}, "mnist": {}, "mixed": {"batch_size": 1}, "cifar10-500": {}}


@pytest.fixture(scope="session", autouse=True)
def _threads() -> Iterator[None]:
    """As many threads as cores: peers that are given more only fight over them."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else before)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights_file() -> Path:
    return _or_skip(fetch, WEIGHTS)


@pytest.fixture(scope="session")
def peer_weights(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> peers.PeerWeights:
    return peers.peer_weights(read_weights(weights_file), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """The pair of folders of a name in :data:`SETS`."""

    @cache
    def make(name: str) -> Pair:
        root = tmp_path_factory.mktemp(name)
        source, size = (name, SMALL) if name != "cifar10-500" else ("cifar10", LARGE)
        pictures = _or_skip(load, "mnist-5k" if name == "mnist" else "cifar10", "train").images
        pair = root / "real", root / "fake"
        for folder in pair:
            folder.mkdir()
        if source == "mixed":
            _write_mixed(pair[0], pictures[:2000], seed=0, count=SMALL)
            _write_mixed(pair[1], pictures[2000:4000], seed=1, count=SMALL + SMALL // 4)
        else:
            # Digits stand sorted by class: a stride takes from all. "Fakes" are others, shifted in brightness.
            step = len(pictures) // (2 * size + size // 4)
            chosen = pictures[: step * (2 * size + size // 4) : step]
            order = np.random.default_rng(0).permutation(len(chosen))
            _write(pair[0], chosen[order[:size]])
            _write(pair[1], chosen[order[size:]] // 4 * 3)
        return pair

    return make


@pytest.fixture(scope="session")
def peer_run(folders: Any, peer_weights: peers.PeerWeights) -> Callable[[str, str], peers.PeerResult]:
    """What the peer of a protocol makes of a pair of folders."""

    @cache
    def run(protocol: str, name: str) -> peers.PeerResult:
        return RUNS[protocol](*folders(name), peer_weights, **SETS[name])

    return run


@pytest.fixture(scope="session")
def extractors(weights_file: Path) -> dict[str, Any]:
    """Our extractor under each protocol; those of equal spec are one."""
    made: dict[Any, Any] = {}
    by_protocol = {}
    for protocol in RUNS:
        extractor = load_extractors(
            [find_measure("fid")], find_protocol(protocol), weights_file, torch.device("cpu")
        )["inception"]
        by_protocol[protocol] = made.setdefault(extractor.spec("pool"), extractor)
    return by_protocol


@pytest.fixture(scope="session")
def our_run(folders: Any, extractors: dict[str, Any]) -> Callable[[str], tuple[Summary, Summary]]:
    """Our summaries, real and fake, of a pair of folders: all protocols from one pass, with every row."""
    requests = [Request(extractor, ("pool",)) for extractor in dict.fromkeys(extractors.values())]

    @cache
    def run(name: str) -> tuple[Summary, Summary]:
        real, fake = (summarize(open_images(folder), requests, rows=None) for folder in folders(name))
        return real, fake

    return run


def _or_skip(get: Callable[..., Any], *args: Any) -> Any:
    try:
        return get(*args)
    except FetchError as error:
        pytest.skip(str(error))


def _write(folder: Path, pictures: np.ndarray) -> None:
    for index, picture in enumerate(pictures):
        Image.fromarray(picture.squeeze()).save(folder / f"{index:05d}.png")


def _write_mixed(folder: Path, pictures: np.ndarray, *, seed: int, count: int) -> None:
    """Mosaics and enlarged crops of photographs: sides of 48 to 400 px, JPEG and PNG, of several modes."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        rows, columns = rng.integers(1, 5, 2)
        tiles = pictures[rng.integers(0, len(pictures), rows * columns)]
        mosaic = tiles.reshape(rows, columns, 32, 32, 3).swapaxes(1, 2).reshape(rows * 32, columns * 32, 3)
        width, height = (int(side) for side in rng.integers(48, 401, 2))
        left, top = rng.uniform(0, 8, 2)
        box = (left, top, columns * 32 - 4, rows * 32 - 4)
        image = Image.fromarray(mosaic).resize((width, height), Image.Resampling.BICUBIC, box=box)
        if index == 1:
            image = image.convert("L")
        elif index == 2:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        elif index == 3:
            image = image.quantize(64)
        if index in (2, 3) or index % 2:
            image.save(folder / f"{index:05d}.png")
        else:
            image.save(folder / f"{index:05d}.jpg", quality=90)
