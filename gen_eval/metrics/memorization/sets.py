"""The sets of feature rows that say whether a generator copies, once they are fit to be compared."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.stats import non_finite


def matched(least: int, **sets: Tensor) -> list[Tensor]:
    """Sets of feature rows in the widest of their dtypes, in the order in which they are given.

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
            raise TooFewImages(f"at least {least} {role} images are needed, found {len(rows)}")
        # A mean is quick to take, but may overflow where the features do not.
        if not bool(rows.mean(0).isfinite().all()) and not bool(rows.isfinite().all()):
            raise NumericalError(f"{role} set: {non_finite(rows)}")
    first, *others = sets.values()
    for role, rows in sets.items():
        if rows.shape[1] != first.shape[1]:
            raise UsageError(
                f"features of {first.shape[1]} and, of the {role} set, of {rows.shape[1]} dimensions do not "
                "compare; all sets must go through the same extractor"
            )
        if rows.device != first.device:
            raise UsageError(f"features on {first.device} and on {rows.device}: move them to one device")
    dtype = first.dtype
    for rows in others:
        dtype = torch.promote_types(dtype, rows.dtype)
    return [rows.detach().to(dtype) for rows in sets.values()]
