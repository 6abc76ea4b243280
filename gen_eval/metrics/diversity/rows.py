"""What the rows of a single set must be."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.stats import non_finite


def require_rows(what: str, rows: Tensor, *, least: int) -> None:
    """Refuse what no diversity can be told of.

    Args:
        what: what the rows are, for the message, such as ``"generated features"``.
        rows: ``[n, d]``.
        least: the fewest rows.

    Raises:
        UsageError: if it is no matrix of float32 or float64.
        TooFewImages: if there are fewer rows.
        NumericalError: if an element is NaN or infinite.
    """
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype not in (torch.float32, torch.float64):
        raise UsageError(
            f"{what} must be [n, d] in float32 or float64, "
            f"found shape {tuple(rows.shape)} in {str(rows.dtype).removeprefix('torch.')}"
        )
    if len(rows) < least:
        raise TooFewImages(f"{what} of at least {least} images are needed, found {len(rows)}")
    # A sum is quick to take, but may overflow where the elements do not.
    if not bool(rows.sum().isfinite()) and not bool(rows.isfinite().all()):
        raise NumericalError(f"{what}: {non_finite(rows)}")
