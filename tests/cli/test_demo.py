"""``geneval demo``: folders of real and generated digits, a table, a picture; nothing of the user's touched."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import torch
from gen_eval_cli.demo import GENERATORS, MEANING, NOISE, make_generated, make_sets
from PIL import Image

from gen_eval import draws
from gen_eval.datasets import Dataset
from gen_eval.datasets import load as load_dataset
from gen_eval.errors import FetchError
from gen_eval.zoo.sampler import CONTENT, Sampler

FOLDERS = {"reference": 20} | dict.fromkeys(MEANING, 10)
DIGITS = tuple("0123456789")


class Stripes(Sampler):
    """Stands in for a trained generator: noise, below as many white rows as the label says."""

    def __init__(self, name: str) -> None:
        self.name, self.shape = name, (1, 28, 28)
        self.classes = DIGITS if name == "biggan-mnist" else ()

    def _draw(self, seeds, labels, truncation):
        images = draws.uniform(seeds, 28 * 28, CONTENT).reshape(-1, 1, 28, 28) * 200
        for image, label in zip(images, labels if labels is not None else [0] * len(seeds), strict=True):
            image[:, : int(label)] = 255
        return torch.from_numpy(images).to(torch.uint8)


@pytest.fixture
def digits(monkeypatch) -> Dataset:
    """Stands in for MNIST: 5,000 gray pictures in the order of their classes."""
    images = np.random.default_rng(0).integers(0, 256, (5000, 28, 28, 1), dtype=np.uint8)
    made = Dataset("mnist-5k", "train", images, np.arange(10).repeat(500), DIGITS)
    monkeypatch.setattr("gen_eval.datasets.load", lambda *args, **kwargs: made)
    monkeypatch.setattr("gen_eval.zoo.open_sampler", Stripes)
    return made


def content(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_table_folders_picture_and_the_next_command(run, digits, tmp_path):
    out = tmp_path / "my demo"
    done = run("demo", "--out", out, "--n", "10")
    assert done.code == 0, done.err
    rows = done.out.splitlines()
    assert [row.split()[0] for row in rows[1:7]] == list(MEANING)
    assert all(float(row.split()[-1]) > 0 and float(row.split()[-2]) > 0 for row in rows[1:7])
    for name, n in FOLDERS.items():
        files = sorted((out / name).iterdir())
        assert len(files) == n
        with Image.open(files[0]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (28, 28))
    with Image.open(out / "demo.png") as picture:
        assert picture.width > 600
    assert done.err.count("warning: ") == 1
    assert "all sets have 10 images" in done.err

    command = rows[-1].partition("geneval fid ")[2]
    again = run("fid", *shlex.split(command), "--worst-out", tmp_path / "worst.png")
    assert again.code == 0, again.err
    again_value = float(again.out.splitlines()[1].split()[1])
    shown = {row.split()[0]: float(row.split()[-2]) for row in rows[1:7]}
    assert again_value == pytest.approx(shown["sngan-mnist"], rel=1e-5)


def test_another_run_writes_the_same(run, digits, tmp_path):
    first = run("demo", "--out", tmp_path, "--n", "10")
    written = content(tmp_path)
    second = run("demo", "--out", tmp_path, "--n", "10")
    assert (second.code, second.out) == (0, first.out)
    assert content(tmp_path) == written


def test_a_folder_of_the_users_is_refused_and_kept(run, digits, tmp_path):
    (tmp_path / "photo.png").write_text("mine")
    done = run("demo", "--out", tmp_path, "--n", "10")
    assert (done.code, done.out) == (1, "")
    assert "such as photo.png: choose a folder of its own with --out" in done.err
    assert content(tmp_path) == {"photo.png": b"mine"}


@pytest.mark.parametrize("name", ["cat.png", "notes.txt"])
def test_strange_files_in_a_set_are_refused_and_kept(run, digits, tmp_path, name):
    (tmp_path / "noise-1").mkdir()
    (tmp_path / "noise-1" / name).write_text("mine")
    done = run("demo", "--out", tmp_path, "--n", "10")
    assert (done.code, done.out) == (1, "")
    assert name in done.err
    assert "--out" in done.err
    assert content(tmp_path) == {f"noise-1/{name}": b"mine"}


def test_a_run_of_another_size_is_refused(run, digits, tmp_path):
    assert run("demo", "--out", tmp_path, "--n", "12").code == 0
    before = content(tmp_path)
    done = run("demo", "--out", tmp_path, "--n", "10")
    assert (done.code, done.out) == (1, "")
    assert content(tmp_path) == before


def test_out_that_cannot_be_a_folder(run, digits, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert run("demo", "--out", file).code == 2
    done = run("demo", "--out", file / "below", "--n", "10")
    assert (done.code, done.out) == (1, "")
    assert "cannot write" in done.err


@pytest.mark.parametrize("n", ["0", "9", "1667"])
def test_sizes_that_the_digits_cannot_serve(run, digits, n):
    done = run("demo", "--n", n)
    assert (done.code, done.out) == (2, "")


def test_sets_are_disjoint_balanced_and_noise_depends_on_the_image_alone(digits):
    small, large = make_sets(digits, 190), make_sets(digits, 200)
    assert set(small) == {"reference", "held-out", *NOISE}
    assert not set(small["reference"]) & set(small["held-out"])
    for files in small.values():
        assert [sum(f"digit-{label}" in name for name in files) for label in range(10)] == [
            len(files) // 10
        ] * 10
    shared = set(small["noise-2"]) & set(large["noise-2"])
    assert shared
    assert all(np.array_equal(small["noise-2"][name], large["noise-2"][name]) for name in shared)


def test_generated_digits_are_told_by_seed_or_by_label(digits):
    sets = make_generated(DIGITS, 20)
    assert list(sets) == list(GENERATORS)
    assert list(sets["sngan-mnist"])[:2] == ["0000.png", "0001.png"]
    assert list(sets["biggan-mnist"])[9:11] == ["000-digit-9.png", "001-digit-0.png"]
    white = [int((image[:, 0, 0] == 255).sum()) for image in sets["biggan-mnist"].values()]
    assert white == [*range(10), *range(10)]
    assert all(image.shape == (28, 28, 3) for files in sets.values() for image in files.values())


def test_noise_grows(digits):
    sets = make_sets(digits, 50)
    clean = np.stack(list(sets["held-out"].values())).astype(float)
    strength = [np.abs(np.stack(list(sets[name].values())) - clean).mean() for name in NOISE]
    assert strength == sorted(strength)
    assert strength[0] > 1


@pytest.mark.network
def test_fid_of_real_digits_grows_with_the_noise_and_generators_are_between(run_inception, weights, tmp_path):
    try:
        load_dataset("mnist-5k")
    except FetchError as error:
        pytest.skip(f"the digits cannot be had here: {error}")
    done = run_inception("demo", "--out", tmp_path, "--n", "10")
    assert done.code == 0, done.err
    fid = {row.split()[0]: float(row.split()[-2]) for row in done.out.splitlines()[1:7]}
    assert fid["held-out"] < fid["noise-1"] < fid["noise-2"]
    assert all(fid["held-out"] < fid[name] < fid["noise-2"] for name in GENERATORS)
