"""The squared MMD against double loops, closed forms and other people's tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance, norm
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.kernel.kernels import KERNELS, find_kernel, polynomial, rbf
from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.kernel.sums import Gram, Variances

N, M, DIM = 23, 31, 6
DISTANCE_KERNELS = sorted(set(KERNELS) - {"polynomial"})

# By the name of the kernel, of float64 rows and a bandwidth.
ORACLES = {
    "polynomial": lambda x, y, s: polynomial_kernel(x, y, degree=3),
    "rbf": lambda x, y, s: rbf_kernel(x, y, gamma=0.5 / s**2),
    "laplace": lambda x, y, s: np.exp(-cdist(x, y) / s),
    "rational-quadratic": lambda x, y, s: np.mean(
        [(1 + cdist(x, y) ** 2 / (2 * a * s**2)) ** -a for a in (0.2, 0.5, 1, 2, 5)], axis=0
    ),
    "energy": lambda x, y, s: -cdist(x, y),
    "mixture": lambda x, y, s: np.mean(
        [rbf_kernel(x, y, gamma=0.5 / (s * k) ** 2) for k in (0.25, 0.5, 1, 2, 4)], axis=0
    ),
}


def rows(n, seed, dim=DIM, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def pair():
    return rows(N, 0) + 0.4, rows(M, 1) * 1.3


def looped(kernel, x, y, estimator):
    """Sums over explicit pairs."""
    x, y = x.numpy(), y.numpy()
    within = []
    for z in (x, y):
        values, size = kernel(z, z), len(z)
        pairs = [(i, j) for i in range(size) for j in range(size) if i != j or estimator == "biased"]
        within.append(sum(values[i, j] for i, j in pairs) / len(pairs))
    return sum(within) - 2 * sum(kernel(x, y).ravel().tolist()) / (len(x) * len(y))


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_values_equal_a_double_loop(name, estimator, pair):
    bandwidth = {} if name in ("polynomial", "energy") else {"bandwidth": 2.0}
    score = mmd(*pair, kernel=name, estimator=estimator, **bandwidth)
    expected = looped(lambda a, b: ORACLES[name](a, b, 2.0), *pair, estimator)
    assert score.values["mmd2"] == pytest.approx(expected, rel=1e-10)
    assert score.values.get("bandwidth") == bandwidth.get("bandwidth")


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_the_stated_bias_is_the_gap_to_the_unbiased_estimate(estimator, pair):
    score = mmd(*pair, kernel="laplace", bandwidth=1.5, estimator=estimator)
    unbiased = mmd(*pair, kernel="laplace", bandwidth=1.5).values["mmd2"]
    assert score.values["mmd2"] - score.bias == pytest.approx(unbiased, rel=1e-12)
    assert (score.bias == 0) == (estimator == "unbiased")


def test_the_energy_distance_is_the_square_of_scipys():
    x, y = rows(200, 0, dim=1), rows(300, 1, dim=1) * 1.5 + 0.3
    ours = mmd(x, y, kernel="energy", estimator="biased").values["mmd2"]
    assert ours == pytest.approx(energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2, rel=1e-9)


def test_cmmds_setting_is_expressible(pair):
    unit = [(z / z.norm(dim=1, keepdim=True)).numpy() for z in pair]
    gamma = 1 / (2 * 10**2)
    means = [rbf_kernel(a, b, gamma=gamma).mean() for a, b in (unit[:1] * 2, unit[1:] * 2, unit)]
    score = mmd(*pair, kernel="rbf", bandwidth=10, estimator="biased", scale=1000, normalize=True)
    assert score.values["mmd2"] == pytest.approx(1000 * (means[0] + means[1] - 2 * means[2]), rel=1e-8)


def rbf_between_gaussians(s, scales, gap):
    """E k(x, y) for x - y normal with a diagonal covariance that is the sum of two."""
    total = s**2 + sum(scale**2 for scale in scales)
    return float(torch.prod(s / total.sqrt()) * torch.exp(-(gap**2 / total).sum() / 2))


@pytest.mark.simulation
def test_the_mean_over_many_draws_is_the_closed_form_of_an_rbf_kernel():
    generator, s = torch.Generator().manual_seed(0), 2.0
    a, b, gap = torch.linspace(0.5, 1.5, 4).double(), torch.linspace(1.2, 0.8, 4).double(), 0.5
    truth = (
        rbf_between_gaussians(s, (a, a), 0 * a)
        + rbf_between_gaussians(s, (b, b), 0 * b)
        - 2 * rbf_between_gaussians(s, (a, b), gap + 0 * a)
    )
    draws = [
        [torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in (12, 8)]
        for _ in range(1500)
    ]
    values = np.array([mmd(x * a + gap, y * b, bandwidth=s).values["mmd2"] for x, y in draws])
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(len(values))
    assert truth > 20 * values.std() / math.sqrt(len(values))  # so that a wrong closed form would show


@pytest.mark.simulation
def test_the_variances_are_those_of_a_linear_kernel():
    """For k = x.y all of them have closed forms: gap' S gap, and traces of products of covariances."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.linspace(0.5, 1.5, 3).double(), torch.linspace(2, 1, 3).double()
    gap = torch.tensor([0.4, -0.2, 0.6]).double()
    n, m = 12, 10
    truth = Variances(
        *(float(value) for value in ((gap * a).square().sum(), (gap * b).square().sum())),
        *(float((u * v).square().sum()) for u, v in ((a, a), (a, b), (b, b))),
    )
    kernel, estimates, values = polynomial(3, degree=1, gamma=1.0, coef0=5.0), [], []
    for _ in range(3000):
        x, y = (torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in (n, m))
        estimates.append(Variances.of(Gram(kernel, x * a + gap + 2, y * b + 2).sums()))
        values.append(mmd(x * a + gap + 2, y * b + 2, kernel=kernel).values["mmd2"])
    mean, spread = np.mean(estimates, axis=0), np.std(estimates, axis=0) / math.sqrt(len(estimates))
    assert (np.abs(mean - truth) < 3.5 * spread).all()
    assert (spread < 0.1 * np.array(truth)).all()  # so that a wrong one would show
    assert truth.of_estimate(n, m) == pytest.approx(np.var(values), rel=0.1)


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("block", [2, 7, 16, 100])
def test_sums_do_not_depend_on_blocks(name, block, pair):
    kernel = rbf([2.0]) if name == "rbf" else KERNELS[name].build(DIM, [1.0, 2.0])
    members = torch.rand(N + M, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    one, other = (Gram(kernel, *pair, block=size).sums(members=members) for size in (block, 1000))
    torch.testing.assert_close(one.rows, other.rows, rtol=1e-12, atol=1e-11)
    assert one.squares == pytest.approx(other.squares, rel=1e-12)
    torch.testing.assert_close(one.groups, other.groups, rtol=1e-12, atol=1e-11)


def test_groups_and_subsets_are_what_explicit_choices_give(pair):
    gram, chosen = (
        Gram(polynomial(DIM), *pair, block=8),
        (torch.tensor([3, 1, 20, 9]), torch.arange(4, 25, 4)),
    )
    members = torch.zeros(N + M, 1, dtype=torch.bool)
    members[chosen[0]] = members[N + chosen[1]] = True
    alone = Gram(polynomial(DIM), pair[0][chosen[0]], pair[1][chosen[1]]).sums()
    subset = gram.sums(subset=chosen)
    torch.testing.assert_close(subset.rows, alone.rows, rtol=1e-10, atol=1e-10)
    assert subset.totals == pytest.approx(alone.totals, rel=1e-10)
    assert gram.sums(members=members).groups[:, 0].tolist() == pytest.approx(alone.totals, rel=1e-10)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_order_of_rows_and_sets_does_not_matter(name, pair):
    x, y = pair
    score, turned, swapped = (
        mmd(*sets, kernel=name) for sets in ((x, y), (x.flip(0), y[torch.arange(M) * 7 % M]), (y, x))
    )
    for other in (turned, swapped):
        assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-9)
        assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-9)
    torch.testing.assert_close(turned.contributions["generated"].flip(0), score.contributions["generated"])
    torch.testing.assert_close(swapped.contributions["reference"], score.contributions["generated"])


@pytest.mark.parametrize("name", DISTANCE_KERNELS)
def test_kernels_of_distance_do_not_change_with_rotation_and_translation(name, pair):
    turn = torch.linalg.qr(rows(DIM, 5))[0]
    score, moved = mmd(*pair, kernel=name), mmd(*(z @ turn + 100 for z in pair), kernel=name)
    assert dict(moved.values) == pytest.approx(dict(score.values), rel=1e-8)
    assert dict(moved.errors) == pytest.approx(dict(score.errors), rel=1e-8)


def test_the_cubic_kernel_does_not_change_with_rotation_but_with_translation(pair):
    turn = torch.linalg.qr(rows(DIM, 5))[0]
    value, turned, moved = (
        mmd(*sets, kernel="polynomial").values["mmd2"]
        for sets in (pair, [z @ turn for z in pair], [z + 1 for z in pair])
    )
    assert turned == pytest.approx(value, rel=1e-10)
    assert moved != pytest.approx(value, rel=0.1)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_set_has_no_distance_to_itself(name, pair):
    x = pair[0]
    assert mmd(x, x, kernel=name, estimator="biased").values["mmd2"] == pytest.approx(0, abs=1e-7)
    assert mmd(x, x, kernel=name).values["mmd2"] < 0  # it knows not of the copies


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_float32_rows_far_from_the_origin_give_the_value_of_float64(name):
    x, y = rows(300, 0, 64, torch.float32) + 3, rows(400, 1, 64, torch.float32) * 1.02 + 3.01
    single, double = mmd(x, y, kernel=name), mmd(x.double(), y.double(), kernel=name)
    assert single.values["mmd2"] == pytest.approx(double.values["mmd2"], abs=1e-4 * double.errors["mmd2"])
    assert single.errors["mmd2"] == pytest.approx(double.errors["mmd2"], rel=1e-5)


@pytest.mark.parametrize("dim", [2, 64, 700])
@pytest.mark.parametrize("name", ["energy", "laplace"])
def test_rows_that_repeat_or_nearly_do_give_the_value_of_float64(name, dim):
    """The root of what float32 leaves of a distance of 0 is 1e-3 of the others."""
    drawn, other = rows(60, 0, dim, torch.float32), rows(250, 1, dim, torch.float32) * 1.1
    copies, bandwidth = drawn[torch.arange(240) % 60], math.sqrt(2 * dim)
    near = copies + 1e-4 * rows(240, 2, dim, torch.float32)
    some = torch.cat([other[:9], drawn])
    for x, y in (
        (copies, other),
        (copies, copies.flip(0)),
        (near, copies),
        (some, other),
        (near + 99, other),
    ):
        xx, yy, xy = (
            ORACLES[name](one.double().numpy(), two.double().numpy(), bandwidth)
            for one, two in ((x, x), (y, y), (x, y))
        )
        n, m = xy.shape
        xx[range(n), range(n)] = yy[range(m), range(m)] = 0
        expected = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.mean()
        given = {} if name == "energy" else {"bandwidth": bandwidth}
        score = mmd(x, y, kernel=name, **given)
        assert score.values["mmd2"] == pytest.approx(expected, rel=1e-6)
        assert score.errors == pytest.approx(
            mmd(x.double(), y.double(), kernel=name, **given).errors, rel=1e-5
        )
        kernel = find_kernel(name, given.get("bandwidth", "median"), x, y)[0]
        totals = Gram(kernel, x, y, block=50).sums().totals
        assert totals == pytest.approx([xx.sum(), xy.sum(), yy.sum()], rel=1e-6)


def test_contributions_say_what_leaving_a_row_out_does(pair):
    x, y = rows(200, 0) + 0.4, rows(150, 1)
    score = mmd(x, y, bandwidth=2.0)
    without = [mmd(x[torch.arange(200) != i], y, bandwidth=2.0).values["mmd2"] for i in range(10)]
    left_out = score.values["mmd2"] - torch.tensor(without).double()
    torch.testing.assert_close(score.contributions["generated"][:10], left_out, rtol=0.02, atol=1e-6)
    assert float(score.contributions["reference"].sum()) == pytest.approx(0, abs=1e-12)


def test_scale_multiplies_all_but_the_p_value_and_bandwidth(pair):
    one, many = (mmd(*pair, estimator="biased", scale=scale, permutations=20) for scale in (1, 1000))
    for name in ("values", "errors", "biases"):
        assert getattr(many, name)["mmd2"] == pytest.approx(1000 * getattr(one, name)["mmd2"], rel=1e-12)
    for name in ("p_value", "bandwidth"):
        assert many.values[name] == one.values[name]


# --- The permutation test


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_p_value_is_that_of_the_estimate_on_permuted_sets(name, estimator):
    x, y = rows(9, 0) + 0.3, rows(6, 1)
    pooled, rng = torch.cat([x, y]), np.random.default_rng(7)
    value = mmd(x, y, kernel=name, estimator=estimator).values["mmd2"]
    as_far = 0
    for _ in range(60):
        order = torch.from_numpy(rng.permutation(15))
        permuted = mmd(pooled[order[:9]], pooled[order[9:]], kernel=name, estimator=estimator)
        as_far += permuted.values["mmd2"] >= value - 1e-10
    score = mmd(x, y, kernel=name, estimator=estimator, permutations=60, seed=7)
    assert 2 < as_far < 58
    assert score.values["p_value"] == (1 + as_far) / 61


def test_ties_count_as_far():
    """Of two sets that are one, no division comes out closer than they."""
    x = rows(4, 0)
    assert mmd(x, x, bandwidth=1.0, permutations=50).values["p_value"] == 1


def test_sets_that_differ_have_the_least_p_value_there_is():
    score = mmd(rows(60, 0) + 1, rows(50, 1), permutations=199)
    assert score.values["p_value"] == 1 / 200


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_power_and_detectable_distance_are_stated_beside_the_p_value(estimator):
    """Beyond the largest but 9 of 199 permuted values, with the estimate's standard error."""
    x, y = rows(40, 0) + 0.3, rows(50, 1)
    pooled, rng, null = torch.cat([x, y]), np.random.default_rng(7), []
    for _ in range(199):
        order = torch.from_numpy(rng.permutation(90))
        sets = pooled[order[:40]], pooled[order[40:]]
        null.append(mmd(*sets, bandwidth=2.0, estimator=estimator, scale=10).values["mmd2"])
    score = mmd(x, y, bandwidth=2.0, estimator=estimator, scale=10, permutations=199, seed=7)
    critical, error = sorted(null)[-10], score.errors["mmd2"]
    assert score.values["detectable"] == pytest.approx(critical + norm.ppf(0.8) * error, rel=1e-9)
    power = norm.cdf((score.values["mmd2"] - critical) / error)
    assert 0.1 < power < 0.95
    assert score.values["power"] == pytest.approx(power, rel=1e-9)
    stricter = mmd(x, y, bandwidth=2.0, estimator=estimator, permutations=199, alpha=0.01, seed=7)
    assert stricter.values["power"] < power
    assert stricter.values["p_value"] == score.values["p_value"]


def test_without_permutations_there_is_no_test(pair):
    assert set(mmd(*pair, kernel="energy").values) == {"mmd2"}
    score = mmd(*pair, kernel="energy", permutations=9)
    assert set(score.values) == {"mmd2", "p_value", "power"}
    assert "use at least 19" in score.warnings[0]


# --- What is refused


@pytest.mark.parametrize(
    ("generated", "reference", "error", "message"),
    [
        (rows(3, 0), rows(9, 1), TooFewImages, "at least 4 generated rows are needed, found 3"),
        (rows(9, 0), rows(3, 1), TooFewImages, "at least 4 reference rows are needed, found 3"),
        (rows(9, 0), rows(9, 1, dim=5), UsageError, r"6 \(generated\) and of 5 \(reference\) dimensions"),
        (rows(9, 0)[0], rows(9, 1), UsageError, r"found shape \(6,\)"),
        (rows(9, 0), rows(9, 1).long(), UsageError, "in int64"),
        (rows(9, 0).index_fill(0, torch.tensor(4), math.nan), rows(9, 1), NumericalError, "row 4"),
        (rows(9, 0), rows(9, 1).index_fill(0, torch.tensor(2), math.inf), NumericalError, "reference set"),
        (rows(9, 0) * 1e200, rows(9, 1), NumericalError, "too large"),
    ],
)
@pytest.mark.parametrize("name", ["polynomial", "rbf", "energy"])
def test_rows_that_do_not_compare_are_refused(generated, reference, error, message, name):
    with pytest.raises(error, match=message):
        mmd(generated, reference, kernel=name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"estimator": "umbiased"}, UnknownName),
        ({"kernel": "rbff"}, UnknownName),
        ({"permutations": -1}, UsageError),
        ({"alpha": 0.0}, UsageError),
        ({"scale": 0.0}, UsageError),
        ({"scale": math.nan}, UsageError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, error, pair):
    with pytest.raises(error):
        mmd(*pair, **options)


def test_zero_rows_cannot_be_normalised(pair):
    with pytest.raises(NumericalError, match="1 of 23 generated feature rows are zero"):
        mmd(pair[0].index_fill(0, torch.tensor(3), 0.0), pair[1], normalize=True)


def test_lengths_that_overflow_when_squared_are_lengths(pair):
    expected = mmd(*pair, normalize=True, bandwidth=1.0).values["mmd2"]
    for scale in (1e20, 1e-25):
        found = mmd(*((rows * scale).float() for rows in pair), normalize=True, bandwidth=1.0)
        assert found.values["mmd2"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", sorted({*DISTANCE_KERNELS} - {"energy"}))
def test_one_far_row_takes_no_digits_from_the_others(name, pair):
    """Of kernels that are next to nothing to a far row, which the energy distance is not."""
    far = pair[0].index_fill(0, torch.tensor(3), 1e8)
    expected = mmd(far, pair[1], kernel=name, bandwidth=1.5).values["mmd2"]
    found = mmd(far.float(), pair[1].float(), kernel=name, bandwidth=1.5).values["mmd2"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_global_random_state_and_the_rows_are_left_alone(pair):
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [z.clone() for z in pair]
    mmd(*pair, permutations=10, normalize=True)
    mmd(*pair, kernel="polynomial")
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(pair, copies, strict=True))
