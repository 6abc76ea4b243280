"""Maximum mean discrepancy: how far apart two sets are in the feature space of a kernel.

Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13. For generated x and reference y

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y).

CMMD (Jayasumana et al. 2024, arXiv:2401.09603) is ``mmd(..., kernel="rbf", bandwidth=10,
estimator="biased", scale=1000, normalize=True)`` on CLIP embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UnknownName, UsageError
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.kernel.fourier import LEAST_FREQUENCIES, FourierSums
from gen_eval.metrics.kernel.kernels import Kernel, find_kernel
from gen_eval.metrics.kernel.sums import LEAST_ROWS, Gram, PairSums, Value, Variances, unbiased, witness
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score
from gen_eval.metrics.two_sample.significance import Verdict, judge, require_test

ESTIMATORS = ("unbiased", "biased")
# Rows whose membership of permuted sets is turned into floats at a time.
_ROWS = 4096


def mmd(
    generated: Tensor,
    reference: Tensor,
    *,
    kernel: str | Kernel = "rbf",
    bandwidth: float | str | Sequence[float] = "median",
    estimator: str = "unbiased",
    scale: float = 1.0,
    normalize: bool = False,
    permutations: int = 0,
    alpha: float = 0.05,
    seed: int = 2020,
    frequencies: int | None = None,
) -> Score:
    """The squared MMD with its standard error and, if asked for, the p-value and power of a permutation test.

    The standard error is that of the unbiased estimate, to first and second order, so it holds whether the
    two distributions differ or not; the biased one differs by 1/n of it. Both take the kernel as given: that
    a median is itself an estimate is not counted. Within a few errors of 0 the value is skewed: 95 % intervals
    cover about 90 %, and nearly always at 0 itself, where the p-value is the better answer.

    It takes ``(n + m)²`` time, and the memory of a few blocks of the Gram matrix, with permutations
    ``(n + m) * permutations`` bytes more. With ``frequencies`` the kernel ``rbf`` is the mean over so many random
    waves (:mod:`~gen_eval.metrics.kernel.fourier`), in ``(n + m) * frequencies`` time. The value is an estimate without
    bias of the exact one, and its standard error counts the draw of the waves.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        kernel: a name in :data:`~gen_eval.metrics.kernel.kernels.KERNELS`, or a kernel.
        bandwidth: of a kernel that is named: see :func:`~gen_eval.metrics.kernel.kernels.find_kernel`.
        estimator: ``"unbiased"``, which may be negative, or ``"biased"``, which pairs each row with itself too.
        scale: a factor of the value.
        normalize: whether rows are first scaled to unit length.
        permutations: number of random divisions of the pooled rows that the value is compared with.
        alpha: level for ``power`` and ``detectable``.
        seed: of the divisions and the waves.
        frequencies: how many random waves the kernel ``rbf`` is made of, 30 or more; ``None`` for the kernel itself.

    Returns:
        ``mmd2``, and where they apply the ``p_value``, which is exact for any number of permutations, ``power`` and
        ``detectable`` (see :mod:`~gen_eval.metrics.two_sample.significance`; Sutherland et al. 2017,
        arXiv:1611.04488), and the ``bandwidth``.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature or a value is not finite, or cannot be scaled to unit length.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    if estimator not in ESTIMATORS:
        raise UnknownName("estimator", estimator, ESTIMATORS)
    require_test(alpha, permutations)
    if not 0 < scale < math.inf:
        raise UsageError(f"scale must be positive, found {scale}")
    x, y = matched(LEAST_ROWS, generated=generated, reference=reference)
    if normalize:
        x, y = _unit_rows("generated", x), _unit_rows("reference", y)
    used, n, m = None, len(x), len(y)
    if frequencies is not None:
        _require_waves(frequencies, kernel, permutations)
    if isinstance(kernel, str):
        kernel, used = find_kernel(kernel, bandwidth, x, y)
    verdict = None
    if frequencies is not None and used is not None:
        found = _by_waves(x, y, estimator, used, frequencies, seed)
    else:
        members = _divisions(n, m, permutations, seed).to(x.device)
        found, verdict = _by_pairs(kernel, x, y, estimator, members, alpha)
    values = {"mmd2": scale * found.value}
    if verdict is not None:
        values |= verdict.values(scale)
    if used is not None:
        values["bandwidth"] = used
    return Score(
        values,
        errors={"mmd2": scale * found.error},
        biases={"mmd2": scale * found.bias},
        contributions={
            "generated": 2 * scale / n * found.witnesses[0],
            "reference": 2 * scale / m * found.witnesses[1],
        },
        warnings=verdict.warnings if verdict is not None else (),
    )


class _Found(NamedTuple):
    """An estimate, its standard error, by how much it exceeds the unbiased one, and what each row says."""

    value: float
    error: float
    bias: float
    witnesses: tuple[Tensor, Tensor]


def _by_pairs(
    kernel: Kernel, x: Tensor, y: Tensor, estimator: str, members: Tensor, alpha: float
) -> tuple[_Found, Verdict | None]:
    """From all pairs of rows, and the test by divisions of them if there are any, ``[n + m, permutations]`` bool."""
    n, m = len(x), len(y)
    gram = Gram(kernel, x, y)
    sums, selves = gram.sums(members=members), gram.selves()
    within = (float(selves[:n].sum()), float(selves[n:].sum()))
    value = _estimate(estimator, sums.totals, within, n, m)
    error = math.sqrt(Variances.of(sums).of_estimate(n, m))
    (x_x, x_y), (y_x, y_y) = sums.rows
    witnesses = (witness(x_x, x_y, m), witness(y_y, y_x, n))
    found = _Found(value, error, value - unbiased(sums.totals, n, m), witnesses)
    if not members.shape[1]:
        return found, None
    null = _permuted(estimator, sums, selves, members)
    # Divisions that tie but for the order of summation count as ties.
    rounding = 1e-12 * math.sqrt(sum(sums.squares) / (n * m))
    return found, judge(value, null, error=error, alpha=alpha, rounding=rounding)


def _by_waves(x: Tensor, y: Tensor, estimator: str, bandwidth: float, frequencies: int, seed: int) -> _Found:
    """From random waves in place of the kernel ``rbf``; each row is alike to itself by 1 at every frequency."""
    n, m = len(x), len(y)
    sums = FourierSums.of(x, y, bandwidth, frequencies, seed)
    xx, xy, yy = (float(total.mean()) for total in sums.totals)
    value = _estimate(estimator, (xx, xy, yy), (float(n), float(m)), n, m)
    bias = value - unbiased((xx, xy, yy), n, m)
    return _Found(value, math.sqrt(sums.variance()), bias, sums.witnesses)


def _require_waves(frequencies: int, kernel: str | Kernel, permutations: int) -> None:
    require_whole("frequencies", frequencies, LEAST_FREQUENCIES)
    if kernel != "rbf":
        raise UsageError(
            f"random frequencies stand for the kernel 'rbf' alone, found {kernel!r}: leave frequencies out, or use rbf"
        )
    if permutations:
        raise UsageError(
            "a permutation test looks at all pairs of images: leave frequencies or permutations out"
        )


def _estimate(
    estimator: str, totals: tuple[Value, Value, Value], selves: tuple[Value, Value], n: int, m: int
) -> Value:
    """From the sums over pairs, and those of each row of a set with itself."""
    if estimator == "unbiased":
        return unbiased(totals, n, m)
    xx, xy, yy = totals
    return (xx + selves[0]) / n**2 + (yy + selves[1]) / m**2 - 2 * xy / (n * m)


def _permuted(estimator: str, sums: PairSums, selves: Tensor, members: Tensor) -> Tensor:
    """The estimate for each division of the pooled rows, ``[g]``."""
    n = len(sums.rows[0][0])
    rows = torch.cat([to_first + to_second for to_first, to_second in sums.rows])
    touched, selves_x = torch.zeros(2, members.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        first = members[part].double()
        touched += rows[part] @ first
        selves_x += selves[part] @ first
    xx = sums.groups[0] + 2 * sums.groups[1] + sums.groups[2]
    totals = (xx, touched - xx, rows.sum() - 2 * touched + xx)
    permuted: Tensor = _estimate(estimator, totals, (selves_x, selves.sum() - selves_x), n, len(rows) - n)
    return permuted


def _divisions(n: int, m: int, count: int, seed: int) -> Tensor:
    """Random divisions of n + m rows: which rows are the first set, ``[n + m, count]`` bool."""
    rng = np.random.default_rng(seed)
    members = torch.zeros(n + m, count, dtype=torch.bool)
    for column in range(count):
        members[torch.from_numpy(rng.permutation(n + m)[:n]), column] = True
    return members


def _unit_rows(role: str, rows: Tensor) -> Tensor:
    # In float64, since the squares of large float32 overflow.
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    empty = int((lengths == 0).sum())
    if empty:
        raise NumericalError(
            f"{empty} of {len(rows)} {role} feature rows are zero and have no direction; "
            "check the extractor, or leave out normalize"
        )
    return rows / lengths.to(rows.dtype)
