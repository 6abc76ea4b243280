"""``geneval zoo sample`` and ``grid``: samples as files that other verbs take, and as pictures to look at."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval.images import open_images
from gen_eval.labels import read_labels
from gen_eval.zoo import checkpoint, open_sampler
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.task import Kind

CLASSES = ("Ankle boot", "T-shirt/top", "Bag")
SHAPE = (1, 8, 12)


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    """A checkpoint with classes and attention, whose weights are drawn and not learnt."""
    recipe, kind = (
        Adversarial("resnet", 4, 8, norm="conditional", head="projection", attention=True),
        Kind(SHAPE, CLASSES),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = checkpoint.kept_modules(recipe.task(kind))
        for parameter in kept.parameters():
            torch.nn.init.normal_(parameter)
    made = checkpoint.Checkpoint(
        *("biggan", recipe, kind, kept.state_dict(), {}, "nothing", "", 0),
        steps=0,
        seconds=0.0,
        cpu_seconds=0.0,
    )
    path = tmp_path_factory.mktemp("zoo") / "tiny.safetensors"
    checkpoint.save(made, path)
    return path


def read(folder):
    """Pixels of the gray images of a folder, by their path in it."""
    return {
        str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))
    }


def size(path):
    with Image.open(path) as image:
        return image.size


# --- sample


def test_a_folder_has_a_file_a_seed_below_its_class(run, generator, tmp_path):
    done = run("zoo", "sample", generator, "-n", 7, "--seed", 3, "-o", tmp_path / "out-0.7")
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'out-0.7'}  7 images of 8 x 12, seeds 3 to 9\n"
    sampler = open_sampler(generator)
    labels = sampler.labels_of(torch.arange(3, 10))
    folders = [CLASSES[label].replace("/", "-") for label in labels]
    expected = {
        f"{folder}/{seed:06}.png": image[0].numpy()
        for folder, seed, image in zip(folders, range(3, 10), sampler.sample(7, seed=3), strict=True)
    }
    found = read(tmp_path / "out-0.7")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    images = open_images(tmp_path / "out-0.7")
    assert sorted(read_labels("folders", images).of) == sorted(folders)


def test_what_goes_step_by_step_tells_its_cost(run, tmp_path):
    done = run("zoo", "sample", "edm-mnist", "-n", 2, "-o", tmp_path / "a.npy")
    assert done.out.strip().endswith("seeds 0 to 1, 35 evaluations of the network each"), done


def test_the_seed_alone_says_what_an_image_is(run, generator, tmp_path):
    for n, seed in ((5, 0), (2, 3)):
        run("zoo", "sample", generator, "-n", n, "--seed", seed, "-o", tmp_path / f"{n}")
    many, few = read(tmp_path / "5"), read(tmp_path / "2")
    assert len(few) == 2
    assert all(np.array_equal(many[name], image) for name, image in few.items())


def test_labels_are_dealt_out_by_name_number_or_all(run, generator, tmp_path):
    for at, (labels, expected) in enumerate(
        (
            ("Bag,0", [2, 0, 2, 0]),
            ("T-shirt/top", [1, 1, 1, 1]),
            ("all", [0, 1, 2, 0]),
        )
    ):
        out = tmp_path / f"{at}.npz"
        done = run("zoo", "sample", generator, "-n", 4, "--labels", labels, "-o", out)
        assert done.code == 0, done.err
        with np.load(out) as arrays:
            assert arrays["arr_0"].shape == (4, 8, 12, 1)
            assert arrays["arr_1"].tolist() == expected
            images = open_sampler(generator).sample(4, seed=0, labels=expected)
            assert np.array_equal(arrays["arr_0"], images.permute(0, 2, 3, 1).numpy())


def test_truncation_reaches_the_generator(run, generator, tmp_path):
    assert run("zoo", "sample", generator, "-n", 3, "--truncation", 0.3, "-o", tmp_path / "a.npy").code == 0
    expected = open_sampler(generator).sample(3, seed=0, truncation=0.3)
    assert np.array_equal(np.load(tmp_path / "a.npy")[..., 0], expected[:, 0].numpy())


def test_vectors_go_into_arrays_that_measures_take(run, tmp_path):
    for seed in (0, 100):
        done = run("zoo", "sample", "ring8", "-n", 50, "--seed", seed, "-o", tmp_path / f"{seed}.npy")
        assert done.code == 0, done.err
    assert np.array_equal(np.load(tmp_path / "0.npy"), open_sampler("ring8").sample(50, seed=0).numpy())
    done = run(
        "evaluate", "-m", "kid:identity", tmp_path / "0.npy", tmp_path / "100.npy", "--set", "subset_size=40"
    )
    assert done.code == 0, done.err


def test_an_archive_holds_the_same_files_and_is_the_same_bytes_each_time(run, generator, tmp_path):
    digests = []
    for name in ("a.zip", "b.zip"):
        assert run("zoo", "sample", generator, "-n", 5, "-o", tmp_path / name).code == 0
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    run("zoo", "sample", generator, "-n", 5, "-o", tmp_path / "folder")
    images = open_images(tmp_path / "a.zip")
    assert [images.label(index) for index in range(5)] == list(read(tmp_path / "folder"))


@pytest.mark.parametrize("name", ["folder", "there.npz", "there.zip"])
def test_nothing_is_overwritten(run, generator, tmp_path, name):
    (tmp_path / "folder").mkdir()
    for each in ("folder/mine.txt", "there.npz", "there.zip"):
        (tmp_path / each).write_text("mine")
    done = run("zoo", "sample", generator, "-n", 2, "-o", tmp_path / name)
    assert (done.code, done.out) == (1, "")
    assert "choose another" in done.err
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 3
    assert all(path.read_text() == "mine" for path in left)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("ring9", "-n", 1, "-o", "x.npy"), "did you mean 'ring8'?"),
        (("ring8", "-n", 1, "-o", "x"), "makes vectors"),
        (("ring8", "-n", 1, "-o", "x.png"), "expected a folder"),
        (("ring8", "-n", 1, "-o", "nowhere/x.npy"), "no folder nowhere"),
        (("ring8", "-n", 1, "-o", "x.npy", "--truncation", 0.5), "has no truncation"),
        (("disc", "-n", 1, "-o", "x.npy", "--labels", "0"), "knows no classes"),
        (("ring8", "-n", 1, "-o", "x.npy", "--labels", "0,19"), "unknown class of ring8 '19'"),
    ],
)
def test_wrong_requests_are_refused(run, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    done = run("zoo", "sample", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert not list(tmp_path.iterdir())


# --- grid

CELL, PITCH = 96, 104  # pixels of an image of 8 x 12, which is enlarged by 8; and to the next


def drawn(path, row, column):
    """An image of the grid, in its own pixels."""
    with Image.open(path) as picture:
        left, top = 24 + column * PITCH, 24 + 48 + row * (PITCH + 8) + 16
        return np.asarray(picture.convert("L"))[top : top + 64 : 8, left : left + 96 : 8]


def test_a_grid_has_the_seeds_row_by_row(run, generator, tmp_path):
    out = tmp_path / "grid.png"
    done = run("zoo", "grid", generator, "-o", out, "--rows", 2, "--columns", 3, "--seed", 4)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    images = open_sampler(generator).sample(6, seed=4)[:, 0].numpy()
    assert np.array_equal(drawn(out, 0, 2), images[2])
    assert np.array_equal(drawn(out, 1, 0), images[3])


def test_a_row_a_class_or_a_truncation_has_the_same_seeds(run, generator, tmp_path):
    out, sampler = tmp_path / "grid.png", open_sampler(generator)
    assert run("zoo", "grid", generator, "-o", out, "--by-class", "--truncation", 1).code == 0
    for label in range(3):
        expected = sampler.sample(8, seed=0, labels=label, truncation=1.0)
        assert np.array_equal(drawn(out, label, 7), expected[7, 0].numpy())
    assert run("zoo", "grid", generator, "-o", out, "--truncations", "none,.5").code == 0
    for row, truncation in enumerate((None, 0.5)):
        expected = sampler.sample(8, seed=0, truncation=truncation)
        assert np.array_equal(drawn(out, row, 7), expected[7, 0].numpy())


def test_ways_between_seeds_start_and_end_at_their_images(run, generator, tmp_path):
    out, sampler = tmp_path / "grid.png", open_sampler(generator)
    done = run("zoo", "grid", generator, "-o", out, "--interpolate", "--rows", 2, "--columns", 5)
    assert done.code == 0, done.err
    expected = sampler.sample(3, seed=0, labels=0)[:, 0].numpy().astype(int)
    for row in range(2):
        for column, seed in ((0, row), (4, row + 1)):
            assert np.abs(drawn(out, row, column) - expected[seed]).max() <= 1
    between = drawn(out, 0, 2).astype(int)
    assert min(np.abs(between - expected[seed]).mean() for seed in (0, 1)) > 5


def test_attention_shows_five_maps_of_each_image(run, generator, tmp_path):
    out = tmp_path / "grid.png"
    done = run("zoo", "grid", generator, "-o", out, "--attention", "--rows", 3)
    assert done.code == 0, done.err
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] == 24 + 48 + 3 * (PITCH + 8) + 28 + 24
    left = 24 + PITCH + 24  # the maps stand apart
    of_first = pixels[72 + 16 : 72 + 80, left : left + 96].reshape(-1, 3)
    assert [230, 159, 0] in of_first.tolist(), "a map reaches the colour of its point where it is largest"


def test_points_of_the_plane_lie_where_they_are(run, tmp_path):
    out = tmp_path / "grid.png"
    done = run("zoo", "grid", "ring8", "-o", out, "--by-class")
    assert done.code == 0, done.err
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    right, top = (pixels[72 + 2 : 72 + 254, left + 2 : left + 254] for left in (24, 24 + 2 * 264))
    assert not (right[:, :126] < 180).any()
    assert (right[:, 200:] < 100).any(), "the first mode is that of the angle 0"
    assert (top[:60] < 100).any()
    assert not (top[126:] < 180).any()


def test_a_truncated_disc_is_smaller(run, tmp_path):
    out = tmp_path / "grid.png"
    assert run("zoo", "grid", "disc", "-o", out, "--truncations", "1,0.5").code == 0
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    inked = [(pixels[74:326, left + 2 : left + 254] < 250).any(0).nonzero()[0] for left in (24, 24 + 264)]
    widths = [int(columns.max() - columns.min()) for columns in inked]
    assert widths[0] > 220
    assert widths[1] == pytest.approx(widths[0] / 2, abs=4)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--by-class", "--interpolate"), "choose one"),
        (("--truncation", 1, "--truncations", "1,.5"), "--truncation goes with"),
        (("--truncation", 1, "--attention"), "--truncation goes with"),
        (("--rows", 2, "--by-class"), "--rows is not for"),
        (("--columns", 2, "--attention"), "--columns is not for"),
        (("--truncations", "1,low"), "expected numbers"),
    ],
)
def test_pictures_that_do_not_go_together_are_refused(run, generator, tmp_path, args, said):
    done = run("zoo", "grid", generator, "-o", tmp_path / "x.png", *args)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("disc", ("--by-class",), "knows no classes"),
        ("disc", ("--interpolate",), "--interpolate is for networks"),
        ("checkerboard", ("--truncation", 1), "has no truncation"),
        ("rin8", (), "did you mean 'ring8'?"),
    ],
)
def test_what_a_generator_has_not_is_refused(run, tmp_path, name, args, said):
    done = run("zoo", "grid", name, "-o", tmp_path / "x.png", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_rows_of_points_are_refused(run, tmp_path):
    done = run("zoo", "grid", "ring8", "-o", tmp_path / "x.png", "--rows", 2)
    assert done.code == 2
    assert "points of the plane" in done.err
