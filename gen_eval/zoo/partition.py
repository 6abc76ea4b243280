"""The integral of an unnormalised density by quadrature, where there are few dimensions, and what it makes known.

>>> from gen_eval.zoo.worlds import Gaussian
>>> world = Gaussian((0.0, 1.0), ((1.0, 0.5), (0.5, 1.0)))
>>> found = log_partition(lambda x: world.log_prob(x) + 3, (-8, -7), (8, 9))
>>> round(found.log_z, 9), found.error < 1e-9, found.rim < 1e-9
(3.0, True, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UsageError
from gen_eval.zoo.sampler import Sampler

_POINTS = 2**22  # of a grid: more take minutes
_AT_ONCE = 2**16


class Partition(NamedTuple):
    """log Z, and how far it may be off.

    Args:
        log_z: the logarithm of the integral over the box, in nats.
        error: how far log Z by half the steps on each axis is from it.
        rim: share of Z in the outermost points of the grid. If f keeps falling outside as it does there, what the box
            leaves out is of this size.
    """

    log_z: float
    error: float
    rim: float


def log_partition(
    log_density: Callable[[Tensor], Tensor],
    lower: Sequence[float],
    upper: Sequence[float],
    *,
    steps: int = 256,
) -> Partition:
    """The logarithm of the integral of exp(f) over a box, by the trapezoidal rule.

    Of a smooth f that falls to nothing within the box its error vanishes faster than any power of the step
    (Trefethen and Weideman 2014, SIAM Review 56:385, theorem 5.1). No gradient goes through it.

    Args:
        log_density: f, ``[n, d]`` float64 to ``[n]``.
        lower: ends of the box, ``[d]``.
        upper: the others.
        steps: along each axis, even.

    Raises:
        UsageError: if the box is none, or the grid has too many points.
        NumericalError: if f is NaN or rises to infinity.
    """
    axes = _axes(lower, upper, steps)
    grid = torch.cartesian_prod(*axes).view(-1, len(axes))
    with torch.no_grad():
        found = torch.cat([log_density(part).double().cpu() for part in torch.split(grid, _AT_ONCE)])
    if bool(found.isnan().any()) or bool((found == math.inf).any()):
        raise NumericalError("an unnormalised density is NaN or infinite within the box of its integral")
    values = found.view([steps + 1] * len(axes))
    fine = values + _log_weights(axes)
    halves = (slice(None, None, 2),) * len(axes)
    coarse = values[halves] + _log_weights([axis[::2] for axis in axes])
    inner = fine[(slice(1, -1),) * len(axes)]
    log_z = float(fine.flatten().logsumexp(0))
    share = math.exp(float(inner.flatten().logsumexp(0)) - log_z)
    return Partition(log_z, abs(log_z - float(coarse.flatten().logsumexp(0))), max(0.0, 1 - share))


def _axes(lower: Sequence[float], upper: Sequence[float], steps: int) -> list[Tensor]:
    ends = list(zip(lower, upper, strict=True)) if len(lower) == len(upper) else []
    if not ends or not all(-math.inf < low < high < math.inf for low, high in ends):
        raise UsageError(f"a box has a finite lower and upper end on each axis, found {lower} and {upper}")
    if steps < 2 or steps % 2 or (steps + 1) ** len(ends) > _POINTS:
        raise UsageError(
            f"a grid has an even number of steps along each of its {len(ends)} axes and {_POINTS:,} points or fewer, "
            f"found {steps} steps: integrals by quadrature are for 3 dimensions or fewer"
        )
    return [torch.linspace(low, high, steps + 1, dtype=torch.float64) for low, high in ends]


def _log_weights(axes: Sequence[Tensor]) -> Tensor:
    """Logarithms of the weights of the trapezoidal rule, with an axis for each."""
    total = torch.zeros([len(axis) for axis in axes], dtype=torch.float64)
    for number, axis in enumerate(axes):
        weights = torch.full_like(axis, float(axis[1] - axis[0])).log()
        weights[[0, -1]] -= math.log(2)
        total += weights.view([-1 if number == at else 1 for at in range(len(axes))])
    return total


class Unnormalised(Protocol):
    """A sampler of vectors that knows its density but for a factor, such as a trained energy-based model."""

    name: str
    shape: tuple[int, ...]

    def unnormalised_log_prob(self, x: Tensor) -> Tensor:
        """f, ``[n, d]`` to ``[n]``."""

    def score(self, x: Tensor) -> Tensor:
        """The slope of f, ``[n, d]`` to the same."""

    def __call__(self, seeds: Tensor) -> Tensor:
        """The samples of some seeds."""


class Normalised(Sampler):
    """Samples of an energy-based model of vectors, with its exact density: log p = f - log Z.

    Samples are those of the model, whose chains draw from that density as far as they have settled.

    Args:
        base: the model.
        lower: ends of a box that holds all of the density, ``[d]``.
        upper: the others.
        steps: along each axis.
        tolerance: how far off log Z may be, in nats, and how much of Z may lie in the rim of the box.

    Attributes:
        partition: log Z, and how far off it may be.

    Raises:
        UsageError: if the base makes images or has no unnormalised density, or the box makes no sense.
        NumericalError: if the integral is further off.
    """

    bound = "exact"

    def __init__(
        self,
        base: Unnormalised,
        lower: Sequence[float],
        upper: Sequence[float],
        *,
        steps: int = 256,
        tolerance: float = 1e-3,
    ) -> None:
        self.name, self.shape, self._base = f"{base.name}, normalised", base.shape, base
        if not hasattr(base, "unnormalised_log_prob") or self.shape != (len(lower),):
            raise UsageError(
                f"expected a model with an unnormalised density of vectors [{len(lower)}], as the box has it; found "
                f"{base.name} of {list(base.shape)}"
            )
        self.partition = log_partition(base.unnormalised_log_prob, lower, upper, steps=steps)
        if max(self.partition.error, self.partition.rim) > tolerance:
            raise NumericalError(
                f"log Z of {base.name} is off by {self.partition.error:.2g} nats, and {self.partition.rim:.2g} of Z "
                f"is in the rim of the box; expected {tolerance:g} or less: take more steps, or a wider box"
            )

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, ``[n, d]`` to ``[n]`` float64."""
        return self._base.unnormalised_log_prob(x) - self.partition.log_z

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, ``[n, d]`` to the same."""
        return self._base.score(x)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        return self._base(seeds)
