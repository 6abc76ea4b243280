"""The arithmetic of a network for one image, counted as it runs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gen_eval.extractors import Extractor
from gen_eval.extractors.onednn import OPERATOR


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
    unknown = (
        {getattr(torch.ops.mkldnn, OPERATOR): _of_convolution} if hasattr(torch.ops.mkldnn, OPERATOR) else {}
    )
    with FlopCounterMode(display=False, custom_mapping=unknown) as counter:
        extractor(image, (tap,))
    return int(counter.get_total_flops())


def _of_convolution(x: Any, weight: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])
