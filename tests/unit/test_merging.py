"""Statistics of parts add up to those of the whole, or are refused."""

from __future__ import annotations

import dataclasses
import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gen_eval import store
from gen_eval.errors import IncomparableError, UsageError
from gen_eval.extractors import Pixels
from gen_eval.images import open_images
from gen_eval.merging import merge
from gen_eval.passing import Request, summarize
from gen_eval.stats import Features

pytestmark = pytest.mark.usefixtures("one_thread")


def parts_of(images, *cuts, make, **options):
    """Summaries of the images up to each cut, from it on to the next, and so on."""
    ends = (0, *cuts, len(images))
    return [make(images, part=range(first, stop), **options) for first, stop in pairwise(ends)]


def assert_whole(merged, whole, assert_same_summary):
    """The same to the last bit, but for the moments, which are the same to rounding."""
    for key, features in whole.features.items():
        moments, expected = merged.features[key].moments, features.moments
        scale = float(expected.scatter.abs().max())
        assert float((moments.scatter - expected.scatter).abs().max()) <= 1e-12 * scale
        assert torch.equal(moments.scatter, moments.scatter.T)
        torch.testing.assert_close(moments.mean, expected.mean, rtol=1e-12, atol=0)
    exact = {
        key: dataclasses.replace(features, moments=whole.features[key].moments)
        for key, features in merged.features.items()
    }
    assert_same_summary(dataclasses.replace(merged, features=exact), whole)
    assert merged.part == whole.part


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, 229), min_size=1, max_size=4, unique=True).map(sorted),
    rows=st.sampled_from([None, 0, 1, 57, 1000]),
    order=st.randoms(use_true_random=False),
)
def test_parts_make_the_whole(cuts, rows, order, fake, pixel_summary, assert_same_summary):
    parts = parts_of(fake, *cuts, make=pixel_summary, rows=rows)
    order.shuffle(parts)
    assert_whole(merge(parts), pixel_summary(fake, rows=rows), assert_same_summary)


def test_some_parts_make_a_larger_part(fake, pixel_summary, assert_same_summary):
    first, second, third = parts_of(fake, 60, 130, make=pixel_summary, rows=50)
    two = merge([second, first])
    assert (two.part.first, two.part.stop, two.part.total) == (0, 130, 230)
    assert str(two.part) == "images 1 to 130 of 230"
    assert_whole(two, pixel_summary(fake, part=range(130), rows=50), assert_same_summary)
    assert_whole(merge([third, two]), pixel_summary(fake, rows=50), assert_same_summary)


def test_parts_come_back_from_their_files(tmp_path, fake, pixel_summary, assert_same_summary):
    parts = parts_of(fake, 100, make=pixel_summary, rows=50)
    for index, part in enumerate(parts):
        store.save(part, tmp_path / f"{index}.safetensors")
    loaded = [store.load(tmp_path / f"{index}.safetensors") for index in range(2)]
    assert [one.part for one in loaded] == [one.part for one in parts]
    assert_whole(merge(loaded), pixel_summary(fake, rows=50), assert_same_summary)


def test_the_content_of_a_part_is_that_of_its_images(fake, pixel_summary):
    part = pixel_summary(fake, part=range(20, 50))
    assert part.digest == pixel_summary(fake[20:50]).digest == hashlib.sha256(part.part.contents).hexdigest()
    assert len(part.part.contents) == 30 * 32


def test_broken_files_are_left_out_of_parts_as_of_the_whole(
    tmp_path, fake, write_folder, assert_same_summary
):
    folder = write_folder(tmp_path / "images", fake[:12])
    for index in (3, 8):
        (folder / f"{index:04}.png").write_bytes(b"broken")

    def make(images, **options):
        return summarize(images, [Request(Pixels(), ("pool",))], skip_corrupt=True, **options)

    images = open_images(folder)
    whole = make(images)
    assert len(whole.skipped) == 2
    assert_whole(merge(parts_of(images, 4, 9, make=make)), whole, assert_same_summary)


def test_sets_of_their_own_are_laid_one_after_the_other(fake, real, pixel_summary):
    one, other = (pixel_summary(images, rows=None) for images in (fake, real))
    both = pixel_summary(np.concatenate([fake, real]), rows=None)
    merged = merge([one, other])
    (features,), (expected,) = merged.features.values(), both.features.values()
    assert torch.equal(features.sample.rows, expected.sample.rows)
    assert torch.equal(features.sample.index, expected.sample.index)
    torch.testing.assert_close(features.moments.scatter, expected.moments.scatter, rtol=1e-9, atol=1e-6)
    assert (features.n, merged.name, merged.part) == (490, "array", None)
    assert merged.digest != merge([other, one]).digest


def test_sets_without_rows_merge(fake, real, pixel_summary):
    merged = merge([pixel_summary(images, rows=0) for images in (fake, real)])
    (features,) = merged.features.values()
    assert (features.n, features.sample.n) == (490, 0)


# --- Refusals


def test_other_terms_are_refused_by_name(fake, real, pixel_summary):
    with pytest.raises(IncomparableError, match="resize: tf1-bilinear to 8 against pil-bicubic to 8"):
        merge([pixel_summary(fake), pixel_summary(real, "pil-bicubic")])


def test_in_which_order_features_were_asked_for_does_not_matter(fake, real, pixel_summary):
    two = [
        dataclasses.replace(one, features={**one.features, **pixel_summary(images, "pil-bicubic").features})
        for images in (fake, real)
        for one in [pixel_summary(images)]
    ]
    turned = dataclasses.replace(two[1], features=dict(reversed(two[1].features.items())))
    assert list(turned.features) != list(two[1].features)
    whole, other = merge(two), merge([two[0], turned])
    for key, found in whole.features.items():
        assert torch.equal(found.moments.scatter, other.features[key].moments.scatter)
    with pytest.raises(IncomparableError, match="has pixels pool, which") as refused:
        merge([two[0], pixel_summary(real)])
    assert "tf1-bilinear" not in str(refused.value)  # that is what they share


def test_statistics_for_other_measures_are_refused(fake, real, pixel_summary):
    one, other = pixel_summary(fake), pixel_summary(real)
    (key,) = one.features
    more = dataclasses.replace(other, features={**other.features, (key[0], "logits"): other.features[key]})
    for pair in ([one, more], [more, one]):
        with pytest.raises(IncomparableError, match="has pixels logits, which array lacks"):
            merge(pair)


def test_the_same_images_twice_are_refused(fake, pixel_summary):
    with pytest.raises(UsageError, match="the same images, to the last byte"):
        merge([pixel_summary(fake), pixel_summary(fake)])
    with pytest.raises(UsageError, match="1 to 100 of 230 and images 91 to 230 of 230 have images in common"):
        merge([pixel_summary(fake, part=range(90, 230)), pixel_summary(fake, part=range(100))])


def test_parts_with_a_gap_are_refused(fake, pixel_summary):
    with pytest.raises(UsageError, match="1 to 50 of 230 and images 91 to 230 of 230 leave out"):
        merge([pixel_summary(fake, part=range(50)), pixel_summary(fake, part=range(90, 230))])


def test_parts_of_different_sets_are_refused(fake, real, pixel_summary):
    with pytest.raises(UsageError, match="parts of different sets"):
        merge([pixel_summary(fake, part=range(50)), pixel_summary(real, part=range(50, 260))])
    with pytest.raises(UsageError, match="a set of its own, and others are parts"):
        merge([pixel_summary(fake, part=range(50)), pixel_summary(real)])


def test_a_subset_of_rows_of_a_set_of_its_own_is_refused(fake, real, pixel_summary):
    with pytest.raises(UsageError, match=r"keeps 100 of 230 feature rows.*--part K/N"):
        merge([pixel_summary(fake, rows=100), pixel_summary(real, rows=100)])


def test_rows_that_do_not_add_are_refused(fake, real, pixel_summary):
    with pytest.raises(UsageError, match="limited to 300 and to None rows"):
        merge([pixel_summary(fake, rows=300), pixel_summary(real, rows=None)])
    one, other = pixel_summary(fake, rows=None), pixel_summary(real, rows=None)
    (key,) = one.features
    bare = dataclasses.replace(other.features[key], sample=None)
    with pytest.raises(UsageError, match="some of these statistics hold feature rows and others none"):
        merge([one, dataclasses.replace(other, features={key: bare})])


def test_an_unknown_number_of_images_has_no_weight(fake, real, pixel_summary):
    one, other = pixel_summary(fake, rows=0), pixel_summary(real, rows=0)
    (key,) = one.features
    moments = other.features[key].moments
    unknown = dataclasses.replace(other, features={key: Features.of_gaussian(moments.mean, moments.cov())})
    with pytest.raises(UsageError, match=r"does not say how many images.*convert --n"):
        merge([one, unknown])


def test_one_is_not_merged(fake, pixel_summary):
    with pytest.raises(UsageError, match="two statistics or more, found 1"):
        merge([pixel_summary(fake)])


def test_what_is_claimed_stays_claimed_and_versions_are_kept(fake, real, pixel_summary):
    one = dataclasses.replace(pixel_summary(fake), claimed=True, made_with={"torch": "2.8", "device": "cpu"})
    other = dataclasses.replace(pixel_summary(real), made_with={"torch": "2.9", "device": "cpu"})
    merged = merge([one, other])
    assert merged.claimed
    assert merged.made_with == {"torch": "2.8, 2.9", "device": "cpu"}
