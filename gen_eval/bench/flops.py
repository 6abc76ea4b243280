"""The arithmetic of a network for one image, counted as it runs."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from gen_eval.extractors import Extractor


def flops(extractor: Extractor, tap: str) -> int:
    """Products and sums that a network takes for one image, by the shapes of its layers.

    Args:
        extractor: the network.
        tap: the features that are asked for.

    Returns:
        Two for each multiplication and addition of matrix products and convolutions; 0 where there are none that
        torch knows of.
    """
    side = extractor.resize.size
    image = torch.zeros(1, 3, side, side, device=extractor.device)
    with FlopCounterMode(display=False) as counter:
        extractor(image, (tap,))
    return int(counter.get_total_flops())
