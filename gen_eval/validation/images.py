"""Handwritten digits, disturbed on purpose: what metrics must say of them, through features of a digit classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.stats import spearmanr
from torch import Tensor

from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.inception_score import inception_score
from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.validation.check import Check, at_least, at_most, near
from gen_eval.validation.closed_forms import fitted
from gen_eval.validation.digits import digits, judge
from gen_eval.zoo.combinators import Blurred, KeepModes, Memoriser, Noisy, Shifted
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import Empirical

_N = 2000


def _held_out() -> Empirical:
    return Empirical(*digits("test"), name="held-out digits")


def _reference() -> Tensor:
    """Features of training digits."""
    return judge().features(digits("train").images[:_N])


def _features(sampler: Sampler) -> Tensor:
    return judge().features(sampler.sample(_N, seed=0))


def _distance(features: Tensor) -> float:
    return frechet(fitted(features), fitted(_reference())).values["frechet"]


# --- Strength


_LEVELS = {"noise": (0.0, 16.0, 32.0, 64.0), "blur": (0.0, 0.6, 1.0, 1.6)}


def _disturbed() -> Sequence[float]:
    """Rank correlations of distances with the strength of noise and of blur; the classifier's accuracy first."""
    found = [judge().accuracy(*digits("test"))]
    for what, combinator in (("noise", Noisy), ("blur", Blurred)):
        sets = [_features(combinator(_held_out(), level)) for level in _LEVELS[what]]
        for distances in (
            [_distance(each) for each in sets],
            [mmd(each, _reference(), kernel="polynomial").values["mmd2"] for each in sets],
        ):
            found.append(float(spearmanr(_LEVELS[what], distances).statistic))
    return found


# --- Classes

_KEPT = (10, 9, 7, 5)


def _dropped() -> Sequence[float]:
    """Inception scores by classes kept; the range of precision; rank correlation and fall of recall."""
    scores, precisions, recalls = [], [], []
    images, labels = digits("train")
    others = Empirical(images[_N:], labels[_N:])
    for kept in _KEPT:
        images = KeepModes(others, range(kept)).sample(_N, seed=0, labels=torch.arange(_N) % kept)
        scores.append(inception_score(judge().logits(images), splits=1).values["inception_score"])
        values = precision_recall(judge().features(images), _reference()).values
        precisions.append(values["precision"])
        recalls.append(values["recall"])
    return [
        *scores,
        max(precisions) - min(precisions),
        float(spearmanr(_KEPT, recalls).statistic),
        recalls[0] - recalls[-1],
    ]


# --- Copies


def _memorised() -> Sequence[float]:
    """Of copies and of fresh digits authenticity; the distance of copies over that of fresh ones; of shifted copies."""
    copies = Memoriser(digits("train").images, _N)
    reference = _reference()
    of_copies, of_fresh, of_shifted = (
        _features(each) for each in (copies, _held_out(), Shifted(copies, (0, 1)))
    )
    shares = [
        authenticity(each, reference).values["authenticity"] for each in (of_copies, of_fresh, of_shifted)
    ]
    return [*shares, _distance(of_copies) / _distance(of_fresh)]


IMAGES = (
    Check(
        "digits-disturbed",
        "Fréchet and kernel distances rise with the strength of noise and of blur, one level after the other.",
        ("frechet", "kid", "mmd-polynomial"),
        "images",
        (
            at_least(0.96, "accuracy of the classifier"),
            *(
                near(1.0, 1e-9, f"rank correlation, {metric}, {what}")
                for what in _LEVELS
                for metric in ("frechet", "kid")
            ),
        ),
        _disturbed,
        "Heusel et al. 2017, arXiv:1706.08500, figure 3; Bińkowski et al. 2018, arXiv:1801.01401",
    ),
    Check(
        "digits-dropped",
        "As classes are dropped the inception score follows their number and recall falls; precision stays.",
        ("inception-score", "precision-recall"),
        "images",
        (
            at_least(9.0, "inception score, 10 classes"),
            *(near(float(kept), 0.3, f"inception score, {kept} classes") for kept in _KEPT[1:]),
            at_most(0.04, "range of precision"),
            near(1.0, 1e-9, "rank correlation of recall"),
            at_least(0.2, "fall of recall"),
        ),
        _dropped,
        "Kynkäänniemi et al. 2019, arXiv:1904.06991",
    ),
    Check(
        "digits-memorised",
        "Copies of the training digits are as near to them as fresh digits are, and none is authentic.",
        ("authenticity", "frechet"),
        "images",
        (
            near(0.0, 0.0, "authenticity of copies"),
            at_least(0.4, "authenticity of fresh digits"),
            at_most(0.35, "authenticity of shifted copies"),
            at_most(2.0, "distance of copies over fresh"),
        ),
        _memorised,
        "Alaa et al. 2022, arXiv:2102.08921",
    ),
)
