"""``geneval list`` shows every row of the tables."""

from __future__ import annotations

import os
import subprocess

import pytest

from gen_eval.extractors import EXTRACTORS
from gen_eval.metrics import ALIASES, METRICS
from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS


def test_every_row_is_shown_once(run):
    done = run("list")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    rows = [*ALIASES, *METRICS, *EXTRACTORS, *PROTOCOLS]
    assert [line.split()[0] for line in lines if line.startswith(" ")] == rows
    assert [line for line in lines if not line.startswith(" ")] == [
        "measures",
        "metrics",
        "extractors",
        "protocols",
    ]


def test_every_row_is_explained_and_the_default_marked(run):
    lines = [line for line in run("list").out.splitlines() if line.startswith(" ")]
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert [line.split()[0] for line in lines if line.endswith("(default)")] == [DEFAULT_PROTOCOL]


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that breaks")
def test_a_reader_that_leaves_is_no_crash(geneval_path):
    with subprocess.Popen([geneval_path, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does once it has seen enough
        err = process.stderr.read()
    assert process.returncode != 0
    assert err == b""
