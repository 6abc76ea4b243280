"""Features of one's own on the command line: a ``.npy`` file, measured through ``identity``."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def vectors(tmp_path):
    rng = np.random.default_rng(0)
    paths = tmp_path / "real.npy", tmp_path / "fake.npy"
    for place, path in enumerate(paths):
        np.save(path, rng.standard_normal((40 + place, 3)) + place)
    return paths


def test_vectors_are_measured_through_identity(run, vectors):
    real, fake = vectors
    done = run("evaluate", real, fake, "-m", "fd:identity", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["value"] > 1
    assert {role: info["n"] for role, info in result["sets"].items()} == {"generated": 41, "reference": 40}
    short = run("fid", real, fake, "--extractor", "identity", "--json")
    assert json.loads(short.out)["value"] == result["value"]
    assert f"{fake}, 41 images" in run("evaluate", real, fake, "-m", "fd:identity").out


def test_vectors_and_images_are_not_taken_for_one_another(run, vectors, sets):
    real, fake = vectors
    for arguments in (
        (real, fake, "-m", "fd:pixels"),
        (sets.real, sets.fake, "-m", "fd:identity"),
        (real, sets.fake, "-m", "fd:identity"),
    ):
        done = run("evaluate", *arguments)
        assert (done.code, done.out) == (1, "")
        assert "identity" in done.err


def test_numbers_of_single_vectors_are_written_by_their_place(run, vectors, tmp_path):
    done = run("evaluate", *vectors, "-m", "fd:identity", "--per-image", tmp_path / "out.csv")
    assert done.code == 0, done.err
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    generated = {row.split(",")[1] for row in rows if row.startswith("generated,")}
    assert generated == {f"#{index}" for index in range(41)}


def test_worst_of_vectors_is_refused_before_the_work(run, vectors, tmp_path):
    done = run(
        *("evaluate", *vectors, "-m", "fd:identity", "--worst", "3", "--worst-out", tmp_path / "worst.png")
    )
    assert done.out == ""
    assert done.code in (1, 2)
    assert "--worst" in done.err


def test_a_draw_of_vectors_is_asked_about_and_compares_with_all_of_them(run, vectors, tmp_path):
    real, fake = vectors
    for name, options in (("some", ("--sample", "20", "--seed", "3")), ("every", ())):
        done = run("pr", real, fake, "--extractor", "identity", *options, "--json")
        assert done.code == 0, done.err
        (tmp_path / f"{name}.jsonl").write_text(done.out)
    some, every = (json.loads((tmp_path / f"{name}.jsonl").read_text()) for name in ("some", "every"))
    assert (some["params"]["sample"], some["params"]["seed"], every["params"]["sample"]) == (20, 3, None)
    assert "20 of the 41 generated images and 20 of the 40 reference images" in some["warnings"][0]
    assert some["standard_error"] > every["standard_error"]
    compared = run("compare", tmp_path / "some.jsonl", tmp_path / "every.jsonl")
    assert compared.code == 0, compared.err


def test_waves_of_a_kernel_and_what_they_refuse(run, vectors):
    waves = (*vectors, "--extractor", "identity", "--frequencies", "200")
    done = run("mmd", *waves, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["params"]["frequencies"] == 200
    assert "kernel 'rbf' alone" in run("mmd", *waves, "--kernel", "laplace").err
    assert "8 or more" in run("pr", *vectors, "--extractor", "identity", "--sample", "3").err
