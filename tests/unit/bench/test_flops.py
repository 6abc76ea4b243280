"""Arithmetic counted by hand against the counter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gen_eval.bench.flops import flops
from gen_eval.errors import FetchError
from gen_eval.extractors import Custom, Inception, Pixels
from gen_eval.extractors.inception_weights import WEIGHTS
from gen_eval.fetch import fetch


def test_a_convolution_and_a_product_by_hand():
    weight, head = torch.ones(5, 3, 3, 3), torch.ones(5, 7)

    class Net(torch.nn.Module):
        def forward(self, x):
            return F.conv2d(x, weight, stride=2).mean((2, 3)) @ head

    extractor = Custom(Net(), size=9)
    assert flops(extractor, "pool") == 2 * (5 * 3 * 3 * 3) * 4 * 4 + 2 * 5 * 7


def test_pixels_multiply_nothing():
    assert flops(Pixels(), "pool") == 0


def test_inception():
    """5.7 GMAC, by the shapes of its convolutions, whatever form they are held in."""
    try:
        weights = fetch(WEIGHTS)
    except FetchError as error:
        pytest.skip(str(error))
    assert flops(Inception.load(weights=weights), "pool") == pytest.approx(11.42e9, rel=1e-3)
