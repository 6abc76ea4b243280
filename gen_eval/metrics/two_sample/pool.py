"""Rows of two sets in one pool that forgets where they came from, and ways to relabel them.

Where two sets are of one distribution, which rows are called generated is chance, and any other labelling as likely. So
that the true one is not told apart, not even by how ties are broken, pooled rows stand in an order that the rows alone
decide: neither their labels nor the order they came in.

Of equal rows that is not enough: which of them are generated shows in nothing but their places, which are drawn. So
the draw of places depends on how many of each are generated, beside the seed. And a random labelling is moved, among
equal rows of a fold, to lie as the true one does: labellings differ in how many of each are generated, not in which.

A test that treats all labellings alike then holds its level at a seed that never changes, as far as hashes and draws
are as good as random. There must be many pairs of sets to draw for: of one binary feature there are so few that folds
make of a level of .05, .25 or .5, at 40 and 60 rows, .03 to .04, .17 to .26 or .36 to .55, by seed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval.metrics.rows import identities, matched, taken

_LEAST = 4  # rows of each set; fewer can hardly be relabelled
_COLUMNS = 64  # labellings moved at a time


class Pool(NamedTuple):
    """Pooled rows.

    Args:
        rows: ``[n + m, d]`` in an order of their own.
        own: ``[n + m]`` bool, which of them are generated.
        order: ``[n + m]`` where each stood when the reference set followed the generated.
        kind: ``[n + m]`` a number for the content of each, which equal rows share.
        place: ``[n + m]`` where each stood before it was drawn to its place: of equal rows the generated came first.
    """

    rows: Tensor
    own: Tensor
    order: Tensor
    kind: Tensor
    place: Tensor

    @classmethod
    def of(cls, generated: Tensor, reference: Tensor, seed: int) -> Pool:
        """The pool of ``[n, d]`` and ``[m, d]`` rows.

        Raises:
            UsageError: if they are not matrices of floats with equally many features.
            TooFewImages: if one has fewer than four rows.
            NumericalError: if a feature is NaN or infinite.
        """
        x, y = matched(_LEAST, generated=generated, reference=reference)
        weights = np.random.default_rng(0).integers(-(2**63), 2**63, x.shape[1]) | 1
        kind = identities(torch.from_numpy(weights).to(x.device), x, y)
        entropy = [seed, *_make_up(kind, len(x))]
        drawn = np.random.default_rng(entropy).permutation(len(x) + len(y))
        place = torch.from_numpy(drawn).to(x.device)
        order = kind.argsort(stable=True)[place]
        return cls(taken(order, x, y), order < len(x), order, kind[order], place)

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
        folds = torch.zeros_like(self.kind) if folds is None else folds
        part_of = folds.cpu().numpy()
        for part in range(part_of.max() + 1):
            rows = np.flatnonzero(part_of == part)
            # Each labelling as a row of its own: five times as fast as down the columns, and the same.
            drawn = rng.permuted(np.ascontiguousarray(labels[rows, 1:].T), axis=1)
            labels[rows, 1:] = drawn.T
        cell = self.kind * (int(folds.max()) + 1) + folds
        return _as_the_true_one(torch.from_numpy(labels).to(self.own.device), cell, self.place)


def standardised(features: Tensor) -> Tensor:
    """Features of pooled rows, ``[n, d]``, with mean 0 and variance 1, in float64; constant ones are 0."""
    features = features.double()
    centred = features - features.mean(0)
    # Whatever their mean was rounded to.
    centred[:, (features == features[0]).all(0)] = 0
    return centred / centred.square().mean(0).sqrt().clamp_min(torch.finfo(centred.dtype).tiny)


def _make_up(kind: Tensor, generated: int) -> list[int]:
    """How many rows of each kind that occurs more than once are generated, and how many there are."""
    sizes = kind.bincount()
    own = kind[:generated].bincount(minlength=len(sizes))
    counts: list[int] = torch.stack([own, sizes], 1)[sizes > 1].flatten().tolist()
    return counts


def _as_the_true_one(labels: Tensor, cell: Tensor, place: Tensor) -> Tensor:
    """Labels moved among the rows of each cell so that, as in the true labelling, the generated are first by place.

    Args:
        labels: ``[n + m, p]`` bool, which are changed.
        cell: ``[n + m]`` which rows are equal, and of one fold.
        place: ``[n + m]``.
    """
    tied = (cell.bincount()[cell] > 1).nonzero().flatten()
    _, cell, sizes = torch.unique(cell[tied], return_inverse=True, return_counts=True)
    by_place = place[tied].argsort()
    order = by_place[cell[by_place].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[cell[order]]
    for columns in torch.split(labels, _COLUMNS, 1):
        counts = torch.zeros(len(sizes), columns.shape[1], dtype=torch.int32, device=labels.device)
        counts.index_add_(0, cell, columns[tied].int())
        columns[tied] = rank[:, None] < counts[cell]
    return labels
