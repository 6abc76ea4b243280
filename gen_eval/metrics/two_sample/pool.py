"""Rows of two sets in one pool that forgets where they came from, and ways to relabel them.

Where two sets are of one distribution, which rows are called generated is chance, and any other labelling as likely. A
test that treats all labellings alike is therefore exact. So that the true one is not told apart, not even by how ties
are broken, pooled rows stand in an order that knows of no labels; and that order depends on the rows alone, so that
the order they came in does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.metrics.kernel.sums import matched_rows

_BLOCK = 1024  # rows hashed at a time


class Pool(NamedTuple):
    """Pooled rows.

    Args:
        rows: ``[n + m, d]`` in an order of their own.
        own: ``[n + m]`` bool, which of them are generated.
        order: ``[n + m]`` where each stood when the reference set followed the generated.
    """

    rows: Tensor
    own: Tensor
    order: Tensor

    @classmethod
    def of(cls, generated: Tensor, reference: Tensor, seed: int) -> Pool:
        """The pool of ``[n, d]`` and ``[m, d]`` rows.

        Raises:
            UsageError: if they are not matrices of floats with equally many features.
            TooFewImages: if one has fewer than four rows.
            NumericalError: if a feature is NaN or infinite.
        """
        x, y = matched_rows(generated, reference)
        rows = torch.cat([x, y])
        order = _hash(rows).argsort(stable=True)
        # Equal rows of both sets are shuffled, which their hashes alone would not do.
        shuffle = np.random.default_rng(seed).permutation(len(rows))
        order = order[torch.from_numpy(shuffle).to(order.device)]
        return cls(rows[order], order < len(x), order)

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of generated and of reference rows."""
        n = int(self.own.sum())
        return n, len(self.own) - n

    def by_role(self, values: Tensor) -> dict[str, Tensor]:
        """What is said of each pooled row, ``[n + m]``, by role and in the order of the images."""
        placed = torch.empty_like(values)
        placed[self.order] = values
        n, _ = self.sizes
        return {"generated": placed[:n], "reference": placed[n:]}

    def folds(self, count: int) -> Tensor:
        """A fold for each row, ``[n + m]``: each set is dealt out over ``count`` of them."""
        dealt = torch.where(self.own, self.own.cumsum(0), (~self.own).cumsum(0)) - 1
        return dealt % count

    def labellings(self, count: int, seed: int, folds: Tensor | None = None) -> Tensor:
        """The true labelling and ``count`` random ones, ``[n + m, 1 + count]`` bool.

        Args:
            count: number of random ones.
            seed: of these.
            folds: ``[n + m]`` where given, rows of one fold exchange labels with one another alone.
        """
        rng = np.random.default_rng(seed)
        labels = self.own.cpu().numpy()[:, None].repeat(1 + count, 1)
        part_of = np.zeros(len(labels), dtype=np.int64) if folds is None else folds.cpu().numpy()
        for part in range(part_of.max() + 1):
            rows = np.flatnonzero(part_of == part)
            labels[rows, 1:] = rng.permuted(labels[rows, 1:], axis=0)
        return torch.from_numpy(labels).to(self.own.device)


def standardised(features: Tensor) -> Tensor:
    """Features of pooled rows, ``[n, d]``, with mean 0 and variance 1, in float64; constant ones are 0."""
    features = features.double()
    centred = features - features.mean(0)
    # Whatever their mean was rounded to.
    centred[:, (features == features[0]).all(0)] = 0
    return centred / centred.square().mean(0).sqrt().clamp_min(torch.finfo(centred.dtype).tiny)


def _hash(rows: Tensor) -> Tensor:
    """A number of each row that depends on its features alone, ``[n]`` int64.

    Products and sums of the bits of the features modulo 2^64, which are exact in any order.
    """
    weights = np.random.default_rng(0).integers(-(2**63), 2**63, rows.shape[1]) | 1
    factors = torch.from_numpy(weights).to(rows.device)
    bits = torch.int32 if rows.dtype == torch.float32 else torch.int64
    # 0 is added because -0 equals it and has other bits.
    hashes = [
        ((block + 0.0).view(bits).long() * factors).sum(1, keepdim=True)
        for block in torch.split(rows, _BLOCK)
    ]
    return torch.cat(hashes)[:, 0]
