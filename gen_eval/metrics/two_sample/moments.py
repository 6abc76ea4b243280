"""Tests of the simple statistics, feature by feature: means and variances.

Each feature gets Welch's t of the two sets (1947, Biometrika 34:28), of its values or of their squared deviations from
the mean of their own set. The statistic is the largest of them in size, and its p-value that of a permutation test:
that many features are looked at, and how they depend on one another, is so allowed for (Westfall and Young 1993,
"Resampling-Based Multiple Testing"). As t is studentised, sets that differ in some other way are rejected no more often
than they should be either, but for small ones (Chung and Romano 2013, arXiv:1304.5939).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.metrics import linalg
from gen_eval.metrics.score import Score
from gen_eval.metrics.two_sample.pool import Pool, standardised
from gen_eval.metrics.two_sample.significance import judge, permutation_p_values, require_test
from gen_eval.parallel import in_parallel

# Features, labellings and rows looked at a time, to bound memory.
_FEATURES, _COLUMNS, _ROWS = 64, 256, 8192
# Least variance of an estimate, beside the variance of the pooled feature: what is constant in each set, at two values,
# differs by much and not infinitely.
_LEAST = 1e-12
# Statistics that differ by less are ties, of features whose variance is next to nothing too.
_ROUNDING = 1e-9


def mean_test(
    generated: Tensor,
    reference: Tensor,
    *,
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 2020,
) -> Score:
    """Whether the mean of any feature differs.

    ``mean_difference`` is the difference of the means of the feature that differs most clearly, in standard
    deviations: ``t sqrt(1/n + 1/m)``. As the largest of many it exceeds the true one, most where nothing differs; for
    ``power`` it is corrected, to be too high as often as too low. The standard error, ``power`` and ``detectable`` are
    those of one feature that differs; where many do, the power is higher, and the error up to twice too wide: the
    largest of many that differ alike varies less than any one of them.

    Memory is ``n + m`` times the permutations in bytes, and blocks.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        permutations: number of relabellings for the p-value, at least 1.
        alpha: level of the test, for ``features_found``, ``power`` and ``detectable``.
        seed: of the permutations.

    Returns:
        ``mean_difference``, its ``p_value``, ``power`` and ``detectable`` (see
        :mod:`~gen_eval.metrics.two_sample.significance`); ``features_found``, the number of features that differ at
        level alpha, where the probability of any false one is alpha; and ``feature``, the column that differs most.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    return _test("mean_difference", _welch_of_means, 2, (generated, reference), permutations, alpha, seed)


def variance_test(
    generated: Tensor,
    reference: Tensor,
    *,
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 2020,
) -> Score:
    """Whether the variance of any feature differs; :func:`mean_test` of squared deviations.

    ``variance_difference`` is in standard deviations of the squared deviations: about .07 for a Gaussian feature
    whose variance is larger by 10 %. Variances of a few tens of images say little: their t is then bounded.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        permutations: number of relabellings for the p-value, at least 1.
        alpha: level of the test, for ``features_found``, ``power`` and ``detectable``.
        seed: of the permutations.

    Returns:
        ``variance_difference`` and what :func:`mean_test` gives beside its own.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    return _test(
        "variance_difference", _welch_of_variances, 4, (generated, reference), permutations, alpha, seed
    )


class _Side(NamedTuple):
    """Of one set, for each feature and labelling: the number of rows, and sums over them of the powers of the feature.

    Args:
        n: number of rows.
        sums: ``[powers, d, p]``, from the first power on.
    """

    n: int
    sums: Tensor


Statistic = Callable[[_Side, _Side], Tensor]


def _test(
    name: str,
    statistic: Statistic,
    powers: int,
    sets: tuple[Tensor, Tensor],
    permutations: int,
    alpha: float,
    seed: int,
) -> Score:
    require_test(alpha, permutations, least=1)
    pool = Pool.of(*sets, seed)
    labels = pool.labellings(permutations, seed)

    def compare(features: Tensor) -> tuple[Tensor, Tensor]:
        """That of the true labels for each feature, and the largest for each labelling."""
        each = _statistics(_powers(features, powers), labels, statistic)
        return each[:, 0], each.amax(0)

    found = in_parallel(compare, torch.split(pool.rows, _FEATURES, 1), pool.rows.device)
    true, largest = zip(*found, strict=True)
    t, null = torch.cat(true), torch.stack(largest).amax(0)[1:]
    feature, value = int(t.argmax()), float(t.max())
    error = _jackknife(_powers(pool.rows[:, feature : feature + 1], powers), pool, statistic)
    verdict = judge(
        value, null, error=error, alpha=alpha, effect=_median_effect(value, error, null), rounding=_ROUNDING
    )
    # One null for all features, that of the largest: single-step maxT.
    p_values = permutation_p_values(t, null, _ROUNDING)
    unit = _unit(pool)
    return Score(
        {
            name: unit * value,
            **verdict.values(unit),
            "features_found": float((p_values <= alpha).sum()),
            "feature": float(feature),
        },
        errors={name: unit * error},
        warnings=verdict.warnings,
    )


def _unit(pool: Pool) -> float:
    """What a t of 1 is as a difference, in standard deviations."""
    n, m = pool.sizes
    return math.sqrt(1 / n + 1 / m)


def _median_effect(value: float, error: float, null: Tensor) -> float:
    """What one feature's t would have to be for the largest of all to exceed ``value`` half of the time."""
    others = float((null <= value).double().mean())
    return max(0.0, value - error * float(scipy.special.ndtri(0.5 / others))) if others > 0.5 else 0.0


# --- From features to t


def _powers(features: Tensor, count: int) -> Tensor:
    """Of standardised features their first few powers, ``[count, d, n + m]`` float64."""
    standard = standardised(features).T
    powers = standard.new_empty(count, *standard.shape)
    for power, found in enumerate(powers, 1):
        torch.pow(standard, power, out=found)
    return powers


def _statistics(powers: Tensor, labels: Tensor, statistic: Statistic) -> Tensor:
    """Of each feature for each labelling, ``[d, p]``."""
    flat, found = powers.flatten(0, 1), []
    totals, n = powers.sum(2, keepdim=True), int(labels[:, 0].sum())
    for part in torch.split(labels, _COLUMNS, 1):
        sums = flat.new_zeros(len(flat), part.shape[1])
        for rows, own in zip(torch.split(flat, _ROWS, 1), torch.split(part, _ROWS), strict=True):
            sums += linalg.product(rows, own.double())
        sums = sums.view(*powers.shape[:2], -1)
        found.append(statistic(_Side(n, sums), _Side(len(labels) - n, totals - sums)))
    return torch.cat(found, 1)


def _jackknife(powers: Tensor, pool: Pool, statistic: Statistic) -> float:
    """The standard error of the t of one feature, from leaving out each row in turn."""
    sides = [powers[:, :, side] for side in (pool.own, ~pool.own)]
    whole = [_Side(side.shape[2], side.sum(2, keepdim=True)) for side in sides]
    variance = 0.0
    for at, side in enumerate(sides):
        less = list(whole)
        less[at] = _Side(whole[at].n - 1, whole[at].sums - side)
        # By the difference in standard deviations, which does not grow with the number of rows as t does.
        unit = math.sqrt(1 / less[0].n + 1 / less[1].n)
        each = unit * statistic(less[0], less[1])
        variance += (side.shape[2] - 1) * float(each.var(correction=0))
    return math.sqrt(variance) / _unit(pool)


def _welch_of_means(first: _Side, second: _Side) -> Tensor:
    estimates = []
    for n, (s1, s2) in (first, second):
        mean = s1 / n
        estimates.append((mean, (s2 / n - mean**2) / (n - 1)))
    return _welch(*estimates)


def _welch_of_variances(first: _Side, second: _Side) -> Tensor:
    estimates = []
    for n, (s1, s2, s3, s4) in (first, second):
        mean = s1 / n
        square = s2 / n - mean**2
        fourth = (s4 - 4 * mean * s3 + 6 * mean**2 * s2) / n - 3 * mean**4
        # The second term is what the mean's own variance adds; it alone is left where deviations are all of one size.
        spread = (fourth - square**2) / n + 2 * square**2 / (n * (n - 1))
        estimates.append((square * n / (n - 1), spread))
    return _welch(*estimates)


def _welch(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """The size of t, from an estimate and its variance of each set."""
    (a, spread_a), (b, spread_b) = first, second
    return (a - b).abs() / (spread_a + spread_b).clamp_min(_LEAST).sqrt()
