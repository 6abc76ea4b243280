"""Linear algebra where the tensors are: OpenBLAS and LAPACK through SciPy on the CPU, torch on an accelerator.

On the CPU SciPy's OpenBLAS runs products and factorisations about twice as fast as the library that torch
brings along, and offers drivers that torch does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.linalg
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from gen_eval.errors import NumericalError
from gen_eval.precision import full_precision
from gen_eval.threads import in_order

A = TypeVar("A")
B = TypeVar("B")

# Those of NumPy and SciPy. To look for them takes longer than many a piece of work.
_LIBRARIES = ThreadpoolController()


def in_parallel(work: Callable[[A], B], jobs: Iterable[A], device: torch.device) -> Iterator[B]:
    """What ``work`` makes of each job, in their order; on a CPU a core to each job, some jobs ahead of the caller.

    OpenBLAS and torch have threads of their own, which wait by spinning: where products and other operations take
    turns, each slows the other down to a third. So meanwhile, in all of this process, each of them has one thread.

    Args:
        work: run in other threads.
        jobs: drawn from on the calling thread.
        device: where the work is done.
    """
    workers = torch.get_num_threads()
    if device.type != "cpu" or workers == 1:
        yield from map(work, jobs)
        return
    torch.set_num_threads(1)
    try:
        with (
            _LIBRARIES.limit(limits=1, user_api="blas"),
            closing(in_order(work, ([job] for job in jobs), workers)) as results,
        ):
            for (result,) in results:
                yield result
    finally:
        torch.set_num_threads(workers)


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
