"""Stages and the overlap of a pass, on sets and networks whose time is known because they sleep.

They sleep long beside what a busy machine may add.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from gen_eval.bench import stages as module
from gen_eval.bench.overlap import Overlap, measure_overlap, overlap_of
from gen_eval.bench.stages import Stage, measure_stages
from gen_eval.errors import CorruptImages, UsageError
from gen_eval.extractors import Pixels
from gen_eval.images import open_images
from gen_eval.metrics import find_measure
from gen_eval.passing import Request
from gen_eval.protocols import find_protocol

FID = find_measure("fid:pixels")
TERMS = find_protocol("torch-fidelity")


class Sleepy(Pixels):
    """A network that takes its time for a batch."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def __call__(self, images, taps=("pool",)):
        time.sleep(self.seconds)
        return super().__call__(images, taps)


class Slow:
    """Images that take their time to be read, on the calling thread."""

    thread_safe = False

    def __init__(self, images, seconds):
        self.name = images.name
        self._images, self._seconds = images, seconds

    def __len__(self):
        return len(self._images)

    def __getattr__(self, name):
        return getattr(self._images, name)

    def read(self, indices):
        time.sleep(self._seconds * len(indices))
        return self._images.read(indices)


@pytest.fixture(scope="module")
def pictures():
    return open_images(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), name="a")


def test_every_stage_of_a_distance(pictures):
    told = []
    stages, overlap = measure_stages(
        pictures,
        pictures,
        Sleepy(0.02),
        FID,
        TERMS,
        batch_size=4,
        workers=1,
        many=300,
        progress=lambda *args: told.append(args),
    )
    assert [(stage.name, stage.n, stage.per_image) for stage in stages] == [
        ("decode", 12, True),
        ("resize", 12, True),
        ("network", 12, True),
        ("moments", 12, True),
        ("distance", 12, False),
        ("distance", 300, False),
    ]
    assert all(stage.seconds > 0 for stage in stages)
    network = stages[2]
    assert network.seconds >= 0.06  # three batches of 20 ms
    assert network.gflops is None  # pixels multiply nothing
    assert overlap.n == 12
    assert overlap.network_s >= 0.06
    assert ("stages", 5, 5, "step") in told


def test_decoding_is_timed(pictures):
    stages, _ = measure_stages(Slow(pictures, 0.1), pictures, Pixels(), FID, TERMS, many=0, workers=0)
    assert stages[0].seconds >= 1.2
    assert max(stages[1].seconds, stages[2].seconds, stages[3].seconds) < 1.2
    assert len(stages) == 5


class SlowAtFirst(Slow):
    """The first image to be read takes a second more, as that does which loads the reader of a format."""

    def read(self, indices):
        time.sleep(self._seconds)
        self._seconds = 0
        return self._images.read(indices)


def test_what_the_first_image_loads_is_not_timed(pictures):
    stages, _ = measure_stages(SlowAtFirst(pictures, 1.0), pictures, Pixels(), FID, TERMS, many=0, workers=0)
    assert stages[0].seconds < 0.8


def test_a_network_that_waits_is_idle(pictures):
    """400 ms to read each batch of 4, next to nothing to look at it."""
    request = Request(Pixels(), ("pool",))
    overlap = measure_overlap(Slow(pictures, 0.1), request, batch_size=4, workers=0)
    assert overlap.idle > 0.7
    assert overlap.busy < 0.3


def test_a_network_that_is_fed_is_not(pictures):
    overlap = measure_overlap(pictures, Request(Sleepy(0.4), ("pool",)), batch_size=4, workers=1)
    assert overlap.idle < 0.4
    assert overlap.busy > 0.6
    assert overlap.rate == pytest.approx(12 / overlap.seconds)


def test_half_and_half(pictures):
    """Without workers nothing overlaps: reading and looking take 400 ms each."""
    overlap = measure_overlap(Slow(pictures, 0.1), Request(Sleepy(0.4), ("pool",)), batch_size=4, workers=0)
    assert overlap.idle == pytest.approx(0.5, abs=0.2)
    assert overlap.busy == pytest.approx(0.5, abs=0.2)


def test_the_account_of_a_pass():
    """Two batches: waits 1 and 3 s, runs 2 and 2 s, keeps features 1 and 1 s."""
    overlap = overlap_of(8, ends=[5.0, 9.0, 15.0], begun=[6.0, 12.0], done=[8.0, 14.0])
    assert overlap == Overlap(8, 10.0, 4.0, 4.0)
    assert (overlap.idle, overlap.busy, overlap.rate) == (0.4, 0.4, 0.8)


def test_units_of_a_stage():
    stage = Stage("network", 50, 2.0, gflop=11.4)
    assert (stage.milliseconds, stage.rate, stage.gflops) == (40.0, 25.0, pytest.approx(285.0))
    assert Stage("distance", 50, 2.0, per_image=False).milliseconds == 2000.0


def test_made_up_features_have_a_distance():
    sides = module._made_up(500, 12, torch.device("cpu"))
    assert sides["reference"].n == sides["generated"].n == 500
    assert FID.metric.compute(sides, **TERMS.params_for("frechet", FID.metric.params)).values["frechet"] > 0


def test_one_image_is_too_few(pictures):
    one = open_images(np.zeros((1, 16, 16, 3), np.uint8), name="one")
    with pytest.raises(UsageError, match="found 12 and 1 images: stages are timed on 2 or more"):
        measure_stages(pictures, one, Pixels(), FID, TERMS)


def test_a_broken_file_is_named(tmp_path, pictures):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(CorruptImages, match="a.png"):
        measure_stages(open_images(tmp_path), pictures, Pixels(), FID, TERMS)
