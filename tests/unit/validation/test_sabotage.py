"""Checks catch what they are for: each is run on something that was broken on purpose."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gen_eval.metrics.score import Score
from gen_eval.validation import (
    CHECKS,
    closed_forms,
    contract,
    densities,
    distributions,
    manifolds,
    mechanisms,
    run,
)
from gen_eval.zoo import adversarial_variational, combinators, variational
from gen_eval.zoo.likelihoods import ContinuousBernoulli
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.nets import autoencoder, progressive
from gen_eval.zoo.nets.attention import SelfAttention
from gen_eval.zoo.objectives import OBJECTIVES
from gen_eval.zoo.styled import Styled
from gen_eval.zoo.task import Model
from gen_eval.zoo.trained import RESAMPLED, Trained
from gen_eval.zoo.variational import DECODER, LatentDensity, Variational
from gen_eval.zoo.worlds import Checkerboard


def test_wrong_numbers_are_caught():
    """A known answer that is off by a few times its tolerance is missed by what is right."""
    right = CHECKS["penalties-of-a-linear-critic"]
    wrong = [dataclasses.replace(known, value=known.value + 3 * known.above + 1e-6) for known in right.known]
    for at in range(len(wrong)):
        known = (*right.known[:at], wrong[at], *right.known[at + 1 :])
        assert not run(dataclasses.replace(right, known=known)).passed


# --- Broken engines and parts

frechet, iwae, mode_coverage = closed_forms.frechet, closed_forms.iwae, manifolds.mode_coverage
precision_recall, penalty, orthogonal, r1 = (
    *(manifolds.precision_recall, mechanisms.gradient_penalty, mechanisms.orthogonal, mechanisms.r1),
)
grow, truncated_normal = progressive.Generator.grow, closed_forms.truncated_normal


def means_alone(x, y):
    return Score({"frechet": float((x.mean - y.mean).square().sum())})


def swapped(generated, reference):
    return precision_recall(reference, generated)


def clamped(seeds, dim, threshold):
    """Components beyond the threshold are moved to it, not drawn again."""
    return truncated_normal(seeds, dim, 50.0).clamp(-threshold, threshold)


def over_queries(block, x):
    keys = torch.nn.functional.max_pool2d(block.key(x), 2).flatten(2)
    return (block.query(x).flatten(2).transpose(1, 2) @ keys).softmax(1)


def towards_zero(styled, seeds, labels, truncation):
    styles = styled.mapping(styled.latent(seeds))
    return styles if truncation is None else styles * truncation


discriminator_loss, kl_to_prior = adversarial_variational.discriminator_loss, variational.kl_to_prior
log_normaliser, on_board, noised = densities.log_normaliser, Checkerboard._draw, combinators.Noisy._noised


def one_square_more(board, seeds, labels, truncation):
    """A tenth of the samples of other squares are in the first one."""
    x = on_board(board, seeds, labels, truncation)
    return torch.where((seeds % 10 == 0)[:, None], x % 1 - board.side / 2 * board.width, x)


def without_jacobian(density, x):
    mean, sd = (density._scaling[key].to(x) for key in ("mean", "sd"))
    return ((x - mean) / sd).float(), 0.0


BROKEN = {
    "no covariances": ("frechet-gaussians", closed_forms, "frechet", means_alone),
    "one draw for all": (
        "iwae-of-a-wide-proposal",
        closed_forms,
        "iwae",
        lambda weights, nested: iwae(weights[:, :12], nested=nested),
    ),
    "clamped latents": ("variance-of-truncated-latents", closed_forms, "truncated_normal", clamped),
    "roles swapped": ("modes-dropped-and-invented", manifolds, "precision_recall", swapped),
    "roles swapped on discs": ("truncated-disc", manifolds, "precision_recall", swapped),
    "copies are authentic": (
        "memoriser",
        manifolds,
        "authenticity",
        lambda x, y: Score({"authenticity": float((x[:, None] != y[None]).any(2).double().mean())}),
    ),
    "noise without its weight": (
        "likelihood-of-noise",
        distributions,
        "Mix",
        lambda parts, weights: parts[1],
    ),
    "squared slopes": (
        "penalties-of-a-linear-critic",
        mechanisms,
        "gradient_penalty",
        lambda critic, *rest: penalty(lambda x: critic(x) ** 2, *rest),
    ),
    "R1 without its half": (
        "penalties-of-a-linear-critic",
        mechanisms,
        "r1",
        lambda critic, real: 2 * r1(critic, real),
    ),
    "no clipping": ("penalties-of-a-linear-critic", mechanisms, "clip", lambda weights, limit: None),
    "no regularisation": (
        "orthogonal-regularisation",
        mechanisms,
        "orthogonal",
        lambda weights, form: 0 * sum(weight.sum() for weight in weights),
    ),
    "no iteration": ("power-iteration", mechanisms, "iterated", lambda matrix, u: u),
    "no normalisation": (
        "spectrally-normalised-layers",
        mechanisms,
        "spectrally_normalised",
        lambda layer: layer,
    ),
    "saturates": ("saturation", mechanisms, "find_objective", lambda name: OBJECTIVES["saturating"]),
    "another divergence": (
        "best-discriminator",
        mechanisms,
        "find_objective",
        lambda name: OBJECTIVES["f-gan:kl"],
    ),
    "attends over queries": ("self-attention", SelfAttention, "attention", over_queries),
    "fades at once": (
        "progressive-fade",
        progressive.Generator,
        "grow",
        lambda network, stage, fade: grow(network, stage, 1.0),
    ),
    "styles towards 0": ("style-truncation", Styled, "_content", towards_zero),
    "half a divergence": (
        "parts-of-the-elbo",
        densities,
        "kl_to_prior",
        lambda mean, log_sd: kl_to_prior(mean, log_sd) / 2,
    ),
    "divergence added": (
        "parts-of-the-elbo",
        densities,
        "elbo",
        lambda log_likelihood, mean, log_sd: log_likelihood + kl_to_prior(mean, log_sd),
    ),
    "no jacobian": ("likelihood-of-a-linear-decoder", LatentDensity, "_observations", without_jacobian),
    "mean of logs": (
        "likelihood-of-a-linear-decoder",
        variational,
        "log_mean_exp",
        lambda weights: weights.mean(1),
    ),
    "no posterior": (
        "likelihood-of-a-linear-decoder",
        variational,
        "log_weight",
        lambda decoder, posterior, x, z, labels: decoder.log_prob(x, z, labels),
    ),
    "draws without noise": (
        "samples-of-a-linear-decoder",
        autoencoder.Decoder,
        "forward",
        lambda decoder, z, labels=None, noise=None: decoder.outputs(z, labels),
    ),
    "a plain Bernoulli": (
        "continuous-bernoulli",
        ContinuousBernoulli,
        "log_prob",
        lambda _, x, outputs: (outputs * x - torch.nn.functional.softplus(outputs)).sum(1),
    ),
    "normaliser of the other sign": (
        "continuous-bernoulli",
        densities,
        "log_normaliser",
        lambda logits: log_normaliser(-logits),
    ),
    "mean of a Bernoulli": (
        "continuous-bernoulli",
        ContinuousBernoulli,
        "mean",
        lambda _, outputs: outputs.sigmoid(),
    ),
    "draws upside down": (
        "continuous-bernoulli",
        ContinuousBernoulli,
        "draw",
        lambda _, outputs, noise: torch.special.ndtr(noise),
    ),
    "a crowded square": ("densities-integrate-to-1", Checkerboard, "_draw", one_square_more),
    "even weights": (
        "shares-of-parts",
        combinators,
        "shares",
        lambda weights, count: torch.full((count,), 1 / count, dtype=torch.float64),
    ),
    "even modes": (
        "shares-of-parts",
        combinators.KeepModes,
        "labels_of",
        lambda kept, seeds: seeds % len(kept.classes),
    ),
    "modes of the base": (
        "shares-of-parts",
        combinators.KeepModes,
        "_draw",
        lambda kept, seeds, labels, t: kept._base(seeds, labels=labels),
    ),
    "no noise": ("noise-on-images", combinators.Noisy, "_noised", lambda noisy, clean, seeds: clean),
    "one noise": (
        "noise-on-images",
        combinators.Noisy,
        "_noised",
        lambda noisy, clean, seeds: noised(noisy, clean, 0 * seeds),
    ),
    "no blur": (
        "blur-of-an-edge",
        combinators.Blurred,
        "_draw",
        lambda it, seeds, labels, t: it._base(seeds),
    ),
    "no shift": (
        "shift-of-images-and-points",
        combinators.Shifted,
        "_draw",
        lambda it, seeds, labels, t: it._base(seeds),
    ),
    "wrapped shift": (
        "shift-of-images-and-points",
        combinators.Shifted,
        "_draw",
        lambda it, seeds, labels, t: it._base(seeds).roll([int(by) for by in it._by], (-2, -1)),
    ),
    "posterior for prior": (
        "avb-at-the-optimum",
        adversarial_variational,
        "discriminator_loss",
        lambda on_posterior, on_prior: discriminator_loss(on_prior, on_posterior),
    ),
    "ratio added": (
        "avb-at-the-optimum",
        adversarial_variational,
        "adversarial_elbo",
        lambda log_likelihood, on_posterior: log_likelihood + on_posterior,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed, monkeypatch):
    monkeypatch.setattr(manifolds, "_N", 1000)  # where what is whole passes too
    assert_missed(*BROKEN[what])


# --- Broken models


class Careless(Trained):
    """Breaks what a test asks for."""

    fault = ""

    def __call__(self, seeds, *, labels=None, truncation=None):
        fault = self.fault
        if fault == "ignores labels":
            labels = None
        elif fault == "ignores truncation":
            truncation = None
        elif fault == "draws by place":
            seeds = seeds[0] + torch.arange(len(seeds))
        elif fault == "draws by number":
            seeds = seeds + len(seeds)
        elif fault == "always the same":
            seeds = 0 * seeds
        x = super().__call__(seeds, labels=labels, truncation=truncation)
        if fault == "global state":
            return x + torch.rand(())
        return x.double() if fault == "another type" else x

    def log_prob(self, x):
        return torch.zeros(len(x), 2 if self.fault == "two numbers" else 1).squeeze(1)

    bound = "exact"


@dataclasses.dataclass(frozen=True)
class CarelessRecipe(Variational):
    """Small, without a truncation if that is what is ignored.

    Args:
        fault: of the sampler.
    """

    fault: str = ""

    def sampler(self, name, kind, modules, scaling):
        truncation = None if self.fault == "ignores truncation" else RESAMPLED
        sampler = Careless(name, kind, modules[DECODER], scaling, truncation=truncation)
        sampler.fault = self.fault
        return sampler


def careless(fault):
    return Model("careless", "", CarelessRecipe(latent=2, width=16, fault=fault), "")


def test_a_model_without_a_fault_keeps_its_promises():
    outcome = run(contract(careless("")))
    assert outcome.passed, outcome.error


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("ignores labels", "labels are honoured, or refused"),
        ("ignores truncation", "a truncation is honoured, or refused"),
        ("draws by place", "a sample depends on its own seed alone"),
        ("draws by number", "the first samples of many are those of few"),
        ("always the same", "other seeds give other samples"),
        ("global state", "leaves the random state of torch alone"),
        ("another type", "samples are uint8 images or finite float32 vectors"),
        ("two numbers", "a log-likelihood is a number for each sample"),
    ],
)
def test_a_model_that_breaks_a_promise_is_named_with_it(fault, promise):
    with torch.random.fork_rng(devices=[]):
        outcome = run(contract(careless(fault)))
    assert not outcome.passed
    assert promise in outcome.error
    assert "careless does not keep" in outcome.error


# --- Broken parts that models share

latent = Trained.latent
LABELS, TRUNCATION = "labels are honoured, or refused", "a truncation is honoured, or refused"
SHARED = {
    "labels unheard": (
        *("cvae", autoencoder, "one_hot", LABELS),
        lambda labels, classes, like: [like.new_zeros(len(like), classes)] if classes else [],
    ),
    "truncation unheard": (
        *("vae", Trained, "latent", TRUNCATION),
        lambda self, seeds, truncation=None: latent(self, seeds),
    ),
    "truncated by twice": (
        *("gan", Trained, "latent", TRUNCATION),
        lambda self, seeds, truncation=None: latent(self, seeds, truncation and 2 * truncation),
    ),
    "truncated by clamping": (
        *("gan", Trained, "latent", TRUNCATION),
        lambda self, seeds, truncation=None: latent(self, seeds).clamp(-(truncation or 99), truncation or 99),
    ),
    "content by twice": (
        *("gan", Trained, "_content", TRUNCATION),
        lambda self, seeds, labels, truncation: self.latent(seeds, truncation and 2 * truncation),
    ),
    "styles stay": (
        *("stylegan", Styled, "_content", TRUNCATION),
        lambda self, seeds, labels, truncation: self._in_batches(
            self._net.styles, seeds % 64, self.latent(seeds)
        ),
    ),
}


@pytest.mark.parametrize("what", SHARED)
def test_what_models_share_is_missed_once_broken(what, monkeypatch):
    name, home, attribute, promise, broken = SHARED[what]
    monkeypatch.setattr(home, attribute, broken)
    outcome = run(contract(MODELS[name]))
    assert not outcome.passed
    assert promise in outcome.error
    assert "other seeds" not in outcome.error
