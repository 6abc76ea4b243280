"""Convolutions on a CPU with their ReLU in the same pass, and with weights that lie as oneDNN reads them.

:func:`torch.nn.functional.conv2d` reorders the weights at each call, and a ReLU after it reads and writes every output
once more. The operators here do neither. torch's compiler makes use of them, yet they are not public: where they are
missing, or give anything else than torch's public ones do, :func:`is_usable` says no. The features are the same to
rounding. A pass through the FID Inception takes 2 % less time by them in fp32, and 29 % less in bf16
(``benchmarks/levers.py``, two cores of a Xeon with AMX).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_eval.precision import full_precision

OPERATOR = "_convolution_pointwise"  # of torch.ops.mkldnn
_TRIED = (2, 8, 9, 9)
_SUMS = 16 * torch.finfo(torch.float32).eps  # by which sums of products may differ, of the largest


class Convolution:
    """A convolution with or without its ReLU, without gradients.

    The weights are laid out anew where images come in another number or size: images of one kind are to come in a row.

    Args:
        weight: ``[out, in, h, w]``, of a type that :func:`is_usable`.
        bias: ``[out]`` of the same.
        stride: in both directions.
        padding: vertical and horizontal.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: Sequence[int]) -> None:
        self._laid_out: tuple[torch.Size, Tensor] = torch.Size(), weight.detach()
        self._bias = bias.detach()
        self._stride, self._padding = [stride, stride], list(padding)

    def __call__(self, x: Tensor, *, relu: bool) -> Tensor:
        """``[b, in, h, w]`` to ``[b, out, h', w']``, both channels last."""
        operators, plain = torch.ops.mkldnn, [1, 1]
        size, weight = self._laid_out
        if size != x.shape:
            weight = operators._reorder_convolution_weight(
                _dense(weight), self._padding, self._stride, plain, 1, list(x.shape)
            )
            self._laid_out = x.shape, weight
        after = "relu" if relu else "none"
        found: Tensor = getattr(operators, OPERATOR)(
            x, weight, self._bias, self._padding, self._stride, plain, 1, after, [], ""
        )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the weights as other machines have them too."""
        return {**vars(self), "_laid_out": (torch.Size(), _dense(self._laid_out[1]))}


def _dense(weight: Tensor) -> Tensor:
    return weight.to_dense() if weight.is_mkldnn else weight


@functools.cache
def is_usable(dtype: torch.dtype) -> bool:
    """Whether convolutions of a type are to be had on this processor, and are those of torch: a small one is tried."""
    draw, device = torch.Generator().manual_seed(0), torch.device("cpu")  # whatever the caller's default is
    shapes = _TRIED, (16, _TRIED[1], 3, 3), (16,)
    x, weight, bias = (torch.randn(shape, generator=draw, device=device).to(dtype) for shape in shapes)
    x = x.contiguous(memory_format=torch.channels_last)
    fused = Convolution(weight, bias, 1, (1, 1))
    with torch.no_grad(), full_precision(device.type):
        try:
            found = [fused(part, relu=True) for part in (x, x[:1])]  # laid out, and laid out anew
        except (AttributeError, RuntimeError, TypeError):
            return False
        wanted = F.relu(F.conv2d(x, weight, bias, 1, (1, 1)))
    # Sums in another order, rounded to the type once.
    room = (_SUMS + torch.finfo(dtype).eps) * float(wanted.max())
    return all(torch.allclose(one, wanted[: len(one)], rtol=0, atol=room) for one in found)
