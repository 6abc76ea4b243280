"""What is made of several samplers: which one a seed takes, and the density of all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.zoo.sampler import Sampler, room


def choose(seeds: Tensor, weights: Tensor, stream: int) -> Tensor:
    """One of ``k`` for each seed, by weights ``[k]`` of any sum: int64 ``[b]``."""
    ends = weights.cumsum(0) / weights.sum()
    ends[-1] = 1.0
    uniform = torch.from_numpy(draws.uniform(seeds, 1, stream))
    return torch.searchsorted(ends, uniform)[:, 0]


def by_part(parts: Sequence[Sampler], chosen: Tensor, draw: Callable[[Sampler, Tensor], Tensor]) -> Tensor:
    """Samples each of which one part makes: ``draw(part, rows)`` those of some rows, ``chosen`` ``[b]`` says whose."""
    made = room(len(chosen), parts[0].shape)
    for number, part in enumerate(parts):
        rows = (chosen == number).nonzero()[:, 0]
        if len(rows):
            made[rows] = draw(part, rows)
    return made


def shares(weights: Tensor | Sequence[float] | None, count: int) -> Tensor:
    """Weights scaled to a sum of 1, ``[count]`` float64; equal ones if none are given.

    Raises:
        UsageError: if they are not as many, or not all above 0.
    """
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    found = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    if found.shape != (count,) or not bool(((found > 0) & found.isfinite()).all()):
        raise UsageError(f"expected {count} weights above 0 and finite, found {found.tolist()}")
    return found / found.sum()


def mixed_log_prob(parts: Sequence[Any], weights: Tensor, x: Tensor) -> Tensor:
    """The log-density of a mixture of parts that have one, ``[n]`` float64."""
    return _joint(parts, weights, x).logsumexp(1)


def mixed_score(parts: Sequence[Any], weights: Tensor, x: Tensor) -> Tensor:
    """The score of a mixture of parts that have one: the mean of theirs by the probability of each given x."""
    scores = torch.stack([part.score(x) for part in parts], 1)
    return (posterior(parts, weights, x)[..., None] * scores).sum(1)


def posterior(parts: Sequence[Any], weights: Tensor, x: Tensor) -> Tensor:
    """The probability of each part given a sample, by Bayes' rule: ``[n, d]`` to ``[n, k]`` float64."""
    return _joint(parts, weights, x).softmax(1)


def _joint(parts: Sequence[Any], weights: Tensor, x: Tensor) -> Tensor:
    return torch.stack([part.log_prob(x) for part in parts], 1) + weights.log().to(x.device)


def rows_of(x: Tensor, sampler: Sampler) -> Tensor:
    """Rows whose density is asked for, ``[n, d]`` float64.

    Raises:
        UsageError: if they are not floating point, or not of the dimension of its samples.
    """
    if x.ndim != 2 or x.shape[1:] != sampler.shape or not x.is_floating_point():
        expected = f"floating point [n, {sampler.shape[0]}]"
        raise UsageError(f"{sampler.name} expects {expected}, found {x.dtype} {list(x.shape)}")
    return x.double()
