"""Solvers of ordinary differential equations: steps, times, gradients, what they count and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gen_eval.errors import NumericalError, UnknownName, UsageError
from gen_eval.zoo.ode import ADAPTIVE, FIXED, Solver, solve

TIGHT = {"method": "dopri5", "rtol": 1e-9, "atol": 1e-9}


class Turning(nn.Module):
    """dx/dt = t A x, and of a second tensor the sum of x: time, parameters and several tensors at once."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[0.0, -2.0], [2.0, 0.3]], dtype=torch.float64))

    def forward(self, t, state):
        x, total = state
        return t * x @ self.matrix.T, x.sum(1) + 0 * total


def start(n=3, seed=0):
    x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, torch.zeros(n, dtype=torch.float64)


# --- What a solver is


def test_a_text_says_the_same():
    assert Solver.of("rk4:20") == Solver("rk4", steps=20)
    assert Solver.of("euler:1", adjoint=True) == Solver("euler", steps=1, adjoint=True)
    assert Solver.of("dopri5:1e-5") == Solver("dopri5", rtol=1e-5, atol=1e-5)
    assert [Solver.of("rk4:2").fixed, Solver.of("dopri5:.1").fixed] == [True, False]


@pytest.mark.parametrize(
    "text", ["rk4", "rk4:", "rk4:0", "rk4:-1", "rk4:2.5", "rk4:1e-5", "dopri5", "dopri5:"]
)
@pytest.mark.parametrize("wrong", [""])
def test_texts_that_make_no_sense(text, wrong):
    with pytest.raises(UsageError):
        Solver.of(text + wrong)


@pytest.mark.parametrize("text", ["dopri5:-1", "dopri5:0", "dopri5:nan", "dopri5:inf", "dopri5:x", "rk4:4:4"])
def test_numbers_that_make_no_sense(text):
    with pytest.raises(UsageError):
        Solver.of(text)


def test_unknown_methods_are_named_with_those_known():
    for text in ("rk5:4", "", "dopri:1e-5"):
        with pytest.raises(UnknownName, match="known: dopri5, euler, rk4"):
            Solver.of(text)
    assert {*FIXED, *ADAPTIVE} == {"dopri5", "euler", "rk4"}


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "rk4", "steps": 4, "rtol": 1e-5},
        {"method": "euler", "steps": 4, "atol": 1e-5},
        {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5, "steps": 3},
        {"method": "dopri5", "rtol": 1e-5},
        {"method": "rk4"},
        {"method": "rk4", "steps": 2.0},
    ],
)
def test_numbers_of_the_other_kind_are_refused(settings):
    with pytest.raises(UsageError, match=rf"{settings['method']} takes .*found steps="):
        Solver(**settings)


def test_either_tolerance_may_be_nothing():
    state = solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0, Solver("dopri5", rtol=1e-6, atol=0.0)).state
    assert float(state) == pytest.approx(math.exp(-1), abs=1e-5)


# --- Steps


@pytest.mark.parametrize("method", FIXED)
def test_steps_are_as_many_as_asked_for(method):
    """Also where the step is no binary fraction, which rounding could make one step more of."""
    for steps in range(1, 40):
        times = []

        def field(t, x, times=times):
            times.append(float(t))
            return torch.ones_like(x)

        solution = solve(field, torch.zeros(1, 1), 1.0, 0.0, Solver(method, steps))
        assert solution.evaluations == len(times) == steps * FIXED[method]
        assert float(solution.state) == pytest.approx(-1, abs=1e-5)
        assert max(times) == 1
        assert min(times) >= 0


@pytest.mark.parametrize("settings", [TIGHT, {"method": "rk4", "steps": 30}])
def test_time_is_told_forwards_and_backwards(settings):
    solver = Solver(**settings)
    x = torch.zeros(1, 1, dtype=torch.float64)
    assert float(solve(lambda t, x: 3 * t**2, x, 0.5, 2.0, solver).state) == pytest.approx(8 - 0.125)
    assert float(solve(lambda t, x: 3 * t**2, x, 2.0, 0.5, solver).state) == pytest.approx(-8 + 0.125)
    assert float(solve(lambda t, x: x, x + 1, 0.0, -1.0, solver).state) == pytest.approx(
        math.exp(-1), abs=1e-7
    )


def test_several_tensors_move_together():
    field, (x, total) = Turning(), start()
    with torch.no_grad():
        end, summed = solve(field, (x, total), 0.0, 1.0, Solver(**TIGHT)).state
    exact = x @ torch.matrix_exp(field.matrix.detach() / 2).T  # the integral of t
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-7)
    steps = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    path = torch.stack([x @ torch.matrix_exp(field.matrix.detach() * t**2 / 2).T for t in steps])
    torch.testing.assert_close(summed, path.sum(2).mean(0), rtol=0, atol=1e-4)


def test_rows_do_not_act_on_one_another_with_fixed_steps():
    field, state = Turning(), start(5)
    with torch.no_grad():
        together = solve(field, state, 0.0, 1.0, Solver("rk4", 7)).state[0]
        alone = solve(field, (state[0][2:3], state[1][2:3]), 0.0, 1.0, Solver("rk4", 7)).state[0]
    torch.testing.assert_close(alone[0], together[2], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("text", ["rk4:3", "dopri5:1e-5"])
def test_nothing_takes_no_evaluation(text):
    solution = solve(Turning(), start(0), 0.0, 1.0, Solver.of(text))
    assert solution.state[0].shape == (0, 2)
    assert solution.evaluations == 0


# --- Gradients


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("settings", [TIGHT, {"method": "rk4", "steps": 60}])
def test_both_ways_give_one_gradient(settings, ends):
    gradients, counts = [], []
    for adjoint in (False, True):
        field, (x, total) = Turning(), start()
        x.requires_grad_()
        solution = solve(field, (x, total), *ends, Solver(**settings, adjoint=adjoint))
        forward = solution.evaluations
        end, summed = solution.state
        gradients.append(torch.autograd.grad((end**2).sum() + summed.sum(), (x, field.matrix)))
        counts.append(solution.evaluations - forward)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6)
    assert counts[0] == 0
    assert counts[1] > 0
    if "steps" in settings:
        assert counts[1] == forward


def test_gradients_through_steps_are_exact_of_what_was_computed():
    """One step of Euler's of dx/dt = ax is (1 + a) x: the adjoint method gives the gradient of the equation instead."""

    class Growth(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.5))

        def forward(self, t, x):
            return self.a * x

    found = []
    for adjoint in (False, True):
        field, x = Growth(), torch.tensor([[2.0]], requires_grad=True)
        solve(field, x, 0.0, 1.0, Solver("euler", 1, adjoint=adjoint)).state.backward()
        found.append((float(x.grad), float(field.a.grad)))
    assert found[0] == (1.5, 2.0)
    assert found[1] != found[0]


def test_the_adjoint_needs_to_know_parameters():
    with pytest.raises(UsageError, match="of a module"):
        solve(lambda t, x: x, torch.ones(1, 1), 0.0, 1.0, Solver("rk4", 2, adjoint=True))


# --- Refusals


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_times_that_make_no_sense(ends):
    with pytest.raises(UsageError, match="from one time to another"):
        solve(lambda t, x: x, torch.ones(1, 1), *ends, Solver("rk4", 2))


@pytest.mark.parametrize(
    "field", [lambda t, x: x**2, lambda t, x: x * math.nan], ids=["blows up", "is not finite"]
)
def test_no_step_that_is_small_enough(field):
    with pytest.raises(NumericalError, match="found no step small enough for rtol=1e-05.*torch.float32"):
        solve(field, torch.full((1, 1), 2.0), 0.0, 1.0, Solver.of("dopri5:1e-5"))


def test_errors_of_a_field_are_not_taken_for_those_of_a_solver():
    def field(t, x):
        raise AssertionError("its own")

    with pytest.raises(AssertionError, match="its own"):
        solve(field, torch.ones(1, 1), 0.0, 1.0, Solver.of("dopri5:1e-5"))
