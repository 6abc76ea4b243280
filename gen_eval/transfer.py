"""From the host to a GPU without waiting for what the GPU is at, and without getting far ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_AHEAD = 2  # batches that wait for the GPU: one that it takes next, one that is made meanwhile


def moved(values: Tensor, device: torch.device) -> Tensor:
    """On the device. A GPU fetches what is on the host from pinned memory, while the CPU goes on."""
    if device.type == "cuda" and not values.is_cuda:
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def stacked(values: Sequence[Tensor], device: torch.device) -> Tensor:
    """As ``torch.stack``, on the device; what is on the host is stacked in the memory that a GPU fetches it from."""
    first = values[0]
    if device.type == "cuda" and not first.is_cuda:
        pinned = torch.empty((len(values), *first.shape), dtype=first.dtype, pin_memory=True)
        return torch.stack(list(values), out=pinned).to(device, non_blocking=True)
    return torch.stack(list(values)).to(device)


class Pace:
    """Keeps the CPU near a GPU that it does not wait for: what is prepared ahead waits in memory.

    Args:
        device: the GPU; with a CPU, which is always done, nothing is to be kept.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begun: deque[Any] = deque()

    def step(self) -> None:
        """A batch was handed over: wait until the GPU is done with all but the last few."""
        if self._device.type != "cuda":
            return
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        self._begun.append(done)
        if len(self._begun) > _AHEAD:
            self._begun.popleft().synchronize()
