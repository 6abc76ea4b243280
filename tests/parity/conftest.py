"""Images, weights and runs of the other tools, each made once a session and shared by all parity tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from gen_eval.bench import peers
from gen_eval.datasets import load
from gen_eval.errors import FetchError
from gen_eval.extractors import Extractor
from gen_eval.extractors.inception_weights import WEIGHTS, read_weights
from gen_eval.fetch import fetch
from gen_eval.images import open_images
from gen_eval.metrics import find_measure
from gen_eval.passing import Request, summarize
from gen_eval.planning import load_extractors
from gen_eval.protocols import find_protocol
from gen_eval.summary import Summary

Pair = tuple[Path, Path]  # real, fake

# How many images each kind of pair has. A peer takes the better part of a second for each of the mixed ones.
COUNTS = {"mixed": (12, 16), "cifar10": (70, 72)}


def _features_of_clean_fid_legacy(*args: Any, **options: Any) -> peers.PeerResult:
    """The distance of this mode is that of the other one, half a minute of a core."""
    with mock.patch("cleanfid.fid.frechet_distance", return_value=math.nan):
        return peers.clean_fid(*args, mode="legacy_pytorch", **options)


# How each peer runs, by the protocol that stands for it.
RUNS: dict[str, Callable[..., peers.PeerResult]] = {
    "pytorch-fid": peers.pytorch_fid,
    "torch-fidelity": peers.torch_fidelity,
    "clean-fid": peers.clean_fid,
    "clean-fid-legacy-pytorch": _features_of_clean_fid_legacy,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for torch and for SciPy.

    Another would save a quarter of the time at best, and on a busy machine, where threads spin while they
    wait for one another, it costs several times as much.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
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
    """The pair of folders of a kind in :data:`COUNTS`."""

    @cache
    def make(name: str) -> Pair:
        pictures = _or_skip(load, "cifar10").images
        rng = np.random.default_rng(0)
        root = tmp_path_factory.mktemp(name)
        for kind, count in zip(("real", "fake"), COUNTS[name], strict=True):
            (root / kind).mkdir()
            if name == "mixed":
                _write_mixed(root / kind, pictures, _or_skip(load, "mnist-5k").images, count, rng)
            else:
                chosen = pictures[rng.choice(len(pictures), count, replace=False)]
                _write(root / kind, chosen if kind == "real" else chosen // 4 * 3)
        return root / "real", root / "fake"

    return make


@pytest.fixture(scope="session")
def peer_run(
    folders: Callable[[str], Pair], peer_weights: peers.PeerWeights
) -> Callable[[str], peers.PeerResult]:
    """What the peer that a protocol stands for makes of the mixed images.

    Two of them stack images before they resize, so these come one by one.
    """
    return lambda protocol: RUNS[protocol](*folders("mixed"), peer_weights, batch_size=1)


@pytest.fixture(scope="session")
def extractors(weights_file: Path) -> dict[str, Extractor]:
    """Ours, by protocol; protocols that ask for the same features share one."""
    by_spec: dict[Any, Extractor] = {}
    by_protocol = {}
    for name in RUNS:
        terms = find_protocol(name)
        extractor = load_extractors(
            [find_measure("fid")], terms, weights=weights_file, device=torch.device("cpu")
        )["inception"]
        by_protocol[name] = by_spec.setdefault(extractor.spec("pool"), extractor)
    return by_protocol


@pytest.fixture(scope="session")
def our_run(folders: Callable[[str], Pair], extractors: dict[str, Extractor]) -> tuple[Summary, Summary]:
    """Our summaries of the mixed images, real and fake, with every row: under all protocols in one pass."""
    requests = [Request(extractor, ("pool",)) for extractor in dict.fromkeys(extractors.values())]
    real, fake = (summarize(open_images(folder), requests, rows=None) for folder in folders("mixed"))
    return real, fake


def _or_skip(get: Callable[..., Any], *args: Any) -> Any:
    try:
        return get(*args)
    except FetchError as error:
        pytest.skip(str(error))


def _write(folder: Path, pictures: Iterable[np.ndarray], first: int = 0) -> None:
    for index, picture in enumerate(pictures, first):
        Image.fromarray(picture.squeeze()).save(folder / f"{index:05d}.png")


def _write_mixed(
    folder: Path, pictures: np.ndarray, digits: np.ndarray, count: int, rng: np.random.Generator
) -> None:
    """Enlarged mosaics of photographs: sides of 48 to 400 px, JPEG and PNG, of all the usual modes.

    The last quarter is of photographs and digits as they are, 32 and 28 px.
    """
    mosaics = count - count // 4
    _write(folder, [(digits if index % 2 else pictures)[index] for index in range(count - mosaics)], mosaics)
    for index in range(mosaics):
        rows, columns = rng.integers(1, 5, 2)
        tiles = pictures[rng.integers(0, len(pictures), rows * columns)].reshape(rows, columns, 32, 32, 3)
        mosaic = Image.fromarray(tiles.swapaxes(1, 2).reshape(rows * 32, columns * 32, 3))
        left, top, right, bottom = rng.uniform(0, 8, 4)
        box = (left, top, mosaic.width - right, mosaic.height - bottom)
        size = tuple(rng.integers(48, 401, 2).tolist())
        image = mosaic.resize(size, Image.Resampling.BICUBIC, box)
        if index == 0:
            image = image.convert("L")
        elif index == 1:
            image.putalpha(Image.linear_gradient("L").resize(size))
        elif index == 3:
            image = image.quantize(64)
        if index % 2:
            image.save(folder / f"{index:05d}.png")
        else:
            image.save(folder / f"{index:05d}.jpg", quality=90)
