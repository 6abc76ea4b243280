"""Samples from scores: Langevin dynamics, annealed over levels of noise, and the ODE of a denoiser by Heun's method.

Each step's noise is asked of a function, so that chains are pure functions of their seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
NoisyScore = Callable[[Tensor, float], Tensor]  # of x and a level of noise
Noise = Callable[[int], Tensor]  # standard normal numbers of the shape of x, for a step


def langevin(score: Score, x: Tensor, *, step_size: float, steps: int, noise: Noise | None) -> Tensor:
    """x + eta / 2 score(x) + sqrt(eta) noise, so many times.

    Without noise it climbs to the nearest mode and stays there. With it the chain's distribution settles at one that
    is off by the order of eta: N(0, s²) comes out as s² / (1 - eta / 4 s²) (unadjusted Langevin; Roberts and Tweedie
    1996, Bernoulli 2:341).

    Args:
        score: the gradient of the log-density, ``[b, ...]`` to the same.
        x: where chains start.
        step_size: eta.
        steps: how many.
        noise: of a step; ``None`` for none.
    """
    for step in range(steps):
        x = x + step_size / 2 * score(x)
        if noise is not None:
            x = x + math.sqrt(step_size) * noise(step)
    return x


def annealed_langevin(
    score: NoisyScore, x: Tensor, *, sigmas: Sequence[float], step_size: float, steps: int, noise: Noise
) -> Tensor:
    """Langevin dynamics at falling levels of noise, with steps in proportion to the square of each.

    Song and Ermon 2019, arXiv:1907.05600, algorithm 1.

    Args:
        score: of x and a level, the gradient of the log-density of data with so much noise.
        x: where chains start.
        sigmas: falling.
        step_size: eta at the last level; at others it is times (sigma / last sigma)².
        steps: at each level.
        noise: of a step, numbered through all levels.
    """
    for level, sigma in enumerate(sigmas):
        first = level * steps
        x = langevin(
            lambda x, sigma=sigma: score(x, sigma),  # type: ignore[misc]
            x,
            step_size=step_size * (sigma / sigmas[-1]) ** 2,
            steps=steps,
            noise=lambda step, first=first: noise(first + step),  # type: ignore[misc]
        )
    return x


def heun(denoised: NoisyScore, x: Tensor, *, sigmas: Sequence[float]) -> Tensor:
    """The ODE dx/dsigma = (x - D(x, sigma)) / sigma from the first level of noise to 0, of second order.

    Karras et al. 2022, arXiv:2206.00364, algorithm 1.

    Args:
        denoised: D, the mean of clean data given x and the level.
        x: noise of the first level, ``[b, ...]``.
        sigmas: falling, above 0; a last step to 0 is Euler's.
    """
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        slope = (x - denoised(x, sigma)) / sigma
        ahead = x + (following - sigma) * slope
        if following:
            slope = (slope + (ahead - denoised(ahead, following)) / following) / 2
            ahead = x + (following - sigma) * slope
        x = ahead
    return x


def karras_sigmas(count: int, largest: float, smallest: float, bend: float = 7.0) -> list[float]:
    """Falling levels of noise, denser towards the smallest; Karras et al. 2022, arXiv:2206.00364, equation 5."""
    ends = largest ** (1 / bend), smallest ** (1 / bend)
    return [float(each**bend) for each in torch.linspace(*ends, count, dtype=torch.float64)]
