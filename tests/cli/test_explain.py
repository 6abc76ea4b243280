"""``geneval explain``: result files in words."""

from __future__ import annotations

import io
import json
import sys

import pytest


@pytest.fixture
def result(run, sets, tmp_path):
    """A file as users make it; its Inception is pixels."""
    done = run("evaluate", sets.real, sets.fake, "-m", "fid", "-m", "pr", "--json")
    assert done.code == 0, done.err
    path = tmp_path / "fake.json"
    path.write_text(done.out)
    return path


def test_each_number_is_explained(run, result):
    done = run("explain", result)
    assert (done.code, done.err) == (0, "")
    paragraphs = done.out.split("\n\n")
    assert [each.splitlines()[0] for each in paragraphs] == ["fid", "pr"]
    fid, pr = paragraphs
    line = json.loads(result.read_text().splitlines()[0])
    assert f"  fid = {line['value']:.6g}, lower is better\n" in fid
    assert "squared Fréchet distance of two Gaussians" in fid
    assert "in 95 of 100 cases" in fid
    assert "how the number of images moves it is not known" in fid
    for label in ("precision", "recall"):
        assert f"  {label} = " in pr
    assert "pixels pool, weights" in fid
    assert "measured on the same, but for\n    parameters k=3" in pr
    assert "10 images, content" in fid


def test_tables_and_what_keeps_the_numbers_out(run, result):
    fid, pr = run("explain", result).out.split("\n\n")
    assert "may be set beside no published table that is known here, as it stands" in fid
    assert "generated images 10, there 50,000: generate as many" in fid
    assert "--protocol pytorch-fid" in fid
    assert "10,000 images of the reference batch" in pr
    assert "torch-fidelity 0.4 has no pr" in pr


def test_a_measure_of_no_table_says_so(run, sets, tmp_path):
    done = run("evaluate", sets.real, sets.fake, "-m", "fd:pixels", "--json")
    (tmp_path / "a.json").write_text(done.out)
    assert "no published tables of it are known here" in run("explain", tmp_path / "a.json").out


def test_json_is_an_object_a_result(run, result):
    rows = [json.loads(line) for line in run("explain", result, "--json").out.splitlines()]
    assert [row["measure"] for row in rows] == ["fid", "pr"]
    assert [number["label"] for number in rows[1]["numbers"]] == ["precision", "recall"]
    assert rows[0]["comparable_with"] == []
    assert {gap["term"] for each in rows[0]["not_yet_comparable_with"] for gap in each["gaps"]} >= {
        "generated images"
    }


def test_held_out_images_are_what_a_perfect_generator_would_get(run, sets, tmp_path):
    done = run("evaluate", sets.real, sets.fake, "-m", "fid", "--heldout", sets.fake, "--json")
    (tmp_path / "a.json").write_text(done.out)
    assert (
        "held-out real images in the place of the generated: fid " in run("explain", tmp_path / "a.json").out
    )


def test_results_come_through_a_pipe(run, result, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(result.read_bytes())))
    assert run("explain", "-").out == run("explain", result).out


@pytest.mark.parametrize("verb", ["explain", "compare"])
@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 2, "cannot read"),
        (b"", 1, "holds no result"),
        (b"no json\n", 1, "line 1"),
        (b'{"measure": "fid"}\n', 1, "line 1: not a result of gen_eval"),
        (b"\xff\xfe\x00", 1, "is no text"),
    ],
)
def test_files_that_hold_no_results_are_refused(run, tmp_path, verb, content, code, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    done = run(verb, path, *(["other.json"] if verb == "compare" else []))
    assert (done.code, done.out) == (code, "")
    assert message in done.err
