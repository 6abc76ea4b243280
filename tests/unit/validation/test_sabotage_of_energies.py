"""Checks of energy-based and Ising models catch what they are for: each is run on something broken on purpose."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from gen_eval.validation import CHECKS, energies, ising, run
from gen_eval.zoo import energies as recipes
from gen_eval.zoo import partition
from gen_eval.zoo.energies import Energy, EnergyNet, LearntEnergy
from gen_eval.zoo.ising import Ising
from gen_eval.zoo.langevin import langevin
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.partition import Normalised
from gen_eval.zoo.task import Model

log_weights, score, f = partition._log_weights, LearntEnergy.score, LearntEnergy.unnormalised_log_prob
slope, log_prob, contrast, given = EnergyNet.score, Normalised.log_prob, recipes.contrast, Ising.given
inclination, log_weight, swept = Ising._inclination, Ising.log_weight, Ising._swept


def with_half_noise(score, x, *, step_size, steps, noise):
    """The slip of a noise of eta in place of its root."""
    small = None if noise is None else lambda step: math.sqrt(step_size) * noise(step)
    return langevin(score, x, step_size=step_size, steps=steps, noise=small)


def with_whole_slopes(score, x, **options):
    return langevin(lambda x: 2 * score(x), x, **options)


def one_way(model, y):
    """Neighbours to the left and above alone."""
    s = torch.nn.functional.pad(2 * y.double() - 1, (1, 0, 1, 0))
    return model.coupling * (s[:, :-1, 1:] + s[:, 1:, :-1]) + model.field


def all_at_once(model, n, seed, slopes):
    """Neighbours drawn together, each given how the others were before."""
    y = swept(model, n, seed, slopes[:1])
    for number in range(len(slopes)):
        drawn = torch.rand(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        y = (drawn < torch.sigmoid(2 * inclination(model, y))).long()
    return y


# What is broken: the check that has to catch it, whose attribute, and what is put there.
BROKEN = {
    "ends count in full": (
        "partition-function-by-quadrature",
        partition,
        "_log_weights",
        lambda axes: (
            torch.zeros([len(axis) for axis in axes]) + sum(math.log(float(a[1] - a[0])) for a in axes[:1])
        ),
    ),
    "slopes of standardised vectors": (
        "ratios-without-partition-function",
        LearntEnergy,
        "score",
        lambda model, x: score(model, x) * model._scaling["sd"],
    ),
    "a density of standardised vectors": (
        "ratios-without-partition-function",
        Normalised,
        "log_prob",
        lambda model, x: log_prob(model, x) + float(model._base._scaling["sd"].log().sum()),
    ),
    "a ratio the other way": (
        "ratios-without-partition-function",
        LearntEnergy,
        "log_ratio",
        lambda model, x, y: f(model, y) - f(model, x),
    ),
    "downhill": (
        "ratios-without-partition-function",
        LearntEnergy,
        "score",
        lambda model, x: -score(model, x),
    ),
    "data alone": (
        "gradient-of-the-likelihood-of-an-energy",
        energies,
        "contrast",
        lambda energy, data, model: -energy(data).mean(),
    ),
    "lowered at the data": (
        "gradient-of-the-likelihood-of-an-energy",
        energies,
        "contrast",
        lambda energy, data, model: -contrast(energy, data, model),
    ),
    "noise of eta": ("contrastive-divergence-of-a-gaussian", recipes, "langevin", with_half_noise),
    "whole slopes": ("contrastive-divergence-of-a-gaussian", recipes, "langevin", with_whole_slopes),
    "chains that climb too fast": (
        "langevin-dynamics-of-an-energy",
        EnergyNet,
        "score",
        lambda model, x: 2 * slope(model, x),
    ),
    "the other image": (
        "ising-three-by-three",
        ising.Ising,
        "given",
        lambda x, **options: given(1 - x, **options),
    ),
    "two neighbours": ("ising-three-by-three", Ising, "_inclination", one_way),
    "neighbours at once": ("ising-three-by-three", Ising, "_swept", all_at_once),
    "half the pairs": (
        "ising-three-by-three",
        Ising,
        "log_weight",
        lambda model, y: log_weight(Ising(model.field, model.coupling / 2), y),
    ),
    "a cut of weak pairs": (
        "ising-minimum-cut",
        Ising,
        "_cut",
        lambda model: (model.field > 0).long(),
    ),
    "chains that are not cooled": (
        "ising-minimum-cut",
        Ising,
        "_settled",
        lambda model, y: 1 - y,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    assert_missed(*BROKEN[what])


@pytest.mark.parametrize("attribute", [None, "contrast", "langevin"])
def test_an_energy_that_does_not_learn_is_missed(attribute, monkeypatch):
    """The check of trained models, with one that trains for seconds, and what a few hundred steps come to."""
    settings = {
        **energies._ON_PLANE,
        "width": 32,
        "batch": 128,
        "chains": 512,
        "rate": 3e-3,
        "chain_steps": 5,
    }
    settings |= {"sampling_steps": 50, "steps": 30 if attribute else 250}
    monkeypatch.setattr(energies, "_GAMES", {"persistent": Energy(**settings, fresh=0.01)})
    known = (
        dataclasses.replace(energies._PLANE_KNOWN[0], above=0.1),
        energies._PLANE_KNOWN[1],
        *(energies.at_most(0.15) for _ in range(2)),
    )
    if attribute == "contrast":
        monkeypatch.setattr(
            recipes, "contrast", lambda energy, data, model: 0 * contrast(energy, data, model)
        )
    elif attribute:
        monkeypatch.setattr(recipes, "langevin", lambda score, x, **options: x)
    outcome = run(dataclasses.replace(CHECKS["energies-on-a-plane"], known=known))
    assert outcome.passed is (attribute is None), (outcome.got, outcome.error)


def test_chains_that_find_no_modes_are_missed(monkeypatch):
    """After one step of training, chains spread as a standard normal does."""
    for name in energies._ROWS:
        monkeypatch.setitem(MODELS, name, Model(name, "", Energy(sampling_steps=10, steps=1), ""))
    outcome = run(CHECKS["energies-on-a-ring"])
    assert outcome.error is None
    assert not outcome.passed
