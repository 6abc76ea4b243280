"""From the host to the device: what arrives."""

from __future__ import annotations

import torch

from gen_eval.transfer import Pace, moved, stacked

CPU = torch.device("cpu")


def test_what_is_on_the_device_stays_as_it_is():
    values = torch.arange(6.0).view(2, 3)
    assert moved(values, CPU) is values
    assert torch.equal(stacked([values, -values], CPU), torch.stack([values, -values]))
    Pace(CPU).step()  # nothing to wait for
