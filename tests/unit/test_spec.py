"""The terms that a feature was measured on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_eval.errors import StoreError
from gen_eval.spec import NO_RESIZE, Resize, Spec

SIDES = st.integers(1, 4096)
RESIZES = st.builds(
    Resize, SIDES, st.text(min_size=1), st.sampled_from(["whole", "shorter", "square"]), st.just(0) | SIDES
)
SPECS = st.builds(Spec, st.text(), st.text(), RESIZES, st.text(), st.text())


def test_any_term_changes_the_digest_and_is_named(spec, other):
    assert other.spec != spec
    assert other.spec.digest != spec.digest
    (line,) = spec.differences(other.spec)
    assert line.startswith(f"{other.term}: ")
    assert " against " in line


def test_every_term_that_differs_is_named(spec):
    other = Spec("pixels", "none", Resize(8, "pil-bicubic"), "x", "bf16")
    assert [line.partition(":")[0] for line in spec.differences(other)] == [
        "name",
        "weights",
        "resize",
        "normalize",
        "precision",
    ]
    assert spec.differences(other)[2] == "resize: tf1-bilinear to 299 against pil-bicubic to 8"


@given(SPECS)
def test_a_spec_comes_back_from_json_as_it_was(spec):
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.digest == spec.digest
    assert hash(again) == hash(spec)
    assert spec.differences(again) == []


@given(SPECS, SPECS)
def test_digests_are_equal_when_and_only_when_specs_are(one, other):
    assert (one.digest == other.digest) == (one == other) == (not one.differences(other))


def test_the_digest_never_changes(spec):
    # It stands in published files and result lines.
    assert spec.digest == "8c77cef9b311e68c"


def test_terms_at_their_default_are_not_written(spec):
    # Files from before there were crops hold these two alone.
    assert spec.to_json()["resize"] == {"size": 299, "kernel": "tf1-bilinear"}
    assert Resize(224, "pil-bicubic", "shorter", 256).to_json() == {
        "size": 224,
        "kernel": "pil-bicubic",
        "fit": "shorter",
        "scaled": 256,
    }


def test_a_crop_of_nothing_is_no_other_resize():
    assert Resize(224, "pil-bicubic", scaled=224) == Resize(224, "pil-bicubic")
    assert Resize(224, "pil-bicubic", scaled=225) != Resize(224, "pil-bicubic")


@pytest.mark.parametrize(
    ("resize", "text"),
    [
        (Resize(299, "tf1-bilinear"), "tf1-bilinear to 299"),
        (Resize(224, "pil-bicubic", "shorter", 256), "pil-bicubic of the shorter side to 256, centre 224"),
        (Resize(224, "pil-bicubic", "shorter"), "pil-bicubic of the shorter side to 224, centre 224"),
        (Resize(224, "pil-bicubic", "square"), "pil-bicubic of the central square to 224"),
        (Resize(224, "pil-bicubic", scaled=256), "pil-bicubic to 256, centre 224"),
        (NO_RESIZE, "no resize"),
    ],
)
def test_a_resize_is_told_in_words(resize, text):
    assert str(resize) == text


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("weights"),
        lambda data: data.pop("resize"),
        lambda data: data.update(colour="red"),
        lambda data: data.update(resize=3),
        lambda data: data.update(resize={"size": 3}),
        lambda data: data.update(resize={"size": 3, "kernel": "x", "colour": "red"}),
    ],
)
def test_what_is_not_a_spec_is_refused(change, spec):
    data = spec.to_json()
    change(data)
    with pytest.raises(StoreError, match="not a spec"):
        Spec.from_json(data)
