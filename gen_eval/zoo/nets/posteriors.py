"""Flows that improve a posterior: from z of a diagonal Gaussian to z of what comes nearer to p(z | x).

A flow is told of x by a context that the encoder gives. It tells how it changes volumes, so that the density of what it
makes is known: log q(z | x) = log q_0(z_0 | x) - log |det dz/dz_0| (Rezende and Mohamed 2015, arXiv:1505.05770). Each
begins as the identity, where the posterior is the plain one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.lazy import LazyComposedTransform
from zuko.transforms import MonotonicAffineTransform

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.traces import exact_trace, hutchinson
from gen_eval.zoo.numbers import require_whole
from gen_eval.zoo.ode import Solver, solve

_LEAST_SLOPE = 1e-3  # of what an autoregressive step multiplies a number by
# Of the size of the diagonals of triangular matrices: their products stay above -1, so determinants above 0.
_LARGEST = 0.99


@dataclass(frozen=True)
class FlowSettings:
    """What the flow of a posterior is made of.

    Args:
        depth: flows one after another, or hidden layers of the field of a continuous one.
        units: of a hidden layer.
        context: numbers that tell a flow of x.
        reflections: whose product is the orthogonal matrix of a Sylvester flow.
        training: the solver of a continuous flow in training, of fixed steps, as
            :meth:`~gen_eval.zoo.ode.Solver.of` takes it.
        evaluation: the same once trained, of more steps: with few of them the volume is that of another map.

    Raises:
        UnknownName: if there is no such solver.
        UsageError: if a number makes no sense, or a solver chooses its steps.
    """

    depth: int = 4
    units: int = 64
    context: int = 64
    reflections: int = 8
    training: str = "rk4:2"
    evaluation: str = "rk4:20"

    def __post_init__(self) -> None:
        require_whole(self, depth=1, units=1, context=1, reflections=1)
        for solver in (self.training, self.evaluation):
            if not Solver.of(solver).fixed:
                raise UsageError(
                    f"a posterior takes fixed steps, such as 'rk4:20', found {solver!r}: adaptive ones are chosen "
                    "for a batch, and the number of an image depends on the image alone"
                )


class PosteriorFlow(nn.Module, ABC):
    """An invertible map of latents ``[b, d]``, each with its own context.

    Attributes:
        probed: whether volumes are estimated in training, with independent signs.
    """

    probed = False

    @abstractmethod
    def forward(self, z: Tensor, context: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z of the posterior ``[b, d]``, and log |det dz/dz_0| ``[b]``.

        Args:
            z: ``[b, d]``.
            context: ``[b, c]``.
            probe: signs ``[b, d]`` to estimate the trace with; without them it is exact.
        """


class InverseAutoregressive(PosteriorFlow):
    """Each number scaled and shifted as those before it say, in an order that each step reverses.

    Kingma et al. 2016, arXiv:1606.04934. Its steps are those of zuko.
    """

    def __init__(self, latent: int, made_of: FlowSettings) -> None:
        super().__init__()
        order = torch.arange(latent)
        self.steps: Any = LazyComposedTransform(
            *(
                MaskedAutoregressiveTransform(
                    latent,
                    made_of.context,
                    order=order.flip(0) if step % 2 else order,
                    univariate=partial(MonotonicAffineTransform, slope=_LEAST_SLOPE),
                    hidden_features=(made_of.units, made_of.units),
                )
                for step in range(made_of.depth)
            )
        )
        for step in self.steps.transforms:
            _silence(step.hyper[-1])

    def forward(self, z: Tensor, context: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`PosteriorFlow`."""
        if not len(z):  # zuko's sums have no shape then
            return z, z.new_zeros(0)
        moved, log_det = self.steps(context).call_and_ladj(z)
        return moved, log_det


class Sylvester(PosteriorFlow):
    """Steps z + Q R tanh(S Q' z + b) with R and S upper triangular and Q orthogonal, all of them told by the context.

    By Sylvester's identity the determinant is that of a triangular matrix, the product of 1 + R_ii S_ii tanh'. Q is a
    product of Householder reflections. van den Berg et al. 2018, arXiv:1803.05649, theorem 2 and section 3.2.
    """

    def __init__(self, latent: int, made_of: FlowSettings) -> None:
        super().__init__()
        self._latent, self._reflections = latent, made_of.reflections
        square = latent**2
        self._sizes = (square, square, latent, made_of.reflections * latent)
        self.told = nn.ModuleList(nn.Linear(made_of.context, sum(self._sizes)) for _ in range(made_of.depth))
        for told in self.told:
            _silence(told, square)

    def forward(self, z: Tensor, context: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`PosteriorFlow`."""
        total = z.new_zeros(len(z))
        for told in self.told:
            outer, inner, shift, normals = told(context).split(self._sizes, 1)
            r, s = _triangle(outer, self._latent), _triangle(inner, self._latent)
            units = F.normalize(normals.view(-1, self._reflections, self._latent), dim=2).unbind(1)
            turned = _reflected(z, units)
            found = torch.tanh(torch.einsum("bij,bj->bi", s, turned) + shift)
            slopes = (1 - found.square()) * r.diagonal(dim1=1, dim2=2) * s.diagonal(dim1=1, dim2=2)
            z = z + _reflected(torch.einsum("bij,bj->bi", r, found), units[::-1])
            total = total + torch.log1p(slopes).sum(1)
        return z, total


class Continuous(PosteriorFlow):
    """The flow along a field that changes with time and context (Grathwohl et al. 2019, arXiv:1810.01367, section 4.3).

    From z_0 at time 0 to z at time 1, and log |det dz/dz_0| is the integral of the trace. It is estimated in training
    where there is a probe, and exact in evaluation.
    """

    probed = True

    def __init__(self, latent: int, made_of: FlowSettings) -> None:
        super().__init__()
        sizes = [latent, *[made_of.units] * made_of.depth, latent]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        # Of the time and the context: what each layer's outputs are multiplied by, and moved by.
        self.told = nn.ModuleList(nn.Linear(1 + made_of.context, 2 * size) for size in sizes[1:])
        self._training, self._evaluation = Solver.of(made_of.training), Solver.of(made_of.evaluation)
        _silence(self.layers[-1])
        _silence(self.told[-1])

    def forward(self, z: Tensor, context: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`PosteriorFlow`."""

        def slopes(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # All places of one time have their own contexts, so what is told of them is worked out once.
            gates = self._gates(t, context)
            field = partial(self._velocity, gates)
            return exact_trace(field, t, state[0]) if probe is None else hutchinson(field, t, state[0], probe)

        solver = self._training if self.training else self._evaluation
        moved, log_det = solve(slopes, (z, z.new_zeros(len(z))), 0.0, 1.0, solver).state
        return moved, log_det

    def _gates(self, t: Tensor, context: Tensor) -> list[Tensor]:
        given = torch.cat([t.to(context).expand(len(context), 1), context], 1)
        return [told(given) for told in self.told]

    def _velocity(self, gates: list[Tensor], t: Tensor, z: Tensor) -> Tensor:
        for at, (layer, gate) in enumerate(zip(self.layers, gates, strict=True)):
            opened, shift = gate.chunk(2, 1)
            z = torch.addcmul(shift, layer(z.tanh() if at else z), opened.sigmoid())
        return z


# By the name of a posterior, besides "gaussian", which has none.
POSTERIORS: Mapping[str, Callable[[int, FlowSettings], PosteriorFlow]] = {
    "iaf": InverseAutoregressive,
    "sylvester": Sylvester,
    "cnf": Continuous,
}


@torch.no_grad()
def _silence(layer: Any, outputs: int | None = None) -> None:
    """Set a linear layer to 0, or the first of its outputs."""
    layer.weight[:outputs].zero_()
    layer.bias[:outputs].zero_()


def _triangle(numbers: Tensor, size: int) -> Tensor:
    """``[b, size²]`` to upper triangular matrices whose diagonals are below 1 in size, ``[b, size, size]``."""
    square = numbers.view(-1, size, size)
    return square.triu(1) + torch.diag_embed(_LARGEST * square.diagonal(dim1=1, dim2=2).tanh())


def _reflected(z: Tensor, units: tuple[Tensor, ...]) -> Tensor:
    """``[b, d]`` reflected at the hyperplanes of unit vectors ``[b, d]``, one after another."""
    for unit in units:
        z = z - 2 * (z * unit).sum(1, keepdim=True) * unit
    return z
