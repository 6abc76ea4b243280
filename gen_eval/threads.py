"""Work in threads, with its results in order and bounded look-ahead; and the cores that there are for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
