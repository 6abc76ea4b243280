"""The resize kernels, against what they reproduce written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gen_eval import resize
from gen_eval.errors import UnknownName

CPU = torch.device("cpu")
SHAPES = [(28, 28), (32, 32), (64, 64), (200, 256), (256, 200), (299, 299), (299, 100), (512, 512), (1, 3)]
# Of pixels in [0, 255]: 1e-4 of the range, far below one level and far above float32 rounding.
TOLERANCE = 1e-4 * 255


def image_of(shape, seed=0):
    """Noise: the hardest image to resize, every wrong source pixel shows."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def resized(image, size, kernel):
    return resize.finish([resize.prepare(image, size, kernel)], size, kernel, CPU)[0].numpy()


def tensorflow1_axis(size_in, size_out):
    """Weights ``[out, in]`` of one axis: source = i * in / out, between two neighbours, the last one clamped."""
    source = np.arange(size_out) * (size_in / size_out)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, size_in - 1)
    weights = np.zeros((size_out, size_in))
    np.add.at(weights, (np.arange(size_out), low), 1 - (source - low))
    np.add.at(weights, (np.arange(size_out), high), source - low)
    return weights


def tensorflow1(image, size):
    rows, columns = (tensorflow1_axis(extent, size) for extent in image.shape[:2])
    return np.einsum("ih,hwc,jw->cij", rows, image.astype(np.float64), columns, optimize=True)


@pytest.mark.parametrize("size", [299, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tf1_is_the_resize_of_tensorflow_1(shape, size):
    image = image_of(shape)
    np.testing.assert_allclose(
        resized(image, size, "tf1-bilinear"), tensorflow1(image, size), rtol=0, atol=TOLERANCE
    )


def test_tf1_and_torch_differ_so_that_neither_can_stand_for_the_other():
    image = image_of((64, 64))
    gap = np.abs(resized(image, 299, "tf1-bilinear") - resized(image, 299, "torch-bilinear")).max()
    assert gap > 1000 * TOLERANCE


@pytest.mark.parametrize("size", [299, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_is_interpolate_with_half_pixel_centres(shape, size):
    image = image_of(shape)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False, antialias=False)
    np.testing.assert_allclose(resized(image, size, "torch-bilinear"), expected[0].numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [299, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bicubic_is_that_of_pillow_on_each_float_channel(shape, size):
    image = image_of(shape)
    planes = [
        np.asarray(
            Image.fromarray(image[:, :, channel].astype(np.float32)).resize(
                (size, size), Image.Resampling.BICUBIC
            )
        )
        for channel in range(3)
    ]
    assert np.array_equal(resized(image, size, "pil-bicubic"), np.clip(np.stack(planes), 0, 255))


def test_bicubic_clips_its_overshoot_and_keeps_fractions():
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    plain = np.asarray(
        Image.fromarray(edge[:, :, 0].astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC)
    )
    assert plain.min() < -1 or plain.max() > 256  # there is something to clip
    out = resized(edge, 64, "pil-bicubic")
    assert (out.min(), out.max()) == (0, 255)
    assert not np.array_equal(out, out.round())


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_an_image_of_the_right_size_passes_unchanged(kernel):
    image = image_of((299, 299))
    assert np.array_equal(resized(image, 299, kernel), image.transpose(2, 0, 1))


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_a_constant_image_stays_constant(kernel):
    image = np.full((37, 53, 3), 201, np.uint8)
    np.testing.assert_allclose(resized(image, 64, kernel), 201, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_channels_do_not_mix(kernel):
    image = image_of((20, 30))
    changed = image.copy()
    changed[:, :, 1] = 0
    before, after = resized(image, 16, kernel), resized(changed, 16, kernel)
    assert np.array_equal(before[[0, 2]], after[[0, 2]])
    assert not after[1].any()


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_a_batch_of_mixed_sizes_is_each_image_by_itself(kernel):
    images = [image_of(shape) for shape in SHAPES]
    prepared = [resize.prepare(image, 32, kernel) for image in images]
    batch = resize.finish(prepared, 32, kernel, CPU)
    assert batch.shape == (len(images), 3, 32, 32)
    assert batch.dtype == torch.float32
    for image, out in zip(images, batch, strict=True):
        assert np.array_equal(out.numpy(), resized(image, 32, kernel))


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_the_image_itself_is_not_written_to(kernel):
    image = image_of((30, 30))
    before = image.copy()
    resized(image, 299, kernel)
    assert np.array_equal(image, before)


def test_tensor_kernels_leave_the_image_for_the_device_and_pixel_kernels_finish_it():
    image = image_of((20, 30))
    for kernel in resize.TENSOR_KERNELS:
        prepared = resize.prepare(image, 16, kernel)
        assert (prepared.dtype, prepared.shape) == (torch.uint8, (20, 30, 3))
    for kernel in resize.PIXEL_KERNELS:
        prepared = resize.prepare(image, 16, kernel)
        assert (prepared.dtype, prepared.shape) == (torch.float32, (3, 16, 16))


def test_every_kernel_is_of_exactly_one_kind():
    assert sorted(resize.KERNELS) == sorted({*resize.TENSOR_KERNELS, *resize.PIXEL_KERNELS})
    assert len(resize.KERNELS) == len(set(resize.KERNELS))


def test_an_unknown_kernel_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="unknown resize kernel 'tf1-bilinar': did you mean 'tf1-bilinear'"):
        resize.prepare(image_of((8, 8)), 8, "tf1-bilinar")
