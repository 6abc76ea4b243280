"""The class of each image: every format that says so, and every refusal."""

from __future__ import annotations

import csv
import json
import tarfile
import zipfile
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gen_eval.errors import GenEvalError, ImagesError, UsageError
from gen_eval.images import open_images
from gen_eval.labels import Labels, read_labels

BLACK = np.zeros((4, 4, 3), np.uint8)
FILES = ["cat/1.png", "cat/deep/2.png", "dog/1.png", "dog/2.png", "my eel/ü 1.png"]  # as a folder sorts them
CLASSES = ("cat", "cat", "dog", "dog", "my eel")


def array_of(n):
    return open_images(np.stack([BLACK] * n))


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(BLACK).save(path)
    return tmp_path / "set"


@pytest.fixture
def images(folder):
    return open_images(folder)


# --- Folders


def test_the_first_folder_below_the_root_is_the_class(folder, images, tmp_path):
    assert read_labels("folders", images) == Labels(CLASSES)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in FILES:
            archive.write(folder / name, name)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(folder, ".")
    for packed in ("set.zip", "set.tar"):
        assert read_labels("folders", open_images(tmp_path / packed)) == Labels(CLASSES)


def test_images_in_no_folder_are_refused_by_name(folder):
    for name in ("0.png", "1.png", "2.png", "3.png"):
        Image.fromarray(BLACK).save(folder / name)
    with pytest.raises(ImagesError, match=r"0\.png, 1\.png, 2\.png and 1 more lie in none.*--labels FILE"):
        read_labels("folders", open_images(folder))
    with pytest.raises(ImagesError, match="#0, #1 lie in none"):
        read_labels("folders", array_of(2))


def test_a_list_of_paths_has_no_root_below_which_folders_are_classes(folder):
    absolute = open_images([folder / name for name in FILES])
    with pytest.raises(GenEvalError, match="label"):
        read_labels("folders", absolute)


# --- Files


def write_csv(path, delimiter, pairs):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(pairs)


PAIRS = dict(zip(FILES, CLASSES, strict=True))
NAMED = {
    "csv": lambda path: write_csv(path, ",", PAIRS.items()),
    "tsv": lambda path: write_csv(path, "\t", PAIRS.items()),
    "json": lambda path: path.write_text(json.dumps(PAIRS), encoding="utf-8"),
    "StyleGAN's json": lambda path: path.write_text(json.dumps({"labels": list(PAIRS.items())})),
    "csv with a heading": lambda path: write_csv(path, ",", [("name", "label"), *PAIRS.items()]),
    "csv in another order": lambda path: write_csv(path, ",", reversed(PAIRS.items())),
    "csv of more images": lambda path: write_csv(path, ",", [*PAIRS.items(), ("fox/1.png", "fox")]),
    "csv with ./": lambda path: write_csv(path, ",", [(f"./{name}", label) for name, label in PAIRS.items()]),
    "csv with a byte order mark": lambda path: path.write_text(
        "".join(f"{name},{label}\n" for name, label in PAIRS.items()), encoding="utf-8-sig"
    ),
    "csv with a blank line at its end": lambda path: path.write_text(
        "".join(f"{name},{label}\r\n" for name, label in PAIRS.items()) + "\r\n"
    ),
}
EXTENSIONS = {"tsv": ".tsv", "json": ".json", "StyleGAN's json": ".json"}


@pytest.mark.parametrize("form", NAMED)
def test_a_file_that_names_the_images_labels_them(form, images, tmp_path):
    path = tmp_path / f"labels{EXTENSIONS.get(form, '.csv')}"
    NAMED[form](path)
    for source in (path, str(path)):
        assert read_labels(source, images) == Labels(CLASSES)


def test_a_mapping_does_as_a_file_that_names_the_images(images):
    assert read_labels(PAIRS, images) == Labels(CLASSES)
    assert read_labels({f"#{index}": label for index, label in enumerate("ab")}, array_of(2)).of == ("a", "b")


IN_ORDER = {
    "npy": lambda path: np.save(path, np.array([3, 1, 2, 1, 3])),
    "npy of floats": lambda path: np.save(path, np.array([3.0, 1, 2, 1, 3])),
    "npy of text": lambda path: np.save(path, np.array(list("31213"))),
    "txt": lambda path: path.write_text("3\n1\n2\n1\n3\n"),
    "txt in one line": lambda path: path.write_text("3 1 2 1 3"),
    "json": lambda path: path.write_text("[3, 1, 2, 1, 3]"),
    "json of text": lambda path: path.write_text('["3", "1", "2", "1", "3"]'),
}


@pytest.mark.parametrize("form", IN_ORDER)
def test_a_file_of_one_label_an_image_labels_them_in_order(form, images, tmp_path):
    path = tmp_path / f"labels.{form.split()[0]}"
    IN_ORDER[form](path)
    assert read_labels(path, images) == Labels(("3", "1", "2", "1", "3"))


# --- Values


LABELS = st.lists(st.integers(-5, 1000), min_size=1, max_size=8)


@given(LABELS)
def test_one_class_has_one_name_however_it_is_given(labels):
    images = array_of(len(labels))
    expected = Labels(tuple(map(str, labels)))
    for source in (
        labels,
        tuple(labels),
        deque(labels),
        [str(label) for label in labels],
        [f" {label} " for label in labels],
        [float(label) for label in labels],
        np.array(labels),
        np.array(labels, np.float32),
        np.array(labels, np.int16),
        np.array(labels).astype(str),
        torch.tensor(labels),
        torch.tensor(labels, dtype=torch.float64),
        {f"#{index}": label for index, label in enumerate(labels)},
    ):
        assert read_labels(source, images) == expected


def test_values_that_are_no_whole_numbers_are_left_as_they_are():
    assert read_labels([0.5, "a b", True, "3.0"], array_of(4)).of == ("0.5", "a b", "True", "3.0")


# --- Refusals


@pytest.mark.parametrize("source", [["a"], ["a"] * 3, np.zeros(3), torch.zeros(1), []], ids=len)
def test_as_many_labels_as_images_are_asked_for(source):
    with pytest.raises(UsageError, match=f"the labels holds {len(source)} labels for the 2 images of array"):
        read_labels(source, array_of(2))


def test_a_file_of_another_length_is_refused_by_name(tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(UsageError, match=r"labels\.txt holds 3 labels for the 2 images"):
        read_labels(tmp_path / "labels.txt", array_of(2))


def test_images_without_a_label_are_counted_and_named(images, tmp_path):
    some = {f"train/{name}": label for name, label in PAIRS.items()} | {FILES[0]: "cat"}
    for where, source in (("the labels", some), ("labels.csv", tmp_path / "labels.csv")):
        write_csv(tmp_path / "labels.csv", ",", some.items())
        with pytest.raises(ImagesError) as caught:
            read_labels(source, images)
        message = str(caught.value)
        assert where in message
        assert "no label for 4 of the 5 images" in message
        assert "cat/deep/2.png, dog/1.png, dog/2.png and 1 more" in message
        assert "it names train/cat/1.png" in message
        assert "paths relative to the set" in message


NO_LABEL_FILES = {
    "one column": ("labels.csv", b"only one column\n#0\n"),
    "three columns": ("labels.csv", b"#0,a,1\n#1,b,2\n"),
    "no text": ("labels.csv", b"\xff\xfe\x00"),
    "an endless field": ("labels.csv", b"#0," + b"a" * 200_000 + b"\n#1,b\n"),
    "empty csv": ("labels.csv", b""),
    "cut short": ("labels.json", b"{"),
    "a number": ("labels.json", b"3"),
    "a text": ("labels.json", b'"ab"'),
    "null": ("labels.json", b"null"),
    "labels without names": ("labels.json", b'{"labels": [1, 2]}'),
    "labels in three columns": ("labels.json", b'{"labels": [["#0", 1, 2], ["#1", 1, 2]]}'),
    "StyleGAN's of images without": ("labels.json", b'{"labels": null}'),
    "empty npy": ("labels.npy", b""),
    "text as npy": ("labels.npy", b"text"),
    "no text in txt": ("labels.txt", b"\xff\xfe\x00"),
    "another extension": ("labels.pt", b""),
    "no extension": ("labels", b"a b"),
}


@pytest.mark.parametrize(("name", "content"), NO_LABEL_FILES.values(), ids=NO_LABEL_FILES.keys())
def test_a_file_that_holds_no_labels_is_refused_by_name(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ImagesError, UsageError), match=name):
        read_labels(tmp_path / name, array_of(2))


@pytest.mark.parametrize("array", [np.array(3), np.eye(2), np.full(2, None)], ids=["0d", "2d", "objects"])
def test_an_array_file_that_is_no_list_of_labels_is_refused(array, tmp_path):
    np.save(tmp_path / "labels.npy", array, allow_pickle=True)
    with pytest.raises((ImagesError, UsageError), match=r"labels\.npy"):
        read_labels(tmp_path / "labels.npy", array_of(2))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ImagesError, match=r"missing\.csv cannot be read as labels.*No such file"):
        read_labels(tmp_path / "missing.csv", array_of(2))
    with pytest.raises(ImagesError, match="folder cannot be read as labels"):
        read_labels("folder", array_of(2))  # meant "folders"


@pytest.mark.parametrize(
    "source", [3, 2.5, b"ab", object(), {"a", "b"}, iter("ab")], ids=lambda x: type(x).__name__
)
def test_what_is_no_source_of_labels_is_refused_with_its_type(source):
    with pytest.raises(UsageError, match=f"labels cannot be {type(source).__name__}: expected 'folders'"):
        read_labels(source, array_of(2))


NO_LABELS = {
    "a tensor without axes": torch.tensor(3),
    "an array without axes": np.array(3),
    "one-hot rows": np.eye(2),
    "one-hot rows of a tensor": torch.eye(2),
    "names that are numbers": {0: "a", 1: "b"},
    "none for one of them": ["a", None],
    "nothing for one of them": {"#0": "a", "#1": ""},
    "not a number": [1.0, float("nan")],
}


@pytest.mark.parametrize("source", NO_LABELS.values(), ids=NO_LABELS.keys())
def test_what_labels_no_image_is_refused(source):
    with pytest.raises(GenEvalError):
        read_labels(source, array_of(2))


def test_two_labels_for_one_image_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("#0,a\n#1,b\n#0,c\n")
    with pytest.raises(GenEvalError, match="#0"):
        read_labels(tmp_path / "labels.csv", array_of(2))
