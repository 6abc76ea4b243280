"""Ordinary differential equations: their solvers, and gradients through them, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from gen_eval.validation.check import Check, at_least, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.nets.fields import VectorField, dense
from gen_eval.zoo.ode import Solver, solve
from gen_eval.zoo.task import Kind

AnyField = TypeVar("AnyField", bound=VectorField)

DIM = 4
KIND = Kind((DIM,))
MATRIX = normals(DIM, DIM, 7) / 2  # of the linear fields
TIGHT = Solver.of("dopri5:1e-9")


class Linear(VectorField):
    """dx/dt = A x, so that x(1) = exp(A) x(0)."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.nets.fields.VectorField`."""
        return x @ self.matrix.T


def moving(field: AnyField, scale: float = 1.0) -> AnyField:
    """The field in float64, with weights drawn by a rule of their own: fresh fields are at rest."""
    for at, parameter in enumerate(field.parameters()):
        drawn = normals(1, parameter.numel(), 100 + at).view_as(parameter)
        parameter.data = scale * drawn / math.sqrt(max(parameter[0].numel(), 4))
    return field


def curved(scale: float = 1.0) -> VectorField:
    """A free-form field."""
    with torch.random.fork_rng(devices=[]):
        field = dense(KIND, 16, 2)
    return moving(field, scale)


# --- Gradients


def _gradients() -> Sequence[float]:
    """Errors of the gradients of sum c'x(1), by backpropagation and by the adjoint, and between them; relative."""
    x, c = normals(5, DIM, 0), normals(5, DIM, 1)
    at_start = c @ torch.matrix_exp(MATRIX)
    # The derivative of exp at A' in the direction of the sum of c x', a corner of a larger exponential.
    corner = torch.zeros(2 * DIM, 2 * DIM, dtype=torch.float64)
    corner[:DIM, :DIM] = corner[DIM:, DIM:] = MATRIX.T
    corner[:DIM, DIM:] = c.T @ x
    exact = (at_start, torch.matrix_exp(corner)[:DIM, DIM:])
    found = []
    for adjoint in (False, True):
        field, start = Linear(MATRIX), x.clone().requires_grad_()
        solver = Solver.of("dopri5:1e-9", adjoint=adjoint)
        loss = (c * solve(field, start, 0.0, 1.0, solver).state).sum()
        found.append(torch.autograd.grad(loss, (start, field.matrix)))
    pairs = [(found[0], exact), (found[1], exact), (found[1], found[0])]
    return [_apart(a, b) for got, known in pairs for a, b in zip(got, known, strict=True)]


def _apart(a: Tensor, b: Tensor) -> float:
    """The distance, relative to b."""
    return float((a - b).norm() / b.norm())


def _curved_gradients() -> Sequence[float]:
    """The gap of both gradients of a field that is not linear; evaluations with those of the way back, over without."""
    gradients, evaluations = [], []
    for adjoint in (False, True):
        field = curved()
        solver = Solver.of("dopri5:1e-9", adjoint=adjoint)
        solution = solve(field, normals(5, DIM, 0), 0.0, 1.0, solver)
        forward = solution.evaluations
        parts = torch.autograd.grad(solution.state.square().sum(), list(field.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
        evaluations.append(solution.evaluations / forward)
    return _apart(gradients[1], gradients[0]), *evaluations


# --- Solvers


def _residual_block() -> float:
    """The greatest difference of one step of Euler's and a residual block."""
    field, z = curved(), normals(5, DIM, 0)
    with torch.no_grad():
        block = z + field(torch.zeros((), dtype=torch.float64), z)
        return float((solve(field, z, 0.0, 1.0, Solver("euler", 1)).state - block).abs().max())


def _orders() -> Sequence[float]:
    """By which power of the step errors fall, and evaluations in 40 steps."""
    z, found, evaluations = normals(5, DIM, 0), [], []
    exact = z @ torch.matrix_exp(MATRIX).T
    with torch.no_grad():
        for method in ("euler", "rk4"):
            solutions = [solve(Linear(MATRIX), z, 0.0, 1.0, Solver(method, steps)) for steps in (20, 40)]
            coarse, fine = (float((each.state - exact).norm()) for each in solutions)
            found.append(math.log2(coarse / fine))
            evaluations.append(float(solutions[1].evaluations))
    return *found, *evaluations


def _there_and_back() -> Sequence[float]:
    """Greatest errors of a start that is solved for back in time from the end."""
    field, z, found = curved(), normals(5, DIM, 0), []
    with torch.no_grad():
        for solver in (TIGHT, Solver("rk4", 40)):
            end = solve(field, z, 0.0, 1.0, solver).state
            found.append(float((solve(field, end, 1.0, 0.0, solver).state - z).abs().max()))
    return found


MODELS = ("ffjord", "planar-cnf")
_WAYS = ("backpropagation", "adjoint", "adjoint less backpropagation")
CHEN = "Chen et al. 2018, arXiv:1806.07366"

ODES = (
    Check(
        "adjoint-of-a-linear-ode",
        "Gradients through dx/dt = Ax, by the adjoint method and by backpropagation, are those of exp(A).",
        MODELS,
        "quick",
        tuple(near(0.0, 1e-6, f"{way}, of the {what}") for way in _WAYS for what in ("start", "matrix")),
        _gradients,
        f"{CHEN}, appendix B",
    ),
    Check(
        "adjoint-of-a-neural-ode",
        "Both gradients of a network's field are the same; the adjoint method asks the field again on the way back.",
        MODELS,
        "quick",
        (
            near(0.0, 1e-6, "relative gap"),
            near(1.0, 0.0, "evaluations, backpropagation"),
            at_least(1.5, "evaluations, adjoint"),
        ),
        _curved_gradients,
        f"{CHEN}, algorithm 1",
    ),
    Check(
        "euler-step-is-a-residual-block",
        "One step of length 1 of Euler's method is z + f(z), to the last bit.",
        MODELS,
        "quick",
        (near(0.0, 0.0, "difference"),),
        _residual_block,
        f"{CHEN}, equations 1 and 2",
    ),
    Check(
        "orders-of-ode-solvers",
        "Errors fall with the first power of the step by Euler's method and with the fourth by Runge and Kutta's.",
        MODELS,
        "quick",
        (
            near(1.0, 0.05, "order, euler"),
            near(4.0, 0.1, "order, rk4"),
            near(40.0, 0.0, "evaluations in 40 steps, euler"),
            near(160.0, 0.0, "evaluations in 40 steps, rk4"),
        ),
        _orders,
        "Butcher 2016, Numerical Methods for Ordinary Differential Equations",
    ),
    Check(
        "ode-back-in-time",
        "Solved back from its end, an equation comes to where it began.",
        MODELS,
        "quick",
        (near(0.0, 1e-6, "dopri5 at 1e-9"), near(0.0, 1e-9, "rk4, 40 steps")),
        _there_and_back,
        f"{CHEN}, appendix B",
    ),
)
