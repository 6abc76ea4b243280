"""What several of these files measure: smooth blobs through pixels, and one spec beside its neighbours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval import datasets
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Pixels
from gen_eval.fetch import Asset
from gen_eval.images import open_images
from gen_eval.passing import Request, summarize
from gen_eval.spec import Resize, Spec

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")
OTHERS = {
    "name": dataclasses.replace(SPEC, name="pixels"),
    "weights": dataclasses.replace(SPEC, weights="fedcba9876543210"),
    "resize": dataclasses.replace(SPEC, resize=Resize(299, "pil-bicubic")),
    "size": dataclasses.replace(SPEC, resize=Resize(32, "tf1-bilinear")),
    "fit": dataclasses.replace(SPEC, resize=Resize(299, "tf1-bilinear", "shorter")),
    "crop": dataclasses.replace(SPEC, resize=Resize(299, "tf1-bilinear", scaled=320)),
    "normalize": dataclasses.replace(SPEC, normalize="x/127.5-1"),
    "precision": dataclasses.replace(SPEC, precision="bf16"),
}


class Other(NamedTuple):
    """A spec that differs in one term."""

    term: str
    spec: Spec


@pytest.fixture(scope="session")
def spec() -> Spec:
    return SPEC


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> Other:
    """Each spec that differs from ``spec`` in one term, in turn."""
    return Other(
        "resize" if request.param in ("size", "fit", "crop") else request.param, OTHERS[request.param]
    )


@pytest.fixture(scope="session")
def one_thread() -> Any:
    """Images this small are faster without threads, many times so where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images_of(n: int, seed: int, brightness: int) -> np.ndarray:
    """Smooth blobs of any colour, uint8 ``[n, 12, 10, 3]``: at 8x8 no two pixels are independent."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, brightness, (n, 3, 4, 4)))
    fine = torch.nn.functional.interpolate(coarse, (12, 10), mode="bicubic", align_corners=False)
    noise = torch.from_numpy(rng.normal(0, 8, fine.shape))
    return (fine + noise).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="session")
def fake() -> np.ndarray:
    """Read only: 230 images, more than pixels have dimensions."""
    return images_of(230, 1, 255)


@pytest.fixture(scope="session")
def real() -> np.ndarray:
    """Read only: 260 images, darker ones."""
    return images_of(260, 2, 220)


@pytest.fixture(scope="session")
def measure(fake, real, one_thread) -> Any:
    """The Fréchet distance through pixels, between ``fake`` and ``real`` unless other sets are given."""

    def run(generated=fake, reference=real, **options):
        (result,) = evaluate(["frechet:pixels"], generated=generated, reference=reference, **options)
        return result

    return run


@pytest.fixture(scope="session")
def expected(measure) -> Any:
    """What ``measure()`` gives."""
    return measure()


@pytest.fixture(scope="session")
def assert_same_number() -> Any:
    def check(found, expected, rel=1e-12):
        assert found.value == pytest.approx(expected.value, rel=rel)
        assert found.error == pytest.approx(expected.error, rel=max(rel, 1e-9))
        assert found.bias == pytest.approx(expected.bias, rel=max(rel, 1e-9))
        assert found.worst(3)[0][0] == expected.worst(3)[0][0]

    return check


@pytest.fixture(scope="session")
def write_folder() -> Any:
    """A folder of ``0000.png`` and so on."""

    def write(path: Path, images) -> Path:
        path.mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(path / f"{index:04}.png")
        return path

    return write


@pytest.fixture(scope="session")
def folder(tmp_path_factory, write_folder, fake) -> Path:
    """Read only: ``fake`` as files."""
    return write_folder(tmp_path_factory.mktemp("images") / "fake", fake)


@pytest.fixture(scope="session")
def pixel_summary(one_thread) -> Any:
    """The summary of images through pixels, under a protocol's resize."""

    def make(images, resize="tf1-bilinear", **options):
        return summarize(open_images(images), [Request(Pixels(resize=resize), ("pool",))], **options)

    return make


@pytest.fixture(scope="session")
def assert_same_summary() -> Any:
    """To the last bit."""

    def check(a, b):
        assert (a.name, a.digest, a.claimed) == (b.name, b.digest, b.claimed)
        assert dict(a.made_with) == dict(b.made_with)
        assert dict(a.notes) == dict(b.notes)
        assert tuple(a.skipped) == tuple(b.skipped)
        assert set(a.features) == set(b.features)
        for key, one in a.features.items():
            other = b.features[key]
            assert one.n == other.n
            assert one.moments.n == other.moments.n
            assert torch.equal(one.moments.mean, other.moments.mean)
            assert torch.equal(one.moments.scatter, other.moments.scatter)
            assert (one.sample is None) == (other.sample is None)
            if one.sample is not None:
                assert one.sample.limit == other.sample.limit
                assert torch.equal(one.sample.rows, other.sample.rows)
                assert torch.equal(one.sample.index, other.sample.index)

    return check


class Counted:
    """Images that count how often they are read."""

    def __init__(self, images: Any) -> None:
        self.images, self.name, self.thread_safe, self.reads = open_images(images), "counted", True, 0

    def __len__(self):
        return len(self.images)

    def label(self, index):
        return self.images.label(index)

    def read(self, indices):
        self.reads += len(indices)
        return self.images.read(indices)

    def check(self, progress):
        return self.images.check(progress)

    def content(self, progress):
        return self.images.content(progress)


@pytest.fixture(scope="session")
def counted() -> type[Counted]:
    return Counted


def _read_gray(path: Path, parts: Any) -> None:
    for split, part in parts.items():
        rng = np.random.default_rng(len(split))
        part.images[:] = rng.integers(0, 256, part.images.shape)
        part.labels[:] = np.arange(len(part.labels)) % 2


@pytest.fixture
def gray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of two splits, of 60 and 40 images, in a file of nothing."""
    (tmp_path / "gray.bin").touch()
    monkeypatch.setenv("GEN_EVAL_GRAY", str(tmp_path / "gray.bin"))
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    asset = Asset("gray", (), env="GEN_EVAL_GRAY")
    source = datasets.DatasetSource(
        asset, {"train": 60, "test": 40}, (8, 8, 1), ("black", "white"), _read_gray
    )
    monkeypatch.setitem(datasets.DATASETS, "gray", source)
