"""The radii of balls around the rows of a set, where few of them have to be known exactly.

All m radii would take m² distances. Which balls matter is settled by upper bounds: the k-th smallest distance to any
part of the set is one, and a ball whose bound does not reach a query does not hold it. What bounds leave open is
looked at in more and more of the set, and at last in all of it, which is the exact radius. So the choice of the parts
moves the time that it takes, and never what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gen_eval.metrics.neighbors.across import Scan
from gen_eval.metrics.neighbors.distances import Rows
from gen_eval.metrics.neighbors.search import require_neighbour

_STRIDE = 64  # the first part of a set is each so-manieth row
_AT_ONCE = 1 << 15  # balls that are settled together, which bounds memory


class Radii:
    """The balls of a set.

    Args:
        rows: the centres, n of them.
        k: the neighbour that radii go to; a row is not its own, an exact copy of it is.
        limits: from squared radii and scale, the largest squared distances that count as inside; it grows with the
            radii.
        first: rows that the first bounds look at.

    Attributes:
        limit: ``[n]`` float64, at least the largest squared distance that counts as inside.
        exact: ``[n]`` bool, where it is that.

    Raises:
        UsageError: if k is not positive.
        TooFewImages: if the set has no more than k rows.
    """

    def __init__(self, rows: Rows, k: int, limits: Callable[[Tensor], Tensor], *, first: int) -> None:
        require_neighbour(k, rows)
        self._rows, self._k, self._limits = rows.alone(), k, limits
        device = rows.centred.device
        self.limit = torch.full((rows.n,), math.inf, dtype=torch.float64, device=device)
        self.exact = torch.zeros(rows.n, dtype=torch.bool, device=device)
        some = range(0, rows.n, max(1, rows.n // max(first, k + 1)))
        for part in self._parts(torch.arange(rows.n, device=device)):
            scan, places = self._scan(part)
            scan.over(places, some)
            self.limit[part] = limits(scan.upper(places))

    def _parts(self, some: Tensor) -> Iterator[Tensor]:
        return iter(torch.split(some, _AT_ONCE))

    def _scan(self, some: Tensor) -> tuple[Scan, Tensor]:
        """A row finds itself first, at no distance, and the k-th of the others one place later."""
        return Scan(self._rows, some, self._rows, self._k + 1), torch.arange(len(some), device=some.device)

    def settle(self, some: Tensor, least: Tensor | None = None) -> None:
        """Learn the exact radii of some balls, or that they stay below what would matter.

        Args:
            some: ``[s]`` int64, which balls, each once.
            least: ``[s]`` float64, squared distances; a ball whose limit turns out to lie below is left at that.
        """
        bounds = torch.full((len(some),), -math.inf, device=some.device) if least is None else least
        for at, part in enumerate(self._parts(some)):
            self._settle(part, bounds[at * _AT_ONCE :][: len(part)])

    def _settle(self, some: Tensor, least: Tensor) -> None:
        scan, places = self._scan(some)
        *parts, last = _growing(self._rows.n, self._k + 1)
        for columns in parts:
            scan.over(places, columns)
            found = self._limits(scan.upper(places))
            self.limit[some[places]] = torch.minimum(self.limit[some[places]], found)
            places = places[self.limit[some[places]] >= least[places]]
        scan.over(places, last)
        kept = some[places]
        self.limit[kept] = self._limits(scan.finish(places).squared[:, self._k])
        self.exact[kept] = True


def _growing(n: int, least: int) -> list[range]:
    """Parts of n rows, evenly spaced and together all of them; each doubles what was looked at.

    The first has no fewer than ``least``.
    """
    stride = 1
    while stride < _STRIDE and n // (2 * stride) >= least:
        stride *= 2
    parts = [range(0, n, stride)]
    while stride > 1:
        parts.append(range(stride // 2, n, stride))
        stride //= 2
    return parts
