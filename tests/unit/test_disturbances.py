"""Disturbances: nothing at strength 0, more at every step, and image by image the same however it is read."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gen_eval.disturbances import DISTURBANCES, Disturbed, find_disturbance, split
from gen_eval.disturbances.pixels import (
    blur,
    noise,
    outlier,
    resize_antialiased,
    resize_bilinear,
    resize_nearest,
    rotate,
)
from gen_eval.errors import TooFewImages, UnknownName, UsageError
from gen_eval.extractors import Pixels
from gen_eval.images import Images, open_images
from gen_eval.passing import Request, summarize
from gen_eval.progress import silent

ROWS = list(DISTURBANCES.values())
OF_IMAGES = [row for row in ROWS if row.pixels]
OF_SETS = [row for row in ROWS if row.choose]
N = 60


def blobs(n: int, shape: tuple[int, int] = (24, 20)) -> np.ndarray:
    """Something that every disturbance changes: smooth colours, with edges."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize(shape[::-1])) for one in coarse])


@pytest.fixture(scope="module")
def images():
    return open_images(blobs(6 * N), name="blobs")


@pytest.fixture(scope="module")
def parts(images):
    return split(images, N, classes=[f"class {index % 5}" for index in range(len(images))])


def pixels_of(images: Images) -> np.ndarray:
    return np.stack([image.pixels for image in images.read(range(len(images)))])


def digests_of(images: Images) -> list[bytes]:
    return [image.digest for image in images.read(range(len(images)))]


def named(row):
    return row.name


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_strength_0_is_the_identity_to_the_byte(row, parts):
    disturbed, clean = row.of(parts, 0), parts.clean
    np.testing.assert_array_equal(pixels_of(disturbed), pixels_of(clean))
    assert digests_of(disturbed) == digests_of(clean)
    assert (disturbed.name, disturbed.content(silent)) == (clean.name, clean.content(silent))


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_sets_keep_their_size_and_offer_what_images_offer(row, parts):
    for strength in row.strengths:
        disturbed = row.of(parts, strength)
        assert isinstance(disturbed, Images)
        assert len(disturbed) == N
        assert disturbed.thread_safe
        assert disturbed.check(silent) == []
        assert disturbed.name == f"{row.name} {strength:g}"
        for image in disturbed.read(range(N)):
            assert (image.pixels.shape, image.pixels.dtype) == ((24, 20, 3), np.uint8)
            assert image.pixels.flags.c_contiguous
            assert image.pixels.flags.writeable
            assert image.note is None


@pytest.mark.parametrize("row", OF_IMAGES, ids=named)
def test_an_image_is_the_same_in_any_order_and_any_thread(row, parts):
    disturbed = row.of(parts, row.strengths[-1], seed=3)
    expected = pixels_of(disturbed)
    for index in (7, 0, 31):
        np.testing.assert_array_equal(disturbed.read([index])[0].pixels, expected[index])
    np.testing.assert_array_equal(np.stack([i.pixels for i in disturbed.read([9, 2])]), expected[[9, 2]])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: disturbed.read([index])[0].pixels, range(N)))
    np.testing.assert_array_equal(np.stack(found), expected)
    np.testing.assert_array_equal(pixels_of(row.of(parts, row.strengths[-1], seed=3)), expected)


@pytest.mark.parametrize("row", OF_IMAGES, ids=named)
def test_a_disturbance_leaves_the_clean_images_alone(row, parts):
    before = pixels_of(parts.clean)
    clean = parts.clean.read([0])[0].pixels
    kept = clean.copy()
    row.pixels(clean, row.strengths[-1], np.random.default_rng(0))
    np.testing.assert_array_equal(clean, kept)
    row.of(parts, row.strengths[-1]).read(range(N))
    np.testing.assert_array_equal(pixels_of(parts.clean), before)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name != "none"], ids=named)
def test_more_strength_changes_more(row, parts):
    clean = pixels_of(parts.clean).astype(float)
    moves = [np.abs(pixels_of(row.of(parts, one)) - clean).mean() for one in row.strengths]
    assert len(moves) > 1
    assert moves[0] > 0
    assert moves == sorted(moves)
    assert moves[-1] > 1.2 * moves[0]


@pytest.mark.parametrize("name", ["noise", "outliers", "copies", "drop-classes"])
def test_the_seed_chooses_the_draws(name, parts):
    row = find_disturbance(name)
    first, other = (row.of(parts, row.strengths[-1] / 2, seed) for seed in (0, 1))
    assert not np.array_equal(pixels_of(first), pixels_of(other))
    assert first.content(silent) != other.content(silent)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("row", ROWS, ids=named)
def test_the_content_is_known_before_the_pass_and_tells_the_disturbance(row, parts, workers, one_thread):
    contents = [row.of(parts, strength).content(silent) for strength in row.strengths]
    assert len({parts.clean.content(silent), *contents}) == 1 + len(contents)
    disturbed = row.of(parts, row.strengths[0])
    summary = summarize(disturbed, [Request(Pixels(), ("pool",))], workers=workers, batch_size=7)
    assert summary.digest == contents[0]
    assert contents[0] == hashlib.sha256(b"".join(digests_of(disturbed))).hexdigest()


def test_disturbed_takes_any_images():
    """Generators among them, whose images depend on their seed alone too."""
    row = find_disturbance("noise")

    def generate(seeds):
        return np.stack([np.full((6, 5, 3), seed % 256, np.uint8) for seed in seeds.tolist()])

    disturbed = Disturbed(open_images(generate, n=5, name="flat"), row, 16)
    assert not disturbed.thread_safe
    assert disturbed.label(3) == "#3"
    assert disturbed.content(silent) == hashlib.sha256(b"".join(digests_of(disturbed))).hexdigest()
    assert pixels_of(disturbed).std() > 10


def test_noise_has_the_standard_deviation_asked_for_and_keeps_gray_gray():
    rng = np.random.default_rng
    gray = np.full((200, 200, 3), 128, np.uint8)
    colour = gray + np.array([1, 0, 0], np.uint8)
    for sd in (4, 16):
        noisy = noise(colour, sd, rng(0))
        assert noisy.std((0, 1)) == pytest.approx(math.sqrt(sd**2 + 1 / 12), rel=0.02)
        assert np.corrcoef(noisy.reshape(-1, 3).T)[0, 1] == pytest.approx(0, abs=0.02)
        of_gray = noise(gray, sd, rng(0))
        assert (of_gray == of_gray[:, :, :1]).all()
        assert of_gray.std() == pytest.approx(math.sqrt(sd**2 + 1 / 12), rel=0.02)


def test_blur_is_a_gaussian():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    blurred = blur(point, 1.5, np.random.default_rng(0))[20, 20:24, 0] / 255
    expected = np.exp(-(np.arange(4) ** 2) / (2 * 1.5**2)) / (2 * math.pi * 1.5**2)
    assert blurred == pytest.approx(expected, abs=0.6 / 255)
    flat = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(blur(flat, 3, np.random.default_rng(0)), flat)


def test_rotation_turns_about_the_centre_and_fills_the_corners():
    picture = blobs(1, (32, 32))[0]
    for quarters in (1, 2):
        turned = rotate(picture, 90 * quarters, np.random.default_rng(0))
        np.testing.assert_array_equal(turned, np.rot90(picture, quarters))
    bright = np.full((32, 16, 3), 200, np.uint8)
    assert (rotate(bright, 30, np.random.default_rng(0)) == 200).all()


def test_kernels_that_alias_and_one_that_does_not():
    """Of stripes a pixel wide, shrunk to a quarter, a wide kernel alone leaves the mean."""
    stripes, rng = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0)
    stripes[:, 1::4] = 200
    assert resize_nearest(stripes, 4, rng).mean() in (0, 200)
    assert resize_bilinear(stripes, 4, rng).mean() == pytest.approx(100, abs=1)
    assert resize_antialiased(stripes, 4, rng).mean() == pytest.approx(50, abs=3)


def test_outliers_are_as_many_as_asked_for_far_and_apart():
    clean = np.full((16, 16, 3), 100, np.uint8)
    drawn = {
        percent: [outlier(clean, percent, np.random.default_rng([0, i])) for i in range(1000)]
        for percent in (3, 10)
    }
    replaced = {
        percent: {i for i, image in enumerate(found) if (image != clean).any()}
        for percent, found in drawn.items()
    }
    assert len(replaced[10]) == pytest.approx(100, abs=30)
    assert replaced[3] < replaced[10]
    found = [drawn[10][i] for i in sorted(replaced[10])]
    assert all(set(np.unique(image)) <= {0, 255} for image in found)
    assert len({image.tobytes() for image in found}) > 0.7 * len(found)


def test_copies_are_images_of_the_reference(parts):
    reference = set(parts.reference.indices)
    chosen = {percent: find_disturbance("copies").choose(parts, percent, 0) for percent in (10, 50, 100)}
    for percent, indices in chosen.items():
        assert len(set(indices)) == N
        assert len(reference & set(indices)) == percent * N // 100
    assert reference & set(chosen[10]) < reference & set(chosen[50])
    assert set(chosen[100]) == reference


def test_dropped_classes_are_gone_and_no_image_comes_twice(parts):
    drop = find_disturbance("drop-classes").choose
    kept = []
    for percent, left in ((10, 4), (30, 3), (50, 2)):
        chosen = drop(parts, percent, 0)
        kept.append({parts.classes[index] for index in chosen})
        assert len(kept[-1]) == left
        assert len(set(chosen)) == N
        assert not set(chosen) & {*parts.reference.indices, *parts.heldout.indices}
        pairs = zip(chosen, parts.clean.indices, strict=True)
        assert all(new == old for new, old in pairs if parts.classes[old] in kept[-1])
    assert kept[0] > kept[1] > kept[2]
    with pytest.raises(TooFewImages, match="spare images of the 1 classes"):
        drop(parts, 99, 0)


def test_fresh_images_are_in_no_other_part(parts):
    fresh = find_disturbance("none").choose(parts, 1, 0)
    assert len(set(fresh)) == N
    others = (parts.reference, parts.clean, parts.heldout)
    assert not set(fresh) & {index for part in others for index in part.indices}


def test_a_split_is_of_disjoint_parts_that_mix_all_of_the_set(images):
    found = split(images, N)
    everything = [*found.reference.indices, *found.clean.indices, *found.heldout.indices, *found.spare]
    assert sorted(everything) == list(range(len(images)))
    for part in (found.reference, found.clean, found.heldout):
        # Sorted images, as in a folder of classes, land in every part alike.
        assert np.mean(part.indices) == pytest.approx(3 * N, abs=0.5 * N)
        assert part.label(0) == images.label(part.indices[0])
    assert [part.name for part in (found.reference, found.clean)] == ["blobs, reference", "blobs, clean"]


def test_broken_files_come_through_and_have_a_content(tmp_path, write_folder):
    folder = write_folder(tmp_path / "set", blobs(8))
    (folder / "0003.png").write_bytes(b"no picture")
    disturbed = Disturbed(open_images(folder), find_disturbance("noise"), 8)
    assert [type(image).__name__ for image in disturbed.read([2, 3])] == ["Decoded", "Broken"]
    assert len(disturbed.content(silent)) == 64


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("noise", -1, r"noise -1: expected 0 or more \(standard deviation, levels of 255\)"),
        ("noise", math.nan, "expected 0 or more"),
        ("noise", math.inf, "expected 0 or more"),
        ("blur", 1e9, "expected 0 to 1000"),
        ("resize-nearest", 1e9, "expected 1 to 1000"),
        ("jpeg", 100, r"expected 0 to 99 \(100 - quality\)"),
        ("resize-nearest", 0.5, r"expected 1 to 1000 \(factor\)"),
        ("copies", 101, "expected 0 to 100"),
    ],
)
def test_strengths_that_a_disturbance_does_not_have(parts, name, strength, message):
    with pytest.raises(UsageError, match=message):
        find_disturbance(name).of(parts, strength)


def test_refusals(images, parts):
    with pytest.raises(UnknownName, match="did you mean 'noise'"):
        find_disturbance("nose")
    with pytest.raises(TooFewImages, match="at most n = 90"):
        split(images, 91)
    with pytest.raises(UsageError, match="n is 0"):
        split(images, 0)
    with pytest.raises(UsageError, match="0 or more, found -1"):
        Disturbed(images, find_disturbance("noise"), 8, seed=-1)
    with pytest.raises(UsageError, match="no disturbance of single images"):
        Disturbed(images, find_disturbance("copies"), 8)
    drop = find_disturbance("drop-classes")
    with pytest.raises(UsageError, match="--labels"):
        drop.of(split(images, N), 10)
    with pytest.raises(UsageError, match="two classes or more, found cat"):
        drop.of(split(images, N, ["cat"] * len(images)), 10)
