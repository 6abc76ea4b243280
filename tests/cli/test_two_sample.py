"""``geneval test`` as users run it."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def clouds(tmp_path):
    rng = np.random.default_rng(0)
    for name, shift in (("real", 0.0), ("same", 0.0), ("other", 1.0)):
        np.save(tmp_path / f"{name}.npy", rng.normal(shift, 1, (80, 2)))
    return tmp_path


def test_point_clouds_that_do_not_differ(run, clouds):
    done = run("test", clouds / "real.npy", clouds / "same.npy", "--permutations", 200)
    assert done.code == 0, done.err
    assert "No difference found" in done.out
    assert "p adjusted" in done.out
    assert "nearest-neighbor-test" in done.out


def test_point_clouds_that_differ(run, clouds):
    done = run("test", clouds / "real.npy", clouds / "other.npy", "-t", "mmd", "-t", "mean-test")
    assert done.code == 0, done.err
    assert "The sets differ" in done.out
    assert "level 0.05 for 2 tests, holm" in done.out
    assert "by mmd, mean-test." in done.out


def test_json_is_one_object_and_nothing_else(run, clouds):
    done = run("test", clouds / "real.npy", clouds / "other.npy", "-t", "mmd", "--json", "--seed", 3)
    data = json.loads(done.out)
    assert data["differ"] is True
    assert data["tests"][0]["result"]["params"]["seed"] == 3


def test_wrong_command_lines_are_refused(run, clouds):
    real, same = clouds / "real.npy", clouds / "same.npy"
    for arguments, message in (
        (("-t", "mdm"), "did you mean 'mmd'"),
        (("--permutations", 20), "give no p-value below"),
        (("--alpha", 2), "2.0 is not in the range"),
        (("--extractor", "pixels"), "only measures through 'identity' take"),
    ):
        done = run("test", real, same, *arguments)
        assert done.code in (1, 2)
        assert message in done.err
