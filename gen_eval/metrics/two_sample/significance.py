"""What a two-sample test concludes: p-values, several of them at once, and the power that there was.

A test says with its p-value how often sets of one distribution would differ as much. It rejects that they are one
where the p-value is at most ``alpha``. That it did not reject means little by itself, so each test here states two more
numbers, of sets as large as these:

- ``power``: the probability that fresh images would be rejected if the true effect were the one estimated. As the
  estimate is uncertain, so is the power: it is too high about as often as too low. It is never below the probability
  that sets of one distribution are rejected, which is ``alpha`` or a little less; but where the permutations are too
  few for a p-value of ``alpha`` nothing is ever rejected, and it is 0.
- ``detectable``: the smallest effect, in units of the statistic, that would be found with probability .8.

Both take the statistic as normal about its effect, with its standard error. Both are at the level ``alpha`` that the
engine was given: who runs several tests at once, and gives each its part of the level, gets them at that part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics.arguments import require_whole

# The power that a detectable effect is found with.
FOUND = 0.8
# Statistics that differ by less are ties: they were summed in another order.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Verdict:
    """What a test concludes.

    Args:
        p_value: of the test.
        power: as said above.
        detectable: as said above; ``None`` where no effect is ever found.
        warnings: reasons to read them with care.
    """

    p_value: float
    power: float
    detectable: float | None
    warnings: tuple[str, ...] = ()

    def values(self, unit: float = 1.0) -> dict[str, float]:
        """By name, as they stand in a score that states the statistic times ``unit``."""
        found = {"p_value": self.p_value, "power": self.power}
        return found if self.detectable is None else {**found, "detectable": unit * self.detectable}


def require_test(alpha: float, permutations: int, least: int = 0) -> None:
    """Refuse a level outside (0, 1), and permutations that are no whole number of ``least`` or more.

    Raises:
        UsageError: as it says.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha, the level of a test, must be between 0 and 1, found {alpha}")
    require_whole("permutations", permutations, least)


def judge(
    value: float,
    null: Tensor,
    *,
    error: float,
    alpha: float,
    effect: float | None = None,
    rounding: float = _ROUNDING,
) -> Verdict:
    """The verdict of a permutation test whose statistic is large where the sets differ.

    Args:
        value: the statistic.
        null: ``[permutations]`` float64, the statistic of relabelled rows.
        error: the standard error of the statistic.
        alpha: level of the test.
        effect: what the statistic is expected to be, where that is not best estimated by itself.
        rounding: statistics that differ by less are ties.
    """
    p_value = permutation_p_value(value, null, rounding)
    place = math.floor(alpha * (1 + len(null)) + 1e-9)
    if place == 0:
        enough = math.ceil(1 / alpha - 1e-9) - 1
        warning = (
            f"with {len(null)} permutations no p-value is below {1 / (1 + len(null)):.2g}, so nothing is found at "
            f"alpha = {alpha:g}; use at least {enough}"
        )
        return Verdict(p_value, 0.0, None, (warning,))
    critical = float(null.sort(descending=True).values[place - 1])
    level = place / (1 + len(null))
    power, detectable = power_beyond(critical, value if effect is None else effect, error, level)
    return Verdict(p_value, power, detectable)


def permutation_p_values(values: Tensor, null: Tensor, rounding: float = _ROUNDING) -> Tensor:
    """For each value the share of labellings, the true one among them, whose statistic is as large, ``[k]`` float64.

    Exact at any number of permutations (Phipson and Smyth 2010, arXiv:1603.05766): below any level with at most
    that probability.

    Args:
        values: ``[k]`` float64 statistics of the true labelling.
        null: ``[permutations]`` float64, the statistic of relabelled rows.
        rounding: statistics that differ by less are ties, which count as large.
    """
    smaller = torch.searchsorted(null.sort().values, values - rounding)
    return (1 + len(null) - smaller).double() / (1 + len(null))


def permutation_p_value(value: float, null: Tensor, rounding: float = _ROUNDING) -> float:
    """That of one value, as of :func:`permutation_p_values`."""
    return float(permutation_p_values(null.new_tensor([value]), null, rounding)[0])


def mid_p_value(value: float, null: Tensor, rounding: float = _ROUNDING) -> float:
    """The same with ties, the true labelling among them, counted by half.

    For a statistic of few values, whose p-value is large for its ties. With u uniform in (0, 1),
    ``p_value - 2 u (p_value - mid_p_value)`` is uniform where nothing differs.
    """
    larger = int((null > value + rounding).sum())
    return (permutation_p_value(value, null, rounding) + larger / (1 + len(null))) / 2


def power_beyond(critical: float, effect: float, error: float, level: float) -> tuple[float, float]:
    """The power of a test that rejects beyond a critical value, and the effect that it detects.

    Args:
        critical: what the statistic must exceed.
        effect: what it is expected to be.
        error: its standard error.
        level: probability of rejection where there is no effect.
    """
    ahead = effect - critical
    power = float(scipy.special.ndtr(ahead / error)) if error > 0 else float(ahead > 0)
    return max(power, level), critical + float(scipy.special.ndtri(FOUND)) * error


# --- Several tests at once


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: to reject those at most alpha errs anywhere with probability at most alpha.

    Valid however the tests depend on one another; :func:`holm` is too and finds more.

    Args:
        p_values: one of each test.

    Raises:
        UsageError: if one of them is not in [0, 1].
    """
    p = _checked(p_values)
    return _listed(p * len(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values as of :func:`bonferroni`, stepwise and therefore no larger (Holm 1979, SJS 6:65).

    Args:
        p_values: one of each test.

    Raises:
        UsageError: if one of them is not in [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _listed(adjusted)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: of those at most alpha, a share of at most alpha errs, in expectation.

    Valid for tests that are independent or depend positively (Benjamini and Hochberg 1995, JRSS B 57:289).

    Args:
        p_values: one of each test.

    Raises:
        UsageError: if one of them is not in [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return _listed(adjusted)


def _checked(p_values: Sequence[float]) -> np.ndarray:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UsageError(f"p-values must be a list of numbers from 0 to 1, found {list(p_values)}")
    return p


def _listed(p: np.ndarray) -> list[float]:
    return [float(value) for value in np.minimum(p, 1.0)]
