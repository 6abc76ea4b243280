"""Training data: from names, folders, arrays, vectors and generators; batches by seed; refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from gen_eval import datasets
from gen_eval.datasets import Dataset
from gen_eval.errors import CorruptImages, ImagesError, NumericalError, UnknownName, UsageError
from gen_eval.zoo.data import TrainingData, key, open_data
from gen_eval.zoo.sampler import Sampler


def levels(*shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


# --- Named datasets


@pytest.fixture
def loaded(monkeypatch):
    """What was asked of datasets.load."""
    asked = []

    def load(name, split="train", **options):
        asked.append((name, split))
        images = np.arange(2 * 8 * 4 * 3, dtype=np.uint8).reshape(2, 8, 4, 3)
        return Dataset(name, split, images, np.array([1, 0]), ("a", "b"))

    monkeypatch.setattr(datasets, "load", load)
    return asked


def test_named_datasets_and_their_splits(loaded):
    data, test, every = open_data("mnist"), open_data("mnist:test"), open_data("cifar10:all")
    assert loaded == [("mnist", "train"), ("mnist", "test"), ("cifar10", "all")]
    assert [each.name for each in (data, test, every)] == ["mnist:train", "mnist:test", "cifar10:all"]
    assert data.x.shape == (2, 3, 8, 4)
    assert data.x[1, 2, 3, 1] == (1 * 8 * 4 * 3) + (3 * 4 + 1) * 3 + 2
    assert data.labels.tolist() == [1, 0]
    assert data.kind.shape == (3, 8, 4)
    assert data.kind.classes == ("a", "b")
    with pytest.raises(UsageError, match="n is not for a named dataset; found n=3"):
        open_data("mnist", n=3)
    with pytest.raises(UsageError, match="labels is not for a named dataset"):
        open_data("mnist", labels="folders")


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(UsageError, match=r"empty path was given; for the current folder say '\.'"):
        open_data("")


def test_names_that_are_none_or_two(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="unknown dataset, folder or file 'mnst': did you mean 'mnist'"):
        open_data("mnst")
    with pytest.raises(ImagesError, match="pictures/none does not exist"):
        open_data("pictures/none")
    (tmp_path / "mnist").mkdir()
    with pytest.raises(UsageError, match="mnist is a dataset and a path here: say mnist:train for the one"):
        open_data("mnist")
    assert open_data("mnist:train").name == "mnist:train"
    with pytest.raises(ImagesError, match="is empty"):
        open_data("./mnist")


@pytest.mark.network
def test_digits():
    data = open_data("digits")
    assert data.kind.shape == (1, 8, 8)
    assert data.x.shape == (1297, 1, 8, 8)
    assert data.classes == tuple("0123456789")


# --- Images


def test_folder_of_classes(tmp_path):
    images = levels(6, 8, 12, 3)
    for index, image in enumerate(images):
        write(tmp_path / "set" / ("b", "a")[index % 2] / f"{index}.png", image)
    told = []
    data = open_data(tmp_path / "set", progress=lambda *each: told.append(each))
    order = [1, 3, 5, 0, 2, 4]  # a, then b
    assert torch.equal(data.x, torch.from_numpy(images[order].transpose(0, 3, 1, 2).copy()))
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.classes == ("a", "b")
    assert data.notes == ()
    assert told[-1] == (str(tmp_path / "set"), 6, 6, "image")
    assert data.digest == open_data(images[order], labels=[*"aaabbb"]).digest


def test_labels_given_and_absent():
    images = levels(4, 8, 8, 3)
    assert open_data(images).labels is None
    assert open_data(images).kind.classes == ()
    numbers = open_data(images, labels=[10, 2, 2, 10])
    assert numbers.classes == ("2", "10")
    assert numbers.labels.tolist() == [1, 0, 0, 1]
    names = open_data(images, labels=["10", "2", "x", "10"])
    assert names.classes == ("10", "2", "x")
    with pytest.raises(UsageError, match="holds 3 labels for the 4 images"):
        open_data(images, labels=[0, 1, 2])
    with pytest.raises(ImagesError, match="does not sort its images into a folder a class"):
        open_data(images, labels="folders")


def test_one_folder_is_no_class(tmp_path):
    write(tmp_path / "only" / "1.png", levels(4, 4, 3))
    assert open_data(tmp_path).labels is None


def test_gray_images_are_one_channel(tmp_path):
    gray = levels(5, 8, 8)
    stored = open_data(np.repeat(gray[..., None], 3, 3))
    assert stored.x.shape == (5, 1, 8, 8)
    assert torch.equal(stored.x[:, 0], torch.from_numpy(gray))
    assert stored.notes == ("all images are gray, though stored as RGB: models make one channel",)
    plain = open_data(gray)
    assert torch.equal(plain.x, stored.x)
    assert plain.notes == ()
    mixed = np.repeat(gray[..., None], 3, 3)
    mixed[2, 0, 0, 1] ^= 1
    assert open_data(mixed).x.shape == (5, 3, 8, 8)
    for index, image in enumerate([gray[0], mixed[1], mixed[2]]):
        write(tmp_path / f"{index}.png", image)
    some = open_data(tmp_path)
    assert some.x.shape == (3, 3, 8, 8)
    assert some.notes == ("1 of 3 images: gray to RGB",)


def test_sizes_that_differ_are_named(tmp_path):
    sizes = [(8, 8)] * 3 + [(8, 12)] * 2 + [(4, 8), (12, 8), (16, 16)]
    for index, (height, width) in enumerate(sizes):
        write(tmp_path / f"{index}.png", levels(height, width, 3))
    with pytest.raises(
        ImagesError, match=r"of 5 sizes: 3 of 8 x 8, 2 of 12 x 8, .* and 2 sizes more; .* resize"
    ):
        open_data(tmp_path)


@pytest.mark.parametrize("shape", [(2, 30, 32, 3), (2, 32, 30, 3)])
def test_sides_that_networks_cannot_make(shape):
    with pytest.raises(
        ImagesError, match=r"images of 3\d x 3\d; networks make .* divisible by 4: crop or resize"
    ):
        open_data(levels(*shape))


def test_broken_files_stop_or_are_left_out(tmp_path):
    for index in range(5):
        write(tmp_path / f"{index % 2}" / f"{index}.png", levels(8, 8, 3, seed=index))
    whole = open_data(tmp_path)
    broken = tmp_path / "0" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.raises(CorruptImages, match=r"0/2\.png"):
        open_data(tmp_path)
    data = open_data(tmp_path, skip_corrupt=True)
    assert data.notes == ("1 of 5 images: left out, as they do not decode",)
    assert torch.equal(data.x, whole.x[[0, 2, 3, 4]])
    assert data.labels.tolist() == [0, 0, 1, 1]
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"none")
    with pytest.raises(ImagesError, match="holds no image that can be decoded"):
        open_data(tmp_path, skip_corrupt=True)


def test_callables_make_as_many_as_asked():
    def make(seeds):
        return (seeds[:, None, None, None] % 256).expand(-1, 1, 4, 4).to(torch.uint8)

    data = open_data(make, n=300, seed=5)
    assert data.x[:, 0, 0, 0].tolist() == [(5 + index) % 256 for index in range(300)]
    with pytest.raises(UsageError, match="say how many images with n="):
        open_data(make)
    with pytest.raises(UsageError, match="n is only for a callable"):
        open_data(levels(2, 4, 4, 3), n=2)


# --- Vectors and generators


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ">f8"])
def test_vectors_of_any_floating_type(tmp_path, dtype):
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype)
    np.save(tmp_path / "v.npy", rows)
    data = open_data(rows)
    assert data.x.dtype == torch.float32
    assert data.kind.shape == (3,)
    assert np.array_equal(data.x.numpy(), rows.astype(np.float32))
    assert open_data(tmp_path / "v.npy").digest == data.digest
    assert open_data(torch.from_numpy(rows.astype(np.float64))).digest == data.digest
    assert open_data(rows[::-1], labels=np.arange(50) % 2).classes == ("0", "1")


def test_vectors_that_are_none():
    with pytest.raises(UsageError, match=r"vectors is int64 with shape \[2, 3\]: expected floating point"):
        open_data(np.ones((2, 3), np.int64))
    with pytest.raises(UsageError, match="expected floating point"):
        open_data(np.ones((0, 3)))
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(NumericalError, match="NaN, infinite or beyond float32"):
            open_data(np.array([[1.0, value]]))
    with pytest.raises(UsageError, match=r"shape \[4\]: expected floating point vectors \[n, d\]"):
        open_data(np.ones(4))
    with pytest.raises(UsageError, match="n is not for vectors"):
        open_data(np.ones((2, 3)), n=1)


class Line(Sampler):
    """Its seed, and which of three it is of."""

    name, shape, classes = "line", (2,), ("x", "y", "z")

    def _draw(self, seeds, labels, truncation):
        return torch.stack([seeds, labels], 1).float()


def test_samples_of_a_generator():
    data = open_data(Line(), n=40, seed=7)
    assert data.x[:, 0].tolist() == list(range(7, 47))
    assert torch.equal(data.x[:, 1].long(), data.labels)
    assert len(data.labels.unique()) == 3
    assert data.classes == ("x", "y", "z")
    assert data.name == "line, seeds 7 to 46"
    with pytest.raises(
        UsageError, match="line makes as many samples as it is asked for: say how many with n="
    ):
        open_data(Line())
    with pytest.raises(UsageError, match=r"below 2\^63, found n=2 and seed="):
        open_data(Line(), n=2, seed=2**63 - 1)


# --- Batches


def test_images_lie_within_one():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    batch = TrainingData("x", x, torch.tensor([0, 1, 2]), ("a", "b", "c")).batch(0, 0, "p", 0, 50)
    assert batch.x.dtype == torch.float32
    assert batch.x.shape == (50, 1, 4, 4)
    expected = torch.tensor([-1.0, -0.6, 1.0])[batch.labels]
    torch.testing.assert_close(batch.x[:, 0, 0, 0], expected)


def test_vectors_are_standardised():
    rows = (
        torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 1.0, 1e4]) + 7
    )
    rows[:, 1] = 0.1  # never varies, and has no exact mean
    data = TrainingData("rows", rows)
    assert data.scaling["sd"][1] == 1
    standard = (rows - data.scaling["mean"]) / data.scaling["sd"]
    batch = data.batch(0, 0, "p", 0, 5000)
    assert batch.labels is None
    assert {tuple(row) for row in batch.x.tolist()} <= {tuple(row) for row in standard.tolist()}
    assert batch.x[:, [0, 2]].mean(0).tolist() == pytest.approx([0, 0], abs=5 / 5000**0.5)
    assert standard[:, [0, 2]].std(0, correction=0).tolist() == pytest.approx([1, 1], rel=1e-5)
    assert batch.x[:, 1].abs().max() < 1e-6


def test_batches_depend_on_their_place_alone(pixels):
    place = (3, 5, "critic", 1, 16)
    assert torch.equal(pixels.batch(*place).x, pixels.batch(*place).x)
    smaller = pixels.batch(*place[:-1], 9)
    assert torch.equal(pixels.batch(*place).x[:9], smaller.x)
    for other in (
        (4, 5, "critic", 1, 16),
        (3, 6, "critic", 1, 16),
        (3, 5, "other", 1, 16),
        (3, 5, "critic", 0, 16),
    ):
        assert not torch.equal(pixels.batch(*other).x, pixels.batch(*place).x)


def test_every_sample_comes_equally_often():
    """Over 1,000 batches; the 10 samples are told by their value."""
    data = TrainingData("ten", torch.arange(10.0)[:, None], torch.arange(10), tuple("0123456789"))
    counts = torch.zeros(10)
    for step in range(1000):
        counts += torch.bincount(data.batch(0, step, "p", 0, 32).labels, minlength=10)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_keys_tell_parts_apart():
    keys = {key(1, 23), key(12, 3), key("1", 23), key(1, 2, 3), key("a", "b"), key("ab"), key()}
    assert len(keys) == 7
    assert all(0 <= each < 2**63 for each in keys)
    assert key("noise", 0, 1) == key("noise", 0, 1)


def test_digest_is_of_the_content():
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    labels = torch.tensor([0, 1])
    sets = [
        TrainingData("a", x),
        TrainingData("a", x, labels, ("0", "1")),
        TrainingData("a", x, labels, ("0", "2")),
        TrainingData("a", x, labels.flip(0), ("0", "1")),
        TrainingData("a", x + 1),
        TrainingData("a", x.view(2, 1, 2, 8)),
    ]
    assert len({each.digest for each in sets}) == len(sets)
    assert TrainingData("b", x.clone()).digest == sets[0].digest
