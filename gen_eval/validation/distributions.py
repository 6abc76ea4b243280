"""Worlds: whether densities, scores and samples are of one distribution, before others are checked against them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from scipy.stats import chi2
from torch import Tensor

from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.validation.check import Check, at_least, at_most, near
from gen_eval.zoo.combinators import KeepModes, Mix, Noisy, Shifted, Truncated
from gen_eval.zoo.worlds import WORLDS, Disc, Gaussian, Mixture

_HALF = 6.0  # of the square that densities are integrated over
_CELLS = 600  # along a side: edges of the checkerboard lie between cells
_SQUARES = 24  # along a side: samples are counted in each; 4 to a square of the checkerboard
_MANY = 5  # samples to be expected in a square that is judged alone
_N = 20_000

# All are of the plane. The functions make them, as a world does not change.
_DENSITIES: Mapping[str, Callable[[], Any]] = {
    **WORLDS,
    "ring8 with noise": lambda: Noisy(Mixture.ring(), 0.2),
    "5 modes of ring8": lambda: KeepModes(Mixture.ring(), range(5)),
    "ring8, shifted": lambda: Shifted(Mixture.ring(), (1.0, -0.5)),
    "ring8 or a disc": lambda: Mix([Mixture.ring(), Disc()], (0.3, 0.7)),
    "disc, truncated": lambda: Truncated(Disc(2.0), 0.6),
}
_SCORES: Mapping[str, Callable[[], Any]] = {
    "gaussian": WORLDS["gaussian"],
    "grid25": Mixture.grid,
    "ring8 with noise": _DENSITIES["ring8 with noise"],
    "5 modes of ring8": _DENSITIES["5 modes of ring8"],
    "ring8 or a gaussian": lambda: Mix([Mixture.ring(), WORLDS["gaussian"]()], (0.3, 0.7)),
}


def _cells() -> tuple[Tensor, float]:
    width = 2 * _HALF / _CELLS
    ticks = (torch.arange(_CELLS, dtype=torch.float64) + 0.5) * width - _HALF
    return torch.cartesian_prod(ticks, ticks), width**2


def _masses() -> Sequence[float]:
    """The integral of each density; by how much samples find it likelier than its own mean log-density; see _chance."""
    cells, area = _cells()
    masses, gaps, chances = [], [], []
    for make in _DENSITIES.values():
        world = make()
        log_density = world.log_prob(cells)
        density = log_density.exp()
        masses.append(float(density.sum()) * area)
        expected = float(torch.xlogy(density, density).sum()) * area
        samples = world.sample(_N, seed=0)
        gaps.append(float(world.log_prob(samples).mean()) - expected)
        chances.append(_chance(samples, density * area))
    return [*masses, *gaps, *chances]


def _chance(samples: Tensor, masses: Tensor) -> float:
    """That counts in squares are as far off as these, or more, by chance: a chi-square test.

    Args:
        samples: ``[n, 2]``.
        masses: of the cells, ``[cells²]``.
    """
    each = _CELLS // _SQUARES  # cells along a side of a square
    expected = len(samples) * masses.view(_SQUARES, each, _SQUARES, each).sum((1, 3)).flatten()
    place = ((samples.double() + _HALF) * (_SQUARES / (2 * _HALF))).floor().long()
    inside = ((place >= 0) & (place < _SQUARES)).all(1)
    counts = torch.bincount(place[inside] @ torch.tensor([_SQUARES, 1]), minlength=_SQUARES**2)
    many = expected >= _MANY
    # What is expected in the other squares and beyond them is too little to judge each.
    observed = torch.cat([counts[many], len(samples) - counts[many].sum()[None]])
    expected = torch.cat([expected[many], (len(samples) - expected[many].sum()).clamp(min=1)[None]])
    statistic = ((observed - expected).square() / expected).sum()
    return float(chi2.sf(float(statistic), int(many.sum())))


def _score_errors() -> Sequence[float]:
    """The greatest difference between the score and the slope of the log-density, at samples and away from them."""
    found = []
    for make in _SCORES.values():
        world = make()
        x = world.sample(500, seed=1).double()
        x = torch.cat([x, 1.5 * x + 0.3]).requires_grad_()
        (slope,) = torch.autograd.grad(world.log_prob(x).sum(), x)
        found.append(float((world.score(x.detach()) - slope).abs().max()))
    return found


def _dilution() -> Sequence[float]:
    """What 99 % of noise costs a likelihood, at the most of any sample of the data, and the samples' precision."""
    data = Mixture.ring()
    diluted = Mix([data, Gaussian((0.0, 0.0), 400 * torch.eye(2))], (0.01, 0.99))
    held_out = data.sample(4000, seed=0)
    loss = data.log_prob(held_out) - diluted.log_prob(held_out)
    generated = diluted.sample(4000, seed=10_000)
    return float(loss.max()), precision_recall(generated, held_out).values["precision"]


def _tolerance(name: str) -> float:
    return 2e-3 if "disc" in name else 1e-6  # cells do not follow a round edge


DISTRIBUTIONS = (
    Check(
        "densities-integrate-to-1",
        "The density of every world and of what is made of worlds integrates to 1, and its samples are distributed so: "
        "their mean log-density is that of the density, and squares hold as many as they should (chi-square).",
        ("gaussian", "ring8", "grid25", "disc", "checkerboard"),
        "quick",
        (
            *(near(1.0, _tolerance(name), name) for name in _DENSITIES),
            *(near(0.0, 0.03, f"{name}, samples") for name in _DENSITIES),
            *(at_least(1e-3, f"{name}, chance of such counts") for name in _DENSITIES),
        ),
        _masses,
        "probabilities sum to 1",
    ),
    Check(
        "scores-are-slopes",
        "The score of a world is the gradient of its log-density; greatest difference from automatic differentiation.",
        ("gaussian", "ring8", "grid25"),
        "quick",
        tuple(near(0.0, 1e-8, name) for name in _SCORES),
        _score_errors,
        "Hyvärinen 2005, JMLR 6:695",
    ),
    Check(
        "likelihood-of-noise",
        "99 % of noise beside 1 % of the data costs a likelihood log 100 at the most, and the samples all they have.",
        ("ring8",),
        "quick",
        (at_most(math.log(100), "loss in nats"), at_most(0.05, "precision")),
        _dilution,
        "Theis et al. 2016, arXiv:1511.01844, section 3.2",
    ),
)
