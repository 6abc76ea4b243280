"""The arithmetic of a network for one image, counted as it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
    with FlopCounterMode(display=False, custom_mapping=_prepacked()) as counter:
        extractor(image, (tap,))
    return int(counter.get_total_flops())


def _prepacked() -> dict[Any, Any]:
    """Convolutions by oneDNN with weights in its own layout, which torch's own counter does not know."""
    try:
        operator = torch.ops.mkldnn._convolution_pointwise
    except AttributeError:
        return {}
    return {operator: _convolution_flops}


def _convolution_flops(
    x: Sequence[int], weight: Sequence[int], *settings: Any, out_shape: Sequence[int], **more: Any
) -> int:
    """Of a convolution with a weight ``[out, in / groups, h, w]``, by the shapes of tensors."""
    return 2 * math.prod(weight[1:]) * math.prod(out_shape)
