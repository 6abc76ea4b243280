"""Continuous normalising flows: FFJORD with a free-form field, and planar ones with a trace in closed form.

Time runs from the latent, standard normal at time 0, to data at time 1: dx/dt = f(t, x), and the density of what moves
falls by d log p(x(t)) / dt = -tr df/dx (Chen et al. 2018, arXiv:1806.07366, theorem 1). A flow here tells
log |det dz/dx|, of the way back: the integral of +tr df/dx from time 1 to time 0. So ``to_latent`` solves back in
time, ``from_latent`` forwards, and the sign of the trace in the state is plus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.flows import Flow, FlowNet
from gen_eval.zoo.nets.couplings import Chain, Scale
from gen_eval.zoo.nets.fields import Planar, VectorField, convolutional, dense
from gen_eval.zoo.nets.traces import hutchinson
from gen_eval.zoo.numbers import require_whole
from gen_eval.zoo.ode import Solver, solve
from gen_eval.zoo.task import Kind

LATENT, DATA = 0.0, 1.0  # the time of each
PROBES = ("gaussian", "rademacher")

# By the kind of data, the width and the number of hidden layers, which planar fields have one of.
FIELDS: Mapping[str, Callable[[Kind, int, int], VectorField]] = {
    "dense": dense,
    "convolutional": convolutional,
    "planar": lambda kind, width, layers: Planar(math.prod(kind.shape), width),
}


@dataclass(frozen=True)
class ContinuousFlow(Flow):
    """A flow along a field that is learnt, by its likelihood.

    Solvers are told as :meth:`gen_eval.zoo.ode.Solver.of` takes them.

    Args:
        field: a row of :data:`FIELDS`.
        width: units or channels of a hidden layer.
        layers: hidden ones; 1 of a planar field.
        probe: of Hutchinson's estimate, one for a whole solve (Grathwohl et al. 2019, arXiv:1810.01367, section 3.1):
            ``"gaussian"`` or ``"rademacher"``. A planar field has no use for it.
        actnorm: whether each value is scaled and shifted first, as learnt, from what gives the first batch mean 0 and
            variance 1. Pixels that are hardly ever lit are then no work for the field.
        exact_dims: up to so many dimensions, densities are worked out with exact traces once trained; training
            estimates them, and so do densities of more dimensions.
        training: the solver in training. With too few steps a field learns to gain likelihood from the solver's errors:
            what training shows falls far below what ``log_prob`` then says.
        density: the solver of ``log_prob`` once trained.
        sampling: the solver of samples, of fixed steps: others would make a sample depend on those beside it.
        adjoint: gradients by the adjoint method in training, for less memory and more time.

    Raises:
        UnknownName: of a field, a probe or a solver that does not exist.
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "continuous-flow"

    field: str = "dense"
    width: int = 64
    layers: int = 2
    actnorm: bool = False
    probe: str = "rademacher"
    exact_dims: int = 64
    training: str = "rk4:4"
    density: str = "dopri5:1e-5"
    sampling: str = "rk4:20"
    adjoint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(self, width=1, layers=1, exact_dims=0)
        for what, name, known in (("field", self.field, FIELDS), ("probe", self.probe, PROBES)):
            if name not in known:
                raise UnknownName(what, name, known)
        if self.field == "planar" and self.layers != 1:
            raise UsageError(
                f"a planar field has 1 hidden layer, found {self.layers}: widen it, or take another field"
            )
        Solver.of(self.training), Solver.of(self.density)
        if not Solver.of(self.sampling).fixed:
            raise UsageError(
                f"samples take fixed steps, such as 'rk4:20', found {self.sampling!r}: adaptive ones are chosen for a "
                "batch, and a sample depends on its seed alone"
            )

    def net(self, kind: Kind) -> ContinuousNet:
        """See :class:`~gen_eval.zoo.flows.Flow`.

        Raises:
            UsageError: if convolutions are asked for, and rows are no images of even sides.
        """
        field = FIELDS[self.field](kind, self.width, self.layers)
        return ContinuousNet(
            field,
            kind.shape,
            actnorm=self.actnorm,
            probe=None if field.closed else self.probe,
            exact=math.prod(kind.shape) <= self.exact_dims,
            training=Solver.of(self.training, adjoint=self.adjoint),
            density=Solver.of(self.density),
            sampling=Solver.of(self.sampling),
        )


class ContinuousNet(FlowNet):
    """A flow along a field.

    Args:
        field: the velocity.
        shape: of a row.
        actnorm: whether each value is scaled and shifted first; see :class:`ContinuousFlow`.
        probe: of the estimate of traces, in training; ``None`` for exact ones.
        exact: whether traces are exact in evaluation.
        training: the solver of ``to_latent`` in training.
        density: the same in evaluation.
        sampling: the solver of ``from_latent``.
    """

    def __init__(
        self,
        field: VectorField,
        shape: tuple[int, ...],
        *,
        actnorm: bool = False,
        probe: str | None,
        exact: bool,
        training: Solver,
        density: Solver,
        sampling: Solver,
    ) -> None:
        super().__init__()
        self.field = field
        self.first = Chain([Scale(math.prod(shape), by_data=True)] if actnorm else [])
        self._shape, self._probe, self._exact = shape, probe, exact
        self.solver: Solver = density
        self._training, self._sampling = training, sampling

    @property
    def probe(self) -> str | None:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        return None if self._exact and not self.training else self._probe

    def to_latent(self, x: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`~gen_eval.zoo.flows.FlowNet`.

        Raises:
            UsageError: if a probe is missing, or given where traces are exact.
            NumericalError: if an adaptive solver does not get there.
        """
        if (probe is None) != (self.probe is None):
            found = "none" if probe is None else str(list(probe.shape))
            expected = "none" if self.probe is None else f"one of {self.probe} numbers, [b, d]"
            raise UsageError(f"traces in {self._mode} take a probe: {expected}; found {found}")
        rows, log_scale = self.first(x.flatten(1))
        solver = self._training if self.training else self.solver
        start = rows, x.new_zeros(len(x))
        solution = solve(_WithTrace(self.field, probe), start, DATA, LATENT, solver)
        self.density_evaluations = solution.evaluations
        z, log_det = solution.state
        return z, log_scale + log_det

    def from_latent(self, z: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.flows.FlowNet`."""
        solution = solve(self.field, z, LATENT, DATA, self._sampling)
        self.evaluations = solution.evaluations
        return self.first.inverse(solution.state).view(-1, *self._shape)

    @property
    def _mode(self) -> str:
        return "training" if self.training else "evaluation"


class _WithTrace(nn.Module):
    """The field of places and of the log-determinant together; a module, for the adjoint method to find parameters."""

    def __init__(self, field: VectorField, probe: Tensor | None) -> None:
        super().__init__()
        self.field, self._probe = field, probe

    def forward(self, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._probe is None:
            return self.field.with_trace(t, state[0])
        return hutchinson(self.field, t, state[0], self._probe)
