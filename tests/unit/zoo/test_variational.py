"""Variational autoencoders: the pieces of their bound, their samples, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from gen_eval.errors import UnknownName, UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo import variational
from gen_eval.zoo.nets.autoencoder import one_hot
from gen_eval.zoo.observations import normal_of_content, to_batch, to_observation
from gen_eval.zoo.task import Batch, Kind
from gen_eval.zoo.trained import BATCH
from gen_eval.zoo.variational import LatentDensity, Variational, elbo, kl_to_prior, log_normal

DIGITS = Kind((1, 8, 8), tuple("0123456789"))
POINTS = Kind((2,), ("left", "right"))
SCALING = {"mean": torch.tensor([3.0, -1.0]), "sd": torch.tensor([2.0, 0.25])}
SMALL = {"latent": 3, "width": 8}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def built(kind=DIGITS, seed=0, **settings):
    """The recipe, its task with weights drawn by the seed, and its sampler."""
    recipe = Variational(**SMALL | settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        task = recipe.task(kind)
    modules = task.modules.eval()
    return recipe, task, recipe.sampler("vae", kind, modules, {} if kind.images else SCALING)


def pixels(n=6, shape=DIGITS.shape):
    return torch.rand(n, *shape, generator=source(1))


# --- Pieces


def test_pieces_are_those_of_gaussians():
    z, mean, log_sd = torch.randn(3, 7, 4, generator=source(), dtype=torch.float64)
    posterior, prior = Normal(mean, log_sd.exp()), Normal(torch.zeros_like(mean), 1.0)
    torch.testing.assert_close(log_normal(z, mean, log_sd), posterior.log_prob(z).sum(1))
    torch.testing.assert_close(kl_to_prior(mean, log_sd), kl_divergence(posterior, prior).sum(1))
    torch.testing.assert_close(elbo(z[:, 0], mean, log_sd), z[:, 0] - kl_to_prior(mean, log_sd))
    assert not kl_to_prior(torch.zeros(2, 3), torch.zeros(2, 3)).any()


def test_noise_fills_the_gaps_between_levels_and_goes_again():
    levels = torch.arange(256.0)
    noise = torch.rand(256, generator=source())
    observations = to_observation(levels / 127.5 - 1, noise)
    torch.testing.assert_close(observations, (levels + noise) / 256)
    assert torch.equal(((to_batch(observations) + 1) * 127.5).round(), levels)
    assert float(to_batch(torch.tensor([0.0, 1.0])).abs().max()) == 1


# --- The task


@pytest.mark.parametrize("kind", [DIGITS, POINTS], ids=["images", "vectors"])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_loss_is_less_the_elbo_and_learns(kind, conditional):
    _, task, _ = built(kind, conditional=conditional)
    (player,) = task.players
    batch = Batch(torch.rand(32, *kind.shape, generator=source()) * 2 - 1, torch.arange(32) % 2)
    state = torch.get_rng_state()
    loss, shown = player.loss(batch, source())
    assert torch.equal(torch.get_rng_state(), state)
    assert shown == {"elbo": -float(loss.detach())}
    assert float(player.loss(batch, source())[0].detach()) == float(loss.detach())
    optimiser = torch.optim.Adam([p for m in player.modules for p in task.modules[m].parameters()], 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        after, _ = player.loss(batch, source())
        after.backward()
        optimiser.step()
    assert float(after.detach()) < float(loss.detach()) - 0.3


def test_the_sd_of_a_gaussian_moves_faster_where_there_is_one():
    assert built(POINTS)[1].players[0].rates == {"decoder.likelihood.log_excess": 10.0}
    assert built(DIGITS)[1].players[0].rates == {}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_checkpoint_is_at_most_two_megabytes(shape):
    kind = Kind(shape, tuple("0123456789"))
    task = Variational(conditional=True).task(kind)
    assert sum(each.numel() for each in task.modules.parameters()) <= 480_000
    assert set(task.kept) == set(task.modules)


# --- Samples


def test_images_are_means_and_vectors_are_draws():
    _, _, sampler = built(DIGITS)
    found = sampler.sample(70, seed=5)
    assert found.dtype == torch.uint8
    assert found.shape == (70, 1, 8, 8)
    assert torch.equal(sampler.sample(7, seed=5), found[:7])
    decoder = sampler.network
    z = sampler.latent(torch.arange(5, 5 + BATCH))
    with torch.no_grad():
        mean = decoder.likelihood.mean(decoder.outputs(z)) * 256 - 0.5
    assert float((found[:BATCH].float() - mean).abs().max()) <= 0.5 + 1e-4
    _, _, sampler = built(POINTS)
    z = sampler.latent(torch.arange(4000))
    with torch.no_grad():
        rest = (sampler.sample(4000, seed=0) - SCALING["mean"]) / SCALING["sd"] - sampler.network.outputs(z)
    assert stats.kstest(rest.flatten().numpy() / 1.001, "norm").pvalue > 0.01


def test_either_may_be_asked_for():
    drawn = built(DIGITS, output="draw")[2].sample(64, seed=0)
    assert float(drawn.float().std()) > 60  # an untrained decoder is nearly uniform
    assert float(built(DIGITS)[2].sample(64, seed=0).float().std()) < 10
    assert built(POINTS, output="mean")[2].network.noise_dim == 0


def test_a_conditional_decoder_heeds_its_label():
    _, _, sampler = built(DIGITS, conditional=True)
    assert sampler.classes == DIGITS.classes
    given = sampler.sample(4, seed=0, labels=[0, 1, 0, 1])
    assert torch.equal(given[::2], sampler.sample(4, seed=0, labels=0)[::2])
    assert not torch.equal(given, sampler.sample(4, seed=0, labels=2))
    with pytest.raises(UsageError, match="takes no labels"):
        built(DIGITS)[2].sample(4, seed=0, labels=1)


def test_networks_are_told_a_class_as_loudly_as_a_latent():
    """Told with a mean square of 1 / classes, decoders learn to tell classes by the latent and heed no label."""
    (rows,) = one_hot(torch.arange(10), 10, torch.zeros(1, dtype=torch.float64))
    assert float(rows.square().mean()) == pytest.approx(1)
    assert torch.equal(rows.argmax(1), torch.arange(10))
    assert one_hot(None, 0, rows) == []


# --- The bound


@pytest.mark.parametrize("conditional", [False, True])
def test_the_bound_of_many_draws_integrates_to_one(conditional):
    """The Jacobian of standardised vectors, the constants of all Gaussians, and the mixture over classes."""
    _, _, sampler = built(POINTS, conditional=conditional, draws=500)
    axes = [torch.linspace(-6, 6, 41) * sd + mean for mean, sd in zip(*SCALING.values(), strict=True)]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    density = sampler.log_prob(torch.cartesian_prod(*axes)).exp()
    assert density.dtype == torch.float64
    assert float(density.sum() * cell) == pytest.approx(1, abs=0.01)


def test_a_number_depends_on_its_image_alone():
    _, _, sampler = built(DIGITS, draws=4)
    x = pixels()
    together = sampler.log_prob(x)
    assert torch.equal(sampler.log_prob(x), together)
    torch.testing.assert_close(sampler.log_prob(x.flip(0)).flip(0), together, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(sampler.log_prob(x[2:3])[0], together[2], rtol=1e-6, atol=1e-5)
    assert not torch.allclose(*normal_of_content(x[:2], 16))
    assert sampler.log_prob(x[:0]).shape == (0,)


def test_weights_come_in_one_order_however_many(monkeypatch):
    _, _, sampler = built(DIGITS)
    x = pixels()
    whole = sampler.log_weights(x, 9)
    torch.testing.assert_close(sampler.log_weights(x, 4), whole[:, :4], rtol=1e-6, atol=1e-5)
    monkeypatch.setattr(variational, "_AT_ONCE", 12)
    torch.testing.assert_close(sampler.log_weights(x, 9), whole, rtol=1e-6, atol=1e-5)


def test_bounds_are_of_weights_averaged():
    _, _, sampler = built(DIGITS, conditional=True, draws=5)
    x = pixels(2)
    of_class = torch.stack([sampler.log_prob(x, torch.tensor(label)) for label in range(10)], 1)
    torch.testing.assert_close(sampler.log_prob(x), of_class.logsumexp(1) - math.log(10))
    weights = sampler.log_weights(x, 5, torch.tensor([3, 4]))
    torch.testing.assert_close(sampler.log_prob(x, torch.tensor([3, 4])), weights.logsumexp(1) - math.log(5))
    with pytest.raises(UsageError, match="needs the labels"):
        sampler.log_weights(x, 5)


def test_evaluation_takes_it_as_a_lower_bound():
    _, _, sampler = built(DIGITS, draws=3)
    images = sampler.sample(40, seed=0)
    found = evaluate_likelihood(sampler, images)
    assert (found.terms.kind, found.terms.draws, found.terms.dims) == ("lower", 3, 64)
    again = evaluate_likelihood(sampler, images, batch_size=7)
    torch.testing.assert_close(again.per_image, found.per_image, rtol=1e-6, atol=1e-5)
    _, _, points = built(POINTS, draws=3)
    found = evaluate_likelihood(points, points.sample(40, seed=0))
    assert (found.terms.dequantization, found.terms.dims) == ("none", 2)


def test_a_cross_entropy_has_no_likelihood():
    for pixels_as, has in (("bernoulli", False), ("gaussian", True), ("continuous-bernoulli", True)):
        sampler = built(DIGITS, pixels=pixels_as)[2]
        assert hasattr(sampler, "log_prob") == has == isinstance(sampler, LatentDensity)
        assert sampler.sample(2, seed=0).shape == (2, 1, 8, 8)


# --- Refusals


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 8, 9), r"found torch.float32 \[2, 1, 8, 9\]"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "found torch.uint8"),
        (torch.full((2, 1, 8, 8), 1.5), r"pixels in \[0, 1\], found 1.5 to 1.5"),
        (torch.full((2, 1, 8, 8), math.nan), "found NaN or infinity in 2 of 2 rows"),
    ],
)
def test_what_it_is_no_density_of_is_refused(x, message):
    with pytest.raises(UsageError, match=message):
        built(DIGITS)[2].log_prob(x)


def test_bounds_that_make_no_sense_are_refused():
    _, _, sampler = built(DIGITS, conditional=True)
    with pytest.raises(UsageError, match="1 draw or more"):
        sampler.log_weights(pixels(), 0)
    with pytest.raises(UsageError, match="0 to 9, found 10"):
        sampler.log_prob(pixels(), torch.tensor(10))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pixels": "bernouli"}, UnknownName, "did you mean 'bernoulli'"),
        ({"output": "mode"}, UsageError, "found output='mode'"),
        ({"latent": 0}, UsageError, "latent is 1 or more, found 0"),
        ({"draws": 0}, UsageError, "draws is 1 or more, found 0"),
        ({"layers": -1}, UsageError, "layers is 0 or more"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        Variational(**settings)


def test_data_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="labelled data"):
        Variational(conditional=True).task(Kind((2,)))
    with pytest.raises(UsageError, match="divisible by 4"):
        Variational().task(Kind((1, 30, 28)))
