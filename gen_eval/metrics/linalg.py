"""Linear algebra where the tensors are: OpenBLAS and LAPACK through SciPy on the CPU, torch on an accelerator.

On the CPU SciPy's OpenBLAS runs products and factorisations about twice as fast as the library that torch
brings along, and offers drivers that torch does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.precision import full_precision

# Squared singular values below this part of the largest are decomposed on their own: above, those of a Gram matrix are
# right to 1e-6 of themselves, and all of them together to 1e-11 of the largest.
_GRAM_FLOOR = 1e-10


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, in the full precision of its dtype."""
    if a.is_cuda and a.dtype == torch.float64:  # of which there are no other precisions
        return a @ b
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


def triangular_product(lower: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    """``lower @ b`` or ``lower.T @ b`` for a lower triangular factor, in half the time of :func:`product`."""
    if lower.is_cuda:
        return product(lower.T if transposed else lower, b)
    # BLAS sees the transposes of row-major matrices: b.T times an upper triangle from the right.
    done = scipy.linalg.blas.dtrmm(
        1.0, lower.numpy().T, b.numpy().T, side=1, lower=0, trans_a=int(transposed)
    )
    return torch.from_numpy(done.T)


def solve_lower(factor: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    """``factor^-1 b`` for a lower triangular factor, or ``factor.T^-1 b``."""
    if factor.is_cuda:
        triangle = factor.T if transposed else factor
        solution: Tensor = torch.linalg.solve_triangular(triangle, b, upper=transposed)
        return solution
    return torch.from_numpy(
        scipy.linalg.solve_triangular(
            factor.numpy(), b.numpy(), lower=True, trans=int(transposed), check_finite=False
        )
    )


def eigenvalues(a: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix, ascending. Here torch's library is the faster one: .31 s for .68 at 2,048."""
    values: Tensor = torch.linalg.eigvalsh(a)
    return values


def eigenpairs(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors in columns of a symmetric matrix."""
    if a.is_cuda:
        pairs = torch.linalg.eigh(a)
        return pairs.eigenvalues, pairs.eigenvectors
    values, vectors = scipy.linalg.eigh(a.numpy(), driver=_driver(a), check_finite=False)
    return torch.from_numpy(values), torch.from_numpy(vectors)


def leading(a: Tensor, count: int) -> Tensor:
    """Eigenvectors of the largest eigenvalues of a symmetric matrix, the largest first, ``[d, count]``.

    64 of 2,048 take half the time of all on a CPU.
    """
    if a.is_cuda:
        return eigenpairs(a)[1].flip(1)[:, :count].contiguous()
    last = len(a) - 1
    _, vectors = scipy.linalg.eigh(
        a.numpy(), driver="evr", subset_by_index=(last - count + 1, last), check_finite=False
    )
    return torch.from_numpy(vectors).flip(1).contiguous()


def _driver(a: Tensor) -> str:
    """Divide and conquer; SciPy 1.13 gives that too little workspace for a single element."""
    return "evd" if len(a) > 1 else "ev"


def singular_triplets(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``u, s, vt`` of the thin singular value decomposition, in no order.

    From the eigenvectors of the smaller Gram matrix, in half the time of a decomposition of ``a`` itself (1.5 s for 3.5
    of one thread at 2,048 x 2,048). What that leaves of the small singular values is noise: the space of theirs, which
    it does find, is decomposed on its own. Values, and ``u * s @ vt``, are right to 1e-11 of the largest; the columns
    of the longer of ``u`` and ``vt.T`` are orthogonal no further than that takes.
    """
    if len(a) < a.shape[1]:
        u, s, vt = singular_triplets(a.T.contiguous())
        return vt.T, s, u.T
    # A power of two rounds nothing, and keeps squares in range.
    scale = 2.0 ** (math.frexp(float(a.abs().max()))[1] - 1)
    a = a / scale
    squares, v = eigenpairs(product(a.T, a))
    images = product(a, v)
    small = int((squares <= _GRAM_FLOOR * squares[-1]).sum())
    u, s, turn = _svd(images[:, :small].contiguous())
    large: Tensor = torch.linalg.vector_norm(images[:, small:], dim=0)
    vt = torch.cat([product(turn, v[:, :small].T), v[:, small:].T])
    return torch.cat([u, images[:, small:] / large], 1), torch.cat([s, large]) * scale, vt


def _svd(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if a.is_cuda or not a.numel():
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


def pivoted_cholesky(a: Tensor, tolerance: float = -1.0) -> PivotedCholesky:
    """Factor of a positive semidefinite matrix. Runs on the CPU.

    Args:
        a: the matrix.
        tolerance: the largest diagonal element of what the factor leaves; by default it ends at the numerical rank.
    """
    if not bool((a.diagonal() > 0).any()):
        # A matrix of zeros: one row of zeros, so that nothing downstream meets an empty factor.
        return PivotedCholesky(torch.zeros_like(a[:1]), torch.zeros(1, dtype=torch.long, device=a.device))
    lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf(a.cpu().numpy(), tol=tolerance, lower=1)
    factor = np.empty((rank, len(lower)))
    factor[:, pivots - 1] = np.tril(lower[:, :rank]).T
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
