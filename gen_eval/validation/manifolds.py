"""Precision, recall and authenticity on worlds where areas and shares of modes say what they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.special import betainc
from scipy.stats import spearmanr

from gen_eval.metrics.diversity.modes import mode_coverage
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.validation.check import Check, at_least, at_most, near
from gen_eval.validation.closed_forms import fitted
from gen_eval.zoo.combinators import KeepModes, Memoriser, Shifted, Truncated
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import Checkerboard, Disc, Gaussian, Mixture

_N = 4000


def _precision_recall(generated: Sampler, reference: Sampler, n: int = _N) -> tuple[float, float]:
    values = precision_recall(generated.sample(n, seed=0), reference.sample(n, seed=n)).values
    return values["precision"], values["recall"]


_SHIFTS = (0.25, 0.5, 0.75)


def _squares() -> Sequence[float]:
    square = Checkerboard(side=1)
    pairs = [_precision_recall(Shifted(square, (shift, 0.0)), square) for shift in _SHIFTS]
    return [value for pair in pairs for value in pair]


_PSIS = (1.0, 0.8, 0.6, 0.4, 0.3)


def _discs() -> Sequence[float]:
    pairs = [_precision_recall(Truncated(Disc(1.5), psi), Disc()) for psi in _PSIS]
    return [value for pair in pairs for value in pair]


_FINER = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)


def _gaussians() -> Sequence[float]:
    """Rank correlations with psi, and both ends."""
    wide, narrow = (Gaussian(torch.zeros(8), sd**2 * torch.eye(8)) for sd in (1.5, 1.0))
    pairs = [_precision_recall(Truncated(wide, psi), narrow, 2000) for psi in _FINER]
    precision, recall = zip(*pairs, strict=True)
    rising = [at for at, value in enumerate(precision) if value < 0.99]  # those above are ties with 1
    return [
        float(spearmanr([_FINER[at] for at in rising], [precision[at] for at in rising]).statistic),
        float(spearmanr(_FINER, recall).statistic),
        *(precision[0], precision[-1], recall[0], recall[-1]),
    ]


def _modes() -> Sequence[float]:
    """Of dropped and of invented modes precision and recall; of the dropped, modes covered."""
    whole = Mixture.ring(radius=10.0, sd=0.3)
    few = KeepModes(whole, range(5))
    covered = mode_coverage(few.sample(_N, seed=0), whole.means, torch.full((8,), 0.3).double(), reach=3.0)
    return [
        *_precision_recall(few, whole),
        *_precision_recall(whole, few),
        covered.values["modes_covered"],
    ]


_DIM = 2
_SHARED = float(
    betainc((_DIM + 1) / 2, 0.5, 0.75)
)  # of two balls, each of which has the other's centre on its rim


def _memoriser() -> Sequence[float]:
    """Authenticity of copies and of fresh rows, and the distances of both from the training rows."""
    world = Gaussian(torch.zeros(_DIM), torch.eye(_DIM))
    training, fresh = world.sample(2000, seed=0), world.sample(2000, seed=2000)
    copies = Memoriser(training, len(training)).sample(2000, seed=0)
    found = [authenticity(rows, training).values["authenticity"] for rows in (copies, fresh)]
    distances = [
        frechet(*(fitted(each.double()) for each in (rows, training))).values["frechet"]
        for rows in (copies, fresh)
    ]
    return [*found, distances[0], distances[1]]


MANIFOLDS = (
    Check(
        "shifted-squares",
        "Unit squares that are shifted by a share 1 - a: precision and recall are both 1 - a.",
        ("precision-recall", "checkerboard"),
        "quick",
        tuple(
            near(1 - shift, 0.03, f"{what}, shifted by {shift:g}")
            for shift in _SHIFTS
            for what in ("precision", "recall")
        ),
        _squares,
        "Kynkäänniemi et al. 2019, arXiv:1904.06991; areas",
    ),
    Check(
        "truncated-disc",
        "A disc of radius 1.5 psi against one of 1: precision min(1, (1.5 psi)^-2), recall min(1, (1.5 psi)²).",
        ("precision-recall", "disc"),
        "quick",
        tuple(
            near(min(1.0, (1.5 * psi) ** power), 0.035, f"{what}, psi {psi:g}")
            for psi in _PSIS
            for what, power in (("precision", -2), ("recall", 2))
        ),
        _discs,
        "Kynkäänniemi et al. 2019, arXiv:1904.06991; areas",
    ),
    Check(
        "truncated-gaussian",
        "Eight dimensions, too wide by half: as psi falls from 1 to .3, precision rises and recall falls at each step.",
        ("precision-recall", "gaussian"),
        "quick",
        (
            near(-1.0, 1e-9, "rank correlation of precision"),
            near(1.0, 1e-9, "rank correlation of recall"),
            at_most(0.6, "precision, psi 1"),
            at_least(0.97, "precision, psi 0.3"),
            at_least(0.95, "recall, psi 1"),
            at_most(0.25, "recall, psi 0.3"),
        ),
        _gaussians,
        "Brock et al. 2019, arXiv:1809.11096, figure 2; Kynkäänniemi et al. 2019, figure 4",
    ),
    Check(
        "modes-dropped-and-invented",
        "Five modes of eight have recall 5/8, eight where there are five precision 5/8; the other is 1, of which "
        "balls of 3 neighbours miss about .024.",
        ("precision-recall", "mode-coverage", "ring8"),
        "quick",
        (
            at_least(0.96, "precision, dropped"),
            near(5 / 8, 0.03, "recall, dropped"),
            near(5 / 8, 0.03, "precision, invented"),
            at_least(0.96, "recall, invented"),
            near(5.0, 0.0, "modes covered, dropped"),
        ),
        _modes,
        "Kynkäänniemi et al. 2019, arXiv:1904.06991; shares of modes",
    ),
    Check(
        "memoriser",
        "Copies of the training rows are nearer in Fréchet distance than fresh rows, and none of them is authentic.",
        ("authenticity", "frechet"),
        "quick",
        (
            near(0.0, 0.0, "authenticity of copies"),
            near((1 - _SHARED) / (2 - _SHARED), 0.035, "authenticity of fresh rows"),
            at_most(0.01, "distance of copies"),
            at_most(0.01, "distance of fresh rows"),
        ),
        _memoriser,
        "Alaa et al. 2022, arXiv:2102.08921; volumes of balls",
    ),
)
