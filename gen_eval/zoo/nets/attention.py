"""Self-attention over the places of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.layers import Layers


class SelfAttention(nn.Module):
    """Each place is told what it attends to: ``x + gamma * v(sum over keys of attention * h(x))``.

    Zhang et al. 2019, arXiv:1805.08318. ``gamma`` starts at 0, where the block is the identity. Queries and keys have
    an eighth of the channels and values half of them; keys and values are the largest within windows of 2 x 2 places,
    which as in the code of BigGAN (arXiv:1809.11096) makes a quarter of the work.

    Args:
        channels: of the map.
        make: makes the layers.
    """

    def __init__(self, channels: int, make: Layers) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = make.conv(channels, inner, 1)
        self.key = make.conv(channels, inner, 1)
        self.value = make.conv(channels, channels // 2, 1)
        self.out = make.conv(channels // 2, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def attention(self, x: Tensor) -> Tensor:
        """How much each place attends to each other: ``[b, c, h, w]`` to ``[b, queries, keys]``, rows sum to 1."""
        keys = F.max_pool2d(self.key(x), 2).flatten(2)
        scores: Tensor = self.query(x).flatten(2).transpose(1, 2) @ keys
        return scores.softmax(2)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, h, w]`` to the same."""
        values = F.max_pool2d(self.value(x), 2).flatten(2)
        seen = (values @ self.attention(x).transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        out: Tensor = x + self.gamma * self.out(seen)
        return out


def attention_map(network: nn.Module, *inputs: Tensor | None) -> Tensor:
    """What the self-attention block of a network attends to on some inputs, ``[b, queries, keys]``; no gradients.

    Queries are places of a map of half the side of images, counted along its rows; keys are those of a quarter. The
    network is to be in evaluation mode.

    Raises:
        UsageError: if the network has no such block.
    """
    block = next((module for module in network.modules() if isinstance(module, SelfAttention)), None)
    if block is None:
        raise UsageError(f"{type(network).__name__} has no self-attention: build it with attention=True")
    maps: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, given: maps.append(block.attention(given[0])))
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        hook.remove()
    return maps[0]
