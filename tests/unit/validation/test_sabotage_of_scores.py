"""Checks of scores catch what they are for: each is run on something that was broken on purpose."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from gen_eval.validation import CHECKS, run, score_models
from gen_eval.zoo import denoising as recipes
from gen_eval.zoo import score_matching
from gen_eval.zoo.denoising import Denoiser, FlowOfNoise
from gen_eval.zoo.nets.traces import exact_trace
from gen_eval.zoo.scores import OBJECTIVES, LearntScore, ScoreMatching

exact, tweedie, ode_log_prob = score_matching.exact, score_matching.tweedie, score_models.ode_log_prob
denoised, score = Denoiser.denoised, LearntScore.score


def without_slopes(score, x, *rest):
    return score(x).square().sum(1) / 2


def of_the_lecture(score, x, noise, sigma):
    """The slip: the score of the noise towards where it came to, not where it came from."""
    return (score(x + sigma * noise) - noise / sigma).square().sum(1) / 2


def from_noise_of_one(denoised, x, probe, **options):
    return ode_log_prob(denoised, x, probe, **options) + x[0].numel() * math.log(options["largest"])


def of_one_component(field, t, x):
    v, trace = exact_trace(field, t, x)
    return v, trace / x.shape[1]


def without_volume(sampler, x):
    return x.double(), 0.0


# What is broken: the check that has to catch it, whose attribute, and what is put there.
BROKEN = {
    "half a square too many": (
        "hyvarinen-identity",
        score_models,
        "exact",
        lambda score, x: exact(score, x) + score(x).square().sum(1) / 2,
    ),
    "no trace": ("hyvarinen-identity", score_models, "exact", without_slopes),
    "no slope": ("sliced-score-matching", score_models, "sliced", without_slopes),
    "not reduced": ("sliced-score-matching", score_models, "sliced_vr", score_matching.sliced),
    "away from the data": (
        "tweedie",
        score_models,
        "tweedie",
        lambda denoised, y, sigma: -tweedie(denoised, y, sigma),
    ),
    "over the sd": (
        "tweedie",
        score_models,
        "tweedie",
        lambda denoised, y, sigma: sigma * tweedie(denoised, y, sigma),
    ),
    "the slip of the lecture": ("denoising-score-matching", score_models, "denoising", of_the_lecture),
    "data of another sd": (
        "preconditioned-denoiser",
        Denoiser,
        "target_sd",
        lambda model, sigma: sigma / (sigma.square() + 1).sqrt(),
    ),
    "never the identity": (
        "preconditioned-denoiser",
        Denoiser,
        "denoised",
        lambda model, x, sigma: 0.999 * denoised(model, x, sigma),
    ),
    "noise of one": ("likelihood-of-a-probability-flow", score_models, "ode_log_prob", from_noise_of_one),
    "a part of the trace": ("likelihood-of-a-probability-flow", recipes, "exact_trace", of_one_component),
    "no jacobian": ("likelihood-of-a-probability-flow", FlowOfNoise, "_observations", without_volume),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    assert_missed(*BROKEN[what])


@pytest.mark.parametrize(
    ("attribute", "broken"),
    [
        (None, None),
        ("score", lambda sampler, x: score(sampler, x) * sampler._scaling["sd"]),
        ("score", lambda sampler, x: -score(sampler, x)),
        ("objective", without_slopes),
    ],
    ids=["nothing", "standardised", "downhill", "no slopes"],
)
def test_a_score_that_is_not_the_true_one_is_missed(attribute, broken, monkeypatch):
    monkeypatch.setattr(score_models, "_TRAINED", {"sliced": (ScoreMatching("sliced-vr", steps=300), 0.1)})
    check = dataclasses.replace(CHECKS["learnt-scores"], known=(score_models.at_most(0.1),))
    if attribute == "objective":
        monkeypatch.setitem(OBJECTIVES, "sliced-vr", broken)
    elif attribute:
        monkeypatch.setattr(LearntScore, attribute, broken)
    outcome = run(check)
    assert outcome.error is None
    assert outcome.passed is (attribute is None), outcome.got
    assert torch.tensor(outcome.got).isfinite().all()
