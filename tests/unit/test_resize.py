"""The resize kernels, against what they reproduce written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from torchvision.models import get_model_weights

from gen_eval import datasets, resize
from gen_eval.errors import FetchError, UnknownName, UsageError
from gen_eval.spec import NO_RESIZE, Resize, Spec

CPU = torch.device("cpu")
SHAPES = [(28, 28), (32, 32), (64, 64), (200, 256), (256, 200), (299, 299), (299, 100), (512, 512), (1, 3)]
# Of pixels in [0, 255]: 1e-4 of the range, far below one level and far above float32 rounding.
TOLERANCE = 1e-4 * 255


def image_of(shape, seed=0):
    """Noise: the hardest image to resize, every wrong source pixel shows."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def resized(image, *terms):
    to = Resize(*terms)
    return resize.finish([resize.prepare(image, to)], to, CPU)[0].numpy()


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


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [299, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_antialiased_is_interpolate_to_the_last_bit(shape, size, mode):
    """Though an image goes alone and by channels last, where the tools resize a batch."""
    image = image_of(shape)
    planes = torch.from_numpy(np.stack([image[::-1].copy(), image])).permute(0, 3, 1, 2).contiguous().float()
    expected = F.interpolate(planes, (size, size), mode=mode, align_corners=False, antialias=True)
    assert np.array_equal(resized(image, size, f"torch-{mode}-antialias"), expected[1].numpy())


def test_antialiasing_counts_where_an_image_shrinks_and_nowhere_else():
    for shape, counts in (((64, 64), False), ((512, 512), True)):
        image = image_of(shape)
        plain, smooth = (resized(image, 299, f"torch-bilinear{end}") for end in ("", "-antialias"))
        assert (np.abs(plain - smooth).max() > 1000 * TOLERANCE) == counts


def test_torchs_bicubic_keeps_its_overshoot():
    out = resized(image_of((64, 64)), 224, "torch-bicubic-antialias")
    assert out.min() < -1
    assert out.max() > 256


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


def by_the_tool(image, size, kernel):
    """An image through torch's or Pillow's own resize, also where it is of the right size."""
    if kernel in resize.TENSOR_KERNELS:
        return resize.TENSOR_KERNELS[kernel](torch.from_numpy(image).permute(2, 0, 1)[None].float(), size)[
            0
        ].numpy()
    shape, (_, name, *rounded) = (size, size), kernel.split("-")
    planes = [image] if rounded else list(image.transpose(2, 0, 1).astype(np.float32))
    out = [np.asarray(Image.fromarray(one).resize(shape, Image.Resampling[name.upper()])) for one in planes]
    return out[0].transpose(2, 0, 1) if rounded else np.stack(out).clip(0, 255)


@pytest.mark.parametrize("size", [1, 2, 7, 32, 224, 299])
@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_an_image_of_the_right_size_passes_unchanged_as_through_the_tool(kernel, size):
    image = image_of((size, size))
    assert np.array_equal(resized(image, size, kernel), image.transpose(2, 0, 1))
    assert np.array_equal(by_the_tool(image, size, kernel), image.transpose(2, 0, 1))


@pytest.mark.parametrize("kernel", resize.KERNELS)
@pytest.mark.parametrize("shape", [(32, 33), (33, 32), (64, 32)], ids=str)
def test_of_the_right_size_are_both_sides(kernel, shape):
    image = image_of(shape)
    assert np.array_equal(resized(image, 32, kernel), by_the_tool(image, 32, kernel))


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
    images, to = [image_of(shape) for shape in SHAPES], Resize(32, kernel)
    batch = resize.finish([resize.prepare(image, to) for image in images], to, CPU)
    assert batch.shape == (len(images), 3, 32, 32)
    assert batch.dtype == torch.float32
    for image, out in zip(images, batch, strict=True):
        assert np.array_equal(out.numpy(), resized(image, 32, kernel))


@pytest.mark.parametrize("kernel", resize.TENSOR_KERNELS)
def test_images_of_one_shape_go_together_to_the_last_bit(kernel, monkeypatch):
    shapes = [(28, 28), (32, 32), (28, 28), (28, 28), (200, 256), (200, 256)] * 3
    images, to = (
        [torch.from_numpy(image_of(shape, seed)) for seed, shape in enumerate(shapes)],
        Resize(32, kernel),
    )
    alone = torch.cat([resize.finish([image], to, CPU) for image in images])
    assert torch.equal(resize.finish(images, to, CPU), alone)
    groups = resize._together(images, 32, torch.device("cuda"))
    assert groups == [
        [at for at, one in enumerate(shapes) if one == shape] for shape in dict.fromkeys(shapes)
    ]
    monkeypatch.setattr(resize, "_together", lambda images, size, device: groups)
    assert torch.equal(resize.finish(images, to, CPU), alone)


def test_on_a_cpu_few_large_images_go_together():
    def sizes(side, size):
        return [len(group) for group in resize._together([torch.empty(side, side, 3)] * 40, size, CPU)]

    assert sizes(32, 8) == sizes(8, 32) == [32, 8]
    assert sizes(64, 8) == [8] * 5
    assert sizes(256, 8) == sizes(32, 299) == [1] * 40


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_the_image_itself_is_not_written_to(kernel):
    image = image_of((30, 30))
    before = image.copy()
    resized(image, 299, kernel)
    assert np.array_equal(image, before)


def test_tensor_kernels_leave_the_image_for_the_device_and_pixel_kernels_finish_it():
    image = image_of((20, 30))
    for kernel in resize.TENSOR_KERNELS:
        prepared = resize.prepare(image, Resize(16, kernel))
        assert (prepared.dtype, prepared.shape) == (torch.uint8, (20, 30, 3))
    for kernel in resize.PIXEL_KERNELS:
        prepared = resize.prepare(image, Resize(16, kernel))
        dtype = torch.uint8 if kernel.endswith("uint8") else torch.float32
        assert (prepared.dtype, prepared.shape) == (dtype, (3, 16, 16))


def test_every_kernel_is_of_exactly_one_kind():
    assert sorted(resize.KERNELS) == sorted({*resize.TENSOR_KERNELS, *resize.PIXEL_KERNELS})
    assert len(resize.KERNELS) == len(set(resize.KERNELS))


def test_an_unknown_kernel_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="unknown resize kernel 'tf1-bilinar': did you mean 'tf1-bilinear'"):
        resize.prepare(image_of((8, 8)), Resize(8, "tf1-bilinar"))


# --- Cuts, and the kernels that round: bit for bit what torchvision and timm do to a Pillow image

ODD_SHAPES = [(32, 32), (299, 299), (17, 400), (401, 130), (256, 257), (255, 256), (224, 500), (232, 233)]


def smooth(shape, seed=0):
    """A photograph's spectrum, and its range."""
    coarse = np.random.default_rng(seed).normal(128, 60, (9, 9, 3)).clip(0, 255).astype(np.uint8)
    fine = np.random.default_rng(seed + 1).normal(0, 12, (*shape, 3))
    enlarged = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
    return (enlarged + fine).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs():
    try:
        return datasets.load("cifar10", "test").images[:4]
    except FetchError as error:
        pytest.skip(f"no network and nothing in the cache: {error}")


def through(transform, image):
    """What a transform makes of a Pillow image, in whole levels."""
    return (transform(Image.fromarray(image)) * 255).round().numpy()


def eval_transform(size, scaled, interpolation, fit):
    whole = (scaled, scaled) if fit == "whole" else scaled
    return transforms.Compose(
        [
            transforms.Resize(whole, interpolation=transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
        ]
    )


@pytest.mark.parametrize("fit", ["shorter", "whole"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "scaled"), [(224, 256), (224, 235), (224, 224), (299, 342)])
@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
def test_cuts_are_those_of_torchvision(shape, size, scaled, interpolation, fit):
    image = smooth(shape)
    expected = through(eval_transform(size, scaled, interpolation, fit), image)
    assert np.array_equal(resized(image, size, f"pil-{interpolation}-uint8", fit, scaled), expected)


@pytest.mark.network
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_cuts_are_those_of_torchvision_on_photographs(interpolation, photographs):
    for image in photographs:
        expected = through(eval_transform(224, 256, interpolation, "shorter"), image)
        assert np.array_equal(resized(image, 224, f"pil-{interpolation}-uint8", "shorter", 256), expected)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_v2_s", "inception_v3"])
def test_the_preset_of_torchvision_is_reached_before_it_normalises(name):
    preset = get_model_weights(name).DEFAULT.transforms()
    (size,), (scaled,) = preset.crop_size, preset.resize_size
    image = smooth((301, 203))
    normalised = preset(Image.fromarray(image))
    mean, std = torch.tensor(preset.mean)[:, None, None], torch.tensor(preset.std)[:, None, None]
    expected = ((normalised * std + mean) * 255).round().numpy()
    kernel = f"pil-{preset.interpolation.value}-uint8"
    assert np.array_equal(resized(image, size, kernel, "shorter", scaled), expected)


@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
def test_the_square_of_cmmd_is_cut_before_the_resize(shape):
    image = smooth(shape)
    height, width = shape
    side = min(shape)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(image).crop((left, top, left + side, top + side))
    expected = np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(resized(image, 336, "pil-bicubic-uint8", "square"), expected)


def test_what_is_cut_off_does_not_matter():
    image = smooth((100, 300))
    other = image.copy()
    other[:, :20] = 255 - other[:, :20]
    for fit in ("shorter", "square"):
        before, after = (resized(one, 64, "pil-bicubic", fit) for one in (image, other))
        assert np.array_equal(before, after)
    assert not np.array_equal(resized(image, 64, "pil-bicubic"), resized(other, 64, "pil-bicubic"))


def test_rounding_is_what_tells_the_kernels_apart():
    image = smooth((64, 64)) // 2 + 64  # far from where levels are clipped
    exact, rounded = (resized(image, 100, kernel) for kernel in ("pil-bicubic", "pil-bicubic-uint8"))
    assert np.array_equal(rounded, rounded.round())
    assert 0.3 < np.abs(exact - rounded).max() < 1.3  # Pillow rounds after each of the two passes


@pytest.mark.parametrize("kernel", resize.TENSOR_KERNELS)
@pytest.mark.parametrize(("fit", "scaled"), [("shorter", 0), ("square", 0), ("whole", 256)])
def test_kernels_that_cannot_cut_say_so(kernel, fit, scaled):
    with pytest.raises(UsageError, match="squashes whole images"):
        resize.prepare(smooth((40, 50)), Resize(32, kernel, fit, scaled))


def test_nonsense_is_refused():
    with pytest.raises(UnknownName, match="unknown fit of a resize 'short': did you mean 'shorter'"):
        resize.prepare(smooth((40, 50)), Resize(32, "pil-bicubic", "short"))
    with pytest.raises(UsageError, match="a square of 32 cannot be cut out of an image resized to 16"):
        resize.prepare(smooth((40, 50)), Resize(32, "pil-bicubic", "shorter", 16))


# --- What a spec says of them


def test_older_specs_are_read_and_keep_their_digest():
    old = {
        "name": "inception-2015-12-05",
        "weights": "26c97f1670bd222c",
        "resize": {"size": 299, "kernel": "tf1-bilinear"},
        "normalize": "(x-128)/128",
        "precision": "fp32",
    }
    spec = Spec.from_json(old)
    assert spec.resize == Resize(299, "tf1-bilinear")
    assert spec.to_json() == old
    assert spec.digest == "29257cb05a871119"  # of version 0.1


def test_a_cut_is_part_of_the_spec_and_survives_a_file():
    resizes = [
        Resize(224, "pil-bicubic-uint8"),
        Resize(224, "pil-bicubic-uint8", "shorter"),
        Resize(224, "pil-bicubic-uint8", "square"),
        Resize(224, "pil-bicubic-uint8", "shorter", 256),
        Resize(224, "pil-bicubic-uint8", "whole", 256),
        NO_RESIZE,
    ]
    specs = [Spec("net", "0", one, "x") for one in resizes]
    assert len({spec.digest for spec in specs}) == len({str(one) for one in resizes}) == len(resizes)
    assert [Spec.from_json(spec.to_json()) for spec in specs] == specs


def test_one_resize_has_one_value():
    assert Resize(224, "pil-bicubic-uint8", "shorter", 224) == Resize(224, "pil-bicubic-uint8", "shorter")
