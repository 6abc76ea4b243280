"""Linear algebra where the tensors are: OpenBLAS and LAPACK through SciPy on the CPU, torch on an accelerator.

On the CPU SciPy's OpenBLAS runs products and factorisations about twice as fast as the library that torch
brings along, and offers drivers that torch does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.precision import full_precision


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, in the full precision of its dtype."""
    if a.is_cuda:
        with full_precision("cuda"):
            return a @ b
    return torch.from_numpy(a.numpy() @ b.numpy())


def cholesky(a: Tensor) -> Tensor | None:
    """The lower factor of a positive definite matrix; ``None`` if it is not one to working precision."""
    if a.is_cuda:
        factor, failed = torch.linalg.cholesky_ex(a)
        return None if int(failed) else factor
    try:
        return torch.from_numpy(scipy.linalg.cholesky(a.numpy(), lower=True, check_finite=False))
    except scipy.linalg.LinAlgError:
        return None


def solve_lower(factor: Tensor, b: Tensor) -> Tensor:
    """``factor^-1 b`` for a lower triangular factor."""
    if factor.is_cuda:
        solution: Tensor = torch.linalg.solve_triangular(factor, b, upper=False)
        return solution
    return torch.from_numpy(
        scipy.linalg.solve_triangular(factor.numpy(), b.numpy(), lower=True, check_finite=False)
    )


def eigenvalues(a: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix, ascending."""
    if a.is_cuda:
        values: Tensor = torch.linalg.eigvalsh(a)
        return values
    return torch.from_numpy(
        scipy.linalg.eigh(a.numpy(), eigvals_only=True, driver=_driver(a), check_finite=False)
    )


def eigenpairs(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors in columns of a symmetric matrix."""
    if a.is_cuda:
        pairs = torch.linalg.eigh(a)
        return pairs.eigenvalues, pairs.eigenvectors
    values, vectors = scipy.linalg.eigh(a.numpy(), driver=_driver(a), check_finite=False)
    return torch.from_numpy(values), torch.from_numpy(vectors)


def _driver(a: Tensor) -> str:
    """Divide and conquer; SciPy 1.13 gives that too little workspace for a single element."""
    return "evd" if len(a) > 1 else "ev"


def singular_triplets(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``u, s, vt`` of the thin singular value decomposition."""
    if a.is_cuda:
        svd = torch.linalg.svd(a, full_matrices=False)
        return svd.U, svd.S, svd.Vh
    u, s, vt = scipy.linalg.svd(a.numpy(), full_matrices=False, check_finite=False)
    return torch.from_numpy(u), torch.from_numpy(s), torch.from_numpy(vt)


class PivotedCholesky(NamedTuple):
    """``factor.T @ factor`` is the matrix, and ``factor[:, pivots].T`` is lower triangular.

    Args:
        factor: ``[r, d]``, with r the numerical rank.
        pivots: ``[r]`` columns, in order of elimination.
    """

    factor: Tensor
    pivots: Tensor


def pivoted_cholesky(a: Tensor) -> PivotedCholesky:
    """Factor of a positive semidefinite matrix, cut off at its numerical rank. Runs on the CPU."""
    if not bool((a.diagonal() > 0).any()):
        # A matrix of zeros: one row of zeros, so that nothing downstream meets an empty factor.
        return PivotedCholesky(torch.zeros_like(a[:1]), torch.zeros(1, dtype=torch.long, device=a.device))
    lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf(a.cpu().numpy(), lower=1)
    factor = np.empty((rank, len(lower)))
    factor[:, pivots - 1] = np.tril(lower)[:, :rank].T
    to = a.device
    return PivotedCholesky(torch.from_numpy(factor).to(to), torch.from_numpy(pivots[:rank] - 1).long().to(to))


def sqrtm_trace(a: Tensor) -> float:
    """The trace of the principal square root by Schur decomposition, on the CPU.

    Raises:
        NumericalError: if the root is not finite or not real.
    """
    root = scipy.linalg.sqrtm(a.cpu().numpy())
    trace = complex(np.trace(root))
    if not np.isfinite(trace) or abs(trace.imag) > 1e-3 * abs(trace.real):
        raise NumericalError(f"scipy.linalg.sqrtm gave a trace of {trace}; use another method")
    return trace.real
