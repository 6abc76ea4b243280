"""The Fréchet distance within classes: that of each class exactly, closed forms, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.metrics.frechet.classes import frechet_classes
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.stats import Moments

CLASSES = ("cat", "dog", "owl")


def fitted(rows):
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(), rows)


def known(mean, cov):
    """A Gaussian known exactly."""
    return Gaussian(None, torch.as_tensor(mean).double(), torch.as_tensor(cov).double())


def normal(n, generator, *, shift=0.0, scale=1.0, d=8):
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def classes(sizes=(60, 40, 90), seed=0, shifts=(0.0, 0.5, 1.0), scales=(1.0, 1.5, 0.7)):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: fitted(normal(n, generator, shift=shift, scale=scale))
        for name, n, shift, scale in zip(CLASSES, sizes, shifts, scales, strict=True)
    }


# --- Values


def test_gaussians_by_class_have_a_closed_form():
    means, spreads = (0.5, 1.0, 2.0), (1.0, 4.0, 9.0)
    generated = {
        name: known(np.full(4, m), s * np.eye(4)) for name, m, s in zip(CLASSES, means, spreads, strict=True)
    }
    reference = {name: known(np.zeros(4), np.eye(4)) for name in CLASSES}
    expected = [4 * m**2 + 4 * (math.sqrt(s) - 1) ** 2 for m, s in zip(means, spreads, strict=True)]
    score = frechet_classes(generated, reference)
    assert next(iter(score.values)) == "frechet_classes"
    assert score.values["frechet_classes"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert [score.values[name] for name in CLASSES] == pytest.approx(expected, rel=1e-12)
    assert not score.errors


def test_confused_classes_show_though_the_pool_is_the_same():
    here, there = known(np.zeros(2), np.eye(2)), known(np.full(2, 3.0), np.eye(2))
    assert frechet_classes({"a": here, "b": there}, {"a": here, "b": there}).values["frechet_classes"] < 1e-12
    swapped = frechet_classes({"a": there, "b": here}, {"a": here, "b": there})
    assert swapped.values["frechet_classes"] == pytest.approx(18, rel=1e-12)


@pytest.mark.parametrize("mean_dtype", ["float64", "float32"])
def test_each_class_is_the_frechet_distance_of_its_images(mean_dtype):
    generated, reference = classes(), classes((50, 70, 80), seed=1, shifts=(1000.1,) * 3)
    score = frechet_classes(generated, reference, mean_dtype=mean_dtype)
    parts = [frechet(generated[name], reference[name], mean_dtype=mean_dtype) for name in CLASSES]
    for name, part in zip(CLASSES, parts, strict=True):
        assert score.values[name] == part.values["frechet"]
        assert score.errors[name] == part.errors["frechet"]
        assert score.biases[name] == part.biases["frechet"]
    values, errors, biases = (
        np.array([next(iter(getattr(part, kind).values())) for part in parts])
        for kind in ("values", "errors", "biases")
    )
    assert score.values["frechet_classes"] == pytest.approx(values.mean(), rel=1e-12)
    assert score.errors["frechet_classes"] == pytest.approx(math.sqrt((errors**2).sum()) / 3, rel=1e-12)
    assert score.bias == pytest.approx(biases.mean(), rel=1e-12)
    assert score.warnings == ()


def test_one_class_is_the_frechet_distance():
    generated, reference = classes()["cat"], classes(seed=1)["cat"]
    one, plain = frechet_classes({"cat": generated}, {"cat": reference}), frechet(generated, reference)
    assert one.values["frechet_classes"] == plain.values["frechet"]
    assert one.errors["frechet_classes"] == pytest.approx(plain.errors["frechet"], rel=1e-12)


def test_order_of_classes_and_of_rows_does_not_matter():
    generated, reference = classes(), classes(seed=1)
    expected = frechet_classes(generated, reference)
    turned = {name: fitted(side.rows.flip(0)) for name, side in reversed(generated.items())}
    found = frechet_classes(turned, reference)
    assert list(found.values) == list(expected.values)
    assert found.values == pytest.approx(expected.values, rel=1e-11)
    assert found.errors == pytest.approx(expected.errors, rel=1e-9)


def test_the_distance_to_itself_is_zero():
    assert all(abs(value) < 1e-12 for value in frechet_classes(classes(), classes()).values.values())


def test_nothing_is_said_of_the_mean_where_a_class_says_nothing():
    generated, reference = classes(), classes((60, 40, 8), seed=1)
    score = frechet_classes(generated, reference)  # at n = d the bias of a class cannot be told
    assert set(score.errors) == {"frechet_classes", *CLASSES}
    assert set(score.biases) == {"cat", "dog"}
    assert score.bias is None
    exact = known(np.zeros(8), np.eye(8))
    score = frechet_classes({**generated, "owl": exact}, {**reference, "owl": exact})
    assert set(score.errors) == {"cat", "dog"}


@pytest.mark.simulation
def test_the_interval_of_the_mean_covers_its_expectation():
    generator, repetitions = torch.Generator().manual_seed(0), 500
    worlds = zip(CLASSES, (80, 200, 120), (0.2, 0.4, 0.8), (1.0, 1.5, 0.7), strict=True)
    worlds = list(worlds)
    runs = []
    with threadpool_limits(1):
        for _ in range(repetitions):
            generated = {name: fitted(normal(n, generator, shift=m, scale=s)) for name, n, m, s in worlds}
            reference = {name: fitted(normal(n, generator)) for name, n, _, _ in worlds}
            score = frechet_classes(generated, reference)
            runs.append((score.values["frechet_classes"], score.errors["frechet_classes"], score.bias))
    values, errors, biases = np.array(runs).T
    covered = (np.abs(values - values.mean()) < 1.96 * errors).mean()
    assert 0.93 - 2.5 * 0.0114 <= covered <= 0.97 + 2.5 * 0.0076
    truth = np.mean([8 * m**2 + 8 * (s - 1) ** 2 for _, _, m, s in worlds])
    assert biases.mean() == pytest.approx(
        values.mean() - truth, rel=0.15, abs=2.5 * values.std() / math.sqrt(repetitions)
    )


# --- Warnings and refusals


def test_small_classes_are_named_in_one_line():
    (warning,) = frechet_classes(classes((60, 8, 5)), classes((60, 40, 90), seed=1)).warnings
    assert "2 of 3 classes have no more images than feature dimensions, 8" in warning
    assert "'dog', 'owl'." in warning
    (warning,) = frechet_classes(classes((60, 8, 5)), classes((3, 40, 90), seed=1)).warnings
    assert "3 of 3 classes" in warning


def test_a_long_list_of_classes_is_cut():
    side = {f"{index:02d}": fitted(normal(5, torch.Generator().manual_seed(index))) for index in range(12)}
    (warning,) = frechet_classes(side, side).warnings
    assert "'00', '01', '02', '03', '04' and 7 more" in warning


def test_a_class_with_the_name_of_the_mean_is_refused():
    side = {"frechet_classes": classes()["dog"]}
    with pytest.raises(UsageError, match="may not be called 'frechet_classes'"):
        frechet_classes(side, side)


def test_classes_of_one_side_alone_are_refused_by_name():
    whole, part = classes(), {name: side for name, side in classes().items() if name != "dog"}
    with pytest.raises(UsageError, match="same classes; the generated set lacks 'dog'$"):
        frechet_classes(part, whole)
    with pytest.raises(UsageError, match="same classes; the reference set lacks 'dog'$"):
        frechet_classes(whole, part)
    other = {"emu": whole["dog"], **part}
    with pytest.raises(UsageError, match="the generated set lacks 'dog', and the reference set lacks 'emu'$"):
        frechet_classes(other, whole)


def test_no_classes_are_refused():
    with pytest.raises(UsageError, match="no classes"):
        frechet_classes({}, {})


@pytest.mark.parametrize("role", ["generated", "reference"])
def test_a_class_of_one_image_is_refused_by_name(role):
    one = Gaussian(1, torch.zeros(8).double(), torch.zeros(8, 8).double())
    sides = {"generated": classes(), "reference": classes()}
    sides[role] = {**sides[role], "dog": one}
    with pytest.raises(TooFewImages, match=f"the {role} set has fewer of 'dog'"):
        frechet_classes(**sides)


def test_what_frechet_refuses_is_refused():
    broken = classes()
    broken["owl"].cov[0, 0] = math.nan
    with pytest.raises(NumericalError, match="the generated moments hold NaN"):
        frechet_classes(broken, classes())
    with pytest.raises(UnknownName, match="dtype of the mean"):
        frechet_classes(classes(), classes(), mean_dtype="float16")
