"""Truncation of distributions for which precision and recall are known at each psi."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from gen_eval.latent import truncated_normal
from gen_eval.truncation import truncation_curve

N = 4000
# That the k-NN balls of finitely many points jut out over the edge of a disc, and that a sample is finite.
TOLERANCE = 0.035


def disc(seed: int, radius: float) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    r, angle = radius * np.sqrt(rng.uniform(0, 1, N)), rng.uniform(0, 2 * math.pi, N)
    return torch.from_numpy(np.stack([r * np.cos(angle), r * np.sin(angle)], 1))


def curve(generated: Callable[[float], torch.Tensor], reference: torch.Tensor, psis: tuple[float, ...]):
    """Precisions and recalls along psi, with their standard errors, ``[len(psis), 2]``."""
    points = truncation_curve(generated, reference=reference, measures="pr:identity", psis=psis)
    values = np.array([[value for value, _ in point.values.values()] for point in points])
    errors = np.array([[error for _, error in point.values.values()] for point in points])
    assert list(points[0].values) == ["precision:identity", "recall:identity"]
    return values, errors


def test_a_disc_trades_recall_for_precision_as_its_area_does():
    """A disc of radius 1.5 psi against one of radius 1: P = min(1, (1.5 psi)^-2), R = min(1, (1.5 psi)^2)."""
    psis = (1.0, 0.8, 0.6, 0.4, 0.3)
    values, errors = curve(lambda psi: disc(1, 1.5 * psi), disc(0, 1.0), psis)
    area = (1.5 * np.array(psis)) ** 2
    truth = np.stack([np.minimum(1, 1 / area), np.minimum(1, area)], 1)
    assert np.abs(values - truth).max() < TOLERANCE, values
    assert (errors < TOLERANCE / 2).all()
    assert (errors[truth < 0.9] > 0).all()


def test_a_gaussian_gains_precision_and_loses_recall_all_along():
    """Eight dimensions, 1.5 psi against 1; ties are of values at their ends."""
    psis = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)
    normals = torch.randn(2, N // 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, _ = curve(lambda psi: 1.5 * psi * normals[1], normals[0], psis)
    precision, recall = values.T
    assert spearmanr(psis, recall).statistic == pytest.approx(1)
    rising = precision < 0.99
    assert spearmanr(np.array(psis)[rising], precision[rising]).statistic == pytest.approx(-1)
    assert (np.diff(precision) > -0.01).all()
    assert precision[0] < 0.6
    assert precision[-1] > 0.97
    assert recall[0] > 0.95
    assert recall[-1] < 0.25


def test_resampled_latents_trade_recall_for_precision_too():
    """Thresholds of BigGAN on a generator that is too wide by half: the same trade by another knob."""
    thresholds = (4.0, 1.5, 1.0, 0.6, 0.3)
    seeds = torch.arange(N // 2)
    reference = truncated_normal(seeds + N, 4, math.inf).double()
    values, _ = curve(lambda t: 1.5 * truncated_normal(seeds, 4, t).double(), reference, thresholds)
    precision, recall = values.T
    assert spearmanr(thresholds, recall).statistic == pytest.approx(1)
    assert precision[0] < 0.9
    assert (np.diff(precision) > -0.01).all()
    assert precision[-1] > 0.99
    assert recall[-1] < 0.1
