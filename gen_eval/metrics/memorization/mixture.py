"""A Gaussian about each of some rows, each as wide as fits another set best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gen_eval.metrics import linalg
from gen_eval.metrics.neighbors.across import nearest
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.rows import mean_of
from gen_eval.parallel import in_parallel

# Those of the published code: its number depends on them, most of all where a generator copies.
_STEPS, _RATE, _DECAYS, _TINY = 50, 0.5, (0.9, 0.999), 1e-8
_NARROWEST, _WIDEST = -40.0, 20.0  # of a log variance
_FLOOR = 1e-3  # keeps the first variance of an exact copy from zero
_BASE_REACH = 0.9  # what distances to the centre of all rows are multiplied by
_SPLITS = 32  # random halves that tell a variance
_LEAST = 1e-300  # keeps the density of a half from zero
_NUMBERS, _NUMBERS_ON_GPU = 1 << 20, 1 << 24  # distances handled at a time
_KEPT = 1 << 29  # distances kept between steps, in float32: 2 GiB, those of 50,000 rows to 10,000 centres


class Look(NamedTuple):
    """What a mixture says of some rows.

    Args:
        likelihoods: ``[n]`` float64, the logarithm of the density at each row.
        variance: of their mean, as far as it comes from which centres were drawn, their widths as they are.
    """

    likelihoods: Tensor
    variance: float


@dataclass(frozen=True)
class Mixture:
    """Equal parts of isotropic Gaussians.

    Args:
        centres: ``[m, d]``.
        log_variances: ``[m]`` float64.
    """

    centres: Tensor
    log_variances: Tensor

    @classmethod
    def fit(cls, centres: Tensor, rows: Tensor) -> Mixture:
        """The variances under which some rows are most likely, by fifty steps of Adam over all of them.

        While they are fitted, a wide Gaussian about the mean of the rows takes part with a weight of one row more, so
        that rows far from all centres do not widen them (Jiralerspong et al. 2023, section 3.1). The steps are those
        of the published code for up to 10,000 rows, which it takes in one batch; it draws batches of more.

        Memory is that of the distances, up to 2 GiB; beyond that they are computed anew in each step.

        Args:
            centres: ``[m, d]``.
            rows: ``[n, d]``.
        """
        dim = centres.shape[1]
        others, queries = prepare(centres, rows)
        closest = nearest(others, queries).squared[:, 0] / queries.scale**2
        distances = _Distances(rows, centres, keep=True)
        mean = mean_of(rows)
        base = [_BASE_REACH**2 * (part - mean).square().sum(1) for part in distances.parts]
        logs = torch.cat([((closest + _FLOOR) / dim).log(), closest.new_zeros(1)])
        first, second = torch.zeros_like(logs), torch.zeros_like(logs)
        for step in range(1, _STEPS + 1):
            slope = _slope(distances, base, logs, dim)
            first = _DECAYS[0] * first + (1 - _DECAYS[0]) * slope
            second = _DECAYS[1] * second + (1 - _DECAYS[1]) * slope**2
            drift, root = first / (1 - _DECAYS[0] ** step), (second / (1 - _DECAYS[1] ** step)).sqrt()
            logs = logs - _RATE * drift / (root + _TINY)
            logs[:-1].clamp_(_NARROWEST, _WIDEST)
        return cls(centres, logs[:-1])

    def look(self, rows: Tensor) -> Look:
        """The density at some rows, ``[n, d]``.

        The variance is seen by halving: two random halves of the Gaussians are two mixtures from independent draws,
        so the squared difference of their means is on average twice the variance at half the size, which is twice
        that at the full size. What the rows add to the difference, for they are finitely many, is taken off.
        """
        (m, dim), n = self.centres.shape, len(rows)
        one, other = _halves(m, rows.device)
        gaps, squares = torch.zeros(2, _SPLITS, dtype=torch.float64, device=rows.device)
        distances, likelihoods = _Distances(rows, self.centres, keep=False), []
        for at in range(len(distances.parts)):
            each = _log_densities(distances.block(at), self.log_variances, dim)
            top = each.amax(1, keepdim=True)
            parts = (each - top).exp_()
            likelihoods.append(parts.sum(1).log() + top[:, 0] - math.log(m))
            gap = (linalg.product(parts, one) + _LEAST).log_() - (
                linalg.product(parts, other) + _LEAST
            ).log_()
            gaps, squares = gaps + gap.sum(0), squares + gap.square().sum(0)
        between = float((gaps.square() - squares).mean()) / (n * (n - 1))
        return Look(torch.cat(likelihoods), max(between, 0.0) / 4)


def _halves(m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which of m Gaussians belong to either half of random splits, ``[m, splits]`` float64 each."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.zeros(2, m, _SPLITS, dtype=torch.float64)
    for split in range(_SPLITS):
        drawn = torch.randperm(m, generator=generator)
        for side in (0, 1):
            sides[side, drawn[side * (m // 2) : (side + 1) * (m // 2)], split] = 1
    return sides[0].to(device), sides[1].to(device)


class _Distances:
    """Squared distances of some rows to all centres, a block at a time.

    Args:
        rows: ``[n, d]``.
        centres: ``[m, d]``.
        keep: whether they will be asked for again.
    """

    def __init__(self, rows: Tensor, centres: Tensor, *, keep: bool) -> None:
        numbers = _NUMBERS_ON_GPU if rows.is_cuda else _NUMBERS
        self.parts = torch.split(rows, max(1, numbers // len(centres)))
        self._centres = centres.double()
        self._squares = self._centres.square().sum(1)
        self._keep = keep and len(rows) * len(centres) <= _KEPT
        self._kept: dict[int, Tensor] = {}

    def block(self, at: int) -> Tensor:
        """Those of one part of the rows, ``[b, m]`` float64, of float32 precision."""
        if at in self._kept:
            return self._kept[at].double()
        rows = self.parts[at].double()
        squared = linalg.product(rows * -2, self._centres.T).add_(rows.square().sum(1)[:, None])
        found = squared.add_(self._squares).clamp_(min=0).float()
        if self._keep:
            self._kept[at] = found
        return found.double()


def _log_densities(squared: Tensor, logs: Tensor, dim: int) -> Tensor:
    """Of Gaussians with these log variances, at these squared distances from their centres, by broadcasting."""
    return squared.double() * (-0.5 * (-logs).exp()) - dim / 2 * (logs + math.log(2 * math.pi))


def _slope(distances: _Distances, base: Sequence[Tensor], logs: Tensor, dim: int) -> Tensor:
    """The derivative of the mean negative log likelihood per dimension by each log variance, the base's last."""
    m = len(logs) - 1
    half = 0.5 * (-logs).exp()

    def of_block(at: int) -> Tensor:
        squared = torch.cat([distances.block(at), base[at][:, None]], 1)
        each = _log_densities(squared, logs, dim)
        each[:, :-1] -= math.log(m)
        return (each.softmax(1) * (dim / 2 - squared * half)).sum(0)

    total = torch.zeros_like(logs)
    for part in in_parallel(of_block, range(len(distances.parts)), logs.device):
        total += part
    return total / (sum(map(len, base)) * dim)
