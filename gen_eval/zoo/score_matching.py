"""Objectives that teach a score from samples alone, and how far a score is from the true one.

A score s(x) is the gradient of a log-density. Each objective is E |s - s*|² / 2, the Fisher divergence from a true
score s*, less a number that does not depend on s. The ones below are of single samples; a loss is their mean.
"""

from __future__ import annotations

from torch import Tensor

from gen_eval.zoo.langevin import Score
from gen_eval.zoo.nets.traces import Field, exact_trace, hutchinson


def exact(score: Score, x: Tensor) -> Tensor:
    """tr(ds/dx) + |s|² / 2: the Fisher divergence from the data's score (Hyvarinen 2005, JMLR 6:695, theorem 1).

    The trace takes one backward pass for each component of x.

    Args:
        score: ``[b, d]`` to ``[b, d]``, each row a function of its own row.
        x: samples of the data, ``[b, d]``.

    Returns:
        ``[b]``.
    """
    found, trace = exact_trace(*_as_field(score, x))
    return trace + found.square().sum(1) / 2


def sliced(score: Score, x: Tensor, directions: Tensor) -> Tensor:
    """v·(ds/dx) v + (v·s)² / 2 in one direction v, whose mean over v with E v v' = 1 is :func:`exact`.

    It takes one backward pass, whatever d is (Song et al. 2019, arXiv:1905.07088, equation 7).

    Args:
        score: as that of :func:`exact`.
        x: samples of the data, ``[b, d]``.
        directions: v of each, ``[b, d]``: independent numbers of mean 0 and variance 1, such as signs.

    Returns:
        ``[b]``.
    """
    found, slope = hutchinson(*_as_field(score, x), directions)
    return slope + (found * directions).sum(1).square() / 2


def sliced_vr(score: Score, x: Tensor, directions: Tensor) -> Tensor:
    """v·(ds/dx) v + |s|² / 2: as :func:`sliced`, with the mean of its second term worked out.

    Song et al. 2019, arXiv:1905.07088, equation 8.
    """
    found, slope = hutchinson(*_as_field(score, x), directions)
    return slope + found.square().sum(1) / 2


def denoising(score: Score, x: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """|s(y) - (x - y) / sigma²|² / 2 at y = x + sigma noise: the divergence from the score of data with noise.

    (x - y) / sigma² is the score of N(x, sigma²) at y; given y its mean is the score of the noised data, by Tweedie's
    formula. So no derivative of s is needed, and what is learnt is not the score of the data itself. Vincent 2011,
    Neural Computation 23:1661, equation 9.

    Args:
        score: ``[b, ...]`` to the same.
        x: samples of the data, ``[b, ...]``.
        noise: standard normal, of the shape of x.
        sigma: its standard deviation, above 0.

    Returns:
        ``[b]``.
    """
    return (score(x + sigma * noise) + noise / sigma).flatten(1).square().sum(1) / 2


def tweedie(denoised: Tensor, y: Tensor, sigma: float) -> Tensor:
    """The score at y of data with noise of sd sigma, (E[x | y] - y) / sigma², of the mean E[x | y] of clean data.

    Robbins 1956; Efron 2011, JASA 106:1602, equation 2.8.
    """
    return (denoised - y) / sigma**2


def fisher_divergence(found: Tensor, true: Tensor) -> float:
    """E |s - s*|² / 2 of two scores ``[n, d]`` at samples of the distribution that s* is of."""
    return float((found - true).square().sum(1).mean()) / 2


def relative_fisher_divergence(found: Tensor, true: Tensor) -> float:
    """2 D / E |s*|² with the Fisher divergence D: 0 of the true score, 1 of a score that is 0 everywhere."""
    return 2 * fisher_divergence(found, true) / float(true.square().sum(1).mean())


def _as_field(score: Score, x: Tensor) -> tuple[Field, Tensor, Tensor]:
    """A score as a field that is the same at all times."""
    return lambda _, x: score(x), x.new_zeros(()), x
