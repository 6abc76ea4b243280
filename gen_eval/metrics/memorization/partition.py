"""Cells of a set of feature rows: principal components, and k-means in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gen_eval.errors import TooFewImages
from gen_eval.metrics import linalg
from gen_eval.stats import Moments

_BLOCK = 4096  # rows handled at a time in float64
_STARTS = 10
_STEPS = 300


def principal(rows: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """The mean of ``[n, d]`` rows, ``[d]``, and their first principal axes, ``[d, components]``, both float64."""
    moments = Moments.of(rows)
    return moments.mean, linalg.leading(moments.scatter, components)


def project(rows: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Rows in the coordinates of some axes about a mean, ``[n, k]`` float32: rows that are equal stay so."""
    return torch.cat([linalg.product(part - mean, axes).float() for part in torch.split(rows, _BLOCK)])


@dataclass(frozen=True)
class Cells:
    """Each row belongs to the nearest of some centres.

    Args:
        centres: ``[k, d]`` float64.
        inertia: the sum of the squared distances of the rows that they were found for.
    """

    centres: Tensor
    inertia: float

    @classmethod
    def of(cls, rows: Tensor, cells: int, seed: int) -> Cells:
        """The k-means cells of ``[n, d]`` rows, the best of ten runs (Lloyd 1982) from drawn starts.

        Starts are drawn as k-means++ does (Arthur and Vassilvitskii 2007), and by rank in the distance to the mean:
        they depend on the rows, not on the order in which these come.

        Raises:
            TooFewImages: if fewer rows differ than there are to be cells.
        """
        rows = rows.double()
        order = (rows - rows.mean(0)).square().sum(1).argsort(stable=True)
        rows, rng = rows[order], np.random.default_rng(seed)
        runs = [_lloyd(rows, _spread(rows, cells, rng)) for _ in range(_STARTS)]
        return min(runs, key=lambda run: run.inertia)

    def place(self, rows: Tensor) -> Tensor:
        """The cell of each row, ``[n]``."""
        return _squared(rows.double(), self.centres).argmin(1)


def _spread(rows: Tensor, cells: int, rng: np.random.Generator) -> Tensor:
    """Rows to start from: each drawn in proportion to its squared distance to those before it."""
    chosen = [rows[int(rng.integers(len(rows)))]]
    while len(chosen) < cells:
        weight = _squared(rows, torch.stack(chosen)).amin(1).cumsum(0)
        if not float(weight[-1]) > 0:
            raise TooFewImages(
                f"{cells} cells need as many training images that differ, found {len(chosen)}; use fewer cells"
            )
        at = torch.searchsorted(weight, float(weight[-1]) * rng.random(), right=True)
        chosen.append(rows[at.clamp(max=len(rows) - 1)])
    return torch.stack(chosen)


def _lloyd(rows: Tensor, centres: Tensor) -> Cells:
    inertia = math.inf
    for _ in range(_STEPS):
        squared, cell = _squared(rows, centres).min(1)
        if not float(squared.sum()) < inertia:
            break
        inertia = float(squared.sum())
        counts = torch.bincount(cell, minlength=len(centres))[:, None]
        members = F.one_hot(cell, len(centres)).to(rows)
        totals = linalg.product(members.T, rows)
        centres = torch.where(counts > 0, totals / counts.clamp(min=1), centres)
    return Cells(centres, inertia)


def _squared(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared distances to a few centres, ``[n, k]``, by differences: equal rows have equal ones."""
    return torch.cdist(rows, centres, compute_mode="donot_use_mm_for_euclid_dist").square_()
