"""Sets by name: whose statistics ship, whose images are measured once, and which of the two is meant."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gen_eval import datasets, references, store
from gen_eval.datasets import DATASETS
from gen_eval.errors import FetchError, StoreError, UnknownName, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Pixels
from gen_eval.fetch import Asset
from gen_eval.metrics import find_measure
from gen_eval.monitor import Monitor
from gen_eval.planning import load_extractors
from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
from gen_eval.references import DatasetImages, Shipped
from gen_eval.sources import open_source
from gen_eval.summary import Request, summarize

pytestmark = pytest.mark.usefixtures("one_thread")

N, CLASSES = 60, ("black", "white")


def read_gray(path, parts):
    for split, part in parts.items():
        rng = np.random.default_rng(len(split))
        part.images[:] = rng.integers(0, 256, part.images.shape)
        part.labels[:] = np.arange(len(part.labels)) % 2


@pytest.fixture(autouse=True)
def gray(tmp_path, monkeypatch):
    """A dataset of two splits, in a file of nothing."""
    (tmp_path / "gray.bin").touch()
    monkeypatch.setenv("GEN_EVAL_GRAY", str(tmp_path / "gray.bin"))
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    asset = Asset("gray", (), env="GEN_EVAL_GRAY")
    source = datasets.DatasetSource(asset, {"train": N, "test": 40}, (8, 8, 1), CLASSES, read_gray)
    monkeypatch.setitem(DATASETS, "gray", source)


@pytest.fixture
def fake():
    return np.random.default_rng(9).integers(0, 200, (50, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def seen(monkeypatch):
    """How many images have gone through the network so far."""
    count = []
    forward = Pixels.__call__

    def counted(self, images, taps=("pool",)):
        count.extend(range(len(images)))
        return forward(self, images, taps)

    monkeypatch.setattr(Pixels, "__call__", counted)
    return count


def whole():
    """What a pass over gray:train finds."""
    extractors = load_extractors(
        [find_measure("kid:pixels")], find_protocol(DEFAULT_PROTOCOL), device=torch.device("cpu")
    )
    images = DatasetImages("gray", "train")
    return summarize(images, [Request(extractors["pixels"], ("pool",))], rows=None)


@pytest.fixture
def ships(tmp_path, monkeypatch):
    """Statistics of gray:train ship, with 20 of its rows."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    summary = whole()
    store.save(summary.cut(20), folder / "gray-train.safetensors", rounded=True)
    ((spec, tap),) = summary.features
    row = Shipped(
        *("gray:train", "gray-train.safetensors", N, 20, spec.digest, tap, summary.digest),
        *(hashlib.sha256((folder / "gray-train.safetensors").read_bytes()).hexdigest(), 1e-6, ()),
    )
    monkeypatch.setattr(references, "shipped", lambda: (row,))
    monkeypatch.setattr(references, "_folder", lambda: folder)
    return row


# What is meant.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gray", ("gray", "train")),
        ("gray:test", ("gray", "test")),
        ("gray:all", ("gray", "all")),
        ("grey", None),
        ("real/", None),
        ("C:/real", None),
        (3, None),
    ],
)
def test_names(text, expected):
    assert datasets.named(text) == expected


def test_a_split_that_is_none_is_refused_before_anything_is_fetched():
    with pytest.raises(UsageError, match="gray has no split 'tset': known: train, test, all"):
        open_source("gray:tset")


@pytest.mark.parametrize("name", ["grey:train", "GRAY:test", "images:grey:train"])
def test_a_name_that_is_nearly_one_is_told(name):
    with pytest.raises(UnknownName, match="did you mean 'gray'"):
        open_source(name)


def test_a_folder_of_the_same_name_is_not_guessed_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gray").mkdir()
    with pytest.raises(UsageError, match=r"say gray:train for the one, \./gray for the other"):
        open_source("gray")
    assert isinstance(open_source("gray:train"), DatasetImages)
    (tmp_path / "gray:train").mkdir()
    with pytest.raises(UsageError, match=r"say \./gray:train for the path"):
        open_source("gray:train")
    with pytest.raises(UsageError, match="no split ''"):
        open_source("gray:")


def test_n_is_not_for_datasets():
    with pytest.raises(UsageError, match="gray:train holds 60 images"):
        open_source("gray", n=10)


def test_images_come_when_they_are_read(monkeypatch):
    monkeypatch.delenv("GEN_EVAL_GRAY")
    images = open_source("gray:train", offline=True)
    assert (len(images), images.name, images.label(3)) == (60, "gray:train", "#3")
    with pytest.raises(FetchError, match="gray"):
        images.read([0])


# Statistics that ship.


def test_what_ships_stands_for_the_images(ships, seen, fake):
    (found,) = evaluate("frechet:pixels", generated=fake, reference="gray:train")
    assert len(seen) == len(fake)
    (exact,) = evaluate("frechet:pixels", generated=fake, reference=datasets.load("gray").images)
    assert found.value == pytest.approx(exact.value, rel=1e-5)
    assert found.sets["reference"].n == N
    assert found.sets["reference"].digest == exact.sets["reference"].digest
    assert found.sets["reference"].name == "gray:train"
    assert not found.sets["reference"].claimed


def test_measures_of_rows_say_how_many_ship(ships, seen, fake):
    (found,) = evaluate("kid:pixels", generated=fake, reference="gray")
    assert len(seen) == len(fake)
    assert found.sets["reference"].n == 20
    assert "of the 60 images of gray:train, a uniform sample of 20 was measured" in found.warnings


def test_measures_that_a_subset_would_falsify_take_the_images(ships, seen, fake):
    """Copies of training images are copies, though few rows ship."""
    copies = datasets.load("gray").images[:30]
    found = evaluate(["duplicates:pixels", "pr:pixels"], generated=copies, reference="gray")
    assert len(seen) == 30 + N
    assert found[0].values["exact_copies"] == 1
    assert found[1].values["precision"] == 1
    assert found[1].sets["reference"].n == N


def test_more_rows_than_ship_take_the_images(ships, seen, fake):
    evaluate("frechet:pixels", generated=fake, reference="gray", rows=21)
    assert len(seen) == len(fake) + N


def test_a_file_of_other_images_is_refused(ships, fake, monkeypatch):
    row = dataclasses.replace(ships, content="0" * 64)
    monkeypatch.setattr(references, "shipped", lambda: (row,))
    with pytest.raises(StoreError, match="install anew"):
        evaluate("frechet:pixels", generated=fake, reference="gray")


def test_a_set_that_cannot_be_had_is_told_before_the_first_pass(seen, fake, monkeypatch):
    monkeypatch.delenv("GEN_EVAL_GRAY")
    with pytest.raises(FetchError, match="gray"):
        evaluate("frechet:pixels", generated="gray:test", reference=fake, offline=True)
    assert not seen


def test_threads_load_a_dataset_once(monkeypatch):
    loaded, load = [], datasets.load

    def slow(*names, **options):
        loaded.append(names)
        time.sleep(0.2)
        return load(*names, **options)

    monkeypatch.setattr(datasets, "load", slow)
    images = DatasetImages("gray", "train")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: images.read([index]), range(8)))
    assert len(read) == 8
    assert loaded == [("gray", "train")]


def test_the_images_themselves_may_be_asked_for(ships, seen, fake):
    (found,) = evaluate("kid:pixels", generated=fake, reference="images:gray:train")
    assert len(seen) == len(fake) + N
    assert found.sets["reference"].n == N


def test_measures_that_need_every_row_take_the_images_and_know_their_classes(ships, seen, fake):
    (found,) = evaluate("mode-coverage:pixels", generated=fake, reference="gray")
    assert len(seen) == len(fake) + N
    assert found.sets["reference"].n == N
    labels = [CLASSES[index % 2] for index in range(N)]
    (own,) = evaluate(
        "mode-coverage:pixels", generated=fake, reference=datasets.load("gray").images, labels=labels
    )
    assert found.values == own.values


def test_other_terms_take_the_images(ships, seen, fake):
    (found,) = evaluate("frechet:pixels", generated=fake, reference="gray:train", protocol="clean-fid")
    assert len(seen) == len(fake) + N
    assert found.spec.resize.kernel == "pil-bicubic"


def test_a_generator_against_what_ships(ships, fake):
    def generate(seeds):
        return torch.from_numpy(fake[seeds.numpy()])

    (found,) = evaluate("frechet:pixels", generated=generate, n=50, reference="gray")
    (exact,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    assert found.value == exact.value


def test_a_monitor_against_what_ships(ships, seen, fake):
    monitor = Monitor("frechet:pixels", reference="gray:train")
    monitor.update(torch.from_numpy(fake))
    (exact,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    assert monitor.compute()[0].value == pytest.approx(exact.value, rel=1e-9)
    assert len(seen) == 2 * len(fake)


# Images that are measured once.


def test_a_name_without_statistics_is_measured_once(seen, fake):
    (first,) = evaluate("frechet:pixels", generated=fake, reference="gray:test")
    assert len(seen) == len(fake) + 40
    (second,) = evaluate("frechet:pixels", generated=fake, reference="gray:test")
    assert len(seen) == 2 * len(fake) + 40
    assert second.value == first.value


def test_more_rows_than_were_kept_are_measured_anew(seen, fake):
    evaluate("frechet:pixels", generated=fake, reference="gray:test", rows=10)
    (found,) = evaluate("kid:pixels", generated=fake, reference="gray:test")
    assert len(seen) == 2 * (len(fake) + 40)
    assert found.sets["reference"].n == 40


def test_a_cache_of_ones_own_is_used_instead(tmp_path, seen, fake):
    evaluate("frechet:pixels", generated=fake, reference="gray:test", cache=tmp_path / "own")
    assert list((tmp_path / "own").iterdir())
    assert not (tmp_path / "cache" / "reference_stats").exists()


# What really ships.


def test_the_index_tells_what_the_files_hold():
    names = [row.name for row in references.shipped()]
    assert {"cifar10:train", "cifar10:test"} <= set(names)
    assert len(set(names)) == len(names)
    for row in references.shipped():
        assert hashlib.sha256(row.path.read_bytes()).hexdigest() == row.sha256
        assert row.path.stat().st_size < 10e6
        assert row.loss < 1e-4
        summary = store.load(row.path)
        ((key, features),) = summary.features.items()
        assert (key[0].digest, key[1]) == (row.spec, row.tap)
        assert (features.n, features.sample.n) == (row.n, row.rows)
        assert row.n == datasets.size(*datasets.named(row.name))
        assert (summary.name, summary.digest) == (row.name, row.content)
        assert not summary.claimed
        assert f"geneval stats {row.name}" in row.made[0]


def test_every_file_is_in_the_index():
    files = {path.name for path in references._folder().glob("*.safetensors")}
    assert files == {row.file for row in references.shipped()}


@pytest.mark.parametrize("place", ["gen_eval/reference_stats", "reference_stats"])
def test_they_lie_in_the_package_or_beside_it(place, tmp_path, monkeypatch):
    """Installed, and in a checkout that is on the path, installed or not."""
    package, folder = tmp_path / "gen_eval", tmp_path / place
    monkeypatch.setattr(references, "__file__", str(package / "references.py"))
    with pytest.raises(
        StoreError, match="no reference_stats/index.toml in .*gen_eval: install gen_eval anew"
    ):
        references._folder()
    folder.mkdir(parents=True)
    (folder / "index.toml").touch()
    assert references._folder() == folder
