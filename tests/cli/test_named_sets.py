"""Datasets by name on the command line: what ships, what was measured before, and that the network stays off."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

from gen_eval import datasets, references, store
from gen_eval.errors import FetchError
from gen_eval.references import Shipped

PROGRESS = r"\d/[\d,]+ images"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing was fetched or measured yet; the digits are those that scikit-learn holds."""
    pytest.importorskip("sklearn")
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def ships(run, tmp_path, monkeypatch):
    """Statistics of digits:test ship, with 20 of its rows."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    whole, file = tmp_path / "whole.safetensors", folder / "digits-test.safetensors"
    for command in (
        ("digits:test", "-o", whole, "--offline"),
        ("compact", whole, "--rows", 20, "-o", file),
    ):
        done = run("stats", *command)
        assert done.code == 0, done.err
    summary = store.load(file)
    ((spec, tap),) = summary.features
    row = Shipped(
        *("digits:test", file.name, 500, 20, spec.digest, tap, summary.digest),
        *(hashlib.sha256(file.read_bytes()).hexdigest(), 1e-6, ()),
    )
    monkeypatch.setattr(references, "shipped", lambda: (row,))
    monkeypatch.setattr(references, "_folder", lambda: folder)
    return row


@pytest.fixture
def no_images(monkeypatch):
    """From a call on, no dataset can be had."""

    def forbid():
        def fetch(asset, **options):
            raise FetchError(f"{asset.name} was to be fetched")

        monkeypatch.setattr(datasets, "fetch", fetch)

    return forbid


# Verbs on files take names.


def test_names_stand_for_the_files_that_ship(run, ships, tmp_path, no_images):
    no_images()
    shown, by_path = (
        json.loads(run("stats", "show", name, "--json").out) for name in ("digits:test", ships.path)
    )
    assert shown == by_path
    done = run("stats", "show", "digits:test")
    assert f"{ships.path}, gen_eval statistics 1" in done.out
    assert "500 images, 20 rows of 192" in done.out

    done = run("stats", "convert", "digits:test", "-o", tmp_path / "theirs.npz", "--to", "edm")
    assert done.code == 0, done.err
    features = next(iter(store.load(ships.path).features.values()))
    with np.load(tmp_path / "theirs.npz") as theirs:
        assert theirs["mu"] == pytest.approx(features.moments.mean.numpy())

    done = run("stats", "compact", "digits:test", "--rows", 5, "-o", tmp_path / "small.safetensors")
    assert done.code == 0, done.err
    assert next(iter(store.load(tmp_path / "small.safetensors").features.values())).sample.n == 5


def test_what_ships_and_keeps_some_rows_is_no_part_of_a_larger_whole(run, tmp_path):
    out = tmp_path / "both.safetensors"
    for files, reason in (
        (("cifar10:train", "cifar10:test"), "cifar10:train keeps 1,000 of 50,000 feature rows"),
        (("cifar10:test", "cifar10:test"), "the same images, to the last byte"),
    ):
        done = run("stats", "merge", *files, "-o", out)
        assert (done.code, done.out) == (1, "")
        assert reason in done.err
        assert not out.exists()


def test_what_really_ships_is_shown(run):
    done = run("stats", "show", "cifar10:test")
    assert done.code == 0, done.err
    assert "cifar10:test, content a12f44e2a56d" in done.out
    assert "10,000 images, 1,000 rows of 2,048" in done.out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits:test", "no statistics of digits:test ship, as those of cifar10:test, cifar10:train"),
        ("digits", "geneval stats digits -o FILE.safetensors"),
        ("cifar10:tset", "no split 'tset'"),
        ("cifar-10:test", "did you mean 'cifar10'"),
    ],
)
def test_names_of_which_nothing_ships_say_so(run, tmp_path, name, said):
    for verb in (
        ("show",),
        ("compact", "-o", tmp_path / "x.safetensors"),
        ("convert", "-o", tmp_path / "x.npz"),
    ):
        done = run("stats", verb[0], name, *verb[1:])
        assert (done.code, done.out) == (1, "")
        assert said in done.err


def test_a_file_of_the_same_name_is_not_guessed_at(run, ships, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits:test").touch()
    done = run("stats", "show", "digits:test")
    assert done.code == 1
    assert "say ./digits:test for the path" in done.err


# Measuring what ships.


def test_measuring_what_ships_says_so_and_is_done(run, ships, tmp_path):
    out = tmp_path / "anew.safetensors"
    done = run("stats", "digits:test", "-o", out, "--offline")
    assert done.code == 0, done.err
    assert (
        "note: statistics of digits:test through pixels pool ship, of all 500 images with 20 rows" in done.err
    )
    assert next(iter(store.load(out).features.values())).sample.n == 500
    for other in (("images:digits:test",), ("digits:train",), ("digits:test", "--protocol", "clean-fid")):
        done = run("stats", *other, "-o", out, "--offline")
        assert done.code == 0, done.err
        assert "ship" not in done.err


# What was measured before.


def test_a_second_run_needs_no_images(run, sets, no_images):
    command = ("fid", "digits:test", sets.fake, "--json")
    first = run(*command, "--offline")
    assert first.code == 0, first.err
    assert "500/500 images" in first.err
    no_images()
    second = run(*command)
    assert second.code == 0, second.err
    assert "500/500 images" not in second.err
    found, expected = (json.loads(done.out) for done in (second, first))
    assert (found["value"], found["sets"]) == (expected["value"], expected["sets"])
    done = run("kid", "digits:test", sets.fake, "--protocol", "clean-fid")
    assert (done.code, done.out) == (1, "")
    assert "digits was to be fetched" in done.err


def test_pictures_need_the_images_before_the_work(run, sets, no_images, tmp_path):
    picture = ("--worst", 1, "--worst-out", tmp_path / "worst.png")
    assert run("fid", sets.real, "digits:test", "--offline").code == 0
    no_images()
    assert run("fid", sets.real, "digits:test").code == 0
    done = run("fid", sets.real, "digits:test", *picture)
    assert (done.code, done.out) == (1, "")
    assert "digits was to be fetched" in done.err
    assert not re.search(PROGRESS, done.err)


def test_a_reference_that_ships_serves_a_picture_of_the_worst(run, ships, sets, no_images, tmp_path):
    no_images()
    done = run("fid", "digits:test", sets.fake, "--worst", 2, "--worst-out", tmp_path / "worst.png")
    assert done.code == 0, done.err
    assert (tmp_path / "worst.png").is_file()
    assert "20 feature rows of the 500 images of digits:test are at hand" in done.err


# The network stays off.


@pytest.mark.parametrize(
    "command",
    [
        ("test", "digits:train", "mnist:test", "-t", "mean-test"),
        ("test", "mnist:test", "digits:train", "-t", "mean-test"),
        ("fid", "images:mnist:test", "digits:test"),
        ("stats", "mnist:test", "-o", "mnist.safetensors"),
        ("sensitivity", "mnist:test", "-m", "fid", "--disturbance", "noise"),
    ],
)
def test_what_is_not_on_this_machine_is_refused_offline(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = run(*command, "--offline")
    assert (done.code, done.out) == (1, "")
    assert "mnist is not on this machine, and the network is off" in done.err
    assert not re.search(PROGRESS, done.err)


def test_two_sample_tests_of_names(run):
    tests = ("-t", "mean-test", "-t", "c2st", "--permutations", 100)
    done = run("test", "digits:test", "digits:train", *tests, "--offline", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    names = {role: info["name"] for role, info in report["tests"][0]["result"]["sets"].items()}
    assert names == {"reference": "digits:test", "generated": "digits:train"}
    assert report["differ"]  # other writers


def test_what_is_opened_beside_the_work_stays_offline_too(run, tmp_path, monkeypatch):
    asked, load = [], datasets.load

    def recorded(*key, offline=None, **options):
        asked.append((*key, offline))
        return load(*key, offline=offline, **options)

    monkeypatch.setattr(datasets, "load", recorded)
    done = run(
        *("fid", "digits:train", "digits:test", "--offline", "--per-image", tmp_path / "each.csv"),
        *("--worst", 1, "--worst-out", tmp_path / "worst.png"),
        *("--neighbors", 1, "--neighbors-out", tmp_path / "near.png"),
    )
    assert done.code == 0, done.err
    done = run(
        *("stats", "digits:test", "--protocol", "pytorch-fid", "-o", tmp_path / "ours.safetensors"),
        "--offline",
    )
    assert done.code == 0, done.err
    done = run(
        *("stats", "convert", tmp_path / "ours.safetensors", "-o", tmp_path / "both.npz"),
        *("--images", "digits:test", "--offline"),
    )
    assert done.code == 0, done.err
    assert "500 images, which images:" in run("stats", "show", tmp_path / "both.npz").out
    assert {key[:2] for key in asked} == {("digits", "train"), ("digits", "test")}
    assert all(offline is True for _, _, offline in asked)
