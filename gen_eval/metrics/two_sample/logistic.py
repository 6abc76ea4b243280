"""Logistic regression with a squared penalty, for many labellings of the same rows at once.

Each labelling is a column of a matrix product. With X the rows beside a column of ones, y the labels and z = X w, the
weights w minimise the sum over rows of ``log(1 + exp(z)) - y z`` plus ``penalty / 2`` times the squared weights, all
but that of the ones.

The second derivatives of this nowhere exceed those at w = 0, ``X' X / 4 + penalty`` (Böhning and Lindsay 1988, AISM
40:641), which are the same for all labellings and are factored once. They precondition nonlinear conjugate gradients
(Polak and Ribière). For labels that the rows say little about they are nearly the true ones, and a handful of steps
is enough.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.metrics import linalg

# Where the squared gradient, measured by the second derivatives at 0, has fallen to this part of what it was, the
# weights are within about its root of the solution.
_TOLERANCE = 1e-14
_STEPS = 1000
# Newton's steps along a direction.
_ALONG = 3


class Logistic:
    """The regression on some rows.

    Args:
        rows: ``[n, d]`` float64.
        penalty: of the squared weights, positive.

    Raises:
        NumericalError: if the rows are not finite or the penalty is lost beside them.
    """

    def __init__(self, rows: Tensor, penalty: float) -> None:
        self._rows = torch.cat([torch.ones_like(rows[:, :1]), rows], 1)
        self._penalties = rows.new_full((rows.shape[1] + 1, 1), penalty)
        self._penalties[0] = 0.0
        bound = linalg.product(self._rows.T, self._rows).div_(4)
        bound.diagonal().add_(self._penalties[:, 0])
        factor = linalg.cholesky(bound)
        if factor is None:
            raise NumericalError(
                f"a penalty of {penalty:g} does not determine the regression; use a larger one"
            )
        self._factor = factor

    def fit(self, labels: Tensor) -> Tensor:
        """The weights for each labelling, ``[1 + d, p]`` float64, that of the ones first.

        Args:
            labels: ``[n, p]`` bool.

        Raises:
            NumericalError: if they do not converge.
        """
        y = labels.double()
        solution = y.new_zeros(len(self._penalties), y.shape[1])
        left = torch.arange(y.shape[1], device=y.device)  # the labellings that are not solved
        w, z = torch.zeros_like(solution), torch.zeros_like(y)
        gradient = self._gradient(w, z, y)
        step = self._preconditioned(gradient)
        size = first = (gradient * step).sum(0)
        along = -step
        for _ in range(_STEPS):
            ahead = linalg.product(self._rows, along)
            length = self._length(w, z, y, along, ahead)
            w, z = w + length * along, z + length * ahead
            before, gradient = gradient, self._gradient(w, z, y)
            step = self._preconditioned(gradient)
            old, size = size, (gradient * step).sum(0)
            along = ((size - (before * step).sum(0)) / old).clamp_min(0) * along - step
            along = torch.where((along * gradient).sum(0) < 0, along, -step)
            done = size <= _TOLERANCE * first
            if bool(done.any()):
                solution[:, left[done]] = w[:, done]
                if bool(done.all()):
                    return solution
                left, size, first = (part[~done] for part in (left, size, first))
                w, z, y, gradient, along = (part[:, ~done] for part in (w, z, y, gradient, along))
        raise NumericalError(
            f"logistic regression did not converge in {_STEPS} steps for {len(left)} of {labels.shape[1]} labellings; "
            "use a larger penalty"
        )

    def _gradient(self, w: Tensor, z: Tensor, y: Tensor) -> Tensor:
        return linalg.product(self._rows.T, z.sigmoid() - y).add_(self._penalties * w)

    def _preconditioned(self, gradient: Tensor) -> Tensor:
        half = linalg.solve_lower(self._factor, gradient)
        return linalg.solve_lower(self._factor, half, transposed=True)

    def _length(self, w: Tensor, z: Tensor, y: Tensor, along: Tensor, ahead: Tensor) -> Tensor:
        """How far to go along a direction, ``[p]``: nearly to its minimum and never beyond.

        On the way the third derivative is at most ``reach`` times the second, with ``reach`` the largest change of a
        margin. So Newton's step s, cut to ``log(1 + reach s) / reach``, falls short of the minimum (Bach 2010,
        arXiv:0910.4627).
        """
        tiny = torch.finfo(z.dtype).tiny
        reach = ahead.abs().amax(0).clamp_min(tiny)
        slope_of_penalty = (self._penalties * w * along).sum(0)
        curvature = (self._penalties * along * along).sum(0)
        length = torch.zeros_like(reach)
        for _ in range(_ALONG):
            share = (z + length * ahead).sigmoid_()
            slope = ((share - y) * ahead).sum(0) + slope_of_penalty + length * curvature
            second = (share.mul_(1 - share) * ahead.square()).sum(0) + curvature
            length = length + torch.log1p(reach * (-slope / second.clamp_min(tiny)).clamp_min(0)) / reach
        return length


def scores(rows: Tensor, weights: Tensor) -> Tensor:
    """The log-odds of ``[n, d]`` rows for each column of ``[1 + d, p]`` weights, ``[n, p]``."""
    return linalg.product(rows, weights[1:]).add_(weights[0])
