"""Random numbers by seed: each row is a pure function of its own seed, however many are asked for together.

A number is a hash of (seed, stream, place), two rounds of the finalizer of SplitMix64 (Steele, Lea and Flood 2014,
"Fast splittable pseudorandom number generators"), so no state exists that could be shared or disturbed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import UsageError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LARGEST = 2**63 - 1  # of int64
_ROWS_AT_ONCE = 2**22  # numbers: temporaries stay within some 100 MB


def seeds_from(first: int, count: int) -> Tensor:
    """A seed and those after it, int64 ``[count]``.

    Raises:
        UsageError: if there are none, or one is negative or beyond int64.
    """
    if count < 1 or not 0 <= first <= _LARGEST - count:
        raise UsageError(
            f"expected n of 1 or more and seeds from 0 on and below 2^63, found n={count} and seed={first}"
        )
    return torch.arange(first, first + count)


def require_seeds(seeds: Tensor) -> None:
    """Refuse what nothing can be drawn from.

    Raises:
        UsageError: if seeds are no int64 ``[b]``, or one is negative.
    """
    if seeds.dtype != torch.int64 or seeds.ndim != 1:
        raise UsageError(f"expected seeds as int64 [b], found {seeds.dtype} {list(seeds.shape)}")
    if bool((seeds < 0).any()):
        raise UsageError(f"seeds are 0 or more, found {int(seeds.min())}")


def uniform(seeds: Tensor, count: int, stream: int = 0) -> npt.NDArray[np.float64]:
    """Uniform numbers within (0, 1), odd multiples of 2^-53: neither end is ever met.

    Args:
        seeds: int64 ``[b]``, 0 or more.
        count: numbers of each seed; the first of them do not depend on how many there are.
        stream: which of a seed's independent sequences.

    Returns:
        float64 ``[b, count]``.

    Raises:
        UsageError: if a seed is negative, or seeds are no integers.
    """
    require_seeds(seeds)
    rows = seeds.cpu().numpy().astype(np.uint64)[:, None]
    places = np.arange(1, count + 1, dtype=np.uint64)[None]
    found = np.empty((len(rows), count))
    step = max(1, _ROWS_AT_ONCE // max(count, 1))
    with np.errstate(over="ignore"):
        start = _mixed((_mixed(rows + _GOLDEN) ^ np.uint64(stream)) + _GOLDEN)
        for at in range(0, len(rows), step):
            bits = _mixed(_mixed(start[at : at + step] + places * _GOLDEN))
            found[at : at + step] = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return found


def normal(seeds: Tensor, count: int, stream: int = 0) -> Tensor:
    """Standard normal numbers, ``[b, count]`` float64 on the CPU, by inversion of :func:`uniform`."""
    return torch.from_numpy(scipy.special.ndtri(uniform(seeds, count, stream)))


def integers(seeds: Tensor, below: int, stream: int = 0) -> Tensor:
    """One whole number from 0 on and below a bound for each seed, int64 ``[b]`` on the CPU."""
    return torch.from_numpy((uniform(seeds, 1, stream)[:, 0] * below).astype(np.int64))


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    for shift, multiplier in _ROUNDS:
        x = (x ^ (x >> shift)) * multiplier
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
