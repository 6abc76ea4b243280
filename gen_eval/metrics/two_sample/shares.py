"""Shares of rows that are classified right, and of pairs that are in order (AUC)."""

from __future__ import annotations

import torch
from torch import Tensor


def right(rows: Tensor, labels: Tensor) -> Tensor:
    """The share of generated and of reference rows that are right, ``[2, p]``.

    Args:
        rows: ``[n, p]`` float64, whether each row is right, 0 to 1.
        labels: ``[n, p]`` bool, whether it is generated.
    """
    generated, ones = (rows * labels).sum(0), labels.sum(0)
    return torch.stack([generated / ones, (rows.sum(0) - generated) / (len(labels) - ones)])


def auc(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of pairs of a generated and a reference row whose scores are in order, ties counted by half, ``[p]``.

    Args:
        scores: ``[n, p]``.
        labels: ``[n, p]`` bool, whether a row is generated; as many in each column.
    """
    generated = int(labels[:, 0].sum())
    order = (~labels).to(torch.uint8).argsort(dim=0, stable=True)  # generated rows first
    placed = scores.gather(0, order).T.contiguous()
    return _below(placed[:, :generated].contiguous(), placed[:, generated:]).mean(1)


def auc_variance(own: Tensor) -> float:
    """The variance of the AUC of scores that know nothing of labels, ``[n]`` bool; ties only make it smaller."""
    n = int(own.sum())
    m = len(own) - n
    return (n + m + 1) / (12 * n * m)


def told_apart(scores: Tensor, own: Tensor) -> Tensor:
    """The share of the rows of the other set that each row is in order with, ``[n]``.

    Args:
        scores: ``[n]``.
        own: ``[n]`` bool, whether a row is generated.
    """
    told = torch.empty_like(scores)
    told[own] = _below(scores[own], scores[~own])
    told[~own] = _below(-scores[~own], -scores[own])
    return told


def _below(values: Tensor, others: Tensor) -> Tensor:
    """The share of the others that are below each value, ties counted by half, row by row."""
    others = others.sort(-1).values
    counts = torch.searchsorted(others, values) + torch.searchsorted(others, values, right=True)
    return counts.double() / (2 * others.shape[-1])
