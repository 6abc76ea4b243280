"""What ranks of torch.distributed tell one another; alone, nothing changes hands.

Ranks talk through a group of their own, on gloo: it works beside any backend, moves tensors of the CPU, and is the
one whose barrier says who is missing.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from gen_eval.errors import DistributedError

T = TypeVar("T")

_LEAST = 1.0  # seconds for a barrier, however long ranks took to find one another

# The group of the default group that it was made beside; the latter may be destroyed and made anew.
_groups: list[tuple[object, dist.ProcessGroup]] = []


def rank() -> int:
    """The number of this process; 0 alone."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes there are; 1 alone."""
    return dist.get_world_size() if _together() else 1


def all_gather(value: T, what: str, timeout: float) -> list[T]:
    """What each rank holds, in the order of the ranks, on every rank. All must call it.

    Args:
        value: anything that can be pickled, its tensors on the CPU.
        what: what the ranks are to meet for, in words.
        timeout: seconds to wait for the others.

    Raises:
        DistributedError: if some do not come in time, or end meanwhile.
    """
    if world_size() == 1:
        return [value]
    deadline = time.monotonic() + timeout
    try:
        group = _group(timedelta(seconds=timeout))
        left = timedelta(seconds=max(deadline - time.monotonic(), _LEAST))
        dist.monitored_barrier(group, timeout=left, wait_all_ranks=True)
        found: list[T | None] = [None] * world_size()
        dist.all_gather_object(found, value, group=group)
    except RuntimeError as error:
        _groups.clear()  # which is of no use once one of its meetings failed
        raise DistributedError(
            f"rank {rank()} of {world_size()} came to {what} and did not meet all others, waiting {timeout:g} s: every "
            "rank must come there, those without images too. Where one rank is to measure alone, say "
            f"distributed=False; where they come later, raise timeout ({error})"
        ) from error
    return found  # type: ignore[return-value]  # each was filled


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _group(limit: timedelta) -> dist.ProcessGroup:
    world = dist.group.WORLD
    for beside, group in _groups:
        if beside is world:
            return group
    made = dist.new_group(backend="gloo", timeout=limit)
    assert isinstance(made, dist.ProcessGroup)  # of all ranks, so of this one
    _groups[:] = [(world, made)]
    return made
