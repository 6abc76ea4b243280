"""Features in less space: their covariance in a quarter, as a factor of 16-bit numbers, their rows in half precision.

A covariance S is stored as its pivoted Cholesky factor F, F'F = S, whose columns are the features. Of each column some
rows at a time are rounded to 2^15 steps of their largest entry. Rounding S itself that coarsely would drown its small
eigenvalues, whose roots the Fréchet distance adds up; a factor is rounded as those roots are. With d the distance from
the features to what is left of them, that to a third set, D, moves by no more than 2 (dD)^(1/2) + d, and seen by less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.stats import Features, Moments, Sample

MEANING = "covariance's factor to 16 bits, rows to half precision"
_STEPS = 2**15 - 1
_BLOCK = 64  # rows of the factor, whose entries fall off from the first to the last
_LARGEST = torch.finfo(torch.float16).max


def pack(features: Features) -> dict[str, Tensor]:
    """The tensors that features are stored as.

    Raises:
        UsageError: if the number of images is unknown, or a row holds more than half precision can.
    """
    if features.n is None:
        raise UsageError("statistics that do not say how many images they are of cannot be made compact")
    factor, pivots = linalg.pivoted_cholesky(features.cov().cpu())
    order = _order(pivots, features.moments.dim)
    factor = factor[:, order]
    steps = torch.stack([rows.abs().amax(0) for rows in torch.split(factor, _BLOCK)]).float() / (_STEPS - 1)
    levels = (factor / _each_row(steps.where(steps > 0, 1), len(factor))).round().to(torch.int16)
    tensors = {
        "mean": features.moments.mean,
        "factor": levels.flatten()[_upper(*levels.shape)],
        "step": steps,
        "order": order.to(torch.int32),
    }
    sample = features.sample
    if sample is not None:
        if sample.n and max(map(abs, torch.stack(sample.rows.aminmax()).tolist())) > _LARGEST:
            raise UsageError(
                f"features beyond {_LARGEST:g} cannot be made compact: half precision ends there"
            )
        tensors |= {"rows": sample.rows.half(), "index": sample.index}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def unpack(tensors: Mapping[str, Tensor], n: int, limit: int | None) -> Features:
    """The features of :func:`pack`.

    Args:
        tensors: as it gave them.
        n: number of images.
        limit: of their sample.
    """
    order = tensors["order"].long()
    dim = len(order)
    rank = _rank(len(tensors["factor"]), dim)
    factor = torch.zeros(rank * dim, dtype=torch.float64)
    factor[_upper(rank, dim)] = tensors["factor"].double()
    columns = torch.empty(rank, dim, dtype=torch.float64)
    columns[:, order] = factor.view(rank, dim) * _each_row(tensors["step"], rank)
    scatter = linalg.product(columns.T, columns) * (n - 1)
    sample = Sample(tensors["rows"].float(), tensors["index"], limit) if "rows" in tensors else None
    return Features(n, Moments(n, tensors["mean"], scatter).symmetric(), sample)


def loss(features: Features) -> float:
    """The Fréchet distance from features to what is left of them."""
    features = replace(features, sample=None).to(torch.device("cpu"))  # rows have no say in it
    left = unpack(pack(features), features.moments.n, None)
    gaussians = [Gaussian(None, each.moments.mean, each.cov()) for each in (features, left)]
    return max(frechet(*gaussians, method="value").values["frechet"], 0.0)


def _each_row(steps: Tensor, rows: int) -> Tensor:
    """The steps of each row, of those of its block."""
    return steps.double().repeat_interleave(_BLOCK, 0)[:rows]


def _order(pivots: Tensor, dim: int) -> Tensor:
    """All columns, those eliminated first: in this order the factor is upper trapezoidal."""
    left = torch.ones(dim, dtype=torch.bool)
    left[pivots] = False
    return torch.cat([pivots, left.nonzero().flatten()])


def _upper(rank: int, dim: int) -> Tensor:
    """Places of the upper trapezoid in a flat ``[rank, dim]``."""
    return torch.from_numpy(np.flatnonzero(np.triu(np.ones((rank, dim), bool))))


def _rank(stored: int, dim: int) -> int:
    """The r for which r rows of an upper trapezoid, of d, d - 1, ... entries, are as many as were stored."""
    for rank in range(1, dim + 1):
        if rank * dim - rank * (rank - 1) // 2 == stored:
            return rank
    raise ValueError(f"{stored} numbers are no factor of {dim} features")
