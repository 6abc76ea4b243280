"""Checks of posteriors catch what they are for: each is run on something that was broken on purpose."""

from __future__ import annotations

import pytest
import torch

from gen_eval.validation import CHECKS, run
from gen_eval.validation import posteriors as checks
from gen_eval.zoo import variational
from gen_eval.zoo.likelihoods import Binary, ContinuousBernoulli
from gen_eval.zoo.nets import posteriors
from gen_eval.zoo.nets.posteriors import Continuous, InverseAutoregressive, Sylvester

autoregressive, sylvester, continuous = (
    each.forward for each in (InverseAutoregressive, Sylvester, Continuous)
)
reflected, triangle, gain = posteriors._reflected, posteriors._triangle, variational.gain_of_flow
hutchinson, silence, gates = posteriors.hutchinson, posteriors._silence, Continuous._gates
_GAP = "gap-closed-by-iaf"


def back(flow):
    """The volume of the way back."""
    return lambda self, z, context, probe=None: (
        flow(self, z, context, probe)[0],
        -flow(self, z, context, probe)[1],
    )


def square(numbers, size):
    """Matrices with something below the diagonal."""
    return triangle(numbers, size) + numbers.view(-1, size, size).tril(-1)


def half(z, units):
    """Projections, and no reflections."""
    for unit in units:
        z = z - (z * unit).sum(1, keepdim=True) * unit
    return z


def of_one_time(flow, t, context):
    return gates(flow, torch.zeros_like(t), context)


BROKEN = {
    "iaf, the way back": (
        "volume-of-a-posterior-iaf",
        InverseAutoregressive,
        "forward",
        back(autoregressive),
    ),
    "sylvester, the way back": ("volume-of-a-posterior-sylvester", Sylvester, "forward", back(sylvester)),
    "cnf, the way back": ("volume-of-a-posterior-cnf", Continuous, "forward", back(continuous)),
    "no triangles": ("volume-of-a-posterior-sylvester", posteriors, "_triangle", square),
    "not orthogonal": ("volume-of-a-posterior-sylvester", posteriors, "_reflected", half),
    "turned back the same way": (
        *("volume-of-a-posterior-sylvester", posteriors, "_reflected"),
        lambda z, units: reflected(z, tuple(sorted(units, key=lambda unit: float(unit[0, 0].detach())))),
    ),
    "estimates of half the trace": (
        *("volume-of-a-posterior-estimated", posteriors, "hutchinson"),
        lambda field, t, x, probe: hutchinson(field, t, x, probe / 2),
    ),
    "beginning anywhere": (
        "posteriors-begin-as-plain",
        posteriors,
        "_silence",
        lambda layer, outputs=None: None,
    ),
    "no probability": ("probabilities-of-bits", Binary, "log_prob", ContinuousBernoulli.log_prob),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    assert_missed(*BROKEN[what])


@pytest.mark.parametrize(
    "broken",
    [
        lambda start, z, log_det: gain(start, z, 0 * log_det),
        lambda start, z, log_det: gain(start, z, -log_det),
    ],
    ids=["no volume", "the volume of the way back"],
)
def test_a_bound_without_its_volume_closes_no_gap(broken, assert_missed, monkeypatch):
    """Trained on a bound that is none, the flow ends elsewhere; few steps show it."""
    monkeypatch.setattr(checks, "_STEPS", 150)
    assert_missed(_GAP, variational, "gain_of_flow", broken)


def test_few_steps_on_the_right_bound_show_it_too(monkeypatch):
    """So that it is not the steps that are too few for the tests above."""
    monkeypatch.setattr(checks, "_STEPS", 150)
    (gap,) = run(CHECKS[_GAP]).got
    assert gap < 0.2  # half of what the plain posterior leaves
