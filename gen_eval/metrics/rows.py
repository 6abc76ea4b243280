"""Feature rows: whether sets of them are fit to be measured, and which of them are equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.stats import non_finite

_BLOCK = 1024  # rows handled at a time


def matched(least: int, **sets: Tensor) -> list[Tensor]:
    """One or more sets of feature rows in the widest of their dtypes, in the order in which they are given.

    Args:
        least: the fewest rows that each may have.
        sets: ``[n, d]`` float32 or float64, by role.

    Raises:
        UsageError: if they are not matrices of floats with equally many features, on one device.
        TooFewImages: if one has too few rows.
        NumericalError: if a feature is NaN or infinite.
    """
    for role, rows in sets.items():
        if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"{role} features must be [n, d] in float32 or float64, "
                f"found shape {tuple(rows.shape)} in {str(rows.dtype).removeprefix('torch.')}"
            )
        if len(rows) < least:
            raise TooFewImages(
                f"at least {least} {role} rows are needed, found {len(rows)}; pass more images"
            )
        # A mean is quick to take, but may overflow where the features do not.
        if not bool(rows.mean(0).isfinite().all()) and not bool(rows.isfinite().all()):
            raise NumericalError(f"{role} set: {non_finite(rows)}")
    (first_role, first), *others = sets.items()
    dtype = first.dtype
    for role, rows in others:
        if rows.shape[1] != first.shape[1]:
            raise UsageError(
                f"features of {first.shape[1]} ({first_role}) and of {rows.shape[1]} ({role}) dimensions do not "
                "compare; all sets must go through the same extractor"
            )
        if rows.device != first.device:
            raise UsageError(
                f"{first_role} features on {first.device} and {role} features on {rows.device}: move them to one device"
            )
        dtype = torch.promote_types(dtype, rows.dtype)
    return [rows.detach().to(dtype) for rows in sets.values()]


def mean_of(*sets: Tensor) -> Tensor:
    """The mean of all rows of some sets ``[n, d]``, ``[d]`` float64; torch would copy them to float64 first."""
    parts = [part for rows in sets for part in torch.split(rows, _BLOCK)]
    # Room for all results comes first: made between large blocks they would keep the holes of these apart.
    sums = sets[0].new_empty(len(parts), sets[0].shape[1], dtype=torch.float64)
    for at, part in enumerate(parts):
        torch.sum(part, 0, dtype=torch.float64, out=sums[at])
    return sums.sum(0) / sum(map(len, sets))


def of_each(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """What a function makes of each row, ``[n]``, given float64 rows some at a time."""
    found = rows.new_empty(len(rows), dtype=torch.float64)
    for start in range(0, len(rows), _BLOCK):
        found[start : start + _BLOCK] = function(rows[start : start + _BLOCK].double())
    return found


def identities(weights: Tensor, *sets: Tensor) -> Tensor:
    """Which distinct row each one is of several sets, one after the other, whatever the order they come in.

    Distinct rows are numbered by a hash, which has nothing to do with what they say: products and sums of the bits of
    the features modulo 2^64, exact in any order and on any device.

    Args:
        weights: ``[d]`` int64, odd and random.
        sets: ``[n, d]`` each, all float32 or all float64.

    Returns:
        ``[n]`` int64 from 0 on, of all sets together.
    """
    bits = torch.int32 if sets[0].dtype == torch.float32 else torch.int64
    parts = [part for rows in sets for part in torch.split(rows, _BLOCK)]
    # 0 is added because -0 equals it and has other bits.
    hashes, start = weights.new_empty(sum(map(len, sets))), 0
    for part in parts:
        hashes[start : start + len(part)] = ((part + 0.0).view(bits).long() * weights).sum(1)
        start += len(part)
    number: Tensor
    _, number, counts = torch.unique(hashes, return_inverse=True, return_counts=True)
    shared = (counts[number] > 1).nonzero().flatten()
    # Rows that differ may have one hash. Those of whole numbers in float64 often do: few of their bits are not 0.
    if len(shared):
        _, content = torch.unique(taken(shared, *sets) + 0.0, dim=0, return_inverse=True)
        key = number * len(hashes)
        key[shared] += content
        _, number = torch.unique(key, return_inverse=True)
    return number


def taken(places: Tensor, *sets: Tensor) -> Tensor:
    """Rows by their places in several sets, one after the other, without these put together first.

    Args:
        places: ``[k]`` int64.
        sets: ``[n, d]`` each, of one dtype and on one device.
    """
    rows = sets[0].new_empty(len(places), sets[0].shape[1])
    start = 0
    for each in sets:
        here = ((places >= start) & (places < start + len(each))).nonzero().flatten()
        for part in torch.split(here, _BLOCK):
            rows[part] = each[places[part] - start]
        start += len(each)
    return rows
