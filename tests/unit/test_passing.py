"""The one pass: what does not fit on a device together, and features that are no numbers."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval import Monitor, evaluate, passing
from gen_eval.errors import CorruptImages, NumericalError, UsageError
from gen_eval.extractors import Custom, Pixels
from gen_eval.images import open_images
from gen_eval.passing import Request, summarize

# --- A device that is too small


NO_ROOM = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
)


class Small:
    """A network on a device whose memory takes so many images at once."""

    def __init__(self, most, error=NO_ROOM[0]):
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return x.flatten(1)


def options(net):
    own = {"mine": Custom(net, size=6, name="mine", version="1", resize="tf1-bilinear")}
    return {"measures": "frechet:mine", "extractors": own, "batch_size": 16}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_what_does_not_fit_together_goes_in_halves_from_then_on(images, error, caplog):
    net = Small(7, error)
    with caplog.at_level(logging.WARNING, "gen_eval"):
        found = evaluate(generated=images[::-1], reference=images[:40], **options(net))
    expected = evaluate(generated=images[::-1], reference=images[:40], **options(Small(99)))
    assert found[0].value == pytest.approx(expected[0].value, rel=1e-9)
    assert found[0].sets == expected[0].sets
    assert net.sizes[:7] == [2, 16, 8, 4, 4, 4, 4]  # the first two are those that it is tried on
    assert all(size <= 16 for size in net.sizes)
    assert "16 images do not fit through mine together in the memory of cpu: it takes 8" in caplog.text
    assert len(caplog.records) == 2 * 2  # two halvings, on each of two sets


def test_a_monitor_goes_in_halves_as_well(images):
    monitor = Monitor(reference=images[:40], **options(Small(3)))
    monitor.update(images[::-1].copy())
    expected = evaluate(generated=images[::-1], reference=images[:40], **options(Small(99)))
    assert monitor.compute()[0].value == pytest.approx(expected[0].value, rel=1e-9)


def test_where_not_even_one_image_fits_it_is_said(images):
    net = Small(2)
    settings = options(net)
    net.most = 0
    with pytest.raises(UsageError, match="not even one image goes through mine in the memory.*--device cpu"):
        evaluate(generated=images, reference=images[:40], **settings)


def test_what_else_a_network_raises_is_no_lack_of_room(images):
    net = Small(2, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        evaluate(generated=images, reference=images[:40], **options(net))
    assert net.sizes == [2, 16]


def test_an_error_ends_the_threads_of_the_pass(images):
    net = Small(2, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit") as held:  # and with it the frames of the pass
        evaluate(generated=images, reference=images[:40], workers=2, **options(net))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("gen_eval")]
    del held


# --- How many go together


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("size", "resize", "batch_size", "sizes"),
    [
        (32, "pil-bicubic", None, [32, 18]),
        (32, "tf1-bilinear", None, [32, 18]),
        (33, "pil-bicubic", None, [8] * 6 + [2]),
        (32, "pil-bicubic", 5, [5] * 10),
    ],
)
def test_of_small_images_more_go_together(images, size, resize, batch_size, sizes, workers):
    net = Small(99)
    request = Request(Custom(net, size=size, resize=resize), ("pool",))
    summary = summarize(open_images(images), [request], batch_size=batch_size, workers=workers)
    assert net.sizes[1:] == sizes  # the first two are those that it is tried on
    one_by_one = summarize(open_images(images), [request], batch_size=1)
    (found,), (expected,) = summary.features.values(), one_by_one.features.values()
    assert summary.digest == one_by_one.digest
    assert torch.equal(found.sample.rows, expected.sample.rows)
    assert torch.allclose(found.cov(), expected.cov(), rtol=1e-12, atol=0)


def test_large_images_that_wait_whole_go_at_once(images, monkeypatch):
    monkeypatch.setattr(passing, "_HELD", 16 * images[0].nbytes)
    for resize, sizes in (("tf1-bilinear", [16, 16, 16, 2]), ("pil-bicubic-uint8", [8] * 6 + [2])):
        net = Small(99)
        summarize(open_images(images), [Request(Custom(net, size=32, resize=resize), ("pool",))])
        assert net.sizes[1:] == sizes


def test_what_is_told_of_images_does_not_depend_on_how_many_go_together(tmp_path):
    for at in range(50):
        path = tmp_path / f"{at:02}.png"
        if at % 20 == 3:
            path.write_bytes(b"broken")
        else:
            Image.new("RGB" if at % 3 else "L", (8, 8), at).save(path)
    told = []

    def progress(task, done, total, unit):
        told.append(done)

    request, folder = Request(Pixels(), ("pool",)), open_images(tmp_path)
    together, alone = (
        summarize(folder, [request], batch_size=size, skip_corrupt=True, progress=progress)
        for size in (None, 1)
    )
    for summary in (together, alone):
        assert [label for label, _ in summary.skipped] == ["03.png", "23.png", "43.png"]
        assert summary.notes == {"gray to RGB": sum(at % 3 == 0 and at % 20 != 3 for at in range(50))}
    assert together.digest == alone.digest
    assert told[:3] == [0, 32, 50]  # 30 and 17 go through the network, of at most 32
    with pytest.raises(CorruptImages) as caught:
        summarize(folder, [request], workers=0)
    assert [label for label, _ in caught.value.broken] == ["03.png"]


# --- Features that are no numbers


class Unsound(Pixels):
    """An extractor that breaks down on one image."""

    def __call__(self, images, taps=("pool",)):
        features = super().__call__(images, taps)
        features["pool"][features["pool"].mean(1) > 254] = float("nan")
        return features


def test_features_that_are_not_finite_stop_the_run(fake, real):
    white = np.concatenate([fake, np.full((1, 12, 10, 3), 255, np.uint8)])
    with pytest.raises(
        NumericalError, match=r"features of 1 images of array are NaN or infinite, first those of #\d+"
    ):
        evaluate("frechet:unsound", generated=white, reference=real, extractors={"unsound": Unsound()})
