"""Floats to uint8 by the rules of the tools that they are named after."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from gen_eval.errors import ImagesError, UnknownName, UsageError
from gen_eval.images.floats import RANGES, ROUNDINGS, FloatRange


def values(low, high):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(3, 64, 64, generator=rng) * (high - low) + low
    x[0, 0, :2] = torch.tensor([low, high])
    return x


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_save_image_is_torchvisions(low, high):
    file = io.BytesIO()
    save_image(values(low, high), file, format="png", normalize=bool(low), value_range=(low, high))
    theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert torch.equal(FloatRange(low, high).to_uint8(values(low, high)), theirs)


def test_truncate_is_that_of_torchmetrics():
    assert torch.equal(FloatRange(0, 1, "truncate").to_uint8(values(0, 1)), (values(0, 1) * 255).byte())


def test_stylegan_is_the_line_of_its_source():
    theirs = (values(-1, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    assert torch.equal(FloatRange(-1, 1, "stylegan").to_uint8(values(-1, 1)), theirs)


@pytest.mark.parametrize("rounding", ["save_image", "stylegan"])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_levels_come_back(low, high, rounding):
    if rounding == "stylegan" and low == 0:
        pytest.skip("not a rule for [0, 1]")
    levels = torch.arange(256, dtype=torch.uint8)
    floats = levels.float() / 255 * (high - low) + low
    assert torch.equal(FloatRange(low, high, rounding).to_uint8(floats), levels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_exactly_before_they_are_rounded(dtype):
    x = values(0, 1).to(dtype)
    assert torch.equal(FloatRange(0, 1).to_uint8(x), FloatRange(0, 1).to_uint8(x.double()))


def test_what_overshoots_is_clamped_and_counted_and_what_lies_far_off_refused():
    floats = FloatRange(0, 1)
    images = torch.stack([torch.full((3, 2, 2), value) for value in (-0.2, 0.5, 1.3)])
    assert floats.to_uint8(images).flatten(1)[:, 0].tolist() == [0, 128, 255]
    assert floats.beyond(images).tolist() == [True, False, True]
    for bad in (torch.tensor([0.0, 255.0]), torch.tensor([-1.0, 1.0]), torch.tensor([0.5, float("inf")])):
        with pytest.raises(ImagesError, match=r"range declared is \[0, 1\]: declare another"):
            floats.to_uint8(bad)
    with pytest.raises(ImagesError, match="1 of the 2 images given hold NaN, first #1 of them"):
        floats.to_uint8(torch.tensor([0.5, float("nan")]))


def test_ranges_and_rules_are_those_of_the_tables():
    with pytest.raises(UsageError, match=r"\(0, 1\) or \(-1, 1\), found \(0, 255\)"):
        FloatRange(0, 255)
    with pytest.raises(UnknownName):
        FloatRange(0, 1, "round")
    with pytest.raises(UsageError, match="stylegan"):
        FloatRange(0, 1, "stylegan")
    assert set(ROUNDINGS) == {"save_image", "truncate", "stylegan"}
