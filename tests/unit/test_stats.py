"""Moments and Sample: against numpy, as monoids, and independent of order, batches and shards."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen_eval.errors import GenEvalError, NumericalError, UsageError
from gen_eval.stats import Features, Moments, Sample, SampleBuilder, SampleStream

CPU = torch.device("cpu")


def rows_of(n, d=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)) * 3 + 1)


def random_parts(rows, parts, seed):
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, len(rows)), parts - 1, replace=False))
    return torch.tensor_split(rows, cuts.tolist())


def total(statistics):
    first, *rest = statistics
    for statistic in rest:
        first = first + statistic
    return first


def assert_same_moments(a, b, tolerance=1e-12):
    assert a.n == b.n
    for one, other in ((a.mean, b.mean), (a.scatter, b.scatter)):
        assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def assert_same_sample(a, b):
    assert a.limit == b.limit
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.rows, b.rows)


# --- Moments


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n", [2, 7, 1000])
def test_mean_and_covariance_are_those_of_numpy(n, ddof):
    rows = rows_of(n)
    moments = Moments.of(rows)
    assert (moments.n, moments.dim) == (n, 5)
    np.testing.assert_allclose(moments.mean, rows.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(
        moments.cov(ddof), np.cov(rows.numpy(), rowvar=False, ddof=ddof), rtol=1e-12, atol=1e-13
    )


def test_float32_rows_are_summed_in_float64():
    rows = rows_of(1000).float()
    moments = Moments.of(rows)
    assert moments.mean.dtype == moments.scatter.dtype == torch.float64
    np.testing.assert_allclose(moments.cov(), np.cov(rows.double().numpy(), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("parts", [2, 3, 17])
def test_any_split_into_batches_gives_the_same_moments(parts, seed):
    rows = rows_of(200, seed=seed)
    split = total([Moments.of(part) for part in random_parts(rows, parts, seed)])
    assert_same_moments(split, Moments.of(rows))


def test_single_rows_add_up():
    rows = rows_of(50)
    assert_same_moments(total([Moments.of(row[None]) for row in rows]), Moments.of(rows))


@pytest.mark.parametrize("seed", range(5))
def test_moments_add_in_any_order_and_grouping(seed):
    a, b, c = (Moments.of(part) for part in random_parts(rows_of(60, seed=seed), 3, seed))
    assert_same_moments((a + b) + c, a + (b + c))
    for one, two, three in itertools.permutations((a, b, c)):
        assert_same_moments(one + two + three, a + b + c)


def test_adding_leaves_the_summands_as_they_were():
    a, b = Moments.of(rows_of(10)), Moments.of(rows_of(20, seed=1))
    before = [tensor.clone() for tensor in (a.mean, a.scatter, b.mean, b.scatter)]
    assert (a + b).n == 30
    assert all(map(torch.equal, before, (a.mean, a.scatter, b.mean, b.scatter)))


@pytest.mark.parametrize("parts", [1, 4, 40])
def test_a_large_common_offset_costs_no_digits(parts):
    # Multiples of 2^-10 below 2^22 are exact in float64, so the offset rows have exactly this covariance.
    # A sum of squares would lose 12 digits to it.
    small = (rows_of(400) * 1024).round() / 1024
    split = total([Moments.of(part) for part in random_parts(small + 1e6, parts, 0)])
    np.testing.assert_allclose(split.cov(), np.cov(small.numpy(), rowvar=False), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(split.mean - 1e6, small.mean(0), atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused_and_located(value):
    rows = rows_of(5)
    rows[3, 1] = rows[4, 0] = value
    with pytest.raises(NumericalError, match=r"2 of 5 feature rows hold NaN or infinity \(first: row 3\)"):
        Moments.of(rows)


def test_infinities_of_both_signs_do_not_hide_each_other():
    rows = rows_of(5)
    rows[1, 0], rows[2, 0] = float("inf"), -float("inf")
    with pytest.raises(NumericalError, match=r"2 of 5"):
        Moments.of(rows)


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 3, 4)])
def test_what_is_not_rows_is_refused_with_its_shape(shape):
    for make in (Moments.of, lambda rows: Sample.of(rows, torch.arange(len(rows)), None)):
        with pytest.raises(UsageError, match=r"must be \[n, d\].*found shape"):
            make(torch.zeros(shape))


def test_moments_of_other_dimensions_do_not_add():
    with pytest.raises(UsageError, match="of 5 and of 6 features do not add"):
        Moments.of(rows_of(4, 5)) + Moments.of(rows_of(4, 6))


def test_a_covariance_of_too_few_rows_is_refused():
    one = Moments.of(rows_of(1))
    assert torch.equal(one.cov(0), torch.zeros(5, 5, dtype=torch.float64))
    with pytest.raises(GenEvalError, match=r"a covariance needs .* found 1"):
        one.cov()


# --- Sample


def sample_of(n, limit, d=3):
    return Sample.of(rows_of(n, d), torch.arange(n), limit)


@pytest.mark.parametrize("limit", [None, 0, 1, 30, 100, 1000])
def test_a_sample_holds_rows_up_to_its_limit_beside_their_indices(limit):
    rows = rows_of(100)
    sample = Sample.of(rows, torch.arange(100), limit)
    assert (
        sample.n
        == len(sample.index)
        == len(sample.index.unique())
        == min(100, 100 if limit is None else limit)
    )
    assert torch.equal(sample.rows, rows[sample.index])


@pytest.mark.parametrize("limit", [None, 1, 30])
@pytest.mark.parametrize("seed", range(5))
def test_a_sample_does_not_depend_on_order_batches_or_shards(seed, limit):
    rows, index = rows_of(100), torch.arange(100)
    whole = Sample.of(rows, index, limit)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
    assert_same_sample(Sample.of(rows[order], order, limit), whole)
    parts = [Sample.of(rows[part], part, limit) for part in random_parts(order, 7, seed)]
    assert_same_sample(total(parts), whole)
    assert_same_sample(total(parts[::-1]), whole)
    a, b, *rest = parts
    assert_same_sample(total([a, total([b, *rest])]), whole)


def test_the_head_of_a_sample_is_the_sample_of_a_lower_limit():
    large = sample_of(200, 100)
    for k in (0, 1, 20, 100):
        assert torch.equal(large.head(k), sample_of(200, k).rows)
    with pytest.raises(UsageError, match="asked for 101 rows of a sample of 100"):
        large.head(101)


def test_which_images_are_chosen_never_changes():
    # By the hash as published, in unbounded integers, compared as signed ones.
    assert sample_of(10, None).index.tolist() == sorted(range(10), key=splitmix64)
    # Statistics files of different versions would not add if this moved.
    assert sample_of(10_000, 5).index.tolist() == sorted(range(10_000), key=splitmix64)[:5]


def splitmix64(index):
    mask = (1 << 64) - 1
    z = (index + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    z ^= z >> 31
    return z - (1 << 64) if z >> 63 else z


@pytest.mark.parametrize("n", [5_000, 100_000])
def test_the_chosen_images_are_spread_evenly(n):
    chosen = sample_of(n, n // 5, d=1).index.numpy()
    # Selection without replacement varies less than the multinomial, so these p-values are cautious.
    for bins in (
        chosen * 20 // n,  # ranges of the index, such as classes stored one after another
        *(chosen % modulus for modulus in (2, 3, 10, 64)),  # strides, such as views of one object
    ):
        assert scipy.stats.chisquare(np.bincount(bins)).pvalue > 1e-3


def test_the_order_within_a_sample_says_nothing_of_the_index():
    index = sample_of(20_000, None, d=1).index.numpy()
    correlation = scipy.stats.spearmanr(np.arange(len(index)), index).statistic
    assert abs(correlation) < 4 / np.sqrt(len(index))  # four standard deviations


def test_nothing_draws_from_the_global_generators():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    SampleBuilder(100, 3, 10, CPU)
    sample_of(100, 10)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_samples_of_other_limits_do_not_add():
    with pytest.raises(UsageError, match="limited to 3 and to 4 rows do not add"):
        sample_of(10, 3) + sample_of(10, 4)


def test_rows_without_an_index_each_are_refused():
    with pytest.raises(UsageError, match="4 rows need as many indices"):
        Sample.of(rows_of(4), torch.arange(3), None)


# --- SampleBuilder


@pytest.mark.parametrize("limit", [None, 0, 1, 30, 100, 1000])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_builder_gives_the_sample_of_all_rows(limit, batch):
    rows, index = rows_of(100).float(), torch.arange(100)
    builder = SampleBuilder(100, 5, limit, CPU)
    for part in index.split(batch)[::-1]:
        builder.put(rows[part], part)
    assert_same_sample(builder.finish(), Sample.of(rows, index, limit))


@pytest.mark.parametrize("limit", [None, 0, 1, 30, 100, 1000])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_stream_of_unknown_length_gives_the_sample_of_all_rows(limit, batch):
    rows, stream = rows_of(200), SampleStream(limit)
    for index in torch.arange(200).split(batch):
        stream.put(rows[index], index)
        if int(index[-1]) % 50 == 0:
            stream.finish()  # asking does not disturb it
    assert_same_sample(stream.finish(), Sample.of(rows, torch.arange(200), limit))


def test_a_stream_goes_on_from_a_sample():
    rows, index = rows_of(200), torch.arange(200)
    stream = SampleStream(30, Sample.of(rows[:120], index[:120], 30))
    stream.put(rows[120:], index[120:])
    assert_same_sample(stream.finish(), Sample.of(rows, index, 30))


@pytest.mark.parametrize("limit", [None, 0, 30])
def test_features_add_up(limit):
    rows, index = rows_of(200), torch.arange(200)
    parts = [
        Features(len(each), Moments.of(rows[each]), Sample.of(rows[each], each, limit))
        for each in index.split(70)
    ]
    found = total(parts)
    assert found.n == 200
    assert torch.equal(found.moments.scatter, found.moments.scatter.T)
    assert_same_moments(found.moments, Moments.of(rows))
    assert_same_sample(found.sample, Sample.of(rows, index, limit))
    assert (replace(parts[0], sample=None) + parts[1]).sample is None
    assert (replace(parts[0], n=None) + parts[1]).n is None


def test_rows_that_never_come_are_left_out():
    rows, index = rows_of(100).float(), torch.arange(100)
    missing = Sample.of(rows, index, 30).index[[0, 4, 29]]
    came = index[~torch.isin(index, missing)]
    builder = SampleBuilder(100, 5, 30, CPU)
    builder.put(rows[came], came)
    sample = builder.finish()
    assert sample.n == 27
    assert not torch.isin(missing, sample.index).any()
    assert torch.equal(sample.rows, rows[sample.index])
    assert sample.index.tolist() == sorted(sample.index.tolist(), key=splitmix64)


# --- A sample cut, and in the order of its images


@pytest.mark.parametrize("limit", [None, 0, 1, 30, 100, 1000])
@pytest.mark.parametrize("held", [None, 30, 100])
def test_a_sample_cut_is_the_sample_of_the_lower_limit(held, limit):
    cut = sample_of(100, held).cut(limit)
    if held is None or (limit is not None and limit <= held):
        assert_same_sample(cut, sample_of(100, limit))
    else:  # what was never kept does not come back
        assert torch.equal(cut.index, sample_of(100, held).index)


@pytest.mark.parametrize("limit", [None, 0, 1, 30, 1000])
def test_rows_come_in_the_order_of_their_images(limit):
    rows = rows_of(100)
    sample = Sample.of(rows, torch.arange(100), limit)
    kept = sample.index.sort().values
    assert torch.equal(sample.in_order(), rows[kept])
    if limit is None:
        assert torch.equal(sample.in_order(), rows)


# --- Features


def features_of(n, classes, d=4, seed=0):
    """Features of rows whose class is that of their image, ``classes[index]``."""
    features = Features.of(rows_of(n, d, seed))
    return replace(features, classes=tuple(classes[index] for index in features.sample.index.tolist()))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_no_digit_of_a_row_is_lost(given, kept):
    rows = rows_of(20).to(given)
    sample = Features.of(rows).sample
    assert sample.rows.dtype == kept
    assert torch.equal(sample.in_order().double(), rows.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_features_of_rows_hold_all_of_them_and_their_moments(dtype):
    rows = rows_of(50).to(dtype)
    features = Features.of(rows)
    assert (features.n, features.sample.n, features.sample.limit, features.classes) == (50, 50, None, None)
    assert torch.equal(features.sample.in_order(), rows)
    assert_same_moments(features.moments, Moments.of(rows))
    assert torch.equal(features.moments.scatter, features.moments.scatter.T)
    rows[7, 1] = float("nan")
    with pytest.raises(NumericalError, match="1 of 50 feature rows"):
        Features.of(rows)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_features_by_class_are_those_of_the_rows_of_each(classes):
    parts = features_of(len(classes), classes).by_class()
    assert list(parts) == sorted(set(classes))
    rows = rows_of(len(classes), 4)
    for name, part in parts.items():
        mine = [index for index, label in enumerate(classes) if label == name]
        assert part.n == part.moments.n == part.sample.n == len(mine)
        assert sorted(part.sample.index.tolist()) == mine
        assert torch.equal(part.sample.in_order(), rows[mine])
        assert_same_moments(part.moments, Moments.of(rows[mine]))
        assert part.classes is None


def test_the_classes_add_up_to_the_whole():
    features = features_of(60, list("abc") * 20)
    parts = features.by_class().values()
    assert_same_moments(total([part.moments for part in parts]), Moments.of(rows_of(60, 4)))
    whole = total([part.sample for part in parts])
    assert_same_sample(whole, features.sample)


def test_classes_of_some_of_the_rows_are_those_of_these_rows():
    classes = list("ab") * 30
    whole = Features.of(rows_of(60, 4))
    sample = whole.sample.cut(10)
    cut = replace(whole, sample=sample, classes=tuple(classes[index] for index in sample.index.tolist()))
    parts = cut.by_class()
    assert sum(part.n for part in parts.values()) == 10
    for name, part in parts.items():
        assert {classes[index] for index in part.sample.index.tolist()} == {name}


def test_classes_that_nobody_named_are_refused():
    features = Features.of(rows_of(10))
    for unknown in (features, replace(features, sample=None, classes=("a",) * 10)):
        with pytest.raises(UsageError, match="features by class need the rows and the class of each"):
            unknown.by_class()


def test_a_covariance_of_known_n_is_divided_as_asked_and_one_of_unknown_n_never():
    moments = Moments.of(rows_of(60, 4))
    told = Features.of_gaussian(moments.mean, moments.cov(), 60)
    torch.testing.assert_close(told.cov(0), moments.cov(0), rtol=1e-14, atol=0)
    untold = Features.of_gaussian(moments.mean, moments.cov())
    for ddof in (0, 1):
        torch.testing.assert_close(untold.cov(ddof), moments.cov(), rtol=1e-14, atol=0)
    torch.testing.assert_close(untold.counted(60).moments.scatter, moments.scatter, rtol=1e-14, atol=0)


def test_samples_of_no_rows_add():
    empty = Sample.of(rows_of(9, 4), torch.arange(9), 0)
    assert ((empty + empty).n, (empty + empty).limit) == (0, 0)


def test_moments_of_rows_in_several_blocks_are_those_of_all():
    rows = torch.randn(40_000, 5, generator=torch.Generator().manual_seed(0)) + 3
    moments = Moments.of(rows)
    exact = rows.double()
    assert torch.allclose(moments.mean, exact.mean(0), rtol=1e-14)
    assert torch.allclose(moments.cov(), torch.cov(exact.T), rtol=1e-12)


def test_features_keep_as_many_rows_as_are_wanted():
    rows = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    few, every = Features.of(rows, 20), Features.of(rows)
    assert torch.equal(few.sample.rows, every.sample.head(20))
    assert torch.equal(few.moments.scatter, every.moments.scatter)
