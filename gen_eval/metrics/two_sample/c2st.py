"""Classifier two-sample test: whether a classifier tells generated images from real ones that it has not seen.

Lopez-Paz and Oquab 2017, arXiv:1610.06545. Each fold of the rows is scored by a classifier that was trained on the
others. The statistic is the mean over folds of the area under the curve of those scores (AUC): the probability that a
generated row scores above a reference row, a half where nothing differs. Unlike the accuracy it has no threshold and
takes many values, so that its p-values are fine.

Folds share training rows, so that what is said of held-out rows is not independent and neither share is binomial. The
p-value is that of a permutation test, where the classifier is trained again on each relabelling. Labels are exchanged
within folds alone: each fold keeps the make-up that it was dealt.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.metrics import agresti_coull
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.score import Score
from gen_eval.metrics.two_sample import shares
from gen_eval.metrics.two_sample.classifiers import Classifier, knn, logistic
from gen_eval.metrics.two_sample.pool import Pool
from gen_eval.metrics.two_sample.significance import Verdict, judge, power_beyond, require_test

CLASSIFIERS = ("logistic", "knn")
# Labellings classified at a time, to bound memory.
_COLUMNS = 256


def c2st(
    generated: Tensor,
    reference: Tensor,
    *,
    classifier: str = "logistic",
    folds: int = 5,
    penalty: float | None = None,
    k: int | None = None,
    permutations: int = 200,
    alpha: float = 0.05,
    seed: int = 2020,
) -> Score:
    """The held-out AUC and accuracy of a classifier, with a p-value.

    ``"logistic"`` is logistic regression on features that are standardised over both sets. Its penalty is by default
    the number of features that vary. Read as a Gaussian prior of the weights it says that log-odds have a standard
    deviation of about 1 before any image is seen, so it suits sets with fewer images than features, which could
    always be separated. ``"knn"`` is the share of generated ones among the k nearest training rows, in the features
    as they are. Both allow for sets of different size.

    Standard errors count the sampling of held-out rows and, as far as relabelled rows show it, that of training rows.
    They are right where the sets hardly differ, and up to a half too large where they are easily told apart.

    Memory is about ``8 (n + m) (min(n + m, d) + 10 min(permutations, 256))`` bytes for each fold in work with
    ``"logistic"``, and ``n + m`` times the permutations and a few k with ``"knn"``.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        classifier: a name in :data:`CLASSIFIERS`.
        folds: number of parts that are held out in turn; fewer where a set has fewer rows.
        penalty: of the squared weights of ``"logistic"``, 1 / C in scikit-learn; ``None`` for the number of features.
        k: neighbours of ``"knn"``; ``None`` for the root of the number of training rows.
        permutations: number of relabellings for the p-value. With 0 it is a bound instead, from the Mann-Whitney test
            on each fold, which is valid by itself: their median, times ``folds / ceil(folds / 2)`` (Rüger 1978,
            Metrika 25:171). The bound finds less.
        alpha: level for ``power`` and ``detectable``.
        seed: of folds and permutations.

    Returns:
        ``auc``, its ``p_value``, ``power`` and ``detectable`` (see :mod:`~gen_eval.metrics.two_sample.significance`),
        and ``accuracy``, the mean of the shares of each set that are classified right. Of each image its held-out
        score, above 0 where it looks generated: log-odds, or by how much the share of generated ones among its
        neighbours exceeds that among all training rows.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is not finite or the regression does not converge.
        UnknownName: if the classifier is unknown.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    require_test(alpha, permutations)
    if classifier not in CLASSIFIERS:
        raise UnknownName("classifier", classifier, CLASSIFIERS)
    require_whole("folds", folds, 2)
    pool = Pool.of(generated, reference, seed)
    count = min(folds, *pool.sizes)
    fold = pool.folds(count)
    held = [(fold == number).nonzero().flatten() for number in range(count)]
    classify = logistic(pool.rows, held, penalty) if classifier == "logistic" else knn(pool.rows, fold, k)
    outcome = _outcome(pool.labellings(permutations, seed, fold), held, classify)
    auc, errors = float(outcome.aucs[0]), _errors(pool, held, outcome)
    if permutations:
        verdict = judge(auc, outcome.aucs[1:], error=errors["auc"], alpha=alpha)
    else:
        verdict = _bound(pool, held, outcome.scores, auc, errors["auc"], alpha)
    return Score(
        {"auc": auc, **verdict.values(), "accuracy": float(outcome.right[:, 0].mean())},
        errors=errors,
        per_image=pool.by_role(outcome.scores),
        warnings=verdict.warnings,
    )


class _Outcome(NamedTuple):
    """How labellings, the true one first, are classified.

    Args:
        scores: ``[n + m]`` of the true one.
        aucs: ``[1 + p]`` the mean over folds.
        right: ``[2, 1 + p]`` the shares of generated and of reference rows that are classified right.
    """

    scores: Tensor
    aucs: Tensor
    right: Tensor


def _outcome(labels: Tensor, held: list[Tensor], classify: Classifier) -> _Outcome:
    first, aucs, right = [], [], []
    for part in torch.split(labels, _COLUMNS, 1):
        found = classify(part)
        first.append(found[:, 0])
        aucs.append(torch.stack([shares.auc(found[at], part[at]) for at in held]).mean(0))
        right.append(shares.right(torch.where(found == 0, 0.5, ((found > 0) == part).double()), part))
    return _Outcome(first[0], torch.cat(aucs), torch.cat(right, 1))


def _errors(pool: Pool, held: list[Tensor], outcome: _Outcome) -> dict[str, float]:
    """Standard errors by name.

    For classifiers that are given the variance of the AUC is DeLong's (1988, Biometrics 44:837), that of the accuracy
    binomial. By how much more they vary where rows are relabelled and classifiers trained again is seen; both are
    multiplied by that.
    """
    sizes, auc = pool.sizes, float(outcome.aucs[0])
    told = torch.empty_like(outcome.scores)
    for at in held:
        told[at] = shares.told_apart(outcome.scores[at], pool.own[at])
    of_auc = agresti_coull.lack(auc, min(sizes))
    of_accuracy = 0.0
    for side, share, size in zip((pool.own, ~pool.own), outcome.right[:, 0].tolist(), sizes, strict=True):
        of_auc += float(told[side].var()) / size
        of_accuracy += (share * (1 - share) / size + agresti_coull.lack(share, size)) / 4
    if len(outcome.aucs) > 1:
        null = outcome.right[:, 1:]
        binomial = (null * (1 - null) / null.new_tensor(sizes)[:, None]).sum(0) / 4
        of_folds = sum(shares.auc_variance(pool.own[at]) for at in held) / len(held) ** 2
        of_auc *= _inflation(outcome.aucs[1:], of_folds)
        of_accuracy *= _inflation(null.mean(0), float(binomial.mean()))
    return {"auc": math.sqrt(of_auc), "accuracy": math.sqrt(of_accuracy)}


def _inflation(null: Tensor, expected: float) -> float:
    """How many times as much as expected a statistic of relabelled rows varies, at least 1."""
    return max(1.0, float(null.var(correction=0)) / expected) if expected else 1.0


def _bound(pool: Pool, held: list[Tensor], found: Tensor, auc: float, error: float, alpha: float) -> Verdict:
    """The verdict without permutations, from the median of the p-values of the folds."""
    p_values, spreads = [], []
    for at in held:
        own = pool.own[at]
        pairs = int(own.sum()) * int((~own).sum())
        spreads.append(math.sqrt(shares.auc_variance(own)))
        ahead = (
            float(shares.auc(found[at, None], own[:, None])) - 0.5 - 0.5 / pairs
        )  # corrected for continuity
        p_values.append(float(scipy.special.ndtr(-ahead / spreads[-1])))
    place = math.ceil(len(held) / 2)
    factor = len(held) / place
    critical = 0.5 - float(scipy.special.ndtri(alpha / factor)) * max(spreads)
    # The spread of a median is about that much of the spread of a mean.
    power, detectable = power_beyond(critical, auc, error * math.sqrt(math.pi / 2), alpha)
    return Verdict(min(1.0, factor * sorted(p_values)[place - 1]), power, detectable)
