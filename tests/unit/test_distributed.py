"""Two processes on gloo: the result of one, and an end in bounded time where they do not meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from gen_eval import distributed

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)
SCRIPT = Path(__file__).with_name("distributed_run.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LIMIT = 300  # seconds that a busy machine may take to start two processes and end them


def run(folder, *cases, world=2):
    """By rank, what each case ended in; ``None`` of a rank that ended before."""
    meeting = {**ENVIRONMENT, "STORE": str(folder / "store"), "WORLD_SIZE": str(world)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), *cases],
            env={**meeting, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        errors = [each.communicate(timeout=LIMIT)[1] for each in started]
    finally:
        for each in started:
            each.kill()
    files = [folder / f"{rank}.json" for rank in range(world)]
    assert files[0].exists(), errors
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


def torchrun(folder, case):
    """Two ranks by torchrun, ended."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(SCRIPT), str(folder), case),
        ],
        env=ENVIRONMENT,
        timeout=LIMIT,
        capture_output=True,
        text=True,
        check=False,
    )


TERMS = {"terms": "pil-bicubic", "parameters": "'subset_size': 2", "references": "reference: "}
REFUSED = {
    "repeated": "are 102, and 1 of their indices came more than once, first 7: ",
    "told": "either all batches of a set come with index=, on every rank, or none",
}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two ranks found, one case after the other."""
    return run(
        *(tmp_path_factory.mktemp("ranks"), "turns", "bounded", "uneven", "empty", "lying", *TERMS, *REFUSED)
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, of a bounded sample and of all rows, on as many threads as each rank has.

    How many there are moves float32 products by rounding, and KID by 4e-9 of its value on some machines.
    """
    return run(tmp_path_factory.mktemp("alone"), "turns", "bounded", world=1)[0]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for measure, groups in expected.items():
        for mine, theirs in zip(found[measure], groups, strict=True):
            largest = max(map(abs, theirs.values()), default=0)  # the spread of equal subsets is its rounding
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-12 * largest)


@pytest.mark.parametrize("case", ["turns", "bounded", "uneven", "empty", "lying"])
def test_every_rank_finds_what_one_process_does(case, alone, together):
    for found in together:
        assert_same(found[case]["numbers"], alone["bounded" if case == "bounded" else "turns"]["numbers"])


@pytest.mark.parametrize("case", TERMS)
def test_ranks_on_different_terms_are_refused(case, together):
    for found in together:
        assert found[case]["error"] == "IncomparableError"
        assert TERMS[case] in found[case]["message"]


def test_ranks_meet_again_after_one_was_late(alone, tmp_path):
    for found in run(tmp_path, "late"):
        assert_same(found["late"]["numbers"], alone["turns"]["numbers"])


@pytest.mark.parametrize("case", REFUSED)
def test_what_ranks_have_twice_or_share_in_two_ways_is_refused(case, together):
    for found in together:
        assert found[case]["error"] == "UsageError"
        assert REFUSED[case] in found[case]["message"]


@pytest.mark.parametrize("present", [0, 1])
def test_a_rank_that_comes_alone_is_told_so_in_bounded_time(present, tmp_path):
    found = run(tmp_path, f"only-{present}")[present][f"only-{present}"]
    assert found["error"] == "DistributedError"
    assert f"rank {present} of 2 came to Monitor.compute()" in found["message"]
    assert "distributed=False" in found["message"]
    assert found["seconds"] < 30  # of a timeout of 4, on a busy machine


def test_a_killed_rank_ends_the_others(tmp_path):
    survivor, killed = run(tmp_path, "killed")
    assert killed is None
    assert survivor["killed"]["error"] == "DistributedError"
    assert survivor["killed"]["seconds"] < 30
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["0.json"]


def test_torchrun_finds_what_one_process_does(alone, tmp_path):
    done = torchrun(tmp_path, "turns")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert_same(found["turns"]["numbers"], alone["turns"]["numbers"])


def test_torchrun_ends_with_a_killed_rank(tmp_path):
    done = torchrun(tmp_path, "killed-at-leisure")
    assert done.returncode != 0
    assert "exitcode: 9" in " ".join(done.stderr.split())
    for file in tmp_path.iterdir():  # the other may have been told before torchrun ended it
        assert file.name == "0.json"
        assert json.loads(file.read_text())["killed-at-leisure"]["error"] == "DistributedError"


def test_alone_nothing_changes_hands():
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    value = object()
    assert distributed.all_gather(value, "a test", 1.0) == [value]
