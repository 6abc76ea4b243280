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
LIMIT = 300  # seconds that a busy machine may take to start two processes and end them


def run(case, folder, world):
    """What each rank found; ``None`` of one that ended before."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(world), str(folder / "store"), str(folder), case],
            env=environment,
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
    assert files[0].exists() or case == "only-1", errors
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, of a bounded sample and of all rows."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: run(case, folder / case, 1)[0]["numbers"] for case in ("turns", "bounded")}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for measure, groups in expected.items():
        for mine, theirs in zip(found[measure], groups, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", ["turns", "bounded", "uneven", "empty"])
def test_every_rank_finds_what_one_process_does(case, alone, tmp_path):
    expected = alone["bounded" if case == "bounded" else "turns"]
    for found in run(case, tmp_path / "run", 2):
        assert_same(found["numbers"], expected)


@pytest.mark.parametrize(("case", "present"), [("only-0", 0), ("only-1", 1)])
def test_a_rank_that_comes_alone_is_told_so_in_bounded_time(case, present, tmp_path):
    found = run(case, tmp_path / "run", 2)[present]
    assert found["error"] == "DistributedError"
    assert f"rank {present} of 2 came to Monitor.compute()" in found["message"]
    assert "distributed=False" in found["message"]
    assert found["seconds"] < 20  # three times the timeout, on a busy machine


def test_a_killed_rank_ends_the_others(tmp_path):
    survivor, killed = run("killed", tmp_path / "run", 2)
    assert killed is None
    assert survivor["error"] == "DistributedError"
    assert survivor["seconds"] < 20
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != "store") == ["0.json"]


def test_ranks_on_different_terms_are_refused(tmp_path):
    for found in run("terms", tmp_path / "run", 2):
        assert found["error"] == "IncomparableError"
        assert "torch-bilinear" in found["message"] or "pil-bicubic" in found["message"]


def test_alone_nothing_changes_hands():
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    value = object()
    assert distributed.all_gather(value, "a test", 1.0) == [value]
