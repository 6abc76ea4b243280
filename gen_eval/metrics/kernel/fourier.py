"""Sums of a Gaussian kernel over the pairs of two sets by random frequencies, in time linear in the number of rows.

The kernel ``exp(-r² / 2s²)`` is the mean of ``cos(w.(x - y))`` over frequencies w that are normal with variance 1 / s²
(Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines"). At each frequency the sums of ``exp(iw.x)``
over two sets give the sum over all their pairs. So D frequencies that are drawn at random give an estimate of the
squared MMD without bias, whatever D is; how its error falls with D: Sutherland and Schneider 2015, arXiv:1506.02785.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.metrics import linalg
from gen_eval.metrics.kernel.kernels import rbf
from gen_eval.metrics.kernel.sums import Gram, Variances, unbiased, witness
from gen_eval.parallel import in_parallel

LEAST_FREQUENCIES = 30  # fewer tell no spread
_BLOCK = 1024  # rows whose phases are held at a time
_PAIRED = 1000  # rows of each set whose pairs are looked at one by one, for the error


@dataclass(frozen=True)
class FourierSums:
    """What D random frequencies say of n and m rows.

    Args:
        totals: of ``cos(w.(x - y))`` over the ordered pairs within the first set, over those across, and over the
            ordered pairs within the second, no row paired with itself; ``[D]`` float64 each.
        halves: of each set, how much more alike each row is to its own set than to the other, as
            :func:`~gen_eval.metrics.kernel.sums.witness` says, by either half of the frequencies; ``[2, n]`` and
            ``[2, m]`` float64.
        paired: what the exact kernel says of some rows of each set.
    """

    totals: tuple[Tensor, Tensor, Tensor]
    halves: tuple[Tensor, Tensor]
    paired: Variances

    @classmethod
    def of(cls, x: Tensor, y: Tensor, bandwidth: float, frequencies: int, seed: int) -> FourierSums:
        """The sums of two sets, in two passes over their rows, in memory of a block of them and one number a row.

        Args:
            x: ``[n, d]``.
            y: ``[m, d]``, of the same dtype and on the same device.
            bandwidth: s of the kernel.
            frequencies: D.
            seed: of the draw of the frequencies, and of the rows whose pairs are looked at.

        Raises:
            NumericalError: if a phase is not finite.
        """
        rng = np.random.default_rng(seed)
        waves = torch.from_numpy(rng.standard_normal((frequencies, x.shape[1])) / bandwidth).to(x)
        # Of rows about their common mean phases are small, and round little; no difference of two rows changes.
        centre = (len(x) * x.mean(0) + len(y) * y.mean(0)) / (len(x) + len(y))
        of_x, of_y = (_sums(rows, centre, waves) for rows in (x, y))
        if not bool(of_x.isfinite().all() and of_y.isfinite().all()):
            raise NumericalError(
                "features are too large, or the bandwidth is too small, for random frequencies"
            )
        some = [rows[rng.permutation(len(rows))[:_PAIRED]] for rows in (x, y)]
        return cls(
            ((of_x**2).sum(0) - len(x), (of_x * of_y).sum(0), (of_y**2).sum(0) - len(y)),
            (_witness(x, centre, waves, of_x, of_y, len(y)), _witness(y, centre, waves, of_y, of_x, len(x))),
            Variances.of(Gram(rbf([bandwidth]), *some).sums()),
        )

    @property
    def witnesses(self) -> tuple[Tensor, Tensor]:
        """By all frequencies, ``[n]`` and ``[m]``."""
        return self.halves[0].mean(0), self.halves[1].mean(0)

    def variance(self) -> float:
        """The variance of the unbiased estimate, by the draw of the rows and of the frequencies.

        It is that of the exact kernel's estimate, and what the frequencies add: ``1 / D`` of the variance over them.
        The first is told without the noise of the frequencies by the covariance of what their two halves say; its parts
        that fall as 1/n² come from the pairs of some rows.
        """
        n, m = (halves.shape[1] for halves in self.halves)
        x, y = (float(torch.cov(halves)[0, 1]) for halves in self.halves)
        paired = self.paired
        rows = paired._replace(
            x=x - paired.xx / (n - 2) - paired.xy / m, y=y - paired.yy / (m - 2) - paired.xy / n
        )
        each = unbiased(self.totals, n, m)
        return rows.of_estimate(n, m) + float(each.var()) / len(each)


def _over_blocks(
    rows: Tensor, centre: Tensor, waves: Tensor, work: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[Tensor]:
    """What ``work`` makes of the cosines and sines of some rows at a time, ``[b, D]`` each, in their order."""

    def block(part: Tensor) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the sums
            phases = linalg.product(part - centre, waves.T)
        return work(phases.cos(), phases.sin_())

    return in_parallel(block, torch.split(rows, _BLOCK), rows.device)


def _sums(rows: Tensor, centre: Tensor, waves: Tensor) -> Tensor:
    """Of the cosines and of the sines over the rows, ``[2, D]`` float64."""

    def total(cos: Tensor, sin: Tensor) -> Tensor:
        return torch.stack([cos.sum(0, dtype=torch.float64), sin.sum(0, dtype=torch.float64)])

    sums = torch.zeros(2, len(waves), dtype=torch.float64, device=rows.device)
    for each in _over_blocks(rows, centre, waves, total):
        sums += each
    return sums


def _witness(rows: Tensor, centre: Tensor, waves: Tensor, own: Tensor, other: Tensor, others: int) -> Tensor:
    """By either half of the frequencies, ``[2, n]`` float64; ``own`` and ``other`` are :func:`_sums`."""
    middle = len(waves) // 2
    towards = torch.stack([own, other], 2).to(rows)  # [2, D, 2]

    def along(cos: Tensor, sin: Tensor) -> Tensor:
        halves = [
            (linalg.product(cos[:, half], towards[0, half]) + linalg.product(sin[:, half], towards[1, half]))
            / len(waves[half])
            for half in (slice(middle), slice(middle, None))
        ]
        return torch.stack(halves)

    sums = torch.empty(2, len(rows), 2, dtype=torch.float64, device=rows.device)
    for part, each in zip(
        torch.split(sums, _BLOCK, 1), _over_blocks(rows, centre, waves, along), strict=True
    ):
        part.copy_(each)
    return torch.stack([witness(half[:, 0], half[:, 1], others) for half in sums])
