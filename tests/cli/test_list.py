"""``geneval list`` shows every row of the tables."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from gen_eval_cli.options import parse_value

from gen_eval.datasets import DATASETS
from gen_eval.direction import spell
from gen_eval.extractors import EXTRACTORS
from gen_eval.metrics import ALIASES, METRICS


def rows(done):
    """The lines that begin with a name; what goes on below is further in."""
    assert (done.code, done.err) == (0, "")
    return [line for line in done.out.splitlines() if re.match(r"  \S", line)]


def test_every_row_is_shown_once(run):
    done = run("list")
    names = [f"{name}:{split}" for name, source in DATASETS.items() for split in source.sizes]
    assert [line.split()[0] for line in rows(done)] == [*ALIASES, *METRICS, *EXTRACTORS, *names]
    headings = [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert headings == ["measures", "metrics", "extractors", "sets", "protocols"]


def test_every_row_is_explained_and_protocols_are_elsewhere(run):
    done = run("list")
    assert all(len(line.split(maxsplit=1)) == 2 for line in rows(done))
    assert done.out.splitlines()[-1] == "protocols  (`geneval protocols` shows what they fix)"


def test_every_parameter_of_a_metric_is_shown_with_its_default(run):
    lines = run("list").out.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("metrics"))
    for metric in METRICS.values():
        place = next(at for at in range(first, len(lines)) if lines[at].split()[:1] == [metric.name])
        assert f"version {metric.version}" in lines[place]
        assert metric.cite in lines[place]
        for value, better in metric.better.items():
            assert f"{value}, {spell(better)}" in lines[place]
        if metric.params:
            shown = dict(each.split("=") for each in lines[place + 1].split())
            assert {name: parse_value(text) for name, text in shown.items()} == dict(metric.params)


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that breaks")
def test_a_reader_that_leaves_is_no_crash(geneval_path):
    with subprocess.Popen([geneval_path, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does once it has seen enough
        err = process.stderr.read()
    assert process.returncode != 0
    assert err == b""
