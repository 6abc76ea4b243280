"""Features of named sets: what ships, what was kept, and what a pass measures."""

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
from gen_eval.errors import FetchError, StoreError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Pixels
from gen_eval.fetch import Asset, Https, add, cached
from gen_eval.images.arrays import Arrays
from gen_eval.metrics import Measure, Metric, Score, find_measure
from gen_eval.monitor import Monitor
from gen_eval.passing import Request, summarize
from gen_eval.planning import load_extractors
from gen_eval.progress import silent
from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
from gen_eval.references import DatasetImages, Shipped

pytestmark = pytest.mark.usefixtures("one_thread", "gray")

N = 60  # images of gray:train


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


class Halves(Pixels):
    """Pixels, and a second tap of their halves."""

    def __init__(self, **options):
        super().__init__(**options)
        self.taps = {**self.taps, "half": self.taps["pool"]}

    def __call__(self, images, taps=("pool",)):
        rows = super().__call__(images)["pool"]
        return {tap: rows if tap == "pool" else rows / 2 for tap in taps}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """The same dataset with its file in the cache, and the content of its test split in the table."""
    empty = tmp_path / "gray.bin"
    source = Https("https://gray.invalid/gray.bin", hashlib.sha256(b"").hexdigest())
    asset = Asset("gray", (source,), env="GEN_EVAL_GRAY")
    content = Arrays(datasets.load("gray", "test").images).content(silent)
    row = dataclasses.replace(DATASETS["gray"], asset=asset, contents={"test": content})
    monkeypatch.setitem(DATASETS, "gray", row)
    monkeypatch.delenv("GEN_EVAL_GRAY")
    add(asset, empty)
    return asset


def forget(asset):
    """Take the dataset off this machine."""
    for path in cached(asset):
        path.unlink()


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


def test_a_file_of_the_users_own_that_holds_other_images_is_measured(ships, seen, fake, monkeypatch):
    def read_black(path, parts):
        for part in parts.values():
            part.images[::2], part.labels[:] = 9, 0

    monkeypatch.setitem(DATASETS, "gray", dataclasses.replace(DATASETS["gray"], read=read_black))
    (found,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    assert len(seen) == len(fake) + N
    assert found.sets["reference"].digest != ships.content


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
    labels = [("black", "white")[index % 2] for index in range(N)]
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


# What ships beside what does not.


def test_a_measure_through_another_network_leaves_the_others_to_what_ships(ships, seen, fake):
    own = {"other": Pixels(resize="pil-bicubic")}
    (alone,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    seen.clear()
    beside = evaluate(["frechet:pixels", "pr:other"], generated=fake, reference="gray", extractors=own)
    assert len(seen) == 2 * len(fake) + N
    assert (beside[0].values, beside[0].errors) == (alone.values, alone.errors)
    assert beside[1].sets["reference"].n == N
    assert beside[1].sets["reference"].digest == ships.content
    (exact,) = evaluate("pr:other", generated=fake, reference=datasets.load("gray").images, extractors=own)
    assert beside[1].values == exact.values


def test_a_measure_through_another_tap_leaves_the_others_to_what_ships(ships, seen, fake):
    own = {"pixels": Halves()}
    (alone,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    seen.clear()
    names = ["pr:pixels/half", "kid:pixels", "frechet:pixels"]
    found = evaluate(names, generated=fake, reference="gray", extractors=own)
    assert len(seen) == len(fake) + N
    assert found[2].values == alone.values
    assert [each.sets["reference"].n for each in found] == [N, 20, N]


def test_a_measure_of_all_rows_gives_them_to_the_others(ships, seen, fake):
    (alone,) = evaluate("frechet:pixels", generated=fake, reference="gray")
    seen.clear()
    names = ["frechet:pixels", "kid:pixels", "pr:pixels"]
    found = evaluate(names, generated=fake, reference="gray")
    assert len(seen) == len(fake) + N
    assert found[0].value == pytest.approx(alone.value, rel=1e-5)
    assert [each.sets["reference"].n for each in found] == [N, N, N]
    seen.clear()
    again = evaluate(names, generated=fake, reference="gray")
    assert len(seen) == len(fake)
    assert [each.values for each in again] == [each.values for each in found]


def test_too_few_rows_for_a_measure_take_the_images(ships, seen, fake):
    metric = Metric(
        "rows",
        lambda features: Score({"rows": float(features["reference"].sample.n)}),
        {"rows": "lower"},
        "nobody",
        by_rows=True,
        by_subset=True,
        least_n=lambda role, dim, params: 21,
    )
    (found,) = evaluate(Measure("rows", metric, "pixels", "pool"), generated=fake, reference="gray")
    assert (len(seen), found.value) == (len(fake) + N, N)


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


def test_what_was_measured_is_found_without_the_images(known, seen, fake):
    names = ["frechet:pixels", "pr:pixels"]
    first = evaluate(names, generated=fake, reference="gray:test", offline=True)
    assert len(seen) == len(fake) + 40
    forget(known)
    seen.clear()
    second = evaluate(names, generated=fake, reference="gray:test", offline=True)
    assert len(seen) == len(fake)
    for one, other in zip(first, second, strict=True):
        assert (one.values, one.errors, one.sets) == (other.values, other.errors, other.sets)
    swapped = evaluate(names, generated="gray:test", reference=fake, offline=True)
    assert swapped[0].value == pytest.approx(first[0].value, rel=1e-9)


def test_a_pass_that_nobody_watches_is_logged_as_it_begins(fake, caplog):
    options = {"generated": fake, "reference": "gray:train"}
    evaluate("kid:pixels", **options, progress=lambda *_: None)
    assert not caplog.messages
    evaluate("frechet:pixels", **options)  # of the rows that were kept
    assert not caplog.messages
    evaluate("kid:pixels", **{**options, "reference": "gray:test"})
    (message,) = caplog.messages
    assert message.startswith("gray:test: its 40 images go through pixels now")


def test_what_was_not_measured_needs_the_images_before_the_first_pass(known, seen, fake):
    evaluate("frechet:pixels", generated=fake, reference="gray:test", rows=10, offline=True)
    forget(known)
    seen.clear()
    for options in ({"rows": 11}, {"protocol": "clean-fid"}):
        with pytest.raises(FetchError, match="gray"):
            evaluate("frechet:pixels", generated=fake, reference="gray:test", offline=True, **options)
    with pytest.raises(FetchError, match="gray"):  # the classes come with the images
        evaluate("mode-coverage:pixels", generated=fake, reference="gray:test", offline=True)
    assert not seen


def test_a_file_of_the_users_own_is_known_by_its_images_alone(known, seen, fake, tmp_path, monkeypatch):
    evaluate("frechet:pixels", generated=fake, reference="gray:test", offline=True)
    other = np.random.default_rng(5).integers(0, 256, (40, 8, 8, 1))

    def read_other(path, parts):
        for part in parts.values():
            part.images[:], part.labels[:] = other, 0

    monkeypatch.setitem(DATASETS, "gray", dataclasses.replace(DATASETS["gray"], read=read_other))
    monkeypatch.setenv("GEN_EVAL_GRAY", str(tmp_path / "gray.bin"))
    seen.clear()
    (found,) = evaluate("frechet:pixels", generated=fake, reference="gray:test", offline=True)
    assert len(seen) == len(fake) + 40
    assert found.sets["reference"].digest == Arrays(other.astype(np.uint8)).content(silent)


def test_images_that_are_not_those_of_the_table_are_not_kept(known, seen, fake, monkeypatch):
    row = dataclasses.replace(DATASETS["gray"], contents={"test": "0" * 64})
    monkeypatch.setitem(DATASETS, "gray", row)
    for _ in range(2):
        seen.clear()
        (found,) = evaluate("frechet:pixels", generated=fake, reference="gray:test", offline=True)
        assert len(seen) == len(fake) + 40
        assert found.sets["reference"].digest != "0" * 64


def test_what_ships_needs_no_folder_to_write_to(ships, fake, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "file"))
    assert evaluate("frechet:pixels", generated=fake, reference="gray")[0].value > 0
    with pytest.raises(StoreError, match="cannot make the cache folder"):
        evaluate("frechet:pixels", generated=fake, reference="gray:test")


def test_a_cache_of_ones_own_is_used_instead(tmp_path, seen, fake):
    evaluate("frechet:pixels", generated=fake, reference="gray:test", cache=tmp_path / "own")
    assert list((tmp_path / "own").iterdir())
    assert not (tmp_path / "cache" / "reference_stats").exists()
