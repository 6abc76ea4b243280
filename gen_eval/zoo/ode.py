"""Ordinary differential equations dz/dt = f(t, z): solvers, and gradients through them or by the adjoint method.

A step of Euler's method, of length 1, is a residual block z + f(z); a neural ODE is the limit of many small ones (Chen
et al. 2018, arXiv:1806.07366). The steps themselves are those of torchdiffeq.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from gen_eval.errors import NumericalError, UnknownName, UsageError

FIXED: Mapping[str, int] = {"euler": 1, "rk4": 4}  # evaluations of the field in a step
ADAPTIVE = ("dopri5",)

_LOST = ("underflow in dt", "non-finite values in state")  # how torchdiffeq says that it gave up

State = TypeVar("State", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Solver:
    """How an equation is solved.

    Fixed steps treat each row of a batch as if it were alone. Adaptive ones are chosen for the batch as a whole, so a
    row moves with those beside it, within the tolerance.

    Args:
        method: a row of :data:`FIXED`, or of :data:`ADAPTIVE`: Dormand and Prince's method of order 5.
        steps: how many; of a fixed method alone.
        rtol: error allowed in a step, relative to the state; of an adaptive method alone.
        atol: the same, absolute.
        adjoint: gradients by solving the adjoint equation back in time, which needs no memory for the steps; otherwise
            backpropagation through them, which gives the exact gradient of what was computed.

    Raises:
        UnknownName: if there is no such method.
        UsageError: if a number makes no sense, is missing, or is of the other kind of method.
    """

    method: str = "rk4"
    steps: int | None = None
    rtol: float | None = None
    atol: float | None = None
    adjoint: bool = False

    def __post_init__(self) -> None:
        if self.method not in (*FIXED, *ADAPTIVE):
            raise UnknownName("solver", self.method, (*FIXED, *ADAPTIVE))
        found = f"found steps={self.steps}, rtol={self.rtol}, atol={self.atol}"
        if self.fixed:
            whole = isinstance(self.steps, int) and self.steps >= 1
            if not whole or self.rtol is not None or self.atol is not None:
                raise UsageError(f"{self.method} takes 1 step or more, and no tolerance; {found}")
        elif (
            self.steps is not None
            or not all(each is not None and 0 <= each < math.inf for each in (self.rtol, self.atol))
            or not (self.rtol or self.atol)
        ):
            raise UsageError(
                f"{self.method} takes tolerances of 0 or more, not both 0, and chooses its steps; {found}"
            )

    @classmethod
    def of(cls, text: str, *, adjoint: bool = False) -> Solver:
        """As in a recipe: ``"rk4:20"`` for so many steps, ``"dopri5:1e-5"`` for both tolerances.

        Raises:
            UnknownName: if there is no such method.
            UsageError: if it is nothing of the kind.
        """
        method, _, number = text.partition(":")
        try:
            if method in ADAPTIVE:
                return cls(method, rtol=float(number), atol=float(number), adjoint=adjoint)
            return cls(method, steps=int(number) if method in FIXED else None, adjoint=adjoint)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"expected a method and its steps or tolerance, such as 'rk4:20' or 'dopri5:1e-5', found {text!r}"
            ) from error

    @property
    def fixed(self) -> bool:
        """Whether its steps do not depend on what is solved."""
        return self.method in FIXED


class Solution(Generic[State]):
    """What an equation came to.

    Attributes:
        state: at the end.
    """

    def __init__(self, state: State, counted: _Counted) -> None:
        self.state: State = state
        self._counted = counted

    @property
    def evaluations(self) -> int:
        """How often the field was asked, up to now: by the adjoint method a backward pass asks again."""
        return self._counted.count


def solve(
    field: Callable[[Tensor, State], State], state: State, begin: float, end: float, solver: Solver
) -> Solution[State]:
    """The state at the end, of the state at the beginning.

    Args:
        field: f, of the time, without axes, and a state, to its slope; for the adjoint method a module, whose
            parameters are found by that.
        state: a tensor, or several; batches first.
        begin: when the state is as given.
        end: when it is asked for; earlier than the beginning to solve back in time.
        solver: how.

    Raises:
        UsageError: if begin and end are the same or no numbers, or the adjoint method is asked of what is no module.
        NumericalError: if no step is small enough for the tolerance, or the field is not finite.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and begin != end):
        raise UsageError(f"an equation is solved from one time to another, found {begin} to {end}")
    if solver.adjoint and not isinstance(field, nn.Module):
        raise UsageError(
            "the adjoint method gives gradients of the parameters of a module; make the field one, or "
            "choose adjoint=False"
        )
    from torchdiffeq import odeint, odeint_adjoint  # takes a third of a second

    counted = _Counted(field)
    first = state if isinstance(state, Tensor) else state[0]
    if not len(first):  # nothing to solve, and no error to choose steps by
        return Solution(state, counted)
    times = torch.tensor([begin, end], dtype=first.dtype, device=first.device)
    try:
        path = (odeint_adjoint if solver.adjoint else odeint)(counted, state, times, **_settings(solver))
    except AssertionError as error:
        if not str(error).startswith(_LOST):
            raise
        raise NumericalError(
            f"{solver.method} found no step small enough for rtol={solver.rtol:g}, atol={solver.atol:g} in "
            f"{first.dtype}: the field is not finite, or too steep. Allow more, or take fixed steps such as rk4"
        ) from error
    last: Any = path[-1] if isinstance(path, Tensor) else tuple(each[-1] for each in path)
    return Solution(last, counted)


def _settings(solver: Solver) -> dict[str, Any]:
    if not solver.fixed:
        return {"method": solver.method, "rtol": solver.rtol, "atol": solver.atol}

    def even(field: Any, state: Tensor, times: Tensor) -> Tensor:
        ends = float(times[0]), float(times[-1])
        return torch.linspace(*ends, (solver.steps or 1) + 1, dtype=times.dtype, device=times.device)

    return {"method": solver.method, "options": {"grid_constructor": even}}


class _Counted(nn.Module):
    """A field, and how often it was asked."""

    def __init__(self, field: Callable[[Tensor, Any], Any]) -> None:
        super().__init__()
        self.field = field
        self.count = 0

    def forward(self, t: Tensor, state: Any) -> Any:
        self.count += 1
        return self.field(t, state)
