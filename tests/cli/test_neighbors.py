"""``--neighbors``, and that pictures overwrite nothing unless they are told to."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

FD = ("-m", "fd:pixels")


@pytest.fixture
def copying(sets, tmp_path):
    """The fake images, two of them copies: one exact, one with a little noise."""
    folder = shutil.copytree(sets.fake, tmp_path / "copying")
    shutil.copy(sets.real / "007.png", folder / "003.png")
    noise = np.random.default_rng(0).integers(-4, 5, (32, 32, 3))
    near = np.asarray(Image.open(sets.real / "002.png")).astype(int) + noise
    Image.fromarray(near.clip(0, 255).astype(np.uint8)).save(folder / "008.png")
    return folder


def test_copies_come_first_beside_what_they_copy(run, sets, copying, tmp_path):
    out = tmp_path / "near.png"
    done = run("evaluate", sets.real, copying, *FD, "--neighbors", "5", "--neighbors-out", out, "--json")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    _, *lines = done.err[done.err.index(str(out)) :].splitlines()
    assert len(lines) == 8
    assert re.fullmatch(r"  0  003\.png  0 from 007\.png", lines[0])
    assert re.fullmatch(r"  0\.0\d+  008\.png  \S+ from 002\.png", lines[1])
    ratios = [float(line.split()[0]) for line in lines]
    assert ratios == sorted(ratios)
    assert ratios[2] > 0.4
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture)
    # The first row: the copy, a gap, and what it copies, pixel for pixel.
    copied = np.asarray(Image.open(sets.real / "007.png")).repeat(3, 0).repeat(3, 1)
    row = pixels[72 : 72 + 96]
    assert (row[:, 24 : 24 + 96] == copied).all()
    assert (row[:, 24 + 96 : 24 + 104 + 24] == 255).all()
    assert (row[:, 24 + 104 + 24 : 24 + 104 + 24 + 96] == copied).all()


def test_both_pictures_come_from_one_pass(run, sets, tmp_path):
    pictures = (
        "--worst",
        3,
        "--worst-out",
        tmp_path / "w.png",
        "--neighbors",
        20,
        "--neighbors-out",
        tmp_path / "n.png",
    )
    done = run("fid", sets.real, sets.fake, *pictures)
    assert done.code == 0, done.err
    assert done.err.count("10/10 images") == done.err.count("12/12 images") == 1
    assert (tmp_path / "w.png").is_file()
    assert (tmp_path / "n.png").is_file()


def test_what_the_cache_knows_takes_no_pass(run, sets, tmp_path):
    cache = ("--cache", tmp_path / "cache")
    assert run("fid", sets.real, sets.fake, *cache).code == 0
    done = run("fid", sets.real, sets.fake, *cache, "--neighbors", 2, "--neighbors-out", tmp_path / "n.png")
    assert done.code == 0, done.err
    assert f"{sets.real}  12/12 images" not in done.err
    assert f"{sets.fake}  10/10 images" not in done.err


def test_neighbors_leave_the_numbers_as_they_are(run, sets, tmp_path):
    plain = run("fid", sets.real, sets.fake, "--json")
    drawn = run(
        "fid", sets.real, sets.fake, "--json", "--neighbors", 2, "--neighbors-out", tmp_path / "n.png"
    )
    one, other = (json.loads(done.out) for done in (plain, drawn))
    assert one["values"] == pytest.approx(other["values"], rel=1e-9)


def test_pictures_without_a_name_overwrite_nothing_and_those_with_one_do(run, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = ("--worst", 2, "--neighbors", 2)
    for _ in range(2):
        done = run("fid", sets.real, sets.fake, *both)
        assert done.code == 0, done.err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["neighbors-2.png", "neighbors.png", "worst-2.png", "worst.png"]
    assert "neighbors-2.png shows" in done.err
    before = (tmp_path / "worst.png").read_bytes()
    assert run("fid", sets.real, sets.fake, "--worst", 5, "--worst-out", "worst.png").code == 0
    assert (tmp_path / "worst.png").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--neighbors", "0"), 2, "--neighbors"),
        (("--neighbors", "4", "--neighbors-out", "n.xyz"), 1, "cannot write n.xyz"),
        (("--neighbors", "4", "--neighbors-out", "missing/n.png"), 1, "no folder missing"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_work(run, sets, arguments, code, said):
    done = run("fid", sets.real, sets.fake, *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "images" not in done.err


@pytest.mark.parametrize("at", ["real", "fake"])
def test_statistics_cannot_be_drawn(run, sets, tmp_path, at):
    statistics = tmp_path / "set.safetensors"
    assert run("stats", getattr(sets, at), "-o", statistics).code == 0
    pair = (statistics, sets.fake) if at == "real" else (sets.real, statistics)
    done = run("fid", *pair, "--neighbors", "4")
    assert (done.code, done.out) == (2, "")
    assert f"--neighbors draws images, and {statistics} holds their features only" in done.err


def test_a_measure_without_a_reference_has_no_neighbors(run, sets):
    done = run("evaluate", sets.real, sets.fake, "-m", "is:pixels", "--neighbors", "4")
    assert (done.code, done.out) == (2, "")
    assert "which is:pixels does not take" in done.err
