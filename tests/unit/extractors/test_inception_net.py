"""Layers of Inception in their faster form, against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gen_eval.extractors.inception_net import Halve


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("size", [(3, 3), (4, 9), (17, 17), (35, 36)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_maxima_are_those_of_torch_to_the_last_bit(dtype, size, layout):
    x = (
        torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(0))
        * 10.0 ** torch.arange(-6, 4, 2)[:, None, None]
    )
    x = F.relu(x).to(dtype).contiguous(memory_format=layout)
    x[0, 0, :, 0] = torch.inf
    found = Halve()(x)
    assert found.dtype == dtype
    assert torch.equal(found, F.max_pool2d(x, 3, 2))
