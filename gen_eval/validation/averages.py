"""Running averages of the networks that checks train."""

from __future__ import annotations

import torch
from torch import nn

_DECAY = 0.99


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, step: int) -> None:
    """Move the parameters of an average towards those of a module; buffers are copied.

    Args:
        average: a copy of the module, made before the first step.
        module: as it is after a step.
        step: which, from 0 on; the average is short at first.
    """
    decay = min(_DECAY, (1 + step) / (10 + step))
    for mean, own in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(own, 1 - decay)
    for kept, buffer in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(buffer)
