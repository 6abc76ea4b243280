"""Folders, lists of paths, zip and tar archives."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from gen_eval.errors import ImagesError
from gen_eval.images import Broken, Decoded, Images, open_images
from gen_eval.progress import silent

RNG = np.random.default_rng(0)
ORDERED = ["B.PNG", "a.jpeg", "a/2.webp", "a/b/c/1.png", "a0.Jpg", "z é 図.bmp"]


def save(path, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    for name in reversed(ORDERED):
        save(root / name)
    save(root / ".hidden.png")
    save(root / ".git" / "x.png")
    save(root / "__MACOSX" / "x.png")
    (root / "readme.txt").write_text("no image")
    (root / "Thumbs.db").write_bytes(b"x")
    return root


def zip_of(folder, compression=zipfile.ZIP_DEFLATED):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):  # folders have entries of their own
            archive.write(file, file.relative_to(folder))
    return path


def tar_of(folder, suffix=".tar", mode="w", arcname="."):
    path = folder.with_suffix(suffix)
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname)
    return path


CONTAINERS = {
    "folder": lambda folder: folder,
    "zip": zip_of,
    "stored zip": lambda folder: zip_of(folder, zipfile.ZIP_STORED),
    "tar": tar_of,
    "tar.gz": lambda folder: tar_of(folder, ".tar.gz", "w:gz"),
    "tgz": lambda folder: tar_of(folder, ".tgz", "w:gz"),
}


@pytest.fixture(params=CONTAINERS.values(), ids=CONTAINERS.keys())
def container(request, folder):
    return request.param(folder)


def test_all_containers_hold_the_same(container, folder):
    images = open_images(str(container))
    assert isinstance(images, Images)
    assert images.name == str(container)
    assert images.thread_safe
    assert [images.label(i) for i in range(len(images))] == ORDERED
    for name, image in zip(ORDERED, images.read(range(len(images))), strict=True):
        np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(folder / name).convert("RGB")))
        assert image.digest == hashlib.sha256((folder / name).read_bytes()).digest()
    assert images.check(silent) == []


def test_reads_in_threads_agree(container):
    images = open_images(container)
    expected = [image.digest for image in images.read(range(len(images)))]
    found = [None] * 4

    def work(slot):
        found[slot] = [[image.digest for image in images.read(range(len(images)))] for _ in range(10)]

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[expected] * 10] * 4


def test_reads_in_the_order_asked_for(container):
    images = open_images(container, name="mine")
    first, second = images.read([4, 1])
    assert images.name == "mine"
    assert first.digest == images.read([4])[0].digest
    assert second.digest == images.read([1])[0].digest


def spoil(root):
    """Files as one meets them; returns the names of the broken ones."""
    png, jpeg = root / "whole.png", root / "whole.jpg"
    save(png, 64)
    save(jpeg, 64)
    (root / "cut.png").write_bytes(png.read_bytes()[:-2000])
    (root / "cut.jpg").write_bytes(jpeg.read_bytes()[:-1000])
    (root / "empty.png").write_bytes(b"")
    (root / "text.png").write_text("<html>404 Not Found</html>")
    (root / "no end.jpg").write_bytes(jpeg.read_bytes()[:-2])  # all pixels are there, yet Pillow refuses it
    (root / "trailer.jpg").write_bytes(jpeg.read_bytes() + b"\0" * 100 + b"\xff\xda")
    (root / "text.tiff").write_bytes(b"II*\0" + b"\0" * 8)
    return ["cut.jpg", "cut.png", "empty.png", "no end.jpg", "text.png", "text.tiff"]


@pytest.mark.parametrize("kind", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_check_finds_what_is_broken(kind, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    broken = spoil(root)
    images = open_images(kind(root))
    calls = []
    found = images.check(lambda *call: calls.append(call))
    assert [label for label, _ in found] == broken
    assert calls[-1] == (images.name, len(images), len(images), "image")
    reasons = dict(found)
    assert "0 bytes" in reasons["empty.png"]
    assert "begins with b'<html>40'" in reasons["text.png"]
    outcomes = images.read(range(len(images)))
    assert [outcome.label for outcome in outcomes if isinstance(outcome, Broken)] == broken
    assert reasons == dict(outcome for outcome in outcomes if isinstance(outcome, Broken))


def test_the_end_of_a_thumbnail_does_not_count(tmp_path):
    thumbnail, photo = io.BytesIO(), tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "x"
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(photo, exif=exif.tobytes() + thumbnail.getvalue())
    assert open_images([photo]).check(silent) == []
    photo.write_bytes(photo.read_bytes()[:-1500])
    assert len(open_images([photo]).check(silent)) == 1


def test_odd_metadata_is_quiet(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x1a\x01")
    assert open_images(tmp_path).check(silent) == []


def test_paths_keep_their_order(folder):
    paths = [folder / "a0.Jpg", str(folder / "B.PNG")]
    images = open_images(paths)
    assert [images.label(i) for i in range(2)] == [str(path) for path in paths]
    assert images.thread_safe
    assert all(isinstance(image, Decoded) for image in images.read([0, 1]))


def test_a_missing_file_of_a_list_is_broken(tmp_path):
    images = open_images([tmp_path / "gone.png"])
    assert "No such file" in images.read([0])[0].reason
    assert len(images.check(silent)) == 1


def test_links_are_followed_once(folder, tmp_path):
    save(tmp_path / "elsewhere" / "x.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    labels = open_images(folder)._labels
    assert labels == sorted([*ORDERED, "link/x.png"])


def test_a_link_to_nowhere_is_reported(folder):
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    assert [label for label, _ in open_images(folder).check(silent)] == ["dangling.png"]


def test_hard_links_in_a_tar(folder):
    os.link(folder / "B.PNG", folder / "C.png")
    images = open_images(tar_of(folder))
    assert images.label(1) == "C.png"
    assert images.read([0])[0].digest == images.read([1])[0].digest


def test_an_empty_folder(tmp_path):
    with pytest.raises(ImagesError, match=r"is empty: expected \.png"):
        open_images(tmp_path)


def test_a_folder_of_other_files(tmp_path):
    for name in ("a.txt", "b.txt", "c.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ImagesError, match=r"found 3 files \(\.txt, \.csv\); expected \.png"):
        open_images(tmp_path)


def test_an_archive_of_other_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ImagesError, match=r"found 1 file \(\.txt\)"):
        open_images(tmp_path / "a.zip")


@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_cut_short(kind, kept, folder):
    path = CONTAINERS[kind](folder)
    data = path.read_bytes()
    if kind == "tar":  # it is padded with zeros, which may be missing
        data = data.rstrip(b"\0")
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImagesError, match="cannot be read as a"):
        open_images(path)


def test_a_tar_with_a_damaged_header(folder):
    path = tar_of(folder)
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    data = bytearray(path.read_bytes())
    data[third : third + 512] = b"x" * 512
    path.write_bytes(data)
    with pytest.raises(ImagesError, match="damaged header"):
        open_images(path)


def test_a_damaged_member_of_a_zip_is_broken(folder):
    path = zip_of(folder, zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("a/b/c/1.png")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 100 : info.header_offset + 120] = b"x" * 20
    path.write_bytes(data)
    images = open_images(path)
    assert [label for label, _ in images.check(silent)] == ["a/b/c/1.png"]


def test_a_missing_path_says_what_is_there(folder):
    with pytest.raises(ImagesError, match=r"does not exist: did you mean .*set"):
        open_images(folder.parent / "sets")
    with pytest.raises(ImagesError, match="nor does a folder"):
        open_images(folder.parent / "other" / "set")


def test_a_file_that_is_no_set(folder):
    with pytest.raises(ImagesError, match="holds no set of images"):
        open_images(folder / "B.PNG")


def test_dotted_names_in_a_zip_are_no_hidden_files(tmp_path):
    path = tmp_path / "dotted.zip"
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("./a.png"), buffer.getvalue())
        archive.writestr("b.png", buffer.getvalue())
    images = open_images(path)
    assert [images.label(index) for index in range(len(images))] == ["a.png", "b.png"]


def test_a_link_in_a_tar_is_refused_rather_than_left_out(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "linked.tar", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.add(tmp_path / name, name)
    with pytest.raises(ImagesError, match="b.png is a symbolic link: pack the files themselves"):
        open_images(tmp_path / "linked.tar")
