"""Sets by name: which is meant, and that the files of those whose statistics ship are what the index says."""

from __future__ import annotations

import hashlib

import pytest

from gen_eval import datasets, references, store
from gen_eval.errors import FetchError, ImagesError, StoreError, UnknownName, UsageError
from gen_eval.references import DatasetImages
from gen_eval.sources import open_source

pytestmark = pytest.mark.usefixtures("gray")


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


@pytest.mark.parametrize(
    ("word", "hint"),
    [("grey", "did you mean 'gray'"), ("GRAY", "did you mean 'gray'"), ("imagenet", "known: ")],
)
def test_a_word_that_is_neither_a_path_nor_a_dataset_is_told_which_there_are(word, hint):
    with pytest.raises(ImagesError, match=f"{word} does not exist.*; unknown dataset '{word}': {hint}"):
        open_source(word)
    for path in (f"{word}/real", f"{word}/"):
        with pytest.raises(ImagesError) as caught:
            open_source(path)
        assert "dataset" not in str(caught.value)


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


# What really ships.


def test_the_index_tells_what_the_files_hold():
    names = [row.name for row in references.shipped()]
    assert set(names) == {
        f"{name}:{split}" for name in ("cifar10", "mnist", "fashion-mnist") for split in ("train", "test")
    }
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
        assert row.content == datasets.content(*datasets.named(row.name))
        assert (summary.name, summary.digest) == (row.name, row.content)
        assert not summary.claimed
        assert f"geneval stats {row.name} " in row.made[0]


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
