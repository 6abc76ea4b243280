"""How far the probabilities of a discriminator can be taken at their word.

Both sets have half the weight, however many rows they have, so that a probability of one half means no evidence.
Logits are those of a row being a reference row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # each part is imported by its first use
import torch
from torch import Tensor
from torch.nn.functional import softplus

_BINS = 15


class Recalibration(NamedTuple):
    """The logits ``slope * logit + intercept`` that fit best (Cox 1958, Biometrika 45:562).

    Args:
        slope: below 1 where the discriminator is surer than it should be.
        intercept: in logits.
    """

    slope: float
    intercept: float

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits, recalibrated."""
        return self.slope * logits + self.intercept


def recalibration(on_generated: Tensor, on_reference: Tensor) -> Recalibration:
    """The best slope and intercept, with the softened labels of Platt 1999, so that it is finite for any logits.

    Args:
        on_generated: ``[n]`` logits of generated rows.
        on_reference: ``[m]`` logits of reference rows.
    """
    logits = torch.cat([on_generated, on_reference])
    weights = _weights(on_generated, on_reference)
    n, m = len(on_generated), len(on_reference)
    labels = torch.cat([logits.new_full((n,), 1 / (n + 2)), logits.new_full((m,), (m + 1) / (m + 2))])

    def loss(params: np.ndarray) -> tuple[float, np.ndarray]:
        moved = Recalibration(*params.tolist())(logits)
        wrong = weights * (torch.sigmoid(moved) - labels)
        value = weights @ (softplus(moved) - labels * moved)
        return float(value), np.array([float(wrong @ logits), float(wrong.sum())])

    found = scipy.optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return Recalibration(*found.x.tolist())


class Reliability(NamedTuple):
    """How probabilities and frequencies agree.

    Args:
        brier: mean squared error of the probability (Brier 1950); 1/4 for one that knows nothing.
        expected_calibration_error: mean over 15 bins of about equal weight of the difference between mean
            probability and frequency (Naeini et al. 2015).
        error_by_chance: what that would be, about, if all probabilities were right.
    """

    brier: float
    expected_calibration_error: float
    error_by_chance: float


def reliability(on_generated: Tensor, on_reference: Tensor) -> Reliability:
    """The scores of logits ``[n]`` and ``[m]``. Equal logits share a bin."""
    # On the CPU, where the order of summation is always the same.
    weights = _weights(on_generated, on_reference).cpu()
    logits = torch.cat([on_generated, on_reference]).cpu()
    labels = (torch.arange(len(logits)) >= len(on_generated)).double()
    probabilities = torch.sigmoid(logits)
    distinct, which = torch.unique(logits, return_inverse=True)
    shares = torch.bincount(which, weights=weights, minlength=len(distinct))
    bins = ((shares.cumsum(0) - shares / 2) * _BINS).long().clamp(0, _BINS - 1)[which]

    def by_bin(terms: Tensor) -> Tensor:
        return torch.bincount(bins, weights=terms, minlength=_BINS)

    spread = by_bin(weights.square() * probabilities * (1 - probabilities)).sqrt()
    return Reliability(
        float(weights @ (probabilities - labels).square()),
        float(by_bin(weights * (probabilities - labels)).abs().sum()),
        # The mean size of a normal number.
        float(spread.sum()) * math.sqrt(2 / math.pi),
    )


def _weights(on_generated: Tensor, on_reference: Tensor) -> Tensor:
    """Half for each set, ``[n + m]``."""
    return torch.cat([torch.full_like(part, 0.5 / len(part)) for part in (on_generated, on_reference)])
