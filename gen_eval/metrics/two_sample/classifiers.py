"""Classifiers that score each row by training on the other folds, for many labellings at once.

A score is above 0 where a row looks generated, with no regard to how many of the training rows are generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.neighbors.across import nearest_set
from gen_eval.metrics.neighbors.distances import prepare
from gen_eval.metrics.two_sample.logistic import Logistic, scores
from gen_eval.metrics.two_sample.pool import standardised
from gen_eval.parallel import in_parallel

# From labellings of all rows, ``[n, p]`` bool, to scores of all rows, ``[n, p]`` float64.
Classifier = Callable[[Tensor], Tensor]
# Features standardised at a time where only their products are kept.
_FEATURES = 2048


def logistic(rows: Tensor, held: list[Tensor], penalty: float | None) -> Classifier:
    """Log-odds by logistic regression on standardised features.

    Args:
        rows: ``[n, d]``.
        held: the places of the rows of each fold.
        penalty: of squared weights; ``None`` for the number of features that vary.

    Raises:
        UsageError: if the penalty is not positive.
    """
    if penalty is not None and not 0 < penalty < math.inf:
        raise UsageError(f"the penalty must be positive, found {penalty}")
    factors, varying = _standardised(rows)
    used = max(varying, 1) if penalty is None else penalty

    def classify(labels: Tensor) -> Tensor:
        def classify_fold(at: Tensor) -> Tensor:
            kept = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            kept[at] = False
            trained = labels[kept]
            weights = Logistic(factors[kept], used).fit(trained)
            odds = trained.double().mean(0)
            return scores(factors[at], weights) - torch.log(odds / (1 - odds))

        result = rows.new_empty(labels.shape, dtype=torch.float64)
        for at, each in zip(held, in_parallel(classify_fold, held, rows.device), strict=True):
            result[at] = each
        return result

    return classify


def _standardised(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of standardised features, ``[n, r]`` float64, but for a rotation, and the number of features that vary.

    Of more features than rows only the inner products are kept: no squared penalty sees the difference.
    """
    blocks = torch.split(rows, _FEATURES, 1)
    varying = sum(int((block != block[0]).any(0).sum()) for block in blocks)
    if rows.shape[1] <= len(rows):
        return torch.cat([standardised(block) for block in blocks], 1), varying
    products = sum(linalg.product(part, part.T) for part in map(standardised, blocks))
    assert isinstance(products, Tensor)
    return linalg.pivoted_cholesky(products).factor.T.contiguous(), varying


def knn(rows: Tensor, fold: Tensor, k: int | None) -> Classifier:
    """By how much the share of generated ones among the k nearest training rows exceeds that among all of them.

    Args:
        rows: ``[n, d]``.
        fold: ``[n]`` the fold of each row.
        k: number of neighbours; ``None`` for the root of the number of training rows.

    Raises:
        UsageError: if k is no whole number from 1 to that of training rows.
    """
    sizes = fold.bincount()
    least = len(rows) - int(sizes.max())
    used = max(math.isqrt(least), 1) if k is None else k
    require_whole("k", used, 1, least)
    who = _nearest_of_other_folds(rows, fold, used)

    def classify(labels: Tensor) -> Tensor:
        votes = torch.zeros(labels.shape, dtype=torch.float64, device=rows.device)
        for voter in who.T:
            votes += labels[voter]
        of_folds = torch.zeros(len(sizes), labels.shape[1], dtype=torch.float64, device=rows.device)
        of_folds.index_add_(0, fold, labels.double())
        trained = (of_folds.sum(0) - of_folds) / (len(rows) - sizes)[:, None]
        return votes / used - trained[fold]

    return classify


def _nearest_of_other_folds(rows: Tensor, fold: Tensor, k: int) -> Tensor:
    """The k nearest rows of other folds, ``[n, k]``."""
    who = torch.empty(len(rows), k, dtype=torch.long, device=rows.device)
    for number in range(int(fold.max()) + 1):
        held, kept = (part.nonzero().flatten() for part in (fold == number, fold != number))
        who[held] = kept[nearest_set(*prepare(rows[held], rows[kept]), k)]
    return who
