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
