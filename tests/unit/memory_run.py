"""What work on many feature rows takes beside them: blocks, and no copies of all of them that nobody needs.

Tests that ``test_memory.py`` runs in a process of their own: the heap that other tests leave behind would count.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from gen_eval import compact, sealed
from gen_eval.extractors.vectors import Identity
from gen_eval.metrics.metric import BOTH, on_classes
from gen_eval.metrics.rows import mean_of, of_each
from gen_eval.metrics.transport.sliced import sliced_wasserstein
from gen_eval.metrics.two_sample.pool import Pool
from gen_eval.passing import Request
from gen_eval.sources import open_source
from gen_eval.stats import Features, Moments, Sample

N, DIM = 16_384, 1024
SIZE = N * DIM * 4  # bytes of the rows: freed, such a block goes back to the system
RESET = Path("/proc/self/clear_refs")

pytestmark = pytest.mark.skipif(
    not RESET.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="no account of a process's peak here",
)


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(0))


def resident(line: str) -> float:
    """A line of this process's account, in units of the rows."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(each.split()[1]) * 1024 / SIZE for each in status if each.startswith(line))


def extra(work) -> float:
    """The most memory that a piece of work takes, what it gives included: the least of three times.

    Pages that the system had put aside, and what libraries set up once, come on top.
    """
    return min(peak(work) for _ in range(3))


def peak(work) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what others freed shall not pass for what is there
    RESET.write_text("5")
    before = resident("VmRSS")
    given = work()
    most = resident("VmHWM") - before
    del given
    return most


def test_a_copy_is_seen(rows):
    assert 0.9 < extra(rows.clone) < 1.2
    assert 1.8 < extra(rows.double) < 2.3


def test_means_and_functions_of_rows_take_blocks(rows):
    assert extra(lambda: mean_of(rows, rows)) < 1
    assert extra(lambda: of_each(lambda part: part.square().sum(1), rows)) < 1


def test_moments_take_a_block_in_float64(rows):
    assert extra(lambda: Moments.of(rows)) < 1.6


def test_samples_are_joined_into_one(rows):
    places = torch.chunk(torch.arange(N), 4)
    parts = [Sample(rows[place], place, None) for place in places]
    assert extra(lambda: Sample.joined(parts)) < 1.5


def test_a_file_is_written_and_checked_without_copies(rows, tmp_path):
    path = tmp_path / "rows.safetensors"
    before = tuple(map(int, safetensors.__version__.split(".")[:2])) < (0, 8)  # which copies what it writes
    assert extra(lambda: sealed.write(path, "rows 1", {}, {"rows": rows}, "rows")) < before + 0.3
    assert extra(lambda: sealed.read(path, "rows 1", "rows")) < 1.4


def test_compact_rows_are_half(rows):
    narrow = rows.view(-1, 128)  # their covariance is next to nothing
    features = Features(
        len(narrow), Moments.of(narrow[:2048]), Sample(narrow, torch.arange(len(narrow)), None)
    )
    assert 0.4 < extra(lambda: compact.pack(features)) < 1


def test_a_pool_is_the_rows_once(rows):
    assert extra(lambda: Pool.of(rows[: N // 2], rows[N // 2 :], 0)) < 1.9


def test_sliced_distances_take_a_few_directions(rows):
    halves = rows[: N // 2], rows[N // 2 :]
    assert extra(lambda: sliced_wasserstein(*halves, projections=32)) < 2.5
    assert extra(lambda: sliced_wasserstein(*halves, projections=3000)) < 5


def test_classes_are_looked_at_one_by_one(rows):
    count = 128  # whose covariances are 16 times the rows
    names = tuple(f"c{at % count}" for at in range(N))
    features = Features(N, Moments.of(rows[:2048]), Sample(rows, torch.arange(N), None), names)

    def engine(*sides):
        return [float(side[name].cov.trace()) for side in sides for name in side]

    compute = on_classes(engine, BOTH)
    assert extra(lambda: compute({"generated": features, "reference": features}, ddof=1)) < 2
    assert isinstance(next(iter(features.by_class().values())), Features)


def test_vectors_in_a_file_are_not_held_beside_their_summary(rows, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, rows.numpy())
    source = open_source(str(path))
    summary = source.summary(Request(Identity(DIM), ("pool",)), None)  # what is loaded once is loaded
    del summary
    before = resident("VmRSS")
    summary = source.summary(Request(Identity(DIM), ("pool",)), None)
    assert resident("VmRSS") - before < 1.3
    assert next(iter(summary.features.values())).sample.n == N
