"""Lists, datasets, generators, and what open_images makes of anything else."""

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval.errors import ImagesError, UsageError
from gen_eval.images import Images, open_images
from gen_eval.progress import silent

RNG = np.random.default_rng(0)
HWC = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
CHW = torch.from_numpy(HWC.transpose(2, 0, 1).copy())

ITEMS = {
    "PIL": Image.fromarray(HWC),
    "array": HWC,
    "tensor": CHW,
    "tuple": (Image.fromarray(HWC), 3),
    "list": [CHW, 3, "cat"],
    "dict": {"label": 3, "image": Image.fromarray(HWC)},
    "img": {"img": HWC},
}


class Dataset(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
def test_items_of_a_dataset(item):
    images = open_images(Dataset([item, item]))
    assert isinstance(images, Images)
    assert images.name == "Dataset"
    assert images.label(1) == "#1"
    assert not images.thread_safe
    assert images.check(silent) == []
    first, second = images.read([1, 0])
    np.testing.assert_array_equal(first.pixels, HWC)
    assert first.note is None
    assert first.digest == second.digest


def test_a_list_of_images():
    images = open_images([Image.fromarray(HWC), HWC, CHW], name="mine")
    assert images.name == "mine"
    for image in images.read([0, 1, 2]):
        np.testing.assert_array_equal(image.pixels, HWC)


def test_gray_items():
    for item in (Image.fromarray(HWC[:, :, 0]), HWC[:, :, 0], CHW[:1], CHW[0]):
        image = open_images([item]).read([0])[0]
        np.testing.assert_array_equal(image.pixels, np.stack([HWC[:, :, 0]] * 3, axis=2))
        assert image.note == "gray to RGB"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (CHW / 255, r"list #0 is float32.*\(x \* 255\)"),
        ("x.png", "list #1 is str; expected a PIL image"),
        ({"pixels": HWC}, r"a dict with \['pixels'\]"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"shape \[2, 3, 4, 3\]"),
        (Image.new("F", (2, 2)), "floats"),
        ((), "is tuple"),
    ],
)
def test_items_that_are_no_images(item, message):
    items = [item] if not isinstance(item, str) else [HWC, item]
    with pytest.raises(ImagesError, match=message):
        open_images(items).read(range(len(items)))


def test_errors_of_a_dataset_come_through():
    class Failing(Dataset):
        def __getitem__(self, index):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        open_images(Failing([1])).read([0])


@pytest.mark.parametrize("empty", [[], (), Dataset([])])
def test_empty_lists_and_datasets(empty):
    with pytest.raises(ImagesError, match="is empty"):
        open_images(empty)


def of_seed(seeds):
    values = (seeds * 7 % 256).to(torch.uint8)
    return values[:, None, None, None].expand(-1, 3, 6, 5)


RETURNS = {
    "NCHW tensor": of_seed,
    "NHWC tensor": lambda seeds: of_seed(seeds).permute(0, 2, 3, 1),
    "NCHW array": lambda seeds: of_seed(seeds).numpy(),
    "NHWC array": lambda seeds: of_seed(seeds).permute(0, 2, 3, 1).numpy(),
    "gray": lambda seeds: of_seed(seeds)[:, :1],
}


@pytest.mark.parametrize("function", RETURNS.values(), ids=RETURNS.keys())
def test_an_image_depends_on_its_seed_alone(function):
    images = open_images(function, n=10, seed=100)
    assert isinstance(images, Images)
    assert len(images) == 10
    assert not images.thread_safe
    assert images.check(silent) == []
    together = images.read([2, 9, 4])
    for index, image in zip([2, 9, 4], together, strict=True):
        assert image.pixels.shape == (6, 5, 3)
        assert (image.pixels == (100 + index) * 7 % 256).all()
        assert image.digest == images.read([index])[0].digest


def test_a_generator_gets_int64_seeds_and_no_gradients():
    def function(seeds):
        assert seeds.dtype == torch.int64
        assert not torch.is_grad_enabled()
        return of_seed(seeds)

    images = open_images(function, n=3)
    assert images.name == "function"
    assert images.label(2) == "#2"
    images.read([0, 1, 2])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(2, 3, 4, 4), "is float32; expected uint8"),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
            r"shape \[1, 3, 4, 4\] for 2 seeds; expected uint8 \[2, 3",
        ),
        (torch.zeros(2, 3, 4, dtype=torch.uint8), r"shape \[2, 3, 4\]"),
        (torch.zeros(2, 5, 4, 6, dtype=torch.uint8), r"images of shape \[5, 4, 6\]"),
        ([HWC, HWC], "returned list; expected"),
    ],
)
def test_a_generator_that_returns_something_else(returned, message):
    with pytest.raises(ImagesError, match=message):
        open_images(lambda seeds: returned, n=2, name="mine").read([0, 1])


def test_a_generator_needs_a_number():
    with pytest.raises(UsageError, match=r"of_seed is a callable.*n="):
        open_images(of_seed)
    with pytest.raises(UsageError, match="n is 0"):
        open_images(of_seed, n=0)


def test_a_network_with_layers_generates():
    class Reshape(torch.nn.Module):
        def forward(self, seeds):
            return of_seed(seeds)

    images = open_images(torch.nn.Sequential(Reshape()), n=4)
    assert images.name == "Sequential"
    assert len(images.read([0, 1])) == 2


def test_a_network_that_takes_latents_is_told_from_one_that_takes_seeds():
    network = torch.nn.Sequential(torch.nn.Linear(4, 12))
    with pytest.raises(
        UsageError, match=r"(?s)Sequential is a network that failed on seeds, int64 \[2\].*draws.normal"
    ):
        open_images(network, n=2).read([0, 1])


def test_images_are_returned_as_they_are():
    images = open_images([HWC])
    assert open_images(images) is images


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (3, "a int"),
        (None, "a NoneType"),
        ({"image": HWC}, "a dict"),
        (b"bytes", "a bytes"),
        (Dataset, "the class Dataset"),
        (Image.new("RGB", (2, 2)), "a Image"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anything_else(source, found):
    with pytest.raises(UsageError, match=f"cannot read images from {found}: expected a folder"):
        open_images(source)


@pytest.mark.parametrize(
    ("source", "way_out"),
    [
        (torch.utils.data.DataLoader(Dataset([HWC])), "a DataLoader: pass its dataset"),
        (iter([HWC]), "a list_iterator: feed what it yields to a gen_eval.Monitor, or make a list of it"),
    ],
    ids=["loader", "iterator"],
)
def test_what_comes_in_batches_or_once_has_a_way_out(source, way_out):
    with pytest.raises(UsageError, match=f"cannot read images from {way_out}"):
        open_images(source)
