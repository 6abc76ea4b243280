"""Kernel inception distance: the squared MMD of a cubic kernel, averaged over random subsets.

Bińkowski et al. 2018, arXiv:1801.01401. Which rows a subset holds, and what is made of it, is as in
torch-fidelity 0.4.0, so the mean and its spread are the same numbers; clean-fid and torchmetrics differ from
it in the seed alone.

Subsets overlap. While together they would look at more pairs of rows than there are, the Gram matrix of all
rows is computed once and a product with their indicators sums every subset in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics.kernel.kernels import polynomial
from gen_eval.metrics.kernel.sums import LEAST_ROWS, Gram, Variances, unbiased
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score
from gen_eval.parallel import in_parallel


def kid(
    generated: Tensor,
    reference: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    seed: int = 2020,
) -> Score:
    """The kernel inception distance, without bias, with its standard error.

    The standard error is that of the mean about the true distance: it counts the images and the subsets,
    ``Var(all rows) + (Var(one subset) - Var(all rows)) / subsets``. The spread between subsets that other
    tools print beside the mean is no such thing; it is the value ``std``.

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        subsets: how many are drawn.
        subset_size: rows of each set in a subset; lowered, with a warning, to the smaller set.
        degree: of the kernel ``(gamma x.y + coef0)^degree``.
        gamma: of the kernel, ``1 / d`` if not given.
        coef0: of the kernel.
        seed: of the draws.

    Returns:
        ``kid``, the mean over the subsets, and ``std``, their spread (ddof 0). Where it costs nothing, also
        ``kid_full``, the estimate from all rows at once, which is more precise.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature or a value is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
    """
    x, y = matched(LEAST_ROWS, generated=generated, reference=reference)
    if subsets < 1 or subset_size < LEAST_ROWS:
        raise UsageError(
            f"subsets must be 1 or more, of {LEAST_ROWS} rows or more; found {subsets} of {subset_size}"
        )
    n, m, dim = len(x), len(y), x.shape[1]
    size = min(subset_size, n, m)
    kernel = polynomial(dim, degree=degree, gamma=gamma, coef0=coef0)
    draws = _draws(n, m, size, subsets, seed)
    gram, share = Gram(kernel, x, y), _share(n, m, size, subsets, dim)
    estimates, full, variances = _all_at_once(gram, n, m, draws) if share else _one_by_one(gram, draws)
    of_all, of_subset = variances.of_estimate(n, m), variances.of_estimate(size, size)
    values = {"kid": float(estimates.mean()), "std": float(estimates.std(correction=0))}
    errors = {"kid": math.sqrt(of_all + max(of_subset - of_all, 0) / subsets)}
    if full is not None:
        values["kid_full"], errors["kid_full"] = full, math.sqrt(of_all)
    return Score(
        values,
        errors=errors,
        biases=dict.fromkeys(errors, 0.0),
        warnings=_lowered(size, subset_size, n, m),
    )


class _Estimates(NamedTuple):
    """Of each subset ``[subsets]``, of all rows where at hand, and the variances of their parts."""

    of_subsets: Tensor
    of_all: float | None
    variances: Variances


def _draws(n: int, m: int, size: int, subsets: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Row numbers of each subset as torch-fidelity draws them: by turns from one set and the other."""
    rng = np.random.RandomState(seed)

    def draw(rows: int) -> Tensor:
        # Copied, for what is drawn is a view of a permutation of all rows.
        return torch.from_numpy(rng.choice(rows, size, replace=False).copy())

    return [(draw(n), draw(m)) for _ in range(subsets)]


def _share(n: int, m: int, size: int, subsets: int, dim: int) -> bool:
    """Whether one Gram matrix of all rows costs less than one of each subset.

    The cost of an entry is counted in products of floats: those of its features, twice as many for the
    doubles of the indicators of the subsets, and what the kernel itself takes.
    """
    kernel = 128
    return (n + m) ** 2 * (dim + kernel + 2 * subsets) < subsets * (2 * size) ** 2 * (dim + kernel)


def _all_at_once(gram: Gram, n: int, m: int, draws: list[tuple[Tensor, Tensor]]) -> _Estimates:
    members = torch.zeros(n + m, len(draws), dtype=torch.bool)
    for subset, (of_x, of_y) in enumerate(draws):
        members[of_x, subset] = members[n + of_y, subset] = True
    sums, size = gram.sums(members=members), len(draws[0][0])
    xx, xy, yy = sums.groups
    return _Estimates(unbiased((xx, xy, yy), size, size), unbiased(sums.totals, n, m), Variances.of(sums))


def _one_by_one(gram: Gram, draws: list[tuple[Tensor, Tensor]]) -> _Estimates:
    each = list(in_parallel(lambda subset: gram.sums(subset=subset), draws, gram.device))
    size = len(draws[0][0])
    estimates = [unbiased(sums.totals, size, size) for sums in each]
    variances = np.mean([Variances.of(sums) for sums in each], axis=0)
    return _Estimates(torch.tensor(estimates, dtype=torch.float64), None, Variances(*variances.tolist()))


def _lowered(size: int, asked: int, n: int, m: int) -> tuple[str, ...]:
    if size == asked:
        return ()
    return (
        f"subsets of {size} rows instead of {asked}: there are {n} generated and {m} reference images. The mean "
        f"estimates the same distance, but its spread and error are not those of subsets of {asked}",
    )
