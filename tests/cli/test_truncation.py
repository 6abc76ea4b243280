"""``geneval truncation``: a set for each psi, one reference."""

from __future__ import annotations

import json

import pytest
from PIL import Image


def first_of(folder, count, to):
    to.mkdir()
    for path in sorted(folder.iterdir())[:count]:
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_a_table_has_a_line_a_psi_and_json_one_a_measure(run, sets, tmp_path):
    near = first_of(sets.real, 10, tmp_path / "near")
    given = ("truncation", sets.real, f"1={sets.fake}", f"0.5={near}", "--workers", "0")
    done = run(*given)
    assert done.code == 0, done.err
    heading, first, second = done.out.splitlines()[:3]
    assert heading.split() == ["psi", "precision", "recall", "fid"]
    assert (first.split()[0], second.split()[0]) == ("1", "0.5")
    assert first.count("±") == 3
    assert "reference  " in done.out
    lines = [json.loads(line) for line in run(*given, "--json").out.splitlines()]
    assert [(line["psi"], line["measure"]) for line in lines] == [
        (psi, measure) for psi in (1.0, 0.5) for measure in ("pr", "fid")
    ]
    assert lines[3]["value"] < lines[1]["value"] / 2


def test_what_was_changed_is_said(run, sets, tmp_path):
    gray = tmp_path / "gray"
    gray.mkdir()
    for path in sorted(sets.fake.iterdir()):
        Image.open(path).convert("L").save(gray / path.name)
    done = run("truncation", sets.real, f"1={gray}", "-m", "fid")
    assert done.code == 0, done.err
    assert f"note: 10 of {gray}: gray to RGB" in done.err
    done = run("test", sets.real, gray, "-t", "mean-test", "--permutations", 50)
    assert done.code == 0, done.err
    assert f"note: 10 of {gray}: gray to RGB" in done.err


def test_measures_parameters_and_seed_reach_the_metrics(run, sets):
    done = run(
        *("truncation", sets.real, f"1={sets.fake}", "-m", "kid", "--set", "subsets=3", "--seed", 7, "--json")
    )
    assert done.code == 0, done.err
    (line,) = map(json.loads, done.out.splitlines())
    assert (line["measure"], line["params"]["subsets"], line["params"]["seed"]) == ("kid", 3, 7)


@pytest.mark.parametrize("argument", ["fake", "high=fake", "1=", "=fake"])
def test_a_set_without_psi_is_refused(run, sets, argument):
    done = run("truncation", sets.real, argument)
    assert (done.code, done.out) == (2, "")
    assert "expected PSI=SET" in done.err


def test_a_psi_twice_and_none_at_all_are_refused(run, sets):
    assert "given twice" in run("truncation", sets.real, f"1={sets.fake}", f"1.0={sets.real}").err
    assert run("truncation", sets.real).code == 2
    done = run("truncation", sets.real, f"-0.5={sets.fake}")
    assert done.code != 0


def test_sets_of_different_sizes_are_refused(run, sets, tmp_path):
    few = first_of(sets.fake, 9, tmp_path / "few")
    done = run("truncation", sets.real, f"1={sets.fake}", f"0.5={few}")
    assert (done.code, done.out) == (1, "")
    assert "equally many images, found 10 at 1, 9 at 0.5" in done.err
    assert "image" not in done.err.split("error")[0]  # nothing was measured before


def test_a_set_that_is_missing_is_refused_before_the_first_is_measured(run, sets, tmp_path):
    done = run("truncation", sets.real, f"1={sets.fake}", f"0.5={tmp_path / 'nowhere'}")
    assert (done.code, done.out) == (1, "")
    assert "nowhere" in done.err
    assert "10/10" not in done.err


def test_a_dataset_is_never_fetched_offline(run, sets, tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    done = run("truncation", "mnist:test", f"1={sets.fake}", "--offline")
    assert (done.code, done.out) == (1, "")
    assert "offline" in done.err
