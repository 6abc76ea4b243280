"""What torchmetrics' surroundings ask of our classes."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom

torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
pytest.importorskip("torchmetrics.image", reason="torchmetrics is not installed")
from gen_eval.integrations.torchmetrics import (  # noqa: E402
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = [FrechetInceptionDistance, KernelInceptionDistance, InceptionScore]


class Net(torch.nn.Module):
    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


@pytest.fixture(scope="module")
def sets():
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randint(top, (60, 3, 8, 8), dtype=torch.uint8, generator=rng) for top in (200, 256))


def fid_of(sets, metric=None, **options):
    metric = metric or FrechetInceptionDistance(Net(), **options)
    metric.update(sets[0], real=True)
    metric.update(sets[1], real=False)
    return metric


@pytest.mark.parametrize("ours", CLASSES)
def test_arguments_are_those_of_torchmetrics_in_their_order(ours):
    theirs = getattr(torchmetrics.image, ours.__name__)
    mine, given = (inspect.signature(each.__init__).parameters for each in (ours, theirs))
    kept = {name: parameter.default for name, parameter in mine.items() if name not in ("options",)}
    assert list(kept) == list(given)
    assert kept == {name: parameter.default for name, parameter in given.items()}
    assert issubclass(ours, torchmetrics.Metric)
    assert ours.higher_is_better == theirs.higher_is_better


def test_the_number_is_that_of_an_evaluation_with_its_error(sets):
    metric = fid_of(sets)
    own = {"mine": Custom(lambda x: Net()(x), size=8, resize="torch-bilinear", normalize="x", name="m")}
    (expected,) = evaluate(
        "frechet:mine", generated=sets[1], reference=sets[0], extractors=own, protocol="torchmetrics"
    )
    assert float(metric.compute()) == pytest.approx(expected.value, rel=1e-6)
    assert float(metric.error) == pytest.approx(expected.error, rel=1e-6)
    assert metric.result.bias == pytest.approx(expected.bias, rel=1e-6)


@pytest.mark.parametrize("reset_real_features", [True, False])
def test_reset_keeps_the_reference_if_it_is_told_to(reset_real_features, sets):
    metric = fid_of(sets, reset_real_features=reset_real_features)
    first = metric.compute()
    metric.reset()
    metric.update(sets[1], real=False)
    if reset_real_features:
        with pytest.raises(UsageError, match="no reference images to measure yet"):
            metric.compute()
    else:
        assert torch.equal(metric.compute(), first)


def test_floats_in_0_1_are_the_bytes_that_they_stand_for(sets):
    floats = [images.float() / 255 for images in sets]
    metric = fid_of(floats, normalize=True)
    # The module is given x/255, as it would be of floats.
    assert float(metric.compute()) * 255**2 == pytest.approx(float(fid_of(sets).compute()), rel=1e-5)


def test_a_collection_takes_them(sets):
    collection = torchmetrics.MetricCollection(
        {"fid": FrechetInceptionDistance(Net()), "kid": KernelInceptionDistance(Net(), subset_size=50)}
    )
    for _ in range(2):
        collection.update(sets[0], real=True)
        collection.update(sets[1], real=False)
        found = collection.compute()
        collection.reset()
    assert float(found["fid"]) == pytest.approx(float(fid_of(sets).compute()))
    assert isinstance(found["kid"], tuple)


def test_a_copy_goes_its_own_way(sets):
    metric = fid_of(sets)
    copied = copy.deepcopy(metric)
    copied.update(sets[0], real=False)
    assert float(copied.compute()) != float(metric.compute())
    assert float(metric.compute()) == float(fid_of(sets).compute())


def test_what_makes_no_sense_is_refused(sets):
    for feature in (65, "2048"):
        with pytest.raises(UsageError, match=f"feature is 64, 192, .* or a module, found {feature!r}"):
            FrechetInceptionDistance(feature)
    with pytest.raises(UsageError, match=r"float32 images .* FrechetInceptionDistance\(normalize=True\)"):
        FrechetInceptionDistance(Net()).update(sets[0].float(), real=True)
    with pytest.raises(UsageError, match="normalize is true or false, found 1"):
        FrechetInceptionDistance(Net(), normalize=1)
    with pytest.raises(UsageError, match="one batch means nothing"):
        FrechetInceptionDistance(Net())(sets[0], real=True)
    with pytest.raises(UsageError, match="no result before"):
        _ = FrechetInceptionDistance(Net()).result
    with pytest.raises(UsageError, match=r"square RGB images \[b, 3, s, s\], found \[60, 3, 8, 7\]"):
        FrechetInceptionDistance(Net()).update(sets[0][..., :7], real=True)
    kid = fid_of(sets, KernelInceptionDistance(Net()))
    with pytest.raises(ValueError, match="subset_size is 1000, and a set holds 60 images"):
        kid.compute()
    few = FrechetInceptionDistance(Net())
    few.update(sets[0], real=True)
    few.update(sets[1][:1], real=False)
    with pytest.raises(TooFewImages):
        few.compute()
