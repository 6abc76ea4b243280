"""The digest of a set's content, told without decoding: that which a pass over it finds."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval.extractors import Pixels
from gen_eval.images import Decoded, open_images
from gen_eval.passing import Request, summarize
from gen_eval.progress import silent

N = 7
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
NAMES = ["b/1.png", "a.jpg", "c/x/2.webp", "d.bmp", "e.tif", "f.gif", "ü.PNG"]


@pytest.fixture
def folder(tmp_path):
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "set"


def zipped(folder):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for name in reversed(NAMES):
            archive.write(folder / name, name)
    return folder.with_suffix(".zip")


def tarred(suffix, mode):
    def make(folder):
        with tarfile.open(folder.with_suffix(suffix), mode) as archive:
            archive.add(folder, ".")
        return folder.with_suffix(suffix)

    return make


def saved(write, suffix, array=PIXELS):
    def make(folder):
        write(folder.with_suffix(suffix), array)
        return folder.with_suffix(suffix)

    return make


FILES = {
    "folder": lambda folder: folder,
    "zip": zipped,
    "tar": tarred(".tar", "w"),
    "tar.gz": tarred(".tar.gz", "w:gz"),
    "list of paths": lambda folder: [folder / name for name in sorted(NAMES)],
}
ARRAYS = {
    "array": lambda folder: PIXELS,
    "tensor": lambda folder: torch.from_numpy(PIXELS),
    "npy": saved(np.save, ".npy"),
    "npz": saved(np.savez, ".npz"),
    "compressed npz": saved(np.savez_compressed, ".npz"),
    "fortran npy": saved(np.save, ".npy", np.asfortranarray(PIXELS)),
}
OTHERS = {
    "channels first": lambda folder: PIXELS.transpose(0, 3, 1, 2),
    "gray": lambda folder: PIXELS[..., 0],
    "alpha": lambda folder: np.concatenate([PIXELS, PIXELS[..., :1]], 3),
}
KEPT = {**FILES, **ARRAYS, **OTHERS}
MADE = {
    "list of images": lambda folder: open_images([Image.fromarray(pixels) for pixels in PIXELS]),
    "list of arrays": lambda folder: open_images(list(PIXELS)),
    "generator": lambda folder: open_images(lambda seeds: PIXELS[seeds.numpy()], n=N),
}


@pytest.mark.parametrize("source", KEPT.values(), ids=KEPT.keys())
def test_content_is_the_digest_that_a_pass_finds(source, folder):
    images = open_images(source(folder))
    assert len(images) == N
    passed = summarize(images, [Request(Pixels(), ("pool",))], batch_size=3)
    assert images.content(silent) == passed.digest
    digests = [image.digest for image in images.read(range(N)) if isinstance(image, Decoded)]
    assert images.content(silent) == hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize("kinds", [FILES, ARRAYS], ids=["files", "arrays"])
def test_whatever_holds_the_same_has_the_same_content(kinds, folder):
    assert len({open_images(source(folder)).content(silent) for source in kinds.values()}) == 1


def test_other_arrays_have_other_content(folder):
    contents = {open_images(source(folder)).content(silent) for source in (ARRAYS["array"], *OTHERS.values())}
    assert len(contents) == 1 + len(OTHERS)


@pytest.mark.parametrize("source", MADE.values(), ids=MADE.keys())
def test_what_is_made_on_demand_has_no_content_to_be_known_by(source, folder):
    assert source(folder).content(silent) is None


def test_any_byte_and_the_order_count(folder):
    before = open_images(folder).content(silent)
    path = folder / "d.bmp"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    changed = open_images(folder).content(silent)
    path.rename(folder / "z.bmp")
    moved = open_images(folder).content(silent)
    assert len({before, changed, moved}) == 3
    array = open_images(PIXELS[::-1])
    assert array.content(silent) != open_images(PIXELS).content(silent)


def test_names_alone_do_not_count(folder):
    before = open_images(folder).content(silent)
    (folder / "d.bmp").rename(folder / "d.bmp.BMP")  # between the same neighbours
    assert open_images(folder).content(silent) == before


def test_files_that_do_not_decode_count_too(folder):
    contents = set()
    for data in (b"broken", b"broken otherwise", b""):
        (folder / "d.bmp").write_bytes(data)
        images = open_images(folder)
        contents.add(images.content(silent))
        whole = summarize(images, [Request(Pixels(), ("pool",))], skip_corrupt=True)
        assert images.content(silent) != whole.digest
    assert len(contents) == 3


def test_a_file_that_is_gone_is_no_crash_and_no_hit(folder):
    images = open_images(folder)
    before = images.content(silent)
    (folder / "d.bmp").unlink()
    assert images.content(silent) != before


def test_progress_is_told_under_a_name_of_its_own(folder):
    calls = []
    open_images(folder).content(lambda *call: calls.append(call))
    assert calls[-1] == (f"{folder}, content", N, N, "image")
