"""Langevin dynamics and the ODE of a denoiser, where it is known what they end in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gen_eval import draws
from gen_eval.validation.check import Check, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.chains import Langevin
from gen_eval.zoo.langevin import annealed_langevin, heun, karras_sigmas, langevin
from gen_eval.zoo.worlds import Gaussian, Mixture

# --- Langevin dynamics of a Gaussian: x' = (1 - eta / 2s²) x + sqrt(eta) noise has a variance of s² / (1 - eta / 4s²)

_VARIANCE = 1.7
_STEP_SIZES = (0.1, 0.5, 1.0, 2.0)


def stationary(variance: float, step_size: float) -> float:
    """The variance that unadjusted Langevin dynamics of a Gaussian settle at."""
    return variance / (1 - step_size / (4 * variance))


def _variances() -> Sequence[float]:
    dim = 100
    target = Gaussian(torch.zeros(dim), _VARIANCE * torch.eye(dim))
    start = math.sqrt(_VARIANCE)
    return [
        float(
            Langevin(target, step_size=eta, steps=10 + int(5 / eta), start_sd=start)
            .sample(2048, seed=0)
            .square()
            .mean()
        )
        for eta in _STEP_SIZES
    ]


# --- Without noise chains climb; with it they spread about modes as the Gaussians there do

_RING = Mixture.ring()
_ON_RING = 0.002
_SD_ON_RING = math.sqrt(stationary(0.1**2, _ON_RING))


def _climbs() -> Sequence[float]:
    """The standard deviation about the nearest mode, without noise and with it, and modes met without."""
    off, met = [], []
    for noise in (False, True):
        chains = Langevin(_RING, step_size=_ON_RING, steps=120, start_sd=2.0, noise=noise)
        x = chains.sample(768, seed=0).double()
        nearest = torch.cdist(x, _RING.means).argmin(1)
        off.append(float((x - _RING.means[nearest]).square().mean().sqrt()))
        met.append(float((torch.bincount(nearest) > 0).sum()))
    return [*off, met[0]]


# --- Two modes far apart, one four times as likely

_FAR = Mixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
_LEVELS, _PER_LEVEL, _STEP = 10, 100, 0.1


def _shares() -> Sequence[float]:
    """Of the likely mode, by annealed Langevin dynamics and by as many steps at the last level."""
    seeds, count = torch.arange(1000), _LEVELS * _PER_LEVEL
    start = torch.from_numpy(16 * draws.uniform(seeds, 2) - 8)
    noise = draws.normal(seeds, 2 * count, 1).view(-1, count, 2).unbind(1).__getitem__
    sigmas = torch.logspace(math.log10(20), 0, _LEVELS, dtype=torch.float64).tolist()
    levels = {sigma: _FAR.noised(sigma) for sigma in sigmas}
    annealed = annealed_langevin(
        lambda x, sigma: levels[sigma].score(x),
        start,
        sigmas=sigmas,
        step_size=_STEP,
        steps=_PER_LEVEL,
        noise=noise,
    )
    plain = langevin(_FAR.score, start, step_size=_STEP, steps=count, noise=noise)
    return [float((x.sum(1) > 0).double().mean()) for x in (annealed, plain)]


# --- The ODE of N(0, s²): x at the last level is x at the first times s / sqrt(s² + sigma²)

_LARGEST, _SMALLEST, _SD = 80.0, 1e-4, 0.5


def _ode() -> Sequence[float]:
    """The relative error of 40 levels, and how many times that of 80 levels it is."""
    x = _LARGEST * normals(100, 1, 0)
    exact = x * _SD / math.sqrt(_SD**2 + _LARGEST**2)
    errors = []
    for levels in (40, 80):
        sigmas = karras_sigmas(levels, _LARGEST, _SMALLEST)
        found = heun(lambda x, sigma: x * _SD**2 / (_SD**2 + sigma**2), x, sigmas=sigmas)
        errors.append(float(((found - exact) / exact).abs().max()))
    return errors[1], errors[0] / errors[1]


LANGEVIN = (
    Check(
        "variance-of-langevin-dynamics",
        "Unadjusted Langevin dynamics of N(0, s²) settles at a variance of s² / (1 - eta / 4s²).",
        ("gaussian",),
        "quick",
        tuple(
            near(stationary(_VARIANCE, eta), 0.012 * stationary(_VARIANCE, eta), f"eta = {eta}")
            for eta in _STEP_SIZES
        ),
        _variances,
        "Roberts and Tweedie 1996, Bernoulli 2:341",
    ),
    Check(
        "langevin-dynamics-without-noise",
        "Without noise all chains climb to modes and stay there; with it they spread about them as they should.",
        ("ring8",),
        "quick",
        (
            near(0.0, 1e-5, "standard deviation without noise"),
            near(_SD_ON_RING, 0.05 * _SD_ON_RING, "standard deviation with noise"),
            near(8.0, 0.0, "modes met"),
        ),
        _climbs,
        "gradient ascent; the variance as in variance-of-langevin-dynamics",
    ),
    Check(
        "annealed-langevin-dynamics",
        "Of two modes far apart, annealed chains find the one of weight .8 as often; plain ones stay where they start.",
        ("ncsn",),
        "quick",
        (near(0.79, 0.05, "annealed"), near(0.5, 0.08, "plain")),
        _shares,
        "Song and Ermon 2019, arXiv:1907.05600, figure 3; how far off both are is measured",
    ),
    Check(
        "ode-of-a-gaussian",
        "Heun's method with the exact denoiser scales noise to the Gaussian; half the steps make four times the error.",
        ("gaussian",),
        "quick",
        (near(0.0, 4e-3, "relative error"), near(4.0, 0.5, "half the steps")),
        _ode,
        "Karras et al. 2022, arXiv:2206.00364, algorithm 1",
    ),
)
