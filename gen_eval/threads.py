"""Work in threads, with its results in order and bounded look-ahead; and the cores that there are for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import TypeVar

import scipy.linalg.blas  # noqa: F401  # whose library is looked for below
import torch
from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")

# Those of NumPy and SciPy. To look for them takes longer than many a piece of work.
_LIBRARIES = ThreadpoolController()


def in_order(
    function: Callable[[A], B], chunks: Iterable[Sequence[A]], workers: int
) -> Generator[list[B], None, None]:
    """Apply a function to the items of each chunk, a chunk to a thread.

    ``chunks`` is drawn from on the calling thread, at most ``workers + 2`` chunks ahead of the consumer.
    However the iteration ends (an error in a worker, ``close()``, Ctrl-C), chunks not begun are dropped,
    those begun stop at the next item, and no thread is left behind.

    Args:
        function: what is done to each item.
        chunks: the items.
        workers: number of threads; 0 does everything on the calling thread.

    Yields:
        The results of each chunk, in the order of the chunks.
    """
    if workers <= 0:
        for chunk in chunks:
            yield [function(item) for item in chunk]
        return

    stop = Event()

    def work(chunk: Sequence[A]) -> list[B]:
        # What a stopped chunk returns is incomplete, and seen by nobody.
        return [function(item) for item in chunk if not stop.is_set()]

    pool = ThreadPoolExecutor(workers, thread_name_prefix="gen_eval")
    pending: deque[Future[list[B]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(work, chunk))
            if len(pending) == workers + 2:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
