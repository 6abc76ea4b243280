"""Likelihoods of autoencoders: their parts, and the bound of one whose likelihood is known exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gen_eval.validation.check import Check, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.likelihoods import FLOOR, ContinuousBernoulli, log_normaliser
from gen_eval.zoo.task import Kind
from gen_eval.zoo.variational import (
    DECODER,
    ENCODER,
    LatentDensity,
    Variational,
    elbo,
    kl_to_prior,
    log_normal,
)


def _parts() -> Sequence[float]:
    """Greatest errors in nats of a log-density, of a divergence and of the ELBO made of it."""
    mean, log_sd, z = normals(50, 3, 0), normals(50, 3, 1), normals(50, 3, 2)
    q: Any = Normal(mean, log_sd.exp())
    divergence = kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)).sum(1)
    off = (
        log_normal(z, mean, log_sd) - q.log_prob(z).sum(1),
        kl_to_prior(mean, log_sd) - divergence,
        elbo(z[:, 0], mean, log_sd) - (z[:, 0] - divergence),
    )
    return [float(each.abs().max()) for each in off]


# --- The continuous Bernoulli, on both sides of where its series ends

_LOGITS = (-30.0, -3.0, -0.26, -0.24, -1e-3, 0.0, 1e-3, 0.24, 0.26, 3.0, 30.0)


def _continuous_bernoulli() -> Sequence[float]:
    """Greatest errors of the log-normaliser, the mass, the mean and the mean of draws, against quadrature."""
    logits, n = torch.tensor(_LOGITS, dtype=torch.float64)[:, None], 100_000
    likelihood = ContinuousBernoulli()
    middles = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    mass = (logits * middles).exp().mean(1)
    mean = (middles * (logits * middles).exp()).mean(1) / mass
    densities = [likelihood.log_prob(middles[:, None], logit.expand(n, 1)).exp() for logit in logits]
    shape = (len(logits), n)
    drawn = likelihood.draw(logits.expand(shape), torch.special.ndtri(middles).expand(shape))
    off = (
        log_normaliser(logits)[:, 0] - mass.log(),
        torch.stack(densities).mean(1) - 1,
        likelihood.mean(logits)[:, 0] - mean,
        drawn.mean(1) - mean,
    )
    return [float(each.abs().max()) for each in off]


# --- A linear Gaussian decoder told one of two classes, in axes where the posterior's components are independent

_LATENT, _DIM, _CLASSES = 2, 5, ("left", "right")
_NOISE = 0.7
_WIDER = 1.5
_GAP = _LATENT * ((_WIDER**2 - 1) / 2 - math.log(_WIDER))
_WEIGHT_VARIANCE = (_WIDER**2 / math.sqrt(2 * _WIDER**2 - 1)) ** _LATENT - 1
_DRAWS = (1, 10, 100)
_ROWS = 4000


class _Known:
    """A conditional linear autoencoder at the solution of probabilistic PCA.

    Args:
        wider: by how much the standard deviation of q(z | x) is more than that of the posterior.
    """

    def __init__(self, wider: float) -> None:
        kind = Kind((_DIM,), _CLASSES)
        recipe = Variational(latent=_LATENT, layers=0, conditional=True, draws=1)
        with torch.random.fork_rng(devices=[]):
            modules = recipe.task(kind).modules.eval()
        loadings = torch.linalg.qr(normals(_DIM, _LATENT, 0))[0] * torch.tensor([2.0, 1.2])
        centres = normals(_DIM, len(_CLASSES), 1)
        precision = loadings.square().sum(0) + _NOISE**2  # over that of the noise
        to_mean = loadings.T / precision[:, None]
        encoder: Any = modules[ENCODER]
        decoder: Any = modules[DECODER]
        unit = math.sqrt(len(_CLASSES))  # what a network is told of the class of a row
        with torch.no_grad():
            decoder.body[0].weight.copy_(torch.cat([loadings, centres / unit], 1))
            decoder.body[0].bias.zero_()
            decoder.likelihood.log_excess.fill_(math.log(_NOISE - FLOOR))
            encoder.head[0].weight.zero_()
            encoder.head[0].weight[:_LATENT].copy_(torch.cat([to_mean, -to_mean @ centres / unit], 1))
            encoder.head[0].bias.zero_()
            encoder.head[0].bias[_LATENT:].copy_(math.log(wider * _NOISE) - precision.log() / 2)
        scaling = {"mean": normals(1, _DIM, 2)[0].float(), "sd": normals(1, _DIM, 3)[0].exp().float()}
        sampler = recipe.sampler("linear", kind, modules, scaling)
        assert isinstance(sampler, LatentDensity)  # a Gaussian likelihood is a density
        self.sampler = sampler
        covariance = loadings @ loadings.T + _NOISE**2 * torch.eye(_DIM)
        mean, sd = (scaling[key].double() for key in ("mean", "sd"))
        self.laws: list[Any] = [
            MultivariateNormal(mean + sd * centre, sd[:, None] * covariance * sd) for centre in centres.T
        ]

    def log_prob(self, x: Tensor) -> Tensor:
        """Of each class, exactly, ``[b, classes]``."""
        return torch.stack([law.log_prob(x) for law in self.laws], 1)


def _latent_density() -> Sequence[float]:
    """Errors at the true posterior, given labels and not, and the mean gap of one that is too wide, by draws."""
    labels = torch.arange(_ROWS) % len(_CLASSES)
    known = _Known(1.0)
    x = known.sampler.sample(_ROWS, seed=0, labels=labels).double()
    exact = known.log_prob(x)
    of_label = exact.gather(1, labels[:, None])[:, 0]
    found = [
        float((known.sampler.log_prob(x, labels) - of_label).abs().max()),
        float((known.sampler.log_prob(x) - (exact.logsumexp(1) - math.log(len(_CLASSES)))).abs().max()),
    ]
    wide = _Known(_WIDER).sampler
    for draws in _DRAWS:
        wide.draws = draws
        found.append(float((wide.log_prob(x, labels) - of_label).mean()))
    return found


def _sample_fit() -> Sequence[float]:
    """Mean log-density of samples less its expectation, which is minus the entropy, of each class."""
    known = _Known(1.0)
    gaps = []
    for label in range(len(_CLASSES)):
        x = known.sampler.sample(_ROWS, seed=0, labels=label).double()
        law = known.laws[label]
        gaps.append(float(law.log_prob(x).mean() + law.entropy()))
    return gaps


DENSITIES = (
    Check(
        "parts-of-the-elbo",
        "The Gaussian log-density, its divergence from the prior and the ELBO are those of torch.distributions.",
        ("vae", "cvae", "vae-density"),
        "quick",
        (near(0.0, 1e-9, "log-density"), near(0.0, 1e-9, "divergence"), near(0.0, 1e-9, "ELBO")),
        _parts,
        "Kingma and Welling 2014, arXiv:1312.6114, appendix B",
    ),
    Check(
        "likelihood-of-a-linear-decoder",
        "At the true posterior the bound of one draw is the exact log-likelihood of x as it came, not standardised; "
        "a posterior that is too wide falls short by KL, and by about var(w) / 2K of K draws.",
        ("vae", "cvae", "vae-density"),
        "quick",
        (
            near(0.0, 1e-4, "given labels"),
            near(0.0, 1e-4, "mixture of classes"),
            near(-_GAP, 0.06, "too wide, 1 draw"),
            near(-_WEIGHT_VARIANCE / 20, 0.01, "too wide, 10 draws"),
            near(-_WEIGHT_VARIANCE / 200, 0.003, "too wide, 100 draws"),
        ),
        _latent_density,
        "Tipping and Bishop 1999, JRSS B 61:611; Burda et al. 2016, arXiv:1509.00519",
    ),
    Check(
        "samples-of-a-linear-decoder",
        "Samples of a class have the density of the class: their mean log-density is minus its entropy.",
        ("vae", "cvae", "vae-density"),
        "quick",
        tuple(near(0.0, 0.08, name) for name in _CLASSES),
        _sample_fit,
        "Tipping and Bishop 1999, JRSS B 61:611",
    ),
    Check(
        "continuous-bernoulli",
        "Its normaliser, mass, mean and draws are those that quadrature gives, near a logit of 0 and far from it.",
        ("vae-density",),
        "quick",
        tuple(near(0.0, 1e-6, what) for what in ("log-normaliser", "mass", "mean", "mean of draws")),
        _continuous_bernoulli,
        "Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845",
    ),
)
