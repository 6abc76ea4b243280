"""MiFID: the paper's definition by numpy, torchmetrics live on the same features, errors, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.frechet import mifid as engine
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.metrics.frechet.mifid import mifid, nearest_cosine_distances
from gen_eval.stats import Moments

D = 8


def fitted(rows):
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(), rows)


def drawn(n, seed, d=D, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def copied(training, n, seed, noise=0.2):
    """Noisy copies of training rows."""
    return 1.2 * training[:n] + noise * drawn(n, seed, training.shape[1])


def distances_by_numpy(rows, others):
    a, b = (x.double().numpy() for x in (rows, others))
    cosines = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return (1 - np.abs(cosines)).min(1)


TRAINING = drawn(300, 0)
NEAR = copied(TRAINING, 200, 1)
# In so many dimensions two rows are hardly ever near.
TRAINING_64, FAR = drawn(300, 3, d=64), drawn(200, 2, d=64)


# --- Values


def test_a_set_near_its_training_images_is_divided_by_its_distance():
    score = mifid(fitted(NEAR), fitted(TRAINING))
    distance = distances_by_numpy(NEAR, TRAINING).mean()
    plain = frechet(fitted(NEAR), fitted(TRAINING))
    assert 0 < distance < 0.1
    assert tuple(score.values) == ("mifid", "frechet", "memorization_distance")
    assert score.values["memorization_distance"] == pytest.approx(distance, rel=1e-12)
    assert score.values["frechet"] == plain.values["frechet"]
    assert score.values["mifid"] == pytest.approx(plain.values["frechet"] / distance, rel=1e-12)
    assert score.errors["frechet"] == plain.errors["frechet"]


def test_a_set_at_the_threshold_or_beyond_is_not_divided():
    sides = fitted(FAR), fitted(TRAINING_64)
    score, plain = mifid(*sides), frechet(*sides)
    assert score.values["memorization_distance"] > 0.1
    assert score.values["mifid"] == plain.values["frechet"]
    assert score.errors["mifid"] == pytest.approx(plain.errors["frechet"], rel=1e-12)
    assert score.biases["mifid"] == plain.bias
    at = score.values["memorization_distance"]
    assert mifid(*sides, threshold=at).values["mifid"] == plain.values["frechet"]
    beyond = mifid(*sides, threshold=min(1.0, at * 1.001))
    assert beyond.values["mifid"] == pytest.approx(plain.values["frechet"] / at, rel=1e-12)


def test_opposite_directions_are_as_near_as_equal_ones():
    rows = drawn(50, 0)
    torch.testing.assert_close(
        nearest_cosine_distances(-3 * rows, rows), torch.zeros(50).double(), rtol=0, atol=1e-12
    )


def test_distances_have_a_closed_form_in_the_plane():
    angles = torch.linspace(0, math.pi / 3, 4).double()  # 45 degrees would be a tie
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    found = nearest_cosine_distances(rows, torch.tensor([[5.0, 0.0], [0.0, -2.0]]))
    expected = 1 - torch.maximum(angles.cos(), angles.sin())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_copies_are_found_to_the_last_digits_of_float64():
    rows = drawn(400, 0, d=256)
    distances = nearest_cosine_distances(rows * 1e-5 + 1e-14 * drawn(400, 1, d=256), rows)
    assert float(distances.max()) < 1e-12
    slightly = rows + 1e-4 * drawn(400, 1, d=256)
    np.testing.assert_allclose(
        nearest_cosine_distances(slightly, rows), distances_by_numpy(slightly, rows), rtol=1e-6
    )


def test_a_row_of_zeros_is_far_from_everything():
    rows, zeros = drawn(5, 0), torch.zeros(1, D)
    assert nearest_cosine_distances(torch.cat([rows, zeros]), rows).tolist()[5] == 1
    assert nearest_cosine_distances(rows, zeros).tolist() == [1] * 5


def test_equal_sets_are_no_distance_apart():
    score = mifid(fitted(TRAINING), fitted(TRAINING))
    assert score.values["mifid"] == 0
    assert score.values["memorization_distance"] < 1e-12


def test_order_of_rows_and_blocks_do_not_matter(monkeypatch):
    expected = mifid(fitted(NEAR), fitted(TRAINING))
    turned = mifid(fitted(NEAR.flip(0)), fitted(TRAINING.flip(0)))
    assert turned.values == pytest.approx(expected.values, rel=1e-9)
    assert turned.errors == pytest.approx(expected.errors, rel=1e-9)
    torch.testing.assert_close(turned.per_image["generated"].flip(0), expected.per_image["generated"])
    monkeypatch.setattr(engine, "_BLOCK", 37)
    blocked = mifid(fitted(NEAR), fitted(TRAINING))
    assert blocked.values == pytest.approx(expected.values, rel=1e-12)


def test_what_is_said_of_each_image_finds_the_copies():
    rows = drawn(100, 5, d=64)
    rows[[3, 70]] = 2 * TRAINING_64[[10, 20]]
    distances = mifid(fitted(rows), fitted(TRAINING_64)).per_image["generated"]
    assert set(distances.argsort()[:2].tolist()) == {3, 70}
    assert float(distances.sort().values[2]) > 0.1


# --- Beside torchmetrics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.1, 1e-6])
def test_torchmetrics_on_the_same_features_with_the_sets_exchanged(threshold, dtype):
    # Its mean is over real images; in the paper, and here, it is over generated ones.
    peer = pytest.importorskip("torchmetrics.image.mifid")
    metric = peer.MemorizationInformedFrechetInceptionDistance(
        feature=torch.nn.Identity(), cosine_distance_eps=threshold
    )
    real, fake = TRAINING.to(dtype), NEAR[:150].to(dtype)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    exchanged = mifid(fitted(real), fitted(fake), threshold=threshold).values
    assert exchanged["mifid"] == pytest.approx(float(metric.compute()), rel=1e-5)
    assert mifid(fitted(fake), fitted(real), threshold=1.0).values["mifid"] != pytest.approx(
        mifid(fitted(real), fitted(fake), threshold=1.0).values["mifid"], rel=1e-2
    )


# --- Errors and biases


def test_a_second_copy_of_an_image_moves_the_value_by_its_contribution():
    training = drawn(2000, 0, d=4)
    rows = copied(training, 1500, 1, 0.1)
    before = mifid(fitted(rows), fitted(training))
    contribution = before.contributions["generated"]
    assert abs(float(contribution.sum())) < 1e-9 * float(contribution.abs().sum())
    for image in (int(contribution.argmax()), int(contribution.argmin())):
        after = mifid(fitted(torch.cat([rows, rows[[image]]])), fitted(training))
        change = after.values["mifid"] - before.values["mifid"]
        assert change == pytest.approx(float(contribution[image]), rel=0.03)


def test_the_error_of_the_distance_is_that_of_a_mean():
    score = mifid(fitted(NEAR), fitted(TRAINING))
    expected = float(score.per_image["generated"].std()) / math.sqrt(len(NEAR))
    assert score.errors["memorization_distance"] == pytest.approx(expected, rel=1e-12)
    assert score.biases["memorization_distance"] == 0


@pytest.mark.simulation
def test_intervals_cover_and_the_bias_is_the_true_one():
    # The training images stay what they are. Every other generated one is a copy, so that the distance varies
    # much from set to set, and with it the bias of a quotient.
    training, repetitions, n = drawn(200, 0, dtype=torch.float64), 1000, 60
    generator = torch.Generator().manual_seed(1)

    def generate(count):
        chosen = training[torch.randint(len(training), (count,), generator=generator)]
        noise = torch.randn(count, D, generator=generator, dtype=torch.float64)
        return 3 * torch.where(torch.rand(count, 1, generator=generator) < 0.5, chosen, noise)

    reference, many = fitted(training), fitted(generate(100_000))
    distance = float(nearest_cosine_distances(many.rows, training).mean())
    truth = frechet(Gaussian(10**12, many.mean, many.cov), reference)
    with threadpool_limits(1):
        scores = [mifid(fitted(generate(n)), reference, threshold=1.0) for _ in range(repetitions)]
    values = np.array([score.values["mifid"] for score in scores])
    # The training images are drawn once, so what their number adds to error and bias is not in these values.
    errors = np.array([spread_of(score.contributions["generated"]) for score in scores])
    stated = np.mean([score.biases["mifid"] for score in scores]) - truth.bias / distance
    covered = (np.abs(values - values.mean()) < 1.96 * errors).mean()
    assert 0.93 - 2.5 * 0.0081 <= covered <= 0.97 + 2.5 * 0.0054
    bias = values.mean() - truth.values["frechet"] / distance
    uncertain = 2.5 * values.std() / math.sqrt(repetitions)
    assert bias > 3 * uncertain  # there is one to be seen
    assert stated == pytest.approx(bias, rel=0.1, abs=uncertain)


def spread_of(contributions):
    n = len(contributions)
    return math.sqrt(float(contributions.square().sum()) * n / (n - 1))


def test_the_error_counts_the_reference_images_too():
    score = mifid(fitted(NEAR), fitted(TRAINING))
    both = math.hypot(*(spread_of(part) for part in score.contributions.values()))
    assert score.errors["mifid"] == pytest.approx(both, rel=1e-12)
    assert both > spread_of(score.contributions["generated"])


# --- Warnings and refusals


def test_a_distance_at_the_threshold_is_warned_about():
    sides = fitted(NEAR), fitted(TRAINING)
    score = mifid(*sides)
    assert score.warnings == ()
    at, error = (part["memorization_distance"] for part in (score.values, score.errors))
    for threshold in (at + error, at - error):
        (warning,) = mifid(*sides, threshold=threshold).warnings
        assert "at the threshold" in warning
    assert mifid(*sides, threshold=at - 3 * error).warnings == ()


def test_the_warnings_of_the_frechet_distance_are_passed_on():
    sides = fitted(NEAR[:5]), fitted(TRAINING)
    (expected,) = frechet(*sides).warnings
    score = mifid(*sides)
    assert expected in score.warnings
    assert set(score.biases) == {"memorization_distance"}


@pytest.mark.parametrize("threshold", [0, -0.1, 1.5, math.nan])
def test_a_nonsense_threshold_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold .* must be in .0, 1., found"):
        mifid(fitted(NEAR), fitted(TRAINING), threshold=threshold)


@pytest.mark.parametrize("role", ["generated", "reference"])
@pytest.mark.parametrize(
    ("n", "rows"), [(len(NEAR), None), (len(NEAR), NEAR[:199]), (None, NEAR)], ids=["none", "part", "n"]
)
def test_all_rows_of_both_sets_are_needed(role, n, rows):
    sides = {"generated": fitted(NEAR), "reference": fitted(NEAR)}
    sides[role] = Gaussian(n, sides[role].mean, sides[role].cov, rows)
    with pytest.raises(UsageError, match=f"needs every {role} feature row"):
        mifid(**sides)


def test_what_frechet_refuses_is_refused():
    sound, broken = fitted(TRAINING), fitted(NEAR)
    broken.mean[0] = math.nan
    with pytest.raises(NumericalError, match="the generated moments hold NaN"):
        mifid(broken, sound)
    with pytest.raises(UsageError, match="features of 64 and of 8 dimensions"):
        mifid(fitted(FAR), sound)
    with pytest.raises(UnknownName, match="dtype of the mean"):
        mifid(sound, sound, mean_dtype="float16")
    one = Gaussian(1, torch.zeros(D).double(), torch.zeros(D, D).double(), NEAR[:1])
    with pytest.raises(TooFewImages, match="at least 2 images, the generated set has 1"):
        mifid(one, sound)


def test_of_copies_of_training_images_no_bias_is_stated():
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(3)) + 2
    score = mifid(fitted(rows), fitted(rows))
    assert "mifid" not in score.biases
    assert score.values["mifid"] == 0
