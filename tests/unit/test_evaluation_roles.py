"""What the frame hands to a metric of each kind, and what it makes of the score: with metrics that only tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval import store
from gen_eval.errors import TooFewImages, UnknownName, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.metrics import Measure, Metric, Score
from gen_eval.protocols import Protocol
from gen_eval.resize import tf1_bilinear

pytestmark = pytest.mark.usefixtures("one_thread")

N, M = 24, 30


@pytest.fixture(scope="module")
def few(fake):
    return fake[:N]


@pytest.fixture(scope="module")
def others(real):
    return real[:M]


def pixels_of(images):
    """The features that the frame is to find, ``[n, 192]``, in the order of the images."""
    return tf1_bilinear(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 8).flatten(1)


def through_pixels(compute, name="toy", **row):
    """A measure of a metric of one's own."""
    better = row.pop("better", {name: "higher"})
    return Measure(f"{name}:pixels", Metric(name, compute, better, "nobody", **row), "pixels", "pool")


def rows_of(features, *, scale=1):
    """The mean of the rows as the frame hands them over, and a number for each image."""
    each = {role: found.sample.in_order().double().mean(1) * scale for role, found in features.items()}
    return Score(
        {"rows": float(each["generated"].mean()), "spread": float(each["generated"].std())},
        errors={"rows": 0.5},
        biases={"rows": 0.0},
        per_image=each,
        warnings=("a toy",),
    )


BY_ROWS = through_pixels(rows_of, "rows", by_rows=True, params={"scale": 1})
ALONE = through_pixels(
    lambda features: Score({"alone": float(len(features)), "n": float(features["generated"].n)}),
    "alone",
    roles=("generated",),
    by_rows=True,
    version=7,
)
WHOLE = through_pixels(
    lambda features: Score({role: float(found.sample.n) for role, found in features.items()}),
    "whole",
    whole=("generated",),
)


def classes_of(features):
    parts = {role: found.by_class() for role, found in features.items()}
    return Score(
        {
            f"{role} {name}": float(part.sample.rows.mean())
            for role, by_class in parts.items()
            for name, part in by_class.items()
        }
    )


BY_CLASS = through_pixels(
    classes_of, "classes", by_rows=True, by_class=("generated", "reference"), whole=("generated", "reference")
)


# --- Rows


def test_a_metric_of_rows_sees_all_of_them_in_the_order_of_the_images(few, others):
    (found,) = evaluate(BY_ROWS, generated=few, reference=others)
    for role, images in (("generated", few), ("reference", others)):
        index, number = found.per_image[role]
        assert index.tolist() == list(range(len(images)))
        np.testing.assert_allclose(number, pixels_of(images).double().mean(1), rtol=1e-6)
    assert found.value == pytest.approx(float(pixels_of(few).double().mean()), rel=1e-6)
    assert (found.error, found.bias) == (0.5, 0.0)
    assert (found.errors, found.biases) == ({"rows": 0.5}, {"rows": 0.0})
    assert found.warnings == ("a toy",)
    assert {role: info.n for role, info in found.sets.items()} == {"generated": N, "reference": M}


def test_a_sample_of_the_rows_is_said_and_keeps_the_number_beside_its_image(few, others):
    (found,) = evaluate(BY_ROWS, generated=few, reference=others, rows=10)
    index, number = found.per_image["generated"]
    assert len(index) == 10
    assert index.tolist() == sorted(set(index.tolist()))
    np.testing.assert_allclose(number, pixels_of(few).double().mean(1)[index], rtol=1e-6)
    assert {role: info.n for role, info in found.sets.items()} == {"generated": 10, "reference": 10}
    assert found.warnings == (
        "a toy",
        f"of the {N} images of array, a uniform sample of 10 was measured",
        f"of the {M} images of array, a uniform sample of 10 was measured",
    )


def test_by_default_a_metric_of_rows_keeps_more_than_error_bars_need(monkeypatch, few, others):
    monkeypatch.setattr("gen_eval.planning.DEFAULT_ROWS", 5)
    by_moments = through_pixels(
        lambda features: Score({"kept": float(features["generated"].sample.n)}), "kept"
    )
    (alone,) = evaluate(by_moments, generated=few, reference=others)
    beside, _ = evaluate([by_moments, BY_ROWS], generated=few, reference=others)
    assert (alone.value, beside.value) == (5, N)
    assert alone.sets["generated"].n == N
    assert ["5 feature rows of the" in warning for warning in alone.warnings] == [True, True]
    assert beside.warnings == ()


def test_the_whole_set_is_kept_of_the_roles_that_a_metric_says(few, others):
    (found,) = evaluate(WHOLE, generated=few, reference=others, rows=3)
    assert found.values == {"generated": N, "reference": 3}


@pytest.mark.parametrize("rows", [0, 10])
def test_statistics_without_the_rows_are_refused(rows, few, others, pixel_summary, counted):
    images = counted(few)
    with pytest.raises(UsageError, match=f"needs every feature row of the generated.* hold {rows} of {N}"):
        evaluate(WHOLE, generated=pixel_summary(few, rows=rows), reference=images)
    # In the other role a bounded sample is enough.
    evaluate(WHOLE, generated=few, reference=pixel_summary(others, rows=3))
    if not rows:
        with pytest.raises(UsageError, match=f"needs feature rows of the reference.* hold 0 of {M}"):
            evaluate(BY_ROWS, generated=images, reference=pixel_summary(others, rows=0))
    assert images.reads == 0


def test_statistics_with_fewer_rows_than_a_metric_can_bear_are_refused(few, others, pixel_summary, counted):
    metric = through_pixels(rows_of, by_rows=True, least_n=lambda role, dim, params: 12)
    images = counted(few)
    with pytest.raises(TooFewImages, match="at least 12 reference images; array has 11 images"):
        evaluate(metric, generated=images, reference=pixel_summary(others, rows=11))
    assert images.reads == 0
    evaluate(metric, generated=images, reference=pixel_summary(others, rows=12))


def test_the_least_number_is_asked_of_the_role_the_dimension_and_the_parameters(few, others):
    asked = []

    def least(role, dim, params):
        asked.append((role, dim, dict(params)))
        return 2

    metric = through_pixels(rows_of, by_rows=True, least_n=least, params={"scale": 1})
    evaluate(metric, generated=few, reference=others, heldout=others, params={"scale": 3})
    assert set(map(repr, asked)) == {repr((role, 192, {"scale": 3})) for role in ("generated", "reference")}
    assert len(asked) == 3


# --- Roles


def test_a_metric_of_the_generated_images_alone_needs_no_reference(few, others, counted):
    (found,) = evaluate(ALONE, generated=few)
    assert found.values == {"alone": 1, "n": N}
    assert (list(found.sets), found.version) == (["generated"], 7)
    # One that is given and not looked at costs nothing.
    unused = counted(others)
    (again,) = evaluate(ALONE, generated=few, reference=unused)
    assert again.values == found.values
    assert unused.reads == 0


def test_beside_others_each_metric_sees_its_own_roles(few, others):
    alone, rows = evaluate([ALONE, BY_ROWS], generated=few, reference=others)
    assert (list(alone.sets), list(rows.sets)) == (["generated"], ["generated", "reference"])


def test_the_same_images_in_both_roles_are_pointed_out(few):
    (found,) = evaluate(BY_ROWS, generated=few, reference=few.copy())
    assert any("hold the same images" in warning for warning in found.warnings)


# --- Held-out images


def test_held_out_images_take_the_place_of_the_generated_ones(few, others, real, counted):
    heldout = counted(real[M : 2 * M])
    measures = [BY_ROWS, ALONE, "frechet:pixels"]
    results = evaluate(measures, generated=few, reference=others, heldout=heldout)
    direct = evaluate(measures, generated=real[M : 2 * M], reference=others)
    without = evaluate(measures, generated=few, reference=others)
    assert heldout.reads == M
    for found, expected, plain in zip(results, direct, without, strict=True):
        assert found.value == plain.value
        assert found.heldout.values == expected.values
        assert found.heldout.errors == expected.errors
        assert found.heldout.sets["generated"].digest == expected.sets["generated"].digest
        assert found.heldout.heldout is None
        assert "heldout" not in found.sets
        assert found.to_json()["heldout"]["value"] == expected.value


def test_a_metric_that_takes_held_out_images_itself_gets_them(few, others, real):
    metric = through_pixels(
        lambda features: Score({role: float(found.sample.n) for role, found in features.items()}),
        roles=("generated", "reference", "heldout"),
        by_rows=True,
    )
    (found,) = evaluate(metric, generated=few, reference=others, heldout=real[M : M + 7])
    assert found.values == {"generated": N, "reference": M, "heldout": 7}
    assert found.heldout is None
    with pytest.raises(UsageError, match="needs heldout images, and none were given"):
        evaluate(metric, generated=few, reference=others)


def test_what_a_metric_says_of_the_held_out_role_itself_holds(few, others, real):
    # The generated images stand for held-out ones only where a metric does not know of these.
    metric = through_pixels(
        lambda features: Score({role: float(found.sample.n) for role, found in features.items()}),
        roles=("generated", "reference", "heldout"),
        whole=("heldout",),
        least_n=lambda role, dim, params: {"generated": 2, "reference": 2, "heldout": 9}[role],
    )
    with pytest.raises(TooFewImages, match="at least 9 heldout images"):
        evaluate(metric, generated=few, reference=others, heldout=real[M : M + 7])
    (found,) = evaluate(metric, generated=few, reference=others, heldout=real[M : M + 9], rows=4)
    assert found.values == {"generated": 4, "reference": 4, "heldout": 9}


# --- Classes


LABELS = {"generated": ["a", "b"] * (N // 2), "reference": ["b"] * (M // 2) + ["a"] * (M // 2)}
HELDOUT_LABELS = ["a"] * 4 + ["b"] * 4


def class_means(images, labels):
    rows = pixels_of(images).double()
    return {name: float(rows[[label == name for label in labels]].mean()) for name in "ab"}


def test_a_metric_by_class_sees_each_class_of_each_set(few, others):
    (found,) = evaluate(BY_CLASS, generated=few, reference=others, labels=LABELS)
    assert list(found.values) == ["generated a", "generated b", "reference a", "reference b"]
    for role, images in (("generated", few), ("reference", others)):
        for name, mean in class_means(images, LABELS[role]).items():
            assert found.values[f"{role} {name}"] == pytest.approx(mean, rel=1e-6)


def test_held_out_images_have_classes_of_their_own(few, others, real):
    held = real[M : M + 8]
    labels = {**LABELS, "heldout": HELDOUT_LABELS}
    (found,) = evaluate(BY_CLASS, generated=few, reference=others, heldout=held, labels=labels)
    for name, mean in class_means(held, HELDOUT_LABELS).items():
        assert found.heldout.values[f"generated {name}"] == pytest.approx(mean, rel=1e-6)
        assert found.heldout.values[f"reference {name}"] == found.values[f"reference {name}"]


def test_by_default_classes_are_folders_and_may_be_so_for_one_side(few, others, write_folder, tmp_path):
    for name in "ab":
        mine = [image for image, label in zip(few, LABELS["generated"], strict=True) if label == name]
        write_folder(tmp_path / "fake" / name, mine)
    labels = {"reference": LABELS["reference"]}
    (found,) = evaluate(BY_CLASS, generated=tmp_path / "fake", reference=others, labels=labels)
    for name, mean in class_means(few, LABELS["generated"]).items():
        assert found.values[f"generated {name}"] == pytest.approx(mean, rel=1e-6)


def test_a_corrupt_file_moves_no_label(few, others, write_folder, tmp_path):
    folder = write_folder(tmp_path / "fake", few)
    (folder / "0004.png").write_bytes(b"")
    (found,) = evaluate(BY_CLASS, generated=folder, reference=others, labels=LABELS, skip_corrupt=True)
    whole = np.arange(N) != 4
    expected = class_means(few[whole], np.array(LABELS["generated"])[whole])
    for name, mean in expected.items():
        assert found.values[f"generated {name}"] == pytest.approx(mean, rel=1e-6)


def test_labels_are_read_before_any_pass(few, others, counted, pixel_summary):
    generated, reference = counted(few), counted(others)
    sets = {"generated": generated, "reference": reference}
    with pytest.raises(UsageError, match=f"holds 3 labels for the {M} images of counted"):
        evaluate(BY_CLASS, **sets, labels={**LABELS, "reference": [1, 2, 3]})
    with pytest.raises(UsageError, match="needs the reference images, not their statistics"):
        evaluate(BY_CLASS, **{**sets, "reference": pixel_summary(others, rows=None)}, labels=LABELS)
    with pytest.raises(UsageError, match="labels are for measures by class"):
        evaluate(BY_ROWS, **sets, labels=LABELS)
    with pytest.raises(UnknownName, match="unknown set to label 'refrence': did you mean 'reference'"):
        evaluate(BY_CLASS, **sets, labels={"generated": LABELS["generated"], "refrence": [1, 2, 3]})
    assert generated.reads == reference.reads == 0


# --- Parameters


def test_parameters_reach_the_metric_and_stand_in_the_result(few, others):
    protocol = Protocol("mine", "a test", {"pixels": {"resize": "tf1-bilinear"}}, {"scale": 2})
    plain, mine, set_by_caller = (
        evaluate(BY_ROWS, generated=few, reference=others, **options)[0]
        for options in ({}, {"protocol": protocol}, {"protocol": protocol, "params": {"rows.scale": 5}})
    )
    assert (plain.params, mine.params, set_by_caller.params) == ({"scale": 1}, {"scale": 2}, {"scale": 5})
    assert (plain.protocol, mine.protocol) == ("torch-fidelity", "mine")
    assert mine.value == pytest.approx(2 * plain.value, rel=1e-12)
    assert set_by_caller.value == pytest.approx(5 * plain.value, rel=1e-12)


def test_statistics_of_all_rows_serve_a_metric_of_rows_to_the_digit(few, others, pixel_summary, tmp_path):
    store.save(pixel_summary(few, rows=None), tmp_path / "few.safetensors")
    (direct,), (stored,) = (
        evaluate(BY_ROWS, generated=source, reference=others)
        for source in (few, tmp_path / "few.safetensors")
    )
    assert stored.values == direct.values
    for one, other in zip(stored.per_image["generated"], direct.per_image["generated"], strict=True):
        assert torch.equal(one, other)
