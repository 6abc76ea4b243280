"""Numerical work by cores of a CPU, a whole piece to each, with the threads of the libraries out of the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

import scipy.linalg.blas  # noqa: F401  # whose library is looked for below
import torch
from threadpoolctl import ThreadpoolController

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
