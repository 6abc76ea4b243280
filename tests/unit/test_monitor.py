"""Images fed batch by batch measure as the set that they are of, whatever the caller has in force."""

from __future__ import annotations

import gc
import hashlib
import io
import weakref

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler

from gen_eval.errors import (
    ImagesError,
    IncomparableError,
    NumericalError,
    UnknownName,
    UsageError,
)
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom, Pixels
from gen_eval.monitor import Monitor

pytestmark = pytest.mark.usefixtures("one_thread")

MEASURES = ["frechet:pixels", "kid:pixels", "pr:pixels"]
BATCHES = (1, 37, 230)


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def feed(monitor, images, batch=37, **options):
    for part in images.split(batch):
        monitor.update(part, **options)
    return monitor


def assert_same(found, expected, rel=1e-9):
    for one, other in zip(found, expected, strict=True):
        assert one.measure == other.measure
        assert dict(one.values) == pytest.approx(dict(other.values), rel=rel)
        assert dict(one.errors) == pytest.approx(dict(other.errors), rel=rel)
        assert dict(one.biases) == pytest.approx(dict(other.biases), rel=rel)
        assert one.spec == other.spec
        assert {role: info.n for role, info in one.sets.items()} == {
            role: info.n for role, info in other.sets.items()
        }


@pytest.fixture(scope="module")
def expected_of_folder(folder, real):
    return evaluate(MEASURES, generated=folder, reference=real)


@pytest.mark.parametrize("batch", BATCHES)
def test_fed_batches_equal_the_folder_of_the_same_images(batch, fake, real, expected_of_folder):
    assert_same(feed(Monitor(MEASURES, reference=real), tensor(fake), batch).compute(), expected_of_folder)


def test_batches_of_any_size_go_through_a_network_in_batches_of_one_size(fake, real):
    sizes = []

    def net(x):
        sizes.append(len(x))
        return x.mean((2, 3))

    own = {"mine": Custom(net, size=8, name="mine", version="1")}
    for batch in BATCHES:
        monitor = Monitor("frechet:mine", reference=real, extractors=own, batch_size=50)
        sizes.clear()
        feed(monitor, tensor(fake), batch).compute()
        assert sizes == [50, 50, 50, 50, 30, 50, 50, 50, 50, 50, 10]  # those fed, then the reference


@pytest.mark.parametrize("protocol", ["clean-fid", "pytorch-fid"])
def test_every_kind_of_resize_is_that_of_the_folder(protocol, fake, folder, real):
    options = {"reference": real, "protocol": protocol}
    found = feed(Monitor("frechet:pixels", **options), tensor(fake)).compute()
    assert_same(found, evaluate("frechet:pixels", generated=folder, **options))


def test_a_reference_that_is_fed_equals_one_that_is_given(fake, real, expected_of_folder):
    monitor = feed(Monitor(MEASURES), tensor(real), real=True)
    assert_same(feed(monitor, tensor(fake)).compute(), expected_of_folder)
    monitor.reset()
    assert_same(
        feed(monitor, tensor(real[:200])).compute(), evaluate(MEASURES, generated=real[:200], reference=real)
    )
    monitor.reset(real=True)
    feed(monitor, tensor(fake))
    with pytest.raises(UsageError, match="no reference images to measure yet: feed them, .*real=True"):
        monitor.compute()


def test_a_set_that_lies_somewhere_is_measured_against_a_reference_that_is_fed(
    fake, folder, real, expected_of_folder
):
    monitor = feed(Monitor(MEASURES), tensor(real[:200]), real=True)
    assert_same(monitor.measure(folder), evaluate(MEASURES, generated=folder, reference=real[:200]))
    feed(monitor, tensor(real[200:]), real=True)
    assert_same(monitor.measure(folder), expected_of_folder)
    assert_same(feed(monitor, tensor(fake)).compute(), expected_of_folder)
    with pytest.raises(UsageError, match="no reference images to measure yet: feed them, .*real=True"):
        Monitor(MEASURES).measure(folder)


def test_more_may_be_fed_after_a_result(fake, real, expected_of_folder):
    monitor = feed(Monitor(MEASURES, reference=real), tensor(fake[:100]))
    assert_same(monitor.compute(), evaluate(MEASURES, generated=fake[:100], reference=real))
    assert_same(feed(monitor, tensor(fake[100:])).compute(), expected_of_folder)
    monitor.reset()
    with pytest.raises(UsageError, match="no generated images to measure yet: feed them, update"):
        monitor.compute()


def test_a_fed_reference_that_grows_is_measured_anew(fake, real, expected_of_folder):
    monitor = feed(feed(Monitor(MEASURES), tensor(real[:200]), real=True), tensor(fake))
    first = monitor.compute()
    assert_same(feed(monitor, tensor(real[200:]), real=True).compute(), expected_of_folder)
    digests = {result.sets["reference"].digest for result in (*first, *monitor.compute())}
    assert len(digests) == 2


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "enable_grad": torch.enable_grad,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_what_the_caller_has_in_force_changes_nothing(caller, fake, real):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    own = {"mine": Custom(net, size=8, name="mine", version="1")}
    measures = ["frechet:mine", "kid:mine"]
    expected = evaluate(measures, generated=fake, reference=real, extractors=own)
    monitor = Monitor(measures, reference=real, extractors=own)
    with CALLERS[caller]():
        images = tensor(fake) + 0
        feed(monitor, images)
        found = monitor.compute()
    assert_same(found, expected, rel=1e-12)
    assert not found[0].contributions["generated"][1].requires_grad
    feed(monitor, tensor(fake[:9])).compute()  # inference tensors would not take more


def test_images_that_the_caller_changes_afterwards_are_kept_as_they_were(fake, real, expected_of_folder):
    monitor, buffer = Monitor(MEASURES, reference=real), torch.empty(23, 3, 12, 10, dtype=torch.uint8)
    for part in tensor(fake).split(23):
        buffer.copy_(part)
        monitor.update(buffer)
        buffer.zero_()
    assert_same(monitor.compute(), expected_of_folder)


# --- Pixels


def test_other_channel_counts_are_those_of_an_array(fake, real):
    gray = tensor(fake)[:, :1]
    (found,) = feed(Monitor("frechet:pixels", reference=real), gray).compute()
    (expected,) = evaluate("frechet:pixels", generated=gray, reference=real)
    assert_same([found], [expected])
    assert found.sets["generated"].notes == expected.sets["generated"].notes == {"gray to RGB": len(fake)}
    with_alpha = torch.cat([tensor(fake), gray], 1)
    (found,) = feed(Monitor("frechet:pixels", reference=real), with_alpha).compute()
    assert found.sets["generated"].notes == {"RGBA to RGB, alpha dropped": len(fake)}
    assert_same([found], evaluate("frechet:pixels", generated=fake, reference=real))


def test_arrays_and_channels_last_are_taken(fake, real, expected_of_folder):
    assert_same(feed(Monitor(MEASURES, reference=real), torch.from_numpy(fake)).compute(), expected_of_folder)
    monitor = Monitor(MEASURES, reference=real)
    monitor.update(fake)
    assert_same(monitor.compute(), expected_of_folder)


@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1)])
def test_floats_of_a_declared_range_are_the_images_they_stand_for(
    value_range, fake, real, expected_of_folder
):
    low, high = value_range
    floats = tensor(fake).float() / 255 * (high - low) + low
    monitor = Monitor(MEASURES, reference=real, value_range=value_range)
    found = feed(monitor, floats).compute()
    assert_same(found, expected_of_folder)
    assert found[0].sets["generated"].notes == {f"float [{low}, {high}] to 8 bits by save_image": len(fake)}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, np.float32])
def test_floats_of_a_generator_are_those_of_the_declared_range(kind, fake, real):
    images = fake.astype(np.float32) / 127.5 - 1
    images[::3] *= 1.2  # beyond the range

    def generate(seeds):
        if kind is np.float32:
            return images[seeds].astype(kind)
        return torch.from_numpy(images[seeds]).permute(0, 3, 1, 2).to(kind)

    options = {"reference": real, "value_range": (-1, 1), "rounding": "truncate"}
    monitor = Monitor("frechet:pixels", **options)
    (found,) = monitor.measure(generate, n=230)
    monitor.update(generate(torch.arange(230)))
    (expected,) = monitor.compute()
    assert_same([found], [expected])
    clamped = expected.sets["generated"].notes["values beyond the range clamped"]
    assert 0 < clamped < 230
    assert found.sets["generated"].notes == {
        "float [-1, 1] to 8 bits by truncate": 230 - clamped,
        "float [-1, 1] to 8 bits by truncate, values beyond the range clamped": clamped,
    }
    with pytest.raises(ImagesError, match="what generate returned is float.*expected uint8"):
        Monitor("frechet:pixels", reference=real).measure(generate, n=230)


def test_floats_without_a_meaning_are_refused_with_the_cure(fake, real):
    monitor = Monitor(MEASURES, reference=real)
    with pytest.raises(
        ImagesError, match=r"from 0 to 1, and nothing says.*value_range=\(0, 1\) or \(-1, 1\)"
    ):
        monitor.update(tensor(fake).float() / 255)
    with pytest.raises(ImagesError, match="int64 images were given; expected uint8"):
        monitor.update(tensor(fake).long())
    with pytest.raises(ImagesError, match=r"shape \[3, 12, 10\]: expected \[b, 3, h, w\]"):
        monitor.update(tensor(fake)[0])
    with pytest.raises(ImagesError, match="found list"):
        monitor.update([fake])
    with pytest.raises(ImagesError, match="1, 3 or 4 channels"):
        monitor.update(torch.zeros(2, 5, 12, 10, dtype=torch.uint8))
    broken = tensor(fake).float() / 255
    broken[3, 0, 5] = broken[7] = np.nan
    for value_range in (None, (0, 1)):
        with pytest.raises(
            ImagesError, match="2 of the 230 images given hold NaN, first #3 of them: look at"
        ):
            Monitor(MEASURES, reference=real, value_range=value_range).update(broken)
    monitor.update(tensor(fake)[:0])  # an empty share is none
    feed(monitor, tensor(fake)).compute()  # nothing of what was refused is left


# --- State


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("rows", [None, 50, 0])
def test_a_state_goes_on_where_it_was(rows, fake, real):
    measures = MEASURES if rows != 0 else "frechet:pixels"
    first = feed(Monitor(measures, rows=rows), tensor(fake[:100]))
    feed(first, tensor(real), real=True)
    second = Monitor(measures, rows=rows)
    feed(second, tensor(real[:3]))  # replaced
    second.load_state_dict(saved(first.state_dict()))
    feed(second, tensor(fake[100:]))
    assert_same(second.compute(), evaluate(measures, generated=fake, reference=real, rows=rows))


OTHERS = {
    "features": {"measures": "frechet:pixels", "protocol": "clean-fid"},
    "rows": {"measures": "frechet:pixels", "rows": 7},
    "floats": {"measures": "frechet:pixels", "value_range": (0, 1)},
}


@pytest.mark.parametrize("term", OTHERS)
def test_a_state_on_other_terms_is_refused_and_the_term_named(term, fake, real):
    state = feed(Monitor("frechet:pixels", reference=real), tensor(fake)).state_dict()
    with pytest.raises(IncomparableError, match=f"different terms:\n  {term}: ") as caught:
        Monitor(reference=real, **OTHERS[term]).load_state_dict(state)
    assert len(str(caught.value).splitlines()) == 3


def test_offloaded_networks_come_back_when_images_do(fake, real, expected_of_folder):
    monitor = Monitor(MEASURES, reference=real)
    feed(monitor, tensor(fake[:100])).compute()
    monitor.offload()
    assert not any(isinstance(each, Pixels) for each in monitor._plan.extractors.values())
    assert_same(monitor.compute(), evaluate(MEASURES, generated=fake[:100], reference=real))
    monitor.offload()
    assert_same(monitor.measure(fake), expected_of_folder)
    monitor.offload()
    assert_same(feed(monitor, tensor(fake[100:])).compute(), expected_of_folder)
    assert any(isinstance(each, Pixels) for each in monitor._plan.extractors.values())


# --- Memory and indices


def test_the_digest_is_the_sum_of_hashes_of_places_and_pixels(real):
    """Written out in integers of Python, for images of several sizes by turns."""

    def scrambled(at):
        mix = (at + 0x9E3779B97F4A7C15) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mix = (mix ^ mix >> shift) * factor % 2**64
        return mix ^ mix >> 31

    def signed(number):
        return (number + 2**63) % 2**64 - 2**63

    def hashed(place, image):
        levels = image.flatten().tolist()
        marks = [
            signed(sum(scrambled(lane * len(levels) + at) * level for at, level in enumerate(levels)))
            for lane in range(2)
        ]
        text = f"{place} {tuple(image.shape)} {marks}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")

    monitor, rng, content = Monitor("frechet:pixels", reference=real), np.random.default_rng(0), 0
    for at, shape in enumerate([(6, 5, 3), (7, 7, 3), (5, 6, 3), (6, 5, 3)]):
        batch = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
        monitor.update(batch)
        content += sum(hashed(3 * at + place, image) for place, image in enumerate(batch))
    expected = hashlib.sha256(f"12 {content % 2**256:064x}".encode()).hexdigest()
    assert monitor.compute()[0].sets["generated"].digest == expected


def test_a_reset_frees_what_was_fed_at_once(fake, real):
    """And not when garbage is collected, which counts objects, and not how large they are."""
    monitor = feed(Monitor(MEASURES, reference=real), tensor(fake))
    monitor.compute()
    fed = weakref.ref(monitor._streams["generated"])
    gc.disable()
    try:
        monitor.reset()
        assert fed() is None
    finally:
        gc.enable()


def test_memory_is_bounded_by_rows_however_many_images_come(real):
    monitor = Monitor(["frechet:pixels", "kid:pixels"], reference=real, rows=40)
    sizes = []
    for seed in range(6):
        rng = torch.Generator().manual_seed(seed)
        monitor.update(torch.randint(256, (300, 3, 8, 8), dtype=torch.uint8, generator=rng))
        state = monitor.state_dict()["generated"]["features"][0]
        sizes.append(sum(part.numel() for part in state.values() if isinstance(part, torch.Tensor)))
    assert set(sizes) == {192 + 192 * 192 + 40 * 192 + 40}


@pytest.mark.parametrize("rows", [60, None])
def test_which_rows_a_sample_holds_depends_on_the_indices_alone(rows, fake, real):
    measures = ["frechet:pixels", "kid:pixels"]
    order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0))
    monitor = Monitor(measures, reference=real, rows=rows)
    for part in order.split(41):
        monitor.update(tensor(fake)[part], index=part)
    found = monitor.compute()
    assert_same(found, evaluate(measures, generated=fake, reference=real, rows=rows))
    in_order = feed(Monitor(measures, reference=real, rows=rows), tensor(fake)).compute()
    assert found[0].sets["generated"].digest == in_order[0].sets["generated"].digest
    other = feed(Monitor(measures, reference=real, rows=rows), tensor(fake).flip(0)).compute()
    assert other[0].sets["generated"].digest != found[0].sets["generated"].digest
    with pytest.raises(UsageError, match="all batches of a set come with index=, on every rank, or none"):
        monitor.update(tensor(fake))
    with pytest.raises(UsageError, match=r"int64 \[230\], found torch.int64 \[3\]"):
        monitor.update(tensor(fake), index=torch.arange(3))
    with pytest.raises(UsageError, match=r"a tensor int64 \[230\], found list"):
        monitor.update(tensor(fake), index=list(range(230)))
    with pytest.raises(UsageError, match="counts images from 0, found -1"):
        monitor.update(tensor(fake), index=torch.arange(230) - 1)
    assert_same(monitor.compute(), found)  # nothing of what was refused is left


@pytest.mark.parametrize("rows", [None, 0])
def test_images_that_come_twice_by_their_index_are_refused(rows, fake, real):
    """As where a sampler repeats the first image, so that two ranks have 32 each of 63."""
    monitor, other = (Monitor("frechet:pixels", reference=real, rows=rows) for _ in range(2))
    for rank in (0, 1):
        index = torch.tensor([*DistributedSampler(range(63), num_replicas=2, rank=rank, shuffle=False)])
        monitor.update(tensor(fake)[index], index=index)
    other.load_state_dict(saved(monitor.state_dict()))
    for each in (monitor, other):
        with pytest.raises(UsageError, match="are 64, and 1 of their indices.*first 0: .*DistributedSampler"):
            each.compute()


def test_an_index_that_the_caller_changes_afterwards_is_kept_as_it_was(fake, real):
    monitor, index = Monitor("frechet:pixels", reference=real), torch.arange(10)
    for start in range(0, 230, 10):
        monitor.update(tensor(fake[start : start + 10]), index=index)
        index += 10
    assert_same(monitor.compute(), evaluate("frechet:pixels", generated=fake, reference=real))


# --- Refusals, before the first image


def test_what_cannot_be_measured_of_fed_images_is_refused_at_once(real, fake):
    with pytest.raises(UsageError, match="fd:identity takes feature vectors, and a monitor is fed images"):
        Monitor("fd:identity", reference=torch.randn(5, 3))
    with pytest.raises(UsageError, match="needs the classes of the generated and reference images"):
        Monitor("intra-fid:pixels")
    for value_range in (None, (0, 1)):
        with pytest.raises(UnknownName, match="did you mean 'truncate'"):
            Monitor(MEASURES, reference=real, value_range=value_range, rounding="truncat")
    for value_range in (0.5, (-1,), (0, 1, 2), "x", (0, "x"), (0, 255)):
        with pytest.raises(UsageError, match=r"is \(0, 1\) or \(-1, 1\), found "):
            Monitor(MEASURES, reference=real, value_range=value_range)
    for timeout in (0, -1, "x", None, np.nan, np.inf):
        with pytest.raises(UsageError, match=f"timeout is a number of seconds above 0, found {timeout!r}"):
            Monitor(MEASURES, reference=real, timeout=timeout)
    for measure, rows, least in (("kid:pixels", 1, 4), ("pr:pixels", 3, 4)):
        with pytest.raises(
            UsageError, match=f"{measure} needs at least {least} feature rows .*rows={rows} keeps"
        ):
            Monitor(measure, reference=real, rows=rows)
        Monitor(measure, reference=real, rows=least)
    Monitor("frechet:pixels", reference=real, rows=0)  # which needs none
    with pytest.raises(UnknownName, match="measure"):
        Monitor("fidd", reference=real)
    with pytest.raises(UsageError, match="one was given to begin with"):
        Monitor(MEASURES, reference=real).update(tensor(fake), real=True)
    with pytest.raises(UsageError, match="no measure asked for needs any"):
        Monitor("vendi:pixels").update(tensor(fake), real=True)


def test_features_that_are_not_finite_name_the_image(real, fake):
    own = {
        "mine": Custom(lambda x: x.flatten(1).log(), size=8, version="1", name="mine", resize="tf1-bilinear")
    }
    monitor = Monitor("frechet:mine", reference=np.maximum(real, 1), extractors=own)
    images = tensor(np.maximum(fake, 1))
    images[17] = 0
    with pytest.raises(NumericalError, match="first those of #17"):
        feed(monitor, images).compute()
