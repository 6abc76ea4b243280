"""``geneval sensitivity``: a table, and files that hold the same numbers; wrong inputs refused before the work."""

from __future__ import annotations

import csv
import importlib.util
import json
import re

import numpy as np
import pytest
from gen_eval_cli.plots import spread

from .conftest import write_folder

QUICK = ("--disturbance", "noise", "--disturbance", "copies", "-m", "fid", "-m", "pr", "--device", "cpu")
PROGRESS = r"\d/\d+ images"


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Read only: 60 images in folders of three classes."""
    root = tmp_path_factory.mktemp("classes") / "photos"
    for place, name in enumerate(("cat", "dog", "owl")):
        write_folder(root / name, 10 + place, 20)
    return root


def cells(line: str) -> list[str]:
    return line.split()


def test_the_table_and_its_terms(run, classes):
    done = run("sensitivity", classes, *QUICK, "--strengths", "noise=8,72")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert cells(lines[0]) == ["disturbance", "strength", "fid", "precision", "recall"]
    assert cells(lines[1])[0] == "clean"
    assert cells(lines[2])[:2] == ["±", "s.e."]
    assert [cells(line)[:-3] for line in lines[3:8]] == [
        ["noise", "8"],
        ["72"],
        ["copies", "10"],
        ["50"],
        ["100"],
    ]
    assert all(cell[0] in "+-" for line in lines[3:8] for cell in cells(line)[-3:])
    assert float(cells(lines[7])[-3]) < -2  # copies of the reference are a better FID
    assert "in standard errors of the difference, positive where it says that the set is worse" in done.out
    assert "photos, clean, 12 images" in done.out
    assert "photos  84/84 images" in done.err
    assert re.search(PROGRESS, done.err)


def test_files_hold_the_numbers_of_the_table(run, classes, tmp_path):
    table, page = tmp_path / "moves.csv", tmp_path / "page.md"
    first = run("sensitivity", classes, *QUICK, "--out", table, "--markdown", page)
    assert first.code == 0, first.err
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3
    assert {row["name"] for row in rows} == {"fid", "precision", "recall"}
    shown = [cell for line in first.out.splitlines()[3:9] for cell in cells(line)[-3:]]
    signs = [-1 if row["better"] == "higher" else 1 for row in rows]
    assert shown == [f"{sign * float(row['z']):+.1f}" for sign, row in zip(signs, rows, strict=True)]
    for row in rows:
        move = float(row["value"]) - float(row["clean"])
        error = np.hypot(float(row["error"]), float(row["clean_error"]))
        assert float(row["z"]) == pytest.approx(move / error, abs=1e-9)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# What each measure sees\n")
    body = [line for line in text.splitlines() if line.startswith("|")]
    values = [cell.strip(" *") for line in body[-6:] for cell in line.split("|")[3:6]]
    assert values == shown
    assert (
        "| copies | images, drawn by chance, replaced by copies of reference images | % of the images |"
        in text
    )
    assert "- **fid** says" in text
    assert "better of copies" in text
    options = " ".join(map(str, (*QUICK, "--out", table, "--markdown", page)))
    assert f"Made by `geneval sensitivity {classes} {options}`." in text

    data = run("sensitivity", classes, *QUICK, "--out", tmp_path / "moves.json")
    assert data.out == first.out
    found = json.loads((tmp_path / "moves.json").read_text())
    assert [one["value"] for one in found["moves"]] == [float(row["value"]) for row in rows]
    assert (found["n"], found["seed"], len(found["clean"])) == (12, 0, 2)
    assert found["clean"][0]["measure"] == "fid"


def test_strengths_and_measures_given_twice(run, classes):
    given = ("--disturbance", "noise", "--strengths", "noise=72", "--strengths", "noise=8", "--n", 12)
    done = run("sensitivity", classes, *given, "-m", "fid", "-m", "fid")
    assert done.code == 0, done.err
    assert cells(done.out.splitlines()[0]) == ["disturbance", "strength", "fid"]
    assert [cells(line)[-2] for line in done.out.splitlines()[3:5]] == ["8", "72"]


def test_a_value_without_a_standard_error_says_nothing(run, classes, tmp_path):
    page = tmp_path / "page.md"
    done = run(
        "sensitivity", classes, "--n", 12, "--disturbance", "noise", "-m", "realism", "--markdown", page
    )
    assert done.code == 0, done.err
    assert "**realism** has no standard error to measure its moves in." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("extension", [".png", ".svg"])
def test_a_chart(run, classes, tmp_path, extension):
    pytest.importorskip("matplotlib")
    chart, page = tmp_path / f"chart{extension}", tmp_path / "page.md"
    done = run("sensitivity", classes, *QUICK, "--plot", chart, "--markdown", page)
    assert done.code == 0, done.err
    assert f"![Moves under each disturbance](chart{extension})" in page.read_text(encoding="utf-8")
    drawn = chart.read_bytes()
    assert len(drawn) > 10_000
    if extension == ".svg":
        for text in ("What each measure sees in", "copies", "% of the images", "precision"):
            assert text in drawn.decode()
        run("sensitivity", classes, *QUICK, "--plot", chart)
        assert chart.read_bytes() == drawn


def test_a_chart_without_matplotlib_is_refused_before_the_work(run, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    done = run("sensitivity", classes, *QUICK, "--plot", tmp_path / "chart.png")
    assert (done.code, done.out) == (1, "")
    assert "pip install 'gen_eval[plot]'" in done.err
    assert not re.search(PROGRESS, done.err)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--disturbance", "nose"), 1, "did you mean 'noise'"),
        (("-m", "fib"), 1, "did you mean 'fid'"),
        (("--strengths", "noise"), 2, "expected NAME=NUMBER,NUMBER"),
        (("--strengths", "noise=loud"), 2, "expected NAME=NUMBER,NUMBER"),
        (("--strengths", "jpeg=100"), 1, "expected 0 to 99"),
        (("--n", "16"), 1, "at most n = 15"),
        (("--out", "moves.txt"), 1, "ends in .csv, .json"),
        (("--out", "nowhere/moves.csv"), 1, "there is no folder nowhere"),
        (("--markdown", "page.html"), 1, "ends in .md"),
        (("--plot", "chart.bmp"), 1, "ends in .png, .svg, .pdf"),
        (("--plot", "nowhere/chart.png"), 1, "there is no folder nowhere"),
    ],
)
def test_wrong_inputs_are_refused_before_the_work(run, classes, options, code, message):
    done = run("sensitivity", classes, *options)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not re.search(PROGRESS, done.err)


def test_classes_are_folders_or_labels_or_do_without(run, classes, sets, tmp_path):
    options = ("-m", "fid", "--strengths", "drop-classes=30")
    done = run("sensitivity", classes, *options, "--disturbance", "drop-classes")
    assert done.code == 0, done.err
    assert "drop-classes" in done.out
    done = run("sensitivity", sets.real, "-m", "fid", "--n", "3", "--disturbance", "drop-classes")
    assert (done.code, done.out) == (1, "")
    assert "--labels" in done.err
    labels = tmp_path / "labels.txt"
    labels.write_text(" ".join("ab"[index % 2] for index in range(12)))
    done = run("sensitivity", sets.real, *options, "--n", "2", "--labels", labels)
    assert done.code == 0, done.err
    done = run("sensitivity", sets.real, "-m", "fid", "--n", "3", "--disturbance", "none", "--labels", labels)
    assert done.code == 0, done.err


def test_what_is_left_out_is_said_once(run, sets):
    done = run("sensitivity", sets.real, "-m", "fid", "--n", "3")
    assert done.code == 0, done.err
    assert "drop-classes" not in done.out
    assert done.err.count("left out: drop-classes 10, drop-classes 30, drop-classes 50: ") == 1


def test_a_named_dataset_brings_its_classes(run):
    pytest.importorskip("sklearn")  # whose copy of the digits is at hand
    done = run(
        "sensitivity", "digits:test", "-m", "fid", "--n", "40", "--strengths", "drop-classes=30", "--offline"
    )
    assert done.code == 0, done.err
    assert "drop-classes" in done.out
    assert "digits:test, reference, 40 images" in done.out


def test_another_extractor_and_parameters(run, classes):
    done = run(
        "sensitivity", classes, "--disturbance", "none", "-m", "pr", "-m", "fid:inception", "--extractor", "pixels",
        "--set", "k=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert cells(done.out.splitlines()[0])[2:] == ["precision:pixels", "recall:pixels", "fid:inception"]


def test_labels_of_lines_are_spread_apart_in_order():
    assert spread([5.0, 5.0, 9.0], 2.0, 0.0, 10.0) == [4.0, 6.0, 9.0]
    assert spread([0.0, 0.0, 0.0], 1.0, 0.0, 10.0) == [0.0, 1.0, 2.0]
    assert spread([10.0, 9.9], 1.0, 0.0, 10.0) == [10.0, 9.0]
    heights = np.random.default_rng(0).uniform(0, 10, 12)
    placed = np.array(spread(list(heights), 0.5, 0.0, 10.0))
    assert (placed.argsort() == heights.argsort()).all()
    assert (np.diff(np.sort(placed)) > 0.5 - 1e-9).all()
    assert placed.min() >= 0
    assert placed.max() <= 10
