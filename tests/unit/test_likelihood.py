"""evaluate_likelihood: what a model is given, what is made of its numbers, and what does not compare."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from gen_eval.dequantization import Binary, Uniform
from gen_eval.errors import (
    FetchError,
    ImagesError,
    IncomparableError,
    NumericalError,
    TooFewImages,
    UnknownName,
    UsageError,
)
from gen_eval.images import open_images
from gen_eval.likelihood import (
    Likelihood,
    Terms,
    compare_likelihoods,
    evaluate_likelihood,
    require_comparable_likelihoods,
)
from gen_eval.progress import silent
from gen_eval.results import SetInfo

GRAY = np.random.default_rng(0).integers(0, 256, (7, 4, 5), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (7, 4, 5, 3), np.uint8)


class Normal:
    """Every pixel is normal and independent of all others; it keeps what it was given."""

    bound = "exact"

    def __init__(self, mean=0.5, sd=0.3, **attributes):
        self.mean, self.sd, self.given = mean, sd, []
        vars(self).update(attributes)

    def log_prob(self, x):
        self.given.append(x)
        z = (x.double() - self.mean) / self.sd
        return (-(z**2) / 2 - math.log(self.sd * math.sqrt(2 * math.pi))).flatten(1).sum(1)

    @property
    def x(self):
        return torch.cat(self.given)


class Levels(Normal):
    """A discrete model: all levels alike."""

    def log_prob(self, x):
        self.given.append(x)
        return torch.full((len(x),), -x[0].numel() * math.log(256))


# --- What the model is given


def test_a_dataset_is_never_fetched_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="offline"):
        evaluate_likelihood(Normal(), "images:mnist:test", offline=True)


def test_pixels_with_noise_fall_back_to_their_levels():
    model = Normal()
    evaluate_likelihood(model, COLOUR)
    assert model.x.dtype == torch.float32
    assert model.x.shape == (7, 3, 4, 5)
    assert ((model.x > 0) & (model.x < 1)).all()
    assert np.array_equal((model.x * 256).floor().numpy(), COLOUR.transpose(0, 3, 1, 2))


def test_noise_is_uniform_between_levels_and_stays_there_in_float32():
    planes = np.full((1, 200, 200), 255, np.uint8)
    for interval in ((0.0, 1.0), (-1.0, 1.0), (0.0, 256.0)):
        x = Uniform(interval)(planes, 0)
        assert x.dtype == torch.float32
        noise = ((x.double() - interval[0]) / (interval[1] - interval[0]) * 256 - 255).flatten().numpy()
        assert (noise > 0).all()
        assert (noise < 1).all()
        assert stats.kstest(noise, "uniform").pvalue > 0.01


@pytest.mark.parametrize("size", [1, 3, 100])
def test_noise_of_an_image_depends_on_its_seed_and_place_alone(size):
    whole, parts, fewer, other = Normal(), Normal(), Normal(), Normal()
    evaluate_likelihood(whole, GRAY)
    found = evaluate_likelihood(parts, GRAY, batch_size=size)
    evaluate_likelihood(fewer, GRAY[:5])
    evaluate_likelihood(other, GRAY, seed=1)
    assert len(parts.given) == -(-7 // size)
    assert torch.equal(whole.x, parts.x)
    assert torch.equal(whole.x[:5], fewer.x)
    assert not torch.equal(whole.x, other.x)
    assert len({row.numpy().tobytes() for row in evaluate_and_get(np.zeros_like(GRAY))}) == 7
    assert found == evaluate_likelihood(Normal(), GRAY)


def evaluate_and_get(images):
    model = Normal()
    evaluate_likelihood(model, images)
    return model.x


@pytest.mark.parametrize("rule", ["none", "variational"])
def test_models_of_levels_are_given_levels(rule):
    model = Levels()
    found = evaluate_likelihood(model, GRAY, dequantization=rule)
    assert model.x.dtype == torch.int64
    assert np.array_equal(model.x[:, 0].numpy(), GRAY)
    assert found.values["bits_per_dim"] == pytest.approx(8, rel=1e-6)
    assert (found.terms.dequantization, found.terms.scale) == (rule, 1)


class Coins(Normal):
    """A model of binary images: all pixels are even."""

    bound, dequantization = "exact", "binary"

    def log_prob(self, x):
        self.given.append(x)
        return torch.full((len(x),), -x[0].numel() * math.log(2))


def test_models_of_binary_images_are_given_bits():
    model = Coins()
    found = evaluate_likelihood(model, GRAY)
    assert model.x.dtype == torch.float32
    assert set(model.x.unique().tolist()) == {0, 1}
    assert found.values["bits_per_dim"] == pytest.approx(1, rel=1e-6)
    assert (found.terms.dequantization, found.terms.scale, found.terms.dims) == ("binary", 1, 20)
    again, other = Coins(), Coins()
    evaluate_likelihood(again, GRAY, batch_size=3)
    evaluate_likelihood(other, GRAY, seed=1)
    assert torch.equal(again.x, model.x)
    assert not torch.equal(other.x, model.x)
    with pytest.raises(IncomparableError, match="dequantization: binary against none"):
        require_comparable_likelihoods([found, evaluate_likelihood(Levels(), GRAY, dequantization="none")])


def test_bits_are_ones_with_the_probability_of_their_gray_level():
    for level in (0, 1, 77, 254, 255):
        bits = Binary(3)(np.full((1, 300, 300), level, np.uint8), 5)
        share = level / 255
        assert abs(float(bits.mean()) - share) <= 4 * math.sqrt(share * (1 - share) / bits.numel())


@pytest.mark.parametrize("model", [Normal(), Levels(), Coins()])
def test_bits_are_for_models_of_bits_and_for_none_else(model):
    rule = "uniform" if isinstance(model, Coins) else "binary"
    with pytest.raises(UsageError, match="told by models of those alone"):
        evaluate_likelihood(model, GRAY, dequantization=rule)
    with pytest.raises(UsageError, match="of scale 1"):
        Terms("exact", 20, "binary", scale=256.0)
    with pytest.raises(UsageError, match="seed from 0 on"):
        Binary(-1)


def test_gray_images_have_one_channel_however_they_are_stored(tmp_path, write_folder):
    folder = write_folder(tmp_path / "gray", np.repeat(GRAY[..., None], 3, 3))
    for images in (GRAY, GRAY[..., None], folder):
        assert evaluate_likelihood(Normal(), images).terms.dims == 20
    assert evaluate_likelihood(Normal(), GRAY, channels=3).terms.dims == 60
    assert evaluate_likelihood(Normal(), COLOUR).terms.dims == 60


def test_vectors_are_given_as_they_are(tmp_path):
    rows = np.random.default_rng(2).normal(size=(9, 2))
    model = Normal(0, 1)
    found = evaluate_likelihood(model, rows, batch_size=4)
    assert np.array_equal(model.x.numpy(), rows)
    assert found.value == pytest.approx(-stats.norm.logpdf(rows).sum(1).mean(), rel=1e-12)
    assert (found.terms.dequantization, found.terms.dims, found.data.n) == ("none", 2, 9)
    np.save(tmp_path / "rows.npy", rows)
    assert evaluate_likelihood(model, tmp_path / "rows.npy").data.digest == found.data.digest
    assert evaluate_likelihood(model, rows[::-1]).data.digest != found.data.digest


# --- What is made of the numbers


def test_numbers_are_those_of_levels_whatever_the_interval():
    unit = evaluate_likelihood(Normal(0.5, 0.3), GRAY)
    centred = evaluate_likelihood(Normal(0.0, 0.6), GRAY, interval=(-1.0, 1.0))
    levels = evaluate_likelihood(Normal(128.0, 76.8), GRAY, interval=(0.0, 256.0))
    assert (unit.terms.scale, centred.terms.scale, levels.terms.scale) == (256, 128, 1)
    for other in (centred, levels):
        require_comparable_likelihoods([unit, other])
        assert other.values == pytest.approx(unit.values, rel=1e-6)
        torch.testing.assert_close(other.per_image, unit.per_image, rtol=1e-6, atol=0)


def test_value_error_and_bits():
    model = Normal()
    found = evaluate_likelihood(model, GRAY)
    nats = -stats.norm.logpdf(model.x.double().flatten(1).numpy(), 0.5, 0.3).sum(1) + 20 * math.log(256)
    assert found.value == pytest.approx(nats.mean(), rel=1e-9)
    assert found.error == pytest.approx(stats.sem(nats), rel=1e-9)
    assert found.values["bits_per_dim"] == pytest.approx(nats.mean() / 20 / math.log(2), rel=1e-9)
    assert found.errors["bits_per_dim"] == pytest.approx(stats.sem(nats) / 20 / math.log(2), rel=1e-9)
    np.testing.assert_allclose(-found.per_image.numpy(), nats, rtol=1e-9)


def test_images_are_known_by_their_content(tmp_path, write_folder):
    opened = open_images(COLOUR)
    found = evaluate_likelihood(Normal(), opened, batch_size=2)
    assert found.data == SetInfo("array", opened.content(silent), 7)
    assert evaluate_likelihood(Normal(), GRAY).data.notes == {"gray to RGB": 7}


def test_progress_is_told():
    calls = []
    evaluate_likelihood(Normal(), GRAY, batch_size=4, progress=lambda *call: calls.append(call))
    assert calls == [("array", done, 7, "image") for done in (0, 4, 7)]


def test_log_weights_become_a_bound_of_their_draws():
    terms, data = Terms("lower", 3, "uniform", scale=256.0), SetInfo("x", "", 6)
    weights = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)).double()
    found = Likelihood.of(weights, terms, data, nested=(1, 5))
    assert found.terms.draws == 20
    volume = 3 * math.log(256)
    assert found.value == pytest.approx(volume - float(weights.exp().mean(1).log().mean()), rel=1e-12)
    assert found.bounds[1][0] == pytest.approx(volume - float(weights.mean()), rel=1e-12)
    assert found.bounds[1][0] > found.bounds[5][0] > found.value
    assert list(found.values) == ["nll", "bits_per_dim", "effective_draws", "error_of_draws"]
    assert list(found.errors) == ["nll", "bits_per_dim"]


def test_levels_that_are_surer_than_sure_are_warned_about():
    numbers, data = torch.arange(6).double(), SetInfo("x", "", 6)
    (warning,) = Likelihood.of(numbers, Terms("exact", 3, "uniform"), data).warnings
    assert "fewer than 0 bits per dimension" in warning
    for terms in (Terms("exact", 3, "uniform", scale=256.0), Terms("exact", 3, "none")):
        assert not Likelihood.of(numbers, terms, data).warnings


@pytest.mark.parametrize("shape", [(6,), (6, 20)])
def test_float32_numbers_lose_nothing_to_the_volume(shape):
    """It is far larger than they are: 17,000 nats in 3,072 dimensions."""
    numbers, terms = torch.full(shape, 0.1234567), Terms("lower", 3072, "uniform", scale=256.0)
    found = Likelihood.of(numbers, terms, SetInfo("x", "", 6))
    assert found.value == pytest.approx(3072 * math.log(256) - float(numbers.flatten()[0]), rel=1e-13)


def test_json_tells_all_terms():
    found = evaluate_likelihood(Normal(name="mine", bound="lower", draws=5), GRAY)
    line = json.loads(found.json_line())
    assert line["model"] == "mine"
    assert line["value"] == found.value
    terms = {name: line[name] for name in ("kind", "dims", "dequantization", "draws", "scale")}
    assert terms == {"kind": "lower", "dims": 20, "dequantization": "uniform", "draws": 5, "scale": 256}
    assert line["data"]["digest"] == found.data.digest


# --- What compares


def likelihood_of(images=GRAY, **changes):
    return evaluate_likelihood(Normal(**changes), images)


@pytest.mark.parametrize(
    ("other", "term"),
    [
        (lambda: likelihood_of(bound="lower"), "kind: exact against lower"),
        (lambda: likelihood_of(bound="unbiased"), "kind: exact against unbiased"),
        (
            lambda: evaluate_likelihood(Levels(), GRAY, dequantization="none"),
            "dequantization: uniform against none",
        ),
        (lambda: evaluate_likelihood(Normal(), GRAY, channels=3), "dims: 20 against 60"),
        (lambda: likelihood_of(GRAY[:5]), "images: 7 against 5"),
        (lambda: likelihood_of(GRAY[::-1]), r"images: [0-9a-f]{16} against [0-9a-f]{16}"),
    ],
)
def test_likelihoods_on_other_terms_are_refused_by_name(other, term):
    with pytest.raises(IncomparableError, match=term):
        require_comparable_likelihoods([likelihood_of(), other()])
    with pytest.raises(IncomparableError, match="Measure both on the same terms"):
        compare_likelihoods(likelihood_of(), other())


def test_bounds_of_other_draws_are_refused():
    with pytest.raises(IncomparableError, match="draws: 5 against 50"):
        require_comparable_likelihoods([likelihood_of(bound="lower", draws=draws) for draws in (5, 50)])


def test_images_that_are_only_claimed_compare_by_their_number():
    one = likelihood_of()
    claimed = dataclasses.replace(one, data=SetInfo("file", "", 7, claimed=True))
    require_comparable_likelihoods([one, claimed])
    with pytest.raises(IncomparableError, match="images: 7 against 8"):
        require_comparable_likelihoods(
            [one, dataclasses.replace(claimed, data=SetInfo("file", "", 8, claimed=True))]
        )


def test_compare_is_a_paired_test():
    first, second = likelihood_of(sd=0.3), likelihood_of(sd=0.4)
    score = compare_likelihoods(first, second)
    expected = stats.ttest_rel(-first.per_image.numpy(), -second.per_image.numpy())
    assert score.values["nll"] == pytest.approx(first.value - second.value, rel=1e-9)
    assert score.values["bits_per_dim"] == pytest.approx(
        first.values["bits_per_dim"] - second.values["bits_per_dim"], rel=1e-9
    )
    assert score.values["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    ratios = [score.values[name] / score.errors[name] for name in ("nll", "bits_per_dim")]
    assert ratios == pytest.approx([expected.statistic] * 2, rel=1e-9)
    assert not score.warnings
    (warning,) = compare_likelihoods(
        likelihood_of(bound="lower"), likelihood_of(bound="lower", sd=0.4)
    ).warnings
    assert "difference of lower bounds" in warning


# --- What is refused


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        (("exakt", 2, "none"), UnknownName, "did you mean 'exact'"),
        (("exact", 2, "unifrom"), UnknownName, "did you mean 'uniform'"),
        (("exact", 2, "uniform", 5), UsageError, "lower bound, kind 'lower'"),
        (("lower", 2, "uniform", 0), UsageError, "0 draws"),
        (("exact", 2, "none", 1, 256.0), UsageError, "a scale of 256 goes with dequantisation"),
    ],
)
def test_terms_that_contradict_one_another(terms, error, message):
    with pytest.raises(error, match=message):
        Terms(*terms)


@pytest.mark.parametrize(
    ("kind", "shape", "draws", "nested", "message"),
    [
        ("exact", (6, 3), 1, (), r"log-weights \[n, K\] give a lower bound"),
        ("unbiased", (6, 3), 1, (), "not 'unbiased'"),
        ("lower", (6, 3), 4, (), "their own K, 3, found draws=4"),
        ("lower", (6,), 1, (1,), "need log-weights"),
        ("exact", (6, 3, 1), 1, (), r"found shape \(6, 3, 1\)"),
    ],
)
def test_numbers_that_contradict_the_terms(kind, shape, draws, nested, message):
    with pytest.raises(UsageError, match=message):
        Likelihood.of(torch.zeros(shape), Terms(kind, 2, "none", draws), SetInfo("x", "", 6), nested=nested)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (GRAY, {"interval": (1.0, 0.0)}, UsageError, "an interval that rises"),
        (GRAY, {"interval": (0.0, math.inf)}, UsageError, "an interval that rises"),
        (GRAY, {"seed": -1}, UsageError, "seed from 0 on"),
        (GRAY, {"channels": 2}, UsageError, "channels of 1 or 3"),
        (GRAY, {"batch_size": 0}, UsageError, "batch_size from 1"),
        (GRAY, {"dequantization": "gauss"}, UnknownName, "dequantization 'gauss'"),
        (GRAY[:1], {}, TooFewImages, "found 1"),
        (COLOUR, {"channels": 1}, ImagesError, "array #0 has colours"),
        ([GRAY[0], COLOUR[0]], {}, ImagesError, "list #1 has colours"),
        ([GRAY[0], GRAY[0], GRAY[1].T.copy()], {}, ImagesError, "list #2 is 5x4 and the first image 4x5"),
        (np.zeros((4, 2)), {"dequantization": "uniform"}, UsageError, "vectors take 'none'"),
        (np.zeros((4, 2, 2)), {}, ImagesError, "expected uint8"),
    ],
)
def test_what_makes_no_sense_is_refused(images, options, error, message):
    with pytest.raises(error, match=message):
        evaluate_likelihood(Normal(), images, **options)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda x: torch.zeros(x.shape), UsageError, r"gave \[7, 1, 4, 5\] for \[7, 1, 4, 5\]; expected"),
        (lambda x: torch.zeros(1), UsageError, r"gave \[1\]"),
        (lambda x: torch.zeros(len(x), dtype=torch.int64), UsageError, "floating point"),
        (lambda x: 0.0, UsageError, "gave float"),
        (lambda x: torch.full((len(x),), -math.inf), NumericalError, "rules the image out"),
    ],
)
def test_models_that_return_something_else(returned, error, message):
    model = Normal()
    model.log_prob = returned
    with pytest.raises(error, match=message):
        evaluate_likelihood(model, GRAY)


@pytest.mark.parametrize(
    "model", [SimpleNamespace(name="nothing"), SimpleNamespace(name="nothing", bound="exact")]
)
def test_a_model_without_a_likelihood_is_refused_by_name(model):
    with pytest.raises(UsageError, match="nothing has no likelihood: expected a model with log_prob"):
        evaluate_likelihood(model, GRAY)


def test_a_wrong_kind_is_found_before_the_model_is_called():
    model = Normal(bound="maybe")
    with pytest.raises(UnknownName, match="kind of likelihood 'maybe'"):
        evaluate_likelihood(model, GRAY)
    assert not model.given


def test_statistics_are_no_images(pixel_summary):
    with pytest.raises(UsageError, match="statistics"):
        evaluate_likelihood(Normal(), pixel_summary(COLOUR))


def test_gradients_are_left_off_and_those_of_the_model_allowed():
    def log_prob(x):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():  # as a continuous flow does for its trace
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(x.square().sum(), x)
        return -slope.flatten(1).sum(1)

    model = Normal()
    model.log_prob = log_prob
    assert not evaluate_likelihood(model, GRAY).per_image.requires_grad
