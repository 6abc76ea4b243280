"""Random numbers by seed: what they are to the bit, that they are uniform, and independent of one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare, kstest

from gen_eval import draws
from gen_eval.errors import UsageError

N = 20_000
LEVEL = 0.001  # of each of some forty tests below, whose seeds do not change
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mixed(x):
    """The finalizer of SplitMix64, on whole numbers of Python."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def by_definition(seed, place, stream):
    start = mixed(((mixed((seed + GOLDEN) & MASK) ^ stream) + GOLDEN) & MASK)
    bits = mixed(mixed((start + (place + 1) * GOLDEN) & MASK)) >> 12
    return (2 * bits + 1) / 2**53


def assert_independent(a, b):
    """No dependence between pairs, of any kind that shows among 16 x 16 fields or in a correlation."""
    table, _, _ = np.histogram2d(a, b, bins=16, range=[[0, 1], [0, 1]])
    assert chi2_contingency(table).pvalue > LEVEL
    assert abs(np.corrcoef(a, b)[0, 1]) < 3.3 / np.sqrt(len(a))


def test_numbers_are_those_of_the_definition_to_the_bit():
    seeds = [0, 1, 2, 12345, 2**40, 2**63 - 1]
    for stream in (0, 1, 17):
        found = draws.uniform(torch.tensor(seeds), 5, stream)
        expected = [[by_definition(seed, place, stream) for place in range(5)] for seed in seeds]
        assert found.tolist() == expected


def test_finalizer_is_that_of_the_published_generator():
    """SplitMix64 from the state 0, as its authors' code prints it."""
    states = [(k * GOLDEN) & MASK for k in (1, 2, 3)]
    assert [mixed(state) for state in states] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_a_number_depends_on_its_seed_stream_and_place_alone(monkeypatch):
    seeds = torch.arange(50)
    found = draws.uniform(seeds, 9, 3)
    assert np.array_equal(draws.uniform(seeds, 4, 3), found[:, :4])
    order = torch.from_numpy(np.random.default_rng(0).permutation(50))
    assert np.array_equal(draws.uniform(seeds[order], 9, 3), found[order.numpy()])
    monkeypatch.setattr(draws, "_ROWS_AT_ONCE", 20)  # rows of 9 in twos
    assert np.array_equal(draws.uniform(seeds, 9, 3), found)
    assert len(np.unique(found)) == found.size


@pytest.mark.parametrize("first", [0, 10**9])
@pytest.mark.parametrize("stream", [0, 1, 16])
def test_numbers_are_uniform(first, stream):
    seeds = torch.arange(first, first + N)
    along_seeds = draws.uniform(seeds, 1, stream)[:, 0]
    along_places = draws.uniform(seeds[:2], N, stream)[1]
    for found in (along_seeds, along_places):
        assert kstest(found, "uniform").pvalue > LEVEL
        low_bits = (found * 2**52).astype(np.int64) % 64
        assert chisquare(np.bincount(low_bits, minlength=64)).pvalue > LEVEL


@pytest.mark.parametrize("gap", [1, 2, 64, 1024])
def test_seeds_near_one_another_are_independent(gap):
    found = draws.uniform(torch.arange(N + gap), 1)[:, 0]
    assert_independent(found[:-gap], found[gap:])


@pytest.mark.parametrize("gap", [1, 2, 64])
def test_places_near_one_another_are_independent(gap):
    found = draws.uniform(torch.tensor([7]), N + gap)[0]
    assert_independent(found[:-gap], found[gap:])
    rows = draws.uniform(torch.arange(N), gap + 1)
    assert_independent(rows[:, 0], rows[:, gap])


@pytest.mark.parametrize("streams", [(0, 1), (1, 2), (0, 16), (16, 17)])
def test_streams_are_independent(streams):
    one, other = (draws.uniform(torch.arange(N + 1), 2, stream) for stream in streams)
    assert_independent(one[:, 0], other[:, 0])
    assert_independent(one[:-1, 0], other[1:, 0])  # of neighbouring seeds
    assert_independent(one[:, 0], other[:, 1])


def test_neither_end_is_ever_met(monkeypatch):
    for bits, expected in ((0, 2.0**-53), (MASK, 1 - 2.0**-53)):
        monkeypatch.setattr(draws, "_mixed", lambda x, bits=bits: np.full_like(x, bits))
        found = draws.uniform(torch.arange(3), 2)
        assert (found == expected).all()
        assert 0 < found.min() <= found.max() < 1
        assert bool(draws.normal(torch.arange(3), 2).isfinite().all())


def test_normals_are_normal():
    found = draws.normal(torch.arange(N), 2, 5)
    assert found.dtype == torch.float64
    assert kstest(found[:, 0].numpy(), "norm").pvalue > LEVEL
    assert float(found.abs().max()) > 3.5
    assert abs(np.corrcoef(found.numpy().T)[0, 1]) < 3.3 / np.sqrt(N)


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_whole_numbers_are_below_their_bound_and_equally_frequent(below):
    found = draws.integers(torch.arange(N), below)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) <= int(found.max()) < below
    counts = np.bincount(found.numpy(), minlength=below)
    assert below == 1 or chisquare(counts).pvalue > LEVEL


def test_no_state_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    draws.normal(torch.arange(10), 10)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (torch.tensor([3, -1]), "found -1"),
        (torch.tensor([0.0]), "float32"),
        (torch.tensor([0], dtype=torch.int32), "int32"),
        (torch.tensor(0), r"\[\]"),
        (torch.zeros(2, 2, dtype=torch.int64), r"\[2, 2\]"),
    ],
)
def test_what_are_no_seeds_is_refused(seeds, message):
    with pytest.raises(UsageError, match=message):
        draws.uniform(seeds, 3)


def test_no_seeds_give_no_numbers():
    assert draws.uniform(torch.arange(0), 3).shape == (0, 3)
    assert draws.uniform(torch.arange(3), 0).shape == (3, 0)


def test_seeds_that_follow_one():
    assert draws.seeds_from(5, 3).tolist() == [5, 6, 7]
    assert draws.seeds_from(2**63 - 2, 1).tolist() == [2**63 - 2]
    for first, count in ((0, 0), (0, -5), (-1, 3), (2**63 - 1, 1), (2**63 - 3, 3), (2**70, 1), (0, 2**63)):
        with pytest.raises(UsageError, match=f"found n={count} and seed={first}"):
            draws.seeds_from(first, count)
