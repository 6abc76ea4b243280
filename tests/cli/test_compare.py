"""``geneval compare``: two result files, measure by measure."""

from __future__ import annotations

import json

import pytest

from gen_eval.comparison import compare
from gen_eval.results import read_results

MEASURES = ("-m", "fid", "-m", "kid", "-m", "pr")


@pytest.fixture
def written(run, sets, tmp_path):
    """Writes a result file as users make it; its Inception is pixels."""

    def write(name, fake, *options, real=None):
        done = run("evaluate", real or sets.real, fake, *(options or MEASURES), "--json")
        assert done.code == 0, done.err
        (tmp_path / name).write_text(done.out)
        return tmp_path / name

    return write


@pytest.fixture
def other(sets, tmp_path):
    """As many images as the fake ones, far darker."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "dark"
    folder.mkdir()
    for path in sets.fake.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 8).save(folder / path.name)
    return folder


def test_each_value_that_both_have_is_compared(run, sets, other, written):
    a, b = written("a.json", sets.fake), written("b.json", other)
    done = run("compare", a, b)
    assert (done.code, done.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in done.out.splitlines()[1:5]}
    assert list(rows) == ["fid", "kid", "precision", "recall"]
    found = compare(*(read_results(path.read_text().splitlines(), "x")[0] for path in (a, b)))
    assert [float(cell) for cell in rows["fid"][1:5]] == pytest.approx(
        [found.a, found.b, found.difference, found.error], rel=0.05
    )
    assert (
        f"both have the reference images {sets.real}: the error of fid is without their sampling; the error of "
        "kid, precision, recall counts their sampling twice, which is rather too wide" in done.out
    )
    assert done.out.splitlines()[-1].startswith(f"{a} is better by ")


def test_json_is_one_object(run, sets, other, written):
    a, b = written("a.json", sets.fake), written("b.json", other)
    done = run("compare", a, b, "--json", "--alpha", "0.01")
    data = json.loads(done.out)
    assert (data["a"], data["b"], data["alpha"]) == (str(a), str(b), 0.01)
    assert [each["label"] for each in data["comparisons"]] == ["fid", "kid", "precision", "recall"]
    for each in data["comparisons"]:
        assert each["difference"] == pytest.approx(each["a"] - each["b"])
        assert each["z"] is None or each["z"] == pytest.approx(each["difference"] / each["error"])
        assert each["adjusted"] >= each["p_value"]
    assert (data["refused"], data["untested"]) == ({}, {})
    assert data["shared"] == {"reference": str(sets.real)}
    assert data["verdict"] in run("compare", a, b, "--alpha", "0.01").out


def test_a_file_against_a_copy_of_itself_is_not_told_apart(run, sets, written):
    a, b = written("a.json", sets.fake), written("b.json", sets.fake)
    done = run("compare", a, b)
    assert done.code == 0
    assert done.out.splitlines()[-1] == (
        "Not told apart by fid, kid, precision, recall (level 0.05 for 4 values, Holm)."
    )


def test_values_without_errors_are_shown_and_not_judged(run, sets, other, written):
    a = written("a.json", sets.fake, "-m", "realism")
    b = written("b.json", other, "-m", "realism")
    done = run("compare", a, b)
    assert done.code == 2
    assert "no standard error is known" in done.out
    assert done.out.splitlines()[-1] == "Nothing was compared."


def test_what_one_file_has_alone_is_named(run, sets, other, written):
    a, b = written("a.json", sets.fake, "-m", "fid"), written("b.json", other, "-m", "fid", "-m", "kid")
    done = run("compare", a, b)
    assert done.code == 2
    assert f"only in {b}: kid" in done.out
    assert "(level 0.05 for 1 value)" in done.out


def test_precisions_of_two_measures_are_told_apart(run, sets, other, written):
    options = ("-m", "pr", "-m", "prdc", "--set", "prdc.k=2")
    done = run(
        "compare", written("a.json", sets.fake, *options), written("b.json", other, *options), "--json"
    )
    labels = [each["label"] for each in json.loads(done.out)["comparisons"]]
    assert {"precision of pr", "precision of prdc"} <= set(labels)
    assert len(labels) == len(set(labels))


def test_one_measure_under_two_names_is_compared(run, sets, other, written):
    a = written("a.json", sets.fake, "-m", "pr:pixels")
    done = run("compare", a, written("b.json", other, "-m", "precision-recall:pixels/pool"))
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["precision:pixels", "recall:pixels"]


def test_a_value_that_is_no_number_is_not_compared(run, sets, other, written):
    a, b = (written(name, fake, "-m", "fid") for name, fake in (("a.json", sets.fake), ("b.json", other)))
    line = json.loads(a.read_text())
    a.write_text(json.dumps({**line, "values": {"frechet": None}}))
    done = run("compare", a, b)
    assert done.code == 2
    assert "fid: nan against " in done.out
    assert "of which not each value is known" in done.out
    assert done.out.splitlines()[-1] == "Nothing was compared."


# --- What does not compare


def test_other_terms_are_refused_and_named_with_their_cure(run, sets, other, written):
    a = written("a.json", sets.fake)
    b = written("b.json", other, *MEASURES, "--protocol", "pytorch-fid")
    done = run("compare", a, b)
    assert done.code == 2
    assert done.err.count("refused: ") == 3
    assert "resize: tf1-bilinear to 8 against torch-bilinear to 8" in done.err
    assert "use one --protocol" in done.err
    assert done.out.splitlines()[-1] == "Nothing was compared."
    refused = json.loads(run("compare", a, b, "--json").out)["refused"]
    assert list(refused) == ["fid", "kid", "pr"]


def test_what_compares_is_compared_where_something_is_refused(run, sets, other, written):
    a = written("a.json", sets.fake)
    b = written("b.json", other, *MEASURES, "--set", "precision-recall.k=4")
    done = run("compare", a, b)
    assert done.code == 2
    assert done.err.count("refused: ") == 1
    assert "parameters: " in done.err
    assert "is better by" in done.out.splitlines()[-1]


def test_another_reference_is_refused(run, sets, other, written):
    a = written("a.json", sets.fake, "-m", "fid")
    b = written("b.json", sets.fake, "-m", "fid", real=other)
    done = run("compare", a, b)
    assert done.code == 2
    for term in ("reference n: 12 against 10", "reference images: ", "use one reference"):
        assert term in done.err


def test_files_without_a_common_measure_are_refused(run, sets, other, written):
    a, b = written("a.json", sets.fake, "-m", "fid"), written("b.json", other, "-m", "kid")
    done = run("compare", a, b)
    assert done.code == 2
    assert f"{a} has fid and {b} has kid: no measure is in both" in done.err


def test_a_file_of_several_sets_is_refused(run, sets, other, written):
    a, b = written("a.json", sets.fake), written("b.json", other)
    a.write_text(a.read_text() + b.read_text())
    done = run("compare", a, b)
    assert (done.code, done.out) == (2, "")
    assert f"holds fid more than once, of {sets.fake}, {other}" in done.err


def test_one_file_twice_is_a_usage_error(run, sets, written):
    a = written("a.json", sets.fake)
    done = run("compare", a, a)
    assert (done.code, done.out) == (2, "")
    assert "A and B are both" in done.err
