"""``geneval protocols``: every row of the table, side by side and one in words."""

from __future__ import annotations

import json

import pytest

from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS, SHOWN


def test_every_protocol_has_its_lines_one_a_network(run):
    done = run("protocols")
    assert (done.code, done.err) == (0, "")
    head, *body = done.out.splitlines()
    named = [line.split()[0] for line in body if line and not line.startswith(" ")]
    assert named[: len(PROTOCOLS)] == list(PROTOCOLS)
    assert head.split()[:3] == ["protocol", "network", "measures"]
    for protocol in PROTOCOLS.values():
        (line,) = [line for line in body if line.split()[:1] == [protocol.name] and protocol.tool in line]
        assert line.rstrip().endswith(protocol.shown)
    assert f"{DEFAULT_PROTOCOL} is the default" in done.out


def test_settings_stand_where_the_tool_has_what_they_are_of(run):
    lines = {line.split()[0]: line for line in run("protocols").out.splitlines() if line[:1].strip()}
    assert "k=5 <" in lines["prdc"]
    assert "of 1,000" not in lines["prdc"]
    assert "k=3 ≤" in lines["kynkaanniemi"]
    assert "k=" not in lines["pytorch-fid"]
    assert "n/5,000, in order" in lines["adm"]
    assert "float16-squared" in lines["adm"]
    assert "pil-bicubic-uint8         yes" in lines["dgm-eval"]


def test_json_is_an_object_a_protocol(run):
    done = run("protocols", "--json")
    assert done.code == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["name"] for row in rows] == list(PROTOCOLS)
    (dgm,) = [row for row in rows if row["name"] == "dgm-eval"]
    dinov2 = dgm["networks"][0]
    assert (dinov2["network"], dinov2["resize"], dinov2["quantize"]) == ("dinov2", "pil-bicubic-uint8", True)
    assert dinov2["params"]["prdc:dinov2"]["k"] == 5
    assert dgm["default_networks"]["pr"] == "dinov2"


def test_a_rounding_that_a_summary_names_is_that_of_the_parameter(run):
    told = run("protocols", "adm").out
    assert "squared distances rounded to float16" in told
    assert "feature_dtype=float16-squared" in told
    assert "- float16-squared: " in told


@pytest.mark.parametrize("name", PROTOCOLS)
def test_one_in_words(run, name):
    done = run("protocols", name)
    assert done.code == 0
    protocol = PROTOCOLS[name]
    assert done.out.startswith(name)
    assert protocol.meaning in done.out
    assert SHOWN[protocol.shown] in done.out
    assert all(note in done.out for note in protocol.notes)
    assert all(f"  {measure} " in done.out for measure in protocol.measures)
    assert json.loads(run("protocols", name, "--json").out)["name"] == name


def test_a_name_that_is_none_suggests(run):
    done = run("protocols", "clean_fid")
    assert (done.code, done.out) == (1, "")
    assert "did you mean 'clean-fid'" in done.err
