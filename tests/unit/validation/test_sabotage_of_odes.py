"""Checks of equations and of continuous flows catch what they are for: each is run on something that was broken."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gen_eval.validation import continuous_flows, odes
from gen_eval.validation.continuous_flows import CONTINUOUS_FLOWS
from gen_eval.validation.odes import ODES
from gen_eval.zoo import continuous
from gen_eval.zoo.nets import fields, traces
from gen_eval.zoo.nets.fields import Planar, VectorField
from gen_eval.zoo.ode import Solver

QUICK = {check.name for check in (*ODES, *CONTINUOUS_FLOWS) if check.tier == "quick"}

solve, exact_trace, hutchinson = odes.solve, traces.exact_trace, traces.hutchinson
with_trace = Planar.with_trace


def by(method, steps):
    """Whatever solver is asked for, this one solves."""

    def solved(field, state, begin, end, solver):
        return solve(field, state, begin, end, Solver(method, steps, adjoint=solver.adjoint))

    return solved


def one_step_more(field, state, begin, end, solver):
    if solver.fixed:
        solver = dataclasses.replace(solver, steps=solver.steps + 1)
    return solve(field, state, begin, end, solver)


def loose(field, state, begin, end, solver):
    """A tolerance between 1e-2 and 1e-9 is taken for 1e-3."""
    if not solver.fixed and solver.rtol > 1e-10:
        solver = Solver.of("dopri5:1e-3")
    return solve(field, state, begin, end, solver)


def never_back(field, state, begin, end, solver):
    return solve(field, state, min(begin, end), max(begin, end), solver)


def held(field, state, begin, end, solver):
    """Parameters get no gradient of what was computed."""
    return solve(field, state, begin, end, dataclasses.replace(solver, adjoint=False))


def at_half_time(field, t, x):
    return with_trace(field, t / 2, x)[0], with_trace(field, t, x)[1]


def half(estimate):
    """The same velocity with half the trace."""

    def halved(*given):
        v, trace = estimate(*given)
        return v, trace / 2

    return halved


def off_diagonal(field, t, x, probe):
    """An estimate of the sum of all entries of the Jacobian."""
    v, _ = hutchinson(field, t, x, probe)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (product,) = torch.autograd.grad(field(t, x).sum(), x)
    return v, product.sum(1)


BROKEN = {
    "Euler for all": (
        odes,
        "solve",
        by("euler", 40),
        {
            "adjoint-of-a-linear-ode",
            "adjoint-of-a-neural-ode",
            "euler-step-is-a-residual-block",
            "orders-of-ode-solvers",
            "ode-back-in-time",
        },
    ),
    "one step more": (
        odes,
        "solve",
        one_step_more,
        {"euler-step-is-a-residual-block", "orders-of-ode-solvers"},
    ),
    "no way back": (odes, "solve", never_back, {"ode-back-in-time"}),
    "no adjoint": (odes, "solve", held, {"adjoint-of-a-neural-ode"}),
    "no way back to latents": (
        continuous,
        "solve",
        never_back,
        {
            "linear-continuous-flow",
            "tolerance-of-a-continuous-flow",
        },
    ),
    "a tolerance unheard": (
        continuous,
        "solve",
        loose,
        {
            "linear-continuous-flow",
            "tolerance-of-a-continuous-flow",
        },
    ),
    "half of an exact trace": (
        fields,
        "exact_trace",
        half(exact_trace),
        {
            "traces-of-fields",
            "one-probe-for-a-solve",
            "linear-continuous-flow",
            "log-determinant-along-a-flow",
        },
    ),
    "half of a closed trace": (
        Planar,
        "with_trace",
        half(with_trace),
        {
            "traces-of-fields",
            "log-determinant-along-a-flow",
        },
    ),
    "no trace": (
        VectorField,
        "with_trace",
        lambda field, t, x: (field(t, x), 0 * x[:, 0]),
        {
            "one-probe-for-a-solve",
            "linear-continuous-flow",
            "log-determinant-along-a-flow",
        },
    ),
    "another field's trace": (
        Planar,
        "with_trace",
        lambda field, t, x: at_half_time(field, t, x),
        {
            "traces-of-fields",
            "log-determinant-along-a-flow",
        },
    ),
    "estimates of half": (continuous_flows, "hutchinson", half(hutchinson), {"hutchinson-estimate"}),
    "estimates without a probe": (continuous_flows, "hutchinson", off_diagonal, {"hutchinson-estimate"}),
    "estimates of half in a flow": (continuous, "hutchinson", half(hutchinson), {"one-probe-for-a-solve"}),
    "one probe for both": (
        continuous_flows,
        "to_probe",
        lambda normal, wanted: normal,
        {"hutchinson-estimate"},
    ),
    "probes that are too large": (
        continuous_flows,
        "to_probe",
        lambda normal, wanted: 1.1 * normal,
        {"hutchinson-estimate"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    *broken, missed = BROKEN[what]
    for name in missed:
        assert_missed(name, *broken)


def test_each_quick_check_misses_something():
    assert {name for *_, missed in BROKEN.values() for name in missed} == QUICK
