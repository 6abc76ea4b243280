"""Arrays in memory, .npy and .npz."""

import hashlib

import numpy as np
import pytest
import torch

from gen_eval.errors import ImagesError
from gen_eval.images import Images, open_images
from gen_eval.progress import silent

RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
NCHW = np.ascontiguousarray(NHWC.transpose(0, 3, 1, 2))


def write(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        (np.savez_compressed if path.stem == "packed" else np.savez)(path, array)
    return path


SOURCES = {
    "numpy": lambda tmp, array: array,
    "torch": lambda tmp, array: torch.from_numpy(array),
    "npy": lambda tmp, array: write(tmp / "x.npy", array),
    "npz": lambda tmp, array: write(tmp / "x.npz", array),
    "packed npz": lambda tmp, array: write(tmp / "packed.npz", array),
    "fortran npz": lambda tmp, array: write(tmp / "x.npz", np.asfortranarray(array)),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def source(request, tmp_path):
    return lambda array: request.param(tmp_path, array)


@pytest.mark.parametrize("array", [NHWC, NCHW], ids=["NHWC", "NCHW"])
def test_pixels_labels_and_digests(source, array):
    images = open_images(source(array))
    assert isinstance(images, Images)
    assert len(images) == 5
    assert images.label(3) == "#3"
    assert images.check(silent) == []
    for index, image in zip((4, 0), images.read([4, 0]), strict=True):
        np.testing.assert_array_equal(image.pixels, NHWC[index])
        assert image.note is None
        assert image.pixels.flags.c_contiguous
        expected = hashlib.sha256(repr(array.shape[1:]).encode() + array[index].tobytes())
        assert image.digest == expected.digest()


def test_reading_copies():
    array = NHWC.copy()
    open_images(array).read([0])[0].pixels[:] = 0
    np.testing.assert_array_equal(array, NHWC)


@pytest.mark.parametrize(
    "array", [NHWC[..., 0], NHWC[..., :1], NCHW[:, :1]], ids=["[n,h,w]", "[n,h,w,1]", "[n,1,h,w]"]
)
def test_gray(source, array):
    image = open_images(source(array)).read([2])[0]
    np.testing.assert_array_equal(image.pixels, np.stack([NHWC[2, ..., 0]] * 3, axis=2))
    assert image.note == "gray to RGB"


def test_alpha_is_dropped(source):
    image = open_images(source(np.concatenate([NHWC, NHWC[..., :1]], axis=3))).read([1])[0]
    np.testing.assert_array_equal(image.pixels, NHWC[1])
    assert image.note == "RGBA to RGB, alpha dropped"


def test_where_both_readings_are_possible():
    array = RNG.integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(open_images(array).read([0])[0].pixels, array[0])
    tensor = torch.from_numpy(array)
    np.testing.assert_array_equal(open_images(tensor).read([0])[0].pixels, array[0].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("dtype", "cure"),
    [
        (np.float32, r"\(x \* 255\).round\(\).clip\(0, 255\).astype\(uint8\)"),
        (bool, r"x.astype\(uint8\) \* 255"),
        (np.int64, r"in \[0, 255\], convert with x.astype\(uint8\)"),
    ],
)
def test_other_types_are_refused_with_the_cure(source, dtype, cure):
    with pytest.raises(ImagesError, match=cure):
        open_images(source(np.zeros((2, 4, 4, 3), dtype)))


@pytest.mark.parametrize(
    "shape",
    [(3,), (8, 8), (8, 8, 3), (3, 8, 8), (4, 8, 8), (2, 8, 8, 5), (2, 5, 8, 8), (1, 2, 8, 8, 3)],
    ids=str,
)
def test_other_shapes_are_refused(source, shape):
    with pytest.raises(ImagesError, match="expected"):
        open_images(source(np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3)], ids=str)
def test_no_images(shape):
    with pytest.raises(ImagesError, match="holds no images"):
        open_images(np.zeros(shape, np.uint8))


def test_no_images_in_a_file(tmp_path):
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ImagesError):
            open_images(write(tmp_path / name, NHWC[:0]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_array_of_images_among_others(tmp_path, save):
    save(tmp_path / "x.npz", labels=np.arange(5), pictures=NHWC)
    np.testing.assert_array_equal(open_images(tmp_path / "x.npz").read([1])[0].pixels, NHWC[1])
    save(tmp_path / "x.npz", NHWC, other=NHWC)
    assert len(open_images(tmp_path / "x.npz")) == 5


def test_stored_members_are_mapped(tmp_path):
    images = open_images(write(tmp_path / "x.npz", NHWC))
    assert isinstance(images._array, np.memmap)


def test_a_file_of_statistics_is_no_set_of_images(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    with pytest.raises(ImagesError, match=r"no array of images: found mu float64 \[4\], sigma float64"):
        open_images(tmp_path / "stats.npz")


def test_several_arrays_of_images(tmp_path):
    np.savez(tmp_path / "x.npz", a=NHWC, b=NHWC)
    with pytest.raises(ImagesError, match="several arrays of images: found a uint8"):
        open_images(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_pickles_are_never_loaded(tmp_path, name):
    write(tmp_path / name, np.array([{"a": 1}], dtype=object))
    with pytest.raises(ImagesError, match="cannot be read"):
        open_images(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "packed.npz"])
@pytest.mark.parametrize("kept", [0, 5, 100, 400])
def test_a_file_cut_short(tmp_path, name, kept):
    path = write(tmp_path / name, NHWC)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ImagesError, match="cannot be read"):
        open_images(path)
