"""What options of the measuring verbs take, and which verbs have them."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("verb", "option"),
    [("fid", "--labels"), ("is", "--labels"), ("is", "--reference-n"), ("is", "--neighbors")],
)
def test_verbs_have_no_options_that_mean_nothing_to_them(run, sets, verb, option):
    done = run(verb, sets.real, sets.fake, option, "2")
    assert (done.code, done.out) == (2, "")
    assert f"No such option: {option}" in done.err or f"No such option '{option}'" in done.err


def test_labels_of_no_set_are_refused(run, sets):
    done = run("intra-fid", sets.real, sets.fake, "--labels", "genrated=labels.csv")
    assert (done.code, done.out) == (2, "")
    assert "unknown set 'genrated': did you mean 'generated'" in done.err


def test_parameters_go_by_metric_and_by_measure(run, sets):
    both = ("evaluate", sets.real, sets.fake, "-m", "pr:pixels", "-m", "dc:pixels", "--json")
    done = run(*both, "--set", "pr.k=2", "--set", "density-coverage.k=4")
    assert done.code == 0, done.err
    assert [json.loads(line)["params"]["k"] for line in done.out.splitlines()] == [2, 4]
    done = run(*both, "--set", "pr.q=2")
    assert (done.code, done.out) == (1, "")
    assert "unknown parameter 'precision-recall.q'" in done.err


def test_a_text_for_a_number_is_told_as_such(run, sets):
    done = run("pr", sets.real, sets.fake, "--k", "three")
    assert (done.code, done.out) == (1, "")
    assert "k of pr is a number, such as 3; found 'three'" in done.err
