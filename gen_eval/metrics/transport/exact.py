"""The Wasserstein distance of two sets: the least that it takes to carry one onto the other.

Of n generated rows x and as many reference rows y, over all ways s to pair them,

    W_p^p = min over s of 1/n sum |x_i - y_s(i)|^p,

in units of the features. Rows of unequal sets are split into equal shares first. The pairing is found by
assignment (Crouse 2016, IEEE TAES 52:1679), and so exactly; the potentials of the dual problem,

    W_p^p = mean u + mean v  with  u_i + v_j <= |x_i - y_j|^p for all i and j,

say what each row adds to it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # each part is imported by its first use
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_eval.errors import NumericalError, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score

# Rows that are paired at most: the costs of all pairs take 800 MB there, and are held twice.
LIMIT = 10_000
# With fewer rows a half of a set is no set.
_LEAST = 8
# Rows that are measured at a time, to bound memory.
_BLOCK = 1024
# Rows of costs that are looked at together, so that they stay in the cache: potentials of 2,000 and 2,000 rows take
# .28 s, which took .78 in blocks of 1,024 and along columns.
_CACHED = 32

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def wasserstein(generated: Tensor, reference: Tensor, *, p: float = 1.0, seed: int = 2020) -> Score:
    """The Wasserstein-p distance between two sets of rows, exactly, under the Euclidean distance.

    Two finite sets of one distribution are apart as well, by an amount of the order of n^(-1/d): in many dimensions
    most of the value is that. So compare at equal n only. What it is of half as many rows shows when the sets are
    halved: ``floor`` is the distance between the halves of one set, and ``debiased`` that between halves of
    both sets less the floor. ``debiased`` is 0 in expectation where the distributions are equal; where they differ,
    part of the bias is left.

    The standard errors are those of first order, from the dual potentials (del Barrio and Loubes 2019,
    arXiv:1705.01299), the mean of the two extreme ones where they are not unique. They are about the
    expectation at this n, and up to 20 % too wide, up to half where the distributions are equal.

    Time grows as about n^2.5: 2,000 rows take a second or two, 5,000 a quarter of a minute. Memory is that of
    the costs of all pairs twice, ``16 l^2`` bytes, with l the least common multiple of n and m.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        p: the exponent, at least 1.
        seed: of the halves, which do not depend on the order of the rows.

    Returns:
        ``wasserstein``, ``debiased`` and ``floor``; of each generated row the mean distance that it is carried.

    Raises:
        TooFewImages: if a set has fewer than eight rows.
        NumericalError: if a feature, or a distance to the power p, is not finite.
        UsageError: if the dimensions differ, p makes no sense, or the least common multiple of n and m
            is above :data:`LIMIT`.
    """
    if not 1 <= p < math.inf:
        raise UsageError(f"the exponent p must be at least 1 and finite, found {p}")
    x, y = matched(_LEAST, generated=generated, reference=reference)
    _require_sizes(len(x), len(y))
    centre = torch.cat([x, y]).mean(0, dtype=torch.float64)
    x, y = x.double() - centre, y.double() - centre
    whole = _carry(x, y, p)
    values = {"wasserstein": whole.distance}
    errors = {"wasserstein": _error(whole.x, whole.y)}
    for name, (value, error) in _of_halves(x, y, p, seed).items():
        values[name], errors[name] = value, error
    return Score(
        values,
        errors=errors,
        contributions={"generated": whole.x, "reference": whole.y},
        per_image={"generated": whole.carried},
        warnings=_warnings(values),
    )


class _Carried(NamedTuple):
    """The distance of two sets, and of their rows.

    Args:
        distance: of the sets.
        x: ``[n]``, what each row of the first adds to it, to first order and centred.
        y: ``[m]``, the same of the second.
        carried: ``[n]``, the mean distance that each row of the first is carried.
    """

    distance: float
    x: Tensor
    y: Tensor
    carried: Tensor


def _carry(x: Tensor, y: Tensor, p: float) -> _Carried:
    """The distance of ``[n, d]`` and ``[m, d]`` float64 rows."""
    n, m, size = len(x), len(y), math.lcm(len(x), len(y))
    rows, columns = (np.repeat(np.arange(each), size // each) for each in (n, m))
    costs = _costs(x, y, p)
    columns = columns[scipy.optimize.linear_sum_assignment(costs if n == m else costs[rows][:, columns])[1]]
    u, v = _potentials(costs, rows, columns)
    pairs = zip(*(torch.split(torch.from_numpy(at), _BLOCK) for at in (rows, columns)), strict=True)
    gaps = torch.cat([torch.linalg.vector_norm(x[i] - y[j], dim=1) for i, j in pairs])
    distance = float(gaps.pow(p).mean()) ** (1 / p)
    # What a unit of the p-th power adds to its root; where that is 0 there is nothing to add.
    slope = distance ** (1 - p) / p if distance else 0.0
    of_x, of_y = (torch.from_numpy((each - each.mean()) * slope / len(each)).to(x.device) for each in (u, v))
    return _Carried(distance, of_x, of_y, gaps.view(n, -1).mean(1))


def _costs(x: Tensor, y: Tensor, p: float) -> Array:
    """Distances of all pairs to the power p, ``[n, m]``."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        costs = linalg.product(x, y.T).mul_(-2)
        costs.add_(x.square().sum(1)[:, None]).add_(y.square().sum(1)).clamp_min_(0).pow_(p / 2)
    if not math.isfinite(float(costs.max())):
        raise NumericalError(
            f"some distances to the power {p:g} are not finite; the features are too large for it"
        )
    return costs.cpu().numpy()


def _potentials(costs: Array, rows: Index, columns: Index) -> tuple[Array, Array]:
    """Potentials of the rows and of the columns, ``[n]`` and ``[m]``: the mean of those extreme for either side.

    Args:
        costs: ``[n, m]``.
        rows: ``[k]``, the row of each share, ascending and each as often as any.
        columns: ``[k]``, the column that it is paired with.
    """
    n, m = costs.shape
    turned = np.argsort(columns, kind="stable")
    pairs, back = columns.reshape(n, -1), rows[turned].reshape(m, -1)
    own = costs[rows, columns]
    v_high = _highest(costs, pairs, own.reshape(n, -1))
    u_high = _highest(np.ascontiguousarray(costs.T), back, own[turned].reshape(m, -1))
    u_low = (own - v_high[columns]).reshape(n, -1).mean(1)
    v_low = (own - u_high[rows])[turned].reshape(m, -1).mean(1)
    return (u_high + u_low) / 2, (v_high + v_low) / 2


def _highest(costs: Array, pairs: Index, own: Array) -> Array:
    """The highest potentials of the columns that are nowhere above 0, ``[m]``: Bellman and Ford's shortest paths.

    Args:
        costs: ``[n, m]``.
        pairs: ``[n, k / n]``, the columns that each row is paired with.
        own: ``[n, k / n]``, what these pairs cost.
    """
    n, m = costs.shape
    rounding = 1e-13 * float(costs.max())
    highest, changed = np.zeros(m), np.arange(n)
    for _ in range(n + m):
        offsets = (highest[pairs] - own).min(1)
        parts = (changed[at : at + _CACHED] for at in range(0, len(changed), _CACHED))
        through = np.min([(costs[part] + offsets[part, None]).min(0) for part in parts], axis=0)
        lower = through < highest - rounding
        if not lower.any():
            break
        highest[lower] = through[lower]
        changed = np.flatnonzero(lower[pairs].any(1))
    return highest


def _of_halves(x: Tensor, y: Tensor, p: float, seed: int) -> dict[str, tuple[float, float]]:
    """``debiased`` and ``floor``, each with its standard error.

    All four distances are of equally many rows, so that the floor is what is common to them.
    """
    size = min(len(x), len(y)) // 2
    rng = np.random.default_rng(seed)
    (x1, x2), (y1, y2) = (_halves(rows, size, rng) for rows in (x, y))
    both, halves = torch.cat([x, y]), (x1, x2, y1 + len(x), y2 + len(x))
    distances = []
    for i, j in ((0, 2), (1, 3), (0, 1), (2, 3)):
        found = _carry(both[halves[i]], both[halves[j]], p)
        contributions = both.new_zeros(len(both))
        contributions[halves[i]], contributions[halves[j]] = found.x, found.y
        distances.append((found.distance, contributions))
    across, floor = (
        (sum(value for value, _ in pair) / 2, torch.stack([each for _, each in pair]).mean(0))
        for pair in (distances[:2], distances[2:])
    )
    return {
        "debiased": (across[0] - floor[0], _error(*((across[1] - floor[1])[half] for half in halves))),
        "floor": (floor[0], _error(*(floor[1][half] for half in halves))),
    }


def _halves(rows: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """The places of two sets of rows drawn without replacement, ``[2, size]``, whatever the order of the rows."""
    order = rows.square().sum(1).argsort()
    drawn = torch.from_numpy(rng.permutation(len(rows))[: 2 * size])
    return order[drawn.to(order.device)].view(2, size)


def _error(*sets: Tensor) -> float:
    """The standard error, from what each row of independent sets adds."""
    return math.sqrt(sum(float(rows.square().sum()) * len(rows) / (len(rows) - 1) for rows in sets))


def _require_sizes(n: int, m: int) -> None:
    fewest, most = min(n, m), math.lcm(n, m)
    if most <= LIMIT:
        return
    if n == m:
        raise UsageError(
            f"an exact assignment of {n} images is beyond its limit of {LIMIT}; measure fewer (--rows {LIMIT}), "
            "or take the sliced distance"
        )
    raise UsageError(
        f"an exact assignment of {n} to {m} images takes {most} equal shares, above its limit of {LIMIT}; "
        f"measure equally many (--rows {min(fewest, LIMIT)}), or take the sliced distance"
    )


def _warnings(values: dict[str, float]) -> tuple[str, ...]:
    if values["floor"] <= values["wasserstein"] / 2:
        return ()
    return (
        f"finite sets are far apart in so many dimensions: halves of one are {values['floor']:.4g} from each other, "
        f"where the two sets are {values['wasserstein']:.4g} apart. Compare at equal n only, and see 'debiased'.",
    )
