"""Continuous flows: traces and densities against closed forms, and flows that were trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gen_eval.validation.check import Check, at_least, at_most, near
from gen_eval.validation.closed_forms import normals
from gen_eval.validation.odes import CHEN, DIM, KIND, MATRIX, MODELS, TIGHT, Linear, curved, moving
from gen_eval.zoo.continuous import ContinuousFlow, ContinuousNet
from gen_eval.zoo.data import open_data
from gen_eval.zoo.flows import FlowModel
from gen_eval.zoo.nets.fields import Planar, VectorField, convolutional, dense
from gen_eval.zoo.nets.traces import exact_trace, hutchinson
from gen_eval.zoo.observations import to_probe
from gen_eval.zoo.ode import Solver, solve
from gen_eval.zoo.task import Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

_NOON = torch.tensor(0.5, dtype=torch.float64)


def _net(field: VectorField, density: Solver, dim: int = DIM) -> ContinuousNet:
    """A flow of vectors in evaluation, its traces exact."""
    return ContinuousNet(
        field, (dim,), probe=None, exact=True, training=density, density=density, sampling=Solver("rk4", 20)
    ).eval()


# --- Traces


def _traces() -> Sequence[float]:
    """Greatest differences of traces, exact and in closed form, from the diagonal of the Jacobian."""
    with torch.random.fork_rng(devices=[]):
        fields = (dense(KIND, 16, 2), convolutional(Kind((1, 4, 4)), 8, 1), Planar(DIM, 16))
    found = []
    for dim, fresh in zip((DIM, 16, DIM), fields, strict=True):
        field, x = moving(fresh, 3.0), normals(3, dim, 0)
        traces = _jacobians(partial(field, _NOON), x).diagonal(dim1=1, dim2=2).sum(1)
        with torch.no_grad():
            ways = (exact_trace(field, _NOON, x)[1], field.with_trace(_NOON, x)[1])
        found.append(max(float((way - traces).abs().max()) for way in ways))
    return found


def _jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of each row ``[b, d]``, ``[b, d, d]``."""
    jacobian: Any = torch.autograd.functional.jacobian
    found: Tensor = jacobian(lambda x: function(x).sum(0), x)  # rows do not act on one another
    return found.transpose(0, 1).detach()


_PROBES = 200_000


def _estimates() -> Sequence[float]:
    """The mean error of estimates of a trace, in their standard errors, and their variance over that predicted."""
    symmetric = (MATRIX + MATRIX.T) / 2
    squares = float(symmetric.square().sum())
    predicted = (2 * squares, 2 * (squares - float(symmetric.diagonal().square().sum())))
    found = []
    for wanted, variance in zip(("gaussian", "rademacher"), predicted, strict=True):
        probe = to_probe(normals(_PROBES, DIM, 3), wanted)
        with torch.no_grad():
            _, estimates = hutchinson(Linear(MATRIX), _NOON, torch.zeros_like(probe), probe)
        off = float(estimates.mean() - MATRIX.trace()) / math.sqrt(variance / _PROBES)
        found += [off, float(estimates.var()) / variance]
    return found


def _one_probe() -> Sequence[float]:
    """What the mean over probes of a log-density, one for each solve, is off in nats, and the error of that mean."""
    n, solver, found = 4000, Solver("rk4", 8), []
    x = normals(1, DIM, 0)
    for wanted in ("gaussian", "rademacher"):
        net = ContinuousNet(
            curved(), (DIM,), probe=wanted, exact=True, training=solver, density=solver, sampling=solver
        )
        model = FlowModel(KIND, net, 0.05)
        with torch.no_grad():
            estimates = model.train().log_prob(x.expand(n, -1), to_probe(normals(n, DIM, 5), wanted))
            gap = float(estimates.mean() - model.eval().log_prob(x))
        found += [gap / float(estimates.std() / math.sqrt(n)), float(estimates.std())]
    return found


# --- Densities

_SOLVERS = (TIGHT, Solver.of("dopri5:1e-5"), Solver("rk4", 20), Solver("euler", 20))


def _linear_flow() -> Sequence[float]:
    """Greatest errors in nats of log-densities of a Gaussian by each solver, and of samples."""
    field, z = Linear(2 * MATRIX), normals(50, DIM, 0)
    stretch = torch.matrix_exp(2 * MATRIX)
    x = z @ stretch.T
    law: Any = torch.distributions.MultivariateNormal(x.new_zeros(DIM), stretch @ stretch.T)
    with torch.no_grad():
        found = [
            float((FlowModel(KIND, _net(field, s), 0.05).log_prob(x) - law.log_prob(x)).abs().max())
            for s in _SOLVERS
        ]
        return *found, float((_net(field, TIGHT).from_latent(z) - x).abs().max())


def _latent(net: ContinuousNet, x: Tensor) -> Tensor:
    return net.to_latent(x)[0]


def _log_determinant() -> Sequence[float]:
    """Greatest errors of the log-determinant of whole flows against that of the Jacobian of their solution."""
    found = []
    with torch.random.fork_rng(devices=[]):
        planar = Planar(DIM, 16)
    for field in (curved(1.5), moving(planar, 1.5)):
        net, x = _net(field, Solver("rk4", 50)), normals(3, DIM, 0)
        jacobians = _jacobians(partial(_latent, net), x)
        with torch.no_grad():
            off = net.to_latent(x)[1] - torch.linalg.slogdet(jacobians)[1]
        found.append(float(off.abs().max()))
    return found


_TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8)


def _tolerances() -> Sequence[float]:
    """Over a sweep: the last error of log-densities and of going there and back, how errors and evaluations follow."""
    field, z = curved(1.5), normals(20, DIM, 0)
    densities, returns, evaluations = [], [], []
    with torch.no_grad():
        x = solve(field, z, 0.0, 1.0, Solver("dopri5", rtol=1e-12, atol=1e-12)).state
        exact = _net(field, Solver("dopri5", rtol=1e-12, atol=1e-12)).to_latent(x)[1]
        for tolerance in _TOLERANCES:
            solver = Solver("dopri5", rtol=tolerance, atol=tolerance)
            net = _net(field, solver)
            latent, log_det = net.to_latent(x)
            evaluations.append(net.density_evaluations)
            densities.append(float((log_det - exact).abs().max()))
            returns.append(float((solve(field, latent, 0.0, 1.0, solver).state - x).abs().max()))
    return (
        *(max(after / before for before, after in pairwise(errors)) for errors in (densities, returns)),
        densities[-1],
        returns[-1],
        float(min(after - before for before, after in pairwise(evaluations))),
    )


# --- Trained

_GRATHWOHL = "Grathwohl et al. 2019, arXiv:1810.01367"
_RING = Mixture.ring(sd=0.3)
# The model, its recipe, steps, and the paper.
_TRAINED = (
    ("ffjord", ContinuousFlow(batch=256, rate=5e-3), 300, _GRATHWOHL),
    ("planar-cnf", ContinuousFlow(field="planar", layers=1, batch=256, rate=1e-2), 600, CHEN),
)
_HELD_OUT = 10**6  # seed
_HALF, _SIDE = 5.0, 121  # of a grid: half its width, and its cells


def _trained(recipe: ContinuousFlow, steps: int) -> Sequence[float]:
    """The divergence from the ring, what the density integrates to, and how far samples are from their latents."""
    data = open_data(_RING, n=20_000)
    sampler: Any = train(Model("flow", "", recipe, ""), data, steps=steps, device="cpu").sampler()
    x = _RING.sample(2000, seed=_HELD_OUT)
    ticks = ((torch.arange(_SIDE) + 0.5) / _SIDE * 2 - 1) * _HALF
    mass = sampler.log_prob(torch.cartesian_prod(ticks, ticks)).exp().sum() * (2 * _HALF / _SIDE) ** 2
    seeds = torch.arange(200)
    back = sampler.encode(sampler(seeds)) - sampler.latent(seeds)
    return float((_RING.log_prob(x) - sampler.log_prob(x)).mean()), float(mass), float(back.abs().max())


CONTINUOUS_FLOWS = (
    Check(
        "traces-of-fields",
        "Traces by products with the Jacobian, and in closed form, are those of its diagonal.",
        MODELS,
        "quick",
        tuple(near(0.0, 1e-12, field) for field in ("dense", "convolutional", "planar")),
        _traces,
        f"{CHEN}, section 4",
    ),
    Check(
        "hutchinson-estimate",
        "Its mean is the trace; its variance 2|S|² of Gaussian probes, and less the diagonal's of Rademacher ones.",
        ("ffjord",),
        "quick",
        tuple(
            known
            for probe in ("Gaussian", "Rademacher")
            for known in (
                near(0.0, 3.5, f"mean, in its errors, {probe}"),
                near(1.0, 0.02, f"variance, {probe}"),
            )
        ),
        _estimates,
        "Avron and Toledo 2011, J. ACM 58:8",
    ),
    Check(
        "one-probe-for-a-solve",
        "With one probe kept through a solve, the log-density is right in expectation.",
        ("ffjord",),
        "quick",
        tuple(
            known
            for probe in ("Gaussian", "Rademacher")
            for known in (
                near(0.0, 3.5, f"mean, in its errors, {probe}"),
                at_least(0.05, f"spread, nats, {probe}"),
            )
        ),
        _one_probe,
        f"{_GRATHWOHL}, section 3.1",
    ),
    Check(
        "linear-continuous-flow",
        "The log-density of a linear flow is a Gaussian's, by the matrix exponential; 20 steps of Euler's do not do.",
        MODELS,
        "quick",
        (
            near(0.0, 1e-6, "nats, dopri5 at 1e-9"),
            near(0.0, 1e-3, "nats, dopri5 at 1e-5"),
            near(0.0, 1e-4, "nats, rk4, 20 steps"),
            at_least(0.1, "nats, euler, 20 steps"),
            near(0.0, 1e-4, "samples, rk4, 20 steps"),
        ),
        _linear_flow,
        f"{CHEN}, theorem 1",
    ),
    Check(
        "log-determinant-along-a-flow",
        "The integral of the trace, back in time, is log |det dz/dx| of the map that the flow comes to.",
        MODELS,
        "quick",
        (near(0.0, 1e-6, "free form"), near(0.0, 1e-6, "planar")),
        _log_determinant,
        f"{CHEN}, theorem 1",
    ),
    Check(
        "tolerance-of-a-continuous-flow",
        "From a tolerance of 1e-2 to one of 1e-8, errors of densities and round trips fall and evaluations rise.",
        ("ffjord",),
        "quick",
        (
            at_most(0.5, "largest ratio to the error before, densities"),
            at_most(0.5, "largest ratio to the error before, round trips"),
            near(0.0, 1e-6, "last error, densities, nats"),
            near(0.0, 1e-6, "last error, round trips"),
            at_least(1.0, "least rise of evaluations"),
        ),
        _tolerances,
        _GRATHWOHL,
    ),
    *(
        Check(
            f"{name}-on-a-ring",
            "The trained density is close to the ring's and integrates to 1, and samples lead back to their latents.",
            (name, _RING.name),
            "standard",
            (
                near(0.0, 0.12, "divergence, nats"),
                near(1.0, 1e-3, "integral"),
                near(0.0, 0.02, "round trip"),
            ),
            partial(_trained, recipe, steps),
            cite,
        )
        for name, recipe, steps, cite in _TRAINED
    ),
)
