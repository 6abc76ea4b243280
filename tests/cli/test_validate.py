"""``geneval validate``: a line a number, a verdict each, and the exit code of a build."""

from __future__ import annotations

import json

import pytest

from gen_eval.validation import CHECKS, Check, at_least, near


def fails():
    raise RuntimeError("no such luck")


TABLE = {
    check.name: check
    for check in (
        Check("doubled", "Twice two.", ("adder",), "quick", (near(4, 0.1),), lambda: 4.05, "arithmetic"),
        Check(
            "pair",
            "Two numbers.",
            ("adder", "halver"),
            "quick",
            (near(1, 0.5, "first"), at_least(2, "second")),
            lambda: (1.25, 7),
            "arithmetic",
        ),
        Check("off", "Twice three.", ("doubler",), "standard", (near(6, 0.1),), lambda: 6.2, "arithmetic"),
        Check("broken", "Breaks off.", ("doubler",), "images", (near(6, 0.1),), fails, "arithmetic"),
        Check("nothing", "Finds NaN.", ("prover",), "images", (at_least(1),), lambda: float("nan"), "logic"),
    )
}


@pytest.fixture(autouse=True)
def checks(monkeypatch):
    monkeypatch.setattr("gen_eval.validation.CHECKS", TABLE)


def test_each_number_has_a_line_and_the_last_line_counts(run):
    done = run("validate")
    assert (done.code, done.err) == (0, "")
    heading, doubled, first, second, empty, count = done.out.splitlines()
    assert heading.split() == ["check", "known", "tolerance", "got", "verdict", "seconds"]
    assert doubled.split() == ["doubled", "4", "±0.1", "4.05", "ok", "0.00"]
    assert first.split() == ["pair", "first", "1", "±0.5", "1.25", "ok", "0.00"]
    assert second.split() == ["second", "2", "or", "more", "7", "ok"]
    assert empty == ""
    assert count == "2 checks of 3 numbers, 0 s: all as known"
    ends = {line.index(" ok") for line in (doubled, first, second)}
    assert ends == {heading.index(" verdict")}, "columns are aligned"


def test_a_miss_is_shown_and_exits_with_1(run):
    done = run("validate", "--tier", "standard")
    assert done.code == 1
    rows = done.out.splitlines()
    assert rows[4].split() == ["off", "6", "±0.1", "6.2", "MISS", "0.00"]
    assert rows[-1].endswith("1 missed: off")


def test_a_check_that_breaks_off_is_a_miss_and_the_others_run(run):
    done = run("validate", "--tier", "images")
    assert done.code == 1
    assert "RuntimeError: no such luck" in done.out
    assert done.out.splitlines()[-1].endswith("3 missed: off, broken, nothing")
    assert "nan" in done.out


def test_names_of_checks_and_models_choose(run):
    assert run("validate", "off").code == 1
    done = run("validate", "halver")
    assert done.out.splitlines()[1].startswith("pair ")
    assert done.out.splitlines()[-1].startswith("1 check of 2 numbers, ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["dubled"], "did you mean 'doubled'?"),
        (["addr"], "did you mean 'adder'?"),
        (["--tier", "quik"], "did you mean 'quick'?"),
        (["doubler"], "--tier standard"),
    ],
)
def test_names_that_do_not_exist_are_refused_before_any_check(run, args, said):
    done = run("validate", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_json_is_a_line_a_check_and_nothing_else(run):
    done = run("validate", "--tier", "images", "--json")
    assert done.code == 1
    lines = {line["check"]: line for line in map(json.loads, done.out.splitlines())}
    assert list(lines) == list(TABLE)
    assert lines["pair"]["got"] == [1.25, 7.0]
    assert lines["pair"]["known"][1] == {"value": 2.0, "below": 0.0, "above": None, "what": "second"}
    assert [line["passed"] for line in lines.values()] == [True, True, False, False, False]
    assert lines["broken"]["error"] == "RuntimeError: no such luck"
    assert lines["nothing"]["got"] == [None]


def test_list_runs_nothing(run):
    done = run("validate", "--tier", "images", "--list")
    assert done.code == 0
    for check in TABLE.values():
        assert f"{check.name}  ({check.tier}; {', '.join(check.models)})" in done.out
        assert check.about in done.out
    assert "first: 1 ±0.5" in done.out


def test_a_check_that_ships_is_met(run, monkeypatch):
    monkeypatch.setattr("gen_eval.validation.CHECKS", CHECKS)
    name = next(name for name, check in CHECKS.items() if check.tier == "quick")
    done = run("validate", name)
    assert done.code == 0, done.out
    assert done.out.splitlines()[1].startswith(name)
