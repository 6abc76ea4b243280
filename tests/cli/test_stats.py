"""``geneval stats``: measured once, used again with the same digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval import store
from gen_eval.extractors.vectors import Identity
from gen_eval.passing import Request
from gen_eval.sources import Vectors


def test_fid_from_statistics_equals_fid_from_images_to_the_digit(run, sets, measured):
    from_images = run("fid", sets.real, sets.fake, "--json")
    first, second = (run("fid", measured, sets.fake, "--json") for _ in range(2))
    assert first.value == second.value == from_images.value
    assert json.loads(first.out)["standard_error"] == json.loads(from_images.out)["standard_error"]
    info = json.loads(first.out)["sets"]["reference"]
    assert info == json.loads(from_images.out)["sets"]["reference"]
    assert not info["claimed"]


def test_both_sides_may_be_statistics(run, sets, measured, tmp_path):
    other = tmp_path / "fake.safetensors"
    assert run("stats", sets.fake, "-o", other).code == 0
    assert run("fid", measured, other, "--json").value == run("fid", sets.real, sets.fake, "--json").value


def test_mixed_protocols_are_refused_with_the_reason(run, sets, measured):
    done = run("fid", measured, sets.fake, "--protocol", "clean-fid")
    assert (done.code, done.out) == (1, "")
    assert "tf1-bilinear" in done.err
    assert "pil-bicubic" in done.err
    assert "--protocol" in done.err


def test_refusals_name_the_file_and_the_network(run, sets, tmp_path):
    of_vectors = tmp_path / "vectors.safetensors"
    summary = Vectors.of(torch.randn(12, 4), "vectors").summary(Request(Identity(4), ("pool",)), None)
    store.save(summary, of_vectors)
    done = run("fid", of_vectors, sets.fake)
    assert (done.code, done.out) == (1, "")
    assert f"{of_vectors}, statistics of vectors, were not measured on the terms asked for" in done.err
    assert "name: identity against pixels" in done.err
    assert "the network that they are of: choose it with --extractor" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-m", "intra-fid"), "intra-fid is a measure by class, which statistics do not serve"),
        (
            ("-m", "pr", "--rows", 3),
            "pr needs 4 feature rows of the reference images, and --rows 3 keeps fewer",
        ),
        (("-m", "mifid", "--rows", 11), "raise it to 12 or more"),
    ],
    ids=["class", "few rows", "not all rows"],
)
def test_measures_that_the_statistics_would_not_serve_are_refused(run, sets, tmp_path, options, message):
    done = run("stats", sets.real, "-o", tmp_path / "real.safetensors", *options)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert not list(tmp_path.iterdir())


def test_what_was_changed_and_left_out_is_said(run, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(folder / f"{index}.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    done = run("stats", folder, "-o", tmp_path / "mixed.safetensors", "--skip-corrupt")
    assert done.code == 0, done.err
    assert f"note: 3 of {folder}: gray to RGB" in done.err
    assert f"warning: cut.png of {folder} was left out" in done.err


@pytest.mark.parametrize(("rows", "told"), [(0, True), (11, True), (12, False)])
def test_error_bars_of_few_rows_say_so(run, sets, tmp_path, rows, told):
    few = tmp_path / "few.safetensors"
    assert run("stats", sets.real, "-o", few, "--rows", rows).code == 0
    done = run("fid", few, sets.fake)
    assert done.code == 0, done.err
    assert ("it takes them as exact" in done.err) == told
    assert (f"{rows} feature rows of the 12 images" in done.err) == told


@pytest.mark.parametrize("name", ["real.npz", "real", "real.safetensors.gz"])
def test_wrong_extension_fails_before_the_work(run, sets, tmp_path, name, monkeypatch):
    monkeypatch.setattr("gen_eval.passing.summarize", None)
    done = run("stats", sets.real, "-o", tmp_path / name)
    assert (done.code, done.out) == (1, "")
    assert ".safetensors" in done.err
    assert not list(tmp_path.iterdir())


def test_missing_output_folder_fails_before_the_work(run, sets, tmp_path, monkeypatch):
    monkeypatch.setattr("gen_eval.passing.summarize", None)
    done = run("stats", sets.real, "-o", tmp_path / "missing" / "real.safetensors")
    assert (done.code, done.out) == (1, "")
    assert "missing" in done.err


def test_damaged_statistics_are_refused(run, sets, measured):
    content = bytearray(measured.read_bytes())
    content[-5] ^= 255
    measured.write_bytes(content)
    done = run("fid", measured, sets.fake)
    assert (done.code, done.out) == (1, "")
    assert "damaged" in done.err


def test_statistics_of_other_tools_are_adopted_and_marked(run, sets, tmp_path):
    rows = np.random.default_rng(0).normal(128, 40, (500, 192))
    theirs = tmp_path / "theirs.npz"
    np.savez(theirs, mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    done = run("fid", theirs, sets.fake, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["sets"]["reference"]["claimed"]
    assert result["sets"]["reference"]["n"] is None
    assert not result["sets"]["generated"]["claimed"]
    assert any("claim" in warning for warning in result["warnings"])

    told = run("fid", theirs, sets.fake, "--reference-n", "500")
    assert told.code == 0, told.err
    assert "500 images" in told.out
    assert "claimed" in told.out
    assert "claim" in told.err


def test_statistics_of_other_dimensions_are_refused(run, sets, tmp_path):
    theirs = tmp_path / "theirs.npz"
    np.savez(theirs, mu=np.zeros(7), sigma=np.eye(7))
    done = run("fid", theirs, sets.fake)
    assert (done.code, done.out) == (1, "")
    assert "7" in done.err


def test_statistics_serve_the_measures_they_were_made_for(run, sets, tmp_path):
    out, names = tmp_path / "real.safetensors", ("-m", "fid", "-m", "kid:pixels")
    done = run("stats", sets.real, "-o", out, *names)
    assert done.code == 0, done.err
    assert done.err.count("12/12 images") == 1
    found, expected = (
        [
            json.loads(line)["values"]
            for line in run("evaluate", real, sets.fake, *names, "--json").out.splitlines()
        ]
        for real in (out, sets.real)
    )
    assert len(found) == 2
    assert found == expected


def test_statistics_without_rows_say_what_they_cannot_serve(run, sets, tmp_path):
    out = tmp_path / "real.safetensors"
    assert run("stats", sets.real, "-o", out, "--rows", "0").code == 0
    assert run("fid", out, sets.fake).code == 0
    done = run("kid", out, sets.fake, "--extractor", "pixels")
    assert (done.code, done.out) == (1, "")
    assert "needs feature rows of the reference images" in done.err
    assert "--rows" in done.err


@pytest.mark.parametrize("name", ["fidd", "fid:pixel"])
def test_wrong_measures_fail_before_the_work(run, sets, tmp_path, name):
    done = run("stats", sets.real, "-o", tmp_path / "real.safetensors", "-m", name)
    assert (done.code, done.out) == (1, "")
    assert "did you mean" in done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_may_be_called_as_a_verb_is(run, sets, tmp_path, monkeypatch):
    (tmp_path / "merge").symlink_to(sets.real, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    assert run("stats", "./merge", "-o", "real.safetensors").code == 0
    done = run("stats", "merge", "-o", "other.safetensors")
    assert done.code == 2
    assert "./merge" in done.err


def test_usage_is_that_of_measuring_with_the_verbs_below(run):
    done = run("stats", "--help")
    assert done.out.startswith("Usage: geneval stats [OPTIONS] IMAGES")
    assert all(verb in done.out for verb in ("merge", "show", "convert", "./merge"))
    assert run("stats", "somewhere").err.startswith("Usage: geneval stats [OPTIONS] IMAGES")


def test_datasets_are_named_where_images_are(run, sets, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")  # whose copy of the digits is at hand
    monkeypatch.setenv(
        "GEN_EVAL_CACHE", str(tmp_path / "cache")
    )  # not what another version kept, to the last bit
    out = tmp_path / "digits.safetensors"
    done = run("stats", "digits:test", "-o", out, "--offline")
    assert done.code == 0, done.err
    assert "500 images" in done.out
    by_name = run("fid", "digits:test", sets.fake, "--json", "--offline")
    assert by_name.value == run("fid", out, sets.fake, "--json").value
    assert json.loads(by_name.out)["sets"]["reference"]["name"] == "digits:test"
    wrong = run("fid", "digits:validation", sets.fake)
    assert (wrong.code, wrong.out) == (1, "")
    assert "digits has no split 'validation': known: train, test, all" in wrong.err
    assert "digits:test" in run("list").out
