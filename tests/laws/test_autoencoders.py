"""Autoencoders held to what is known in closed form: linear models, a Gaussian world, a ring with labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.adversarial_variational import AdversarialVariational, adversarial_elbo
from gen_eval.zoo.data import TrainingData
from gen_eval.zoo.likelihoods import FLOOR
from gen_eval.zoo.task import Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.variational import LatentDensity, Variational, elbo
from gen_eval.zoo.worlds import find_world

DIM, LATENT = 5, 2


def trained(recipe, data, **settings):
    return train(Model("test", "", recipe, ""), data, device="cpu", **settings).sampler()


def gaussian_data(n, seed):
    """Rows of a Gaussian whose covariance has two large directions, with its mean and covariance."""
    rng = np.random.default_rng(0)
    mean, loadings = rng.normal(0, 2, DIM), rng.normal(0, 1, (DIM, LATENT))
    covariance = loadings @ loadings.T + np.diag([0.1, 0.3, 0.2, 0.3, 0.1])
    rows = np.random.default_rng(seed).multivariate_normal(mean, covariance, n)
    return torch.from_numpy(rows), mean, covariance


# --- Probabilistic PCA (Tipping and Bishop 1999): a linear decoder with the best encoder


@dataclass(frozen=True)
class PPCA:
    """x = W z + b + sd e, the most likely one of some rows."""

    w: torch.Tensor
    b: torch.Tensor
    sd: float

    @classmethod
    def of(cls, x: torch.Tensor) -> PPCA:
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        variance = float(values[:-LATENT].mean())
        w = vectors[:, -LATENT:] * (values[-LATENT:] - variance).sqrt()
        return cls(w, x.mean(0), math.sqrt(variance))

    @property
    def covariance(self) -> torch.Tensor:
        return self.w @ self.w.T + self.sd**2 * torch.eye(DIM, dtype=self.w.dtype)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return torch.distributions.MultivariateNormal(self.b, self.covariance).log_prob(x)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means ``[n, latent]`` and the covariance that all share."""
        covariance = torch.linalg.inv(torch.eye(LATENT) + self.w.T @ self.w / self.sd**2)
        return (x - self.b) @ self.w @ covariance / self.sd**2, covariance


def linear_networks(model: PPCA, widen: float = 1.0):
    """The modules of a linear autoencoder that are this model and, as far as they can be, its posterior."""
    modules = Variational(latent=LATENT, layers=0).task(Kind((DIM,))).modules.double().eval()
    _, covariance = model.posterior(model.b[None])
    slope = covariance @ model.w.T / model.sd**2
    with torch.no_grad():
        decoder, encoder = modules["decoder"], modules["encoder"]
        decoder.body[0].weight.copy_(model.w)
        decoder.body[0].bias.copy_(model.b)
        decoder.likelihood.log_excess.fill_(math.log(model.sd - FLOOR))
        encoder.head[0].weight.zero_()[:LATENT] = slope
        encoder.head[0].bias[:LATENT] = -slope @ model.b
        encoder.head[0].bias[LATENT:] = covariance.diagonal().log() / 2 + math.log(widen)
    return modules.requires_grad_(False)


def sampler_of(modules, draws=1):
    scaling = {"mean": torch.zeros(DIM), "sd": torch.ones(DIM)}
    return LatentDensity("ppca", Kind((DIM,)), modules, scaling, draws=draws)


def exact_elbo(modules, x):
    """Without noise: log p(x | z) is quadratic in z, so 2 LATENT points have its mean over q."""
    mean, log_sd = modules["encoder"].posterior(x)
    points = math.sqrt(LATENT) * torch.cat([torch.eye(LATENT), -torch.eye(LATENT)]).double()
    of_points = [modules["decoder"].log_prob(x, mean + log_sd.exp() * point) for point in points]
    return elbo(torch.stack(of_points).mean(0), mean, log_sd)


@pytest.fixture(scope="module")
def rows():
    return gaussian_data(500, 1)[0]


def test_the_elbo_of_ppca_is_its_likelihood(rows):
    """Its axes are orthogonal, so its posterior is one that the encoder can be: each single weight is p(x)."""
    model = PPCA.of(rows)
    modules = linear_networks(model)
    exact = model.log_prob(rows)
    for weights in sampler_of(modules).log_weights(rows, 3).T:
        torch.testing.assert_close(weights, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(exact_elbo(modules, rows), exact, rtol=0, atol=1e-9)


def test_rotated_axes_leave_a_gap_that_is_the_kl_to_the_posterior(rows):
    """The likelihood is the same; an encoder of independent components no longer reaches the posterior."""
    model, angle = PPCA.of(rows), math.pi / 5
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    rotated = replace(model, w=model.w @ turn)
    torch.testing.assert_close(rotated.log_prob(rows), model.log_prob(rows), rtol=0, atol=1e-9)
    _, covariance = rotated.posterior(rows[:1])
    # Means agree; KL of the diagonal of a covariance from the whole of it.
    precision = torch.linalg.inv(covariance)
    gap = (precision.diagonal() @ covariance.diagonal() - LATENT) / 2
    gap += (torch.logdet(covariance) - covariance.diagonal().log().sum()) / 2
    assert float(gap) > 0.01
    found = rotated.log_prob(rows) - exact_elbo(linear_networks(rotated), rows)
    torch.testing.assert_close(found, gap.expand(len(rows)), rtol=0, atol=1e-9)


def test_more_draws_tighten_the_bound(rows):
    """With q half as wide again the ELBO falls short by (1.5² - 1) / 2 - log 1.5 = .2195 a component."""
    model = PPCA.of(rows)
    modules = linear_networks(model, widen=1.5)
    gap = LATENT * ((1.5**2 - 1) / 2 - math.log(1.5))
    found = exact_elbo(modules, rows) - model.log_prob(rows)
    torch.testing.assert_close(found, torch.full_like(found, -gap), rtol=0, atol=1e-9)
    means = []
    for k in (1, 10, 100, 1000):
        short = sampler_of(modules, k).log_prob(rows) - model.log_prob(rows)
        means.append(float(short.mean()))
        error = float(short.std()) / math.sqrt(len(rows))
        assert means[-1] < 3 * error
        assert k > 1 or means[0] == pytest.approx(-gap, abs=3 * error)
    assert means == sorted(means)
    assert abs(means[-1]) < 0.005


# --- Trained


@pytest.fixture(scope="module")
def linear():
    """A linear autoencoder trained on a Gaussian world."""
    x, mean, covariance = gaussian_data(5000, 2)
    recipe = Variational(latent=LATENT, layers=0, batch=256, steps=2000, rate=3e-3, draws=8)
    return trained(recipe, TrainingData("gaussian", x.float())), mean, covariance


def test_a_linear_autoencoder_learns_ppca(linear):
    """Held out, against the most likely model of the training rows, standardised as the network sees them."""
    model, _, _ = linear
    train_rows, held_out = gaussian_data(5000, 2)[0], gaussian_data(2000, 3)[0]
    mean, sd = train_rows.mean(0), train_rows.std(0, correction=0)
    best = PPCA.of((train_rows - mean) / sd).log_prob((held_out - mean) / sd) - sd.log().sum()
    found = evaluate_likelihood(model, held_out.float())
    assert -found.value == pytest.approx(float(best.mean()), abs=0.01)


def test_samples_of_a_gaussian_world_have_its_moments(linear):
    model, mean, covariance = linear
    sample = model.sample(20_000, seed=0).double().numpy()
    scale = np.sqrt(np.diag(covariance))
    assert (np.abs(sample.mean(0) - mean) < 0.05 * scale).all()
    assert (np.abs(np.cov(sample.T) - covariance) < 0.08 * np.outer(scale, scale)).all()


def test_a_conditional_autoencoder_keeps_to_its_labels():
    """On a ring of eight Gaussians, judged by the classifier that knows their densities."""
    world = find_world("ring8")
    seeds = torch.arange(8000)
    data = TrainingData("ring", world.sample(8000, seed=0), world.labels_of(seeds), world.classes)
    recipe = Variational(latent=2, width=32, layers=1, conditional=True, batch=256, steps=1500, rate=3e-3)
    model = trained(recipe, data)
    labels = torch.arange(8).repeat(250)
    sample = model.sample(2000, seed=0, labels=labels)
    angle = torch.atan2(sample[:, 1], sample[:, 0])
    judged = (angle / (2 * math.pi) * 8).round().long() % 8
    held_out = world.sample(1000, seed=10**6)
    assert float((judged == labels).float().mean()) > 0.99
    assert float((world.log_prob(held_out) - model.log_prob(held_out)).mean()) < 0.2


# --- Adversarial variational Bayes: x = 1.5 z + .8 e, where q(z | x) = N(1.5 x / 2.89, .64 / 2.89)

GAIN, SD = 1.5, 0.8
VARIANCE = GAIN**2 + SD**2


@dataclass(frozen=True)
class FixedDecoder(AdversarialVariational):
    """The decoder is the true one, of standardised x, and stays so; all networks are kept."""

    def task(self, kind):
        task = super().task(kind)
        decoder = task.modules["decoder"]
        decoder.body = torch.nn.Linear(1, 1)
        decoder.body.weight.data.fill_(GAIN / math.sqrt(VARIANCE))
        decoder.body.bias.data.zero_()
        decoder.likelihood.log_excess.data.fill_(math.log(SD / math.sqrt(VARIANCE) - FLOOR))
        decoder.requires_grad_(False)
        task.players = tuple(replace(player, rates=None) for player in task.players)
        task.kept = tuple(task.modules)
        return task


def test_an_adversarial_autoencoder_finds_the_exact_posterior():
    """Its mean, its standard deviation, .471, and what stands for the ELBO: less the entropy of x, 1.9496 nats."""
    rows = math.sqrt(VARIANCE) * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    recipe = FixedDecoder(latent=1, noise=4, width=32, layers=2, batch=256, turns=2)
    checkpoint = train(Model("avb", "", recipe, ""), TrainingData("x", rows), steps=2500, device="cpu")
    task = recipe.task(Kind((1,)))
    task.modules.load_state_dict(checkpoint.weights)
    modules, noise = task.modules.requires_grad_(False), torch.Generator().manual_seed(1)
    mean, sd = rows.mean(), rows.std(correction=0)

    x = torch.linspace(-2, 2, 9)[:, None].repeat_interleave(4000, 0) * math.sqrt(VARIANCE)
    z = modules["encoder"]((x - mean) / sd, torch.randn(len(x), 4, generator=noise)).view(9, 4000)
    assert float((z.mean(1) - GAIN * x[::4000, 0] / VARIANCE).abs().max()) < 0.15
    assert float(z.std(1).mean()) == pytest.approx(SD / math.sqrt(VARIANCE), rel=0.08)

    x = (rows - mean) / sd
    z = modules["encoder"](x, torch.randn(len(x), 4, generator=noise))
    bound = (
        adversarial_elbo(modules["decoder"].log_prob(x, z), modules["discriminator"](x, z)[:, 0]) - sd.log()
    )
    assert float(bound.mean()) == pytest.approx(-math.log(2 * math.pi * math.e * VARIANCE) / 2, abs=0.04)
