"""The command line before any work: help, versions, verbs that do not exist."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from gen_eval_cli.main import VERBS


def test_help_answers_at_once(process):
    def cpu_seconds():
        """Of processes that are over; a clock would tell how busy the machine is."""
        spent = os.times()
        return spent.children_user + spent.children_system

    seconds = []
    for _ in range(5):
        before = cpu_seconds()
        done = process("--help")
        seconds.append(cpu_seconds() - before)
        assert done.code == 0
        if seconds[-1] < 0.5:
            break
    assert min(seconds) < 0.5
    assert done.err == ""
    assert all(verb in done.out for verb in VERBS)


def test_no_help_imports_torch():
    script = (
        "import sys\n"
        "from gen_eval_cli.main import VERBS, cli\n"
        "for verb in ([], *([verb] for verb in VERBS)):\n"
        "    cli([*verb, '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run, verb):
    done = run(verb, "-h")
    assert done.code == 0
    assert done.out.startswith(f"Usage: geneval {verb}")


def test_version(run):
    done = run("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("geneval, version ")


@pytest.mark.parametrize(("typo", "meant"), [("fdi", "fid"), ("stat", "stats"), ("weight", "weights")])
def test_wrong_verb_suggests(run, typo, meant):
    done = run(typo, "a", "b")
    assert (done.code, done.out) == (2, "")
    assert f"did you mean '{meant}'" in done.err


def test_missing_argument_is_a_usage_error(run):
    done = run("fid", "only-one")
    assert (done.code, done.out) == (2, "")
    assert "FAKE" in done.err
