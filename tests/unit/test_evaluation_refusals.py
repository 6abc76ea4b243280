"""What evaluate() refuses, and when: before the first image is read wherever it can be known."""

from __future__ import annotations

import numpy as np
import pytest

from gen_eval.errors import (
    CorruptImages,
    GenEvalError,
    ImagesError,
    TooFewImages,
    UnknownName,
    UsageError,
)
from gen_eval.evaluation import evaluate
from gen_eval.metrics import Measure, Metric, Score

MEASURE = "frechet:pixels"

pytestmark = pytest.mark.usefixtures("one_thread")


MISTAKES = {
    "measure": ({"measures": ["fidd"]}, UnknownName, "unknown measure 'fidd': did you mean 'fid'"),
    "metric": (
        {"measures": ["frechit:pixels"]},
        UnknownName,
        "unknown metric 'frechit': did you mean 'frechet'",
    ),
    "extractor": (
        {"measures": ["frechet:pixel"]},
        UnknownName,
        "unknown extractor 'pixel': did you mean 'pixels'",
    ),
    "tap": ({"measures": ["frechet:pixels/logits"]}, GenEvalError, "logits"),
    "nothing measured": ({"measures": []}, UsageError, "no measures"),
    "protocol": (
        {"protocol": "cleanfid"},
        UnknownName,
        "unknown protocol 'cleanfid': did you mean 'clean-fid'",
    ),
    "parameter": (
        {"params": {"methd": "auto"}},
        UnknownName,
        "unknown parameter 'methd': did you mean 'method'",
    ),
    "parameter of one": ({"params": {"kernel.ddof": 1}}, UnknownName, "unknown parameter 'kernel.ddof'"),
    "device": ({"device": "gpu"}, UsageError, "unknown device 'gpu'"),
    "another device": ({"device": "meta"}, UsageError, "device 'meta' is not supported"),
    "no such folder": ({"generated": "no/such/folder"}, ImagesError, "does not exist"),
    "no such file": ({"reference": "no/such/file.safetensors"}, ImagesError, "does not exist"),
    "no reference": (
        {"reference": None},
        UsageError,
        f"{MEASURE} needs reference images, and none were given",
    ),
    "no generated": (
        {"generated": None},
        UsageError,
        f"{MEASURE} needs generated images, and none were given",
    ),
    "one generated": (
        {"generated": np.zeros((1, 8, 8, 3), "u1")},
        TooFewImages,
        "at least 2 generated images; array has 1 image",
    ),
    "one reference": (
        {"reference": np.zeros((1, 8, 8, 3), "u1")},
        TooFewImages,
        "at least 2 reference images; array has 1 image",
    ),
    "one held out": (
        {"heldout": np.zeros((1, 8, 8, 3), "u1")},
        TooFewImages,
        "at least 2 heldout images; array has 1 image",
    ),
    "callable without n": (
        {"generated": lambda seeds: np.zeros((len(seeds), 8, 8, 3), "u1")},
        UsageError,
        "say how many images with n=",
    ),
    "n without callable": ({"n": 5}, UsageError, "n is only for a callable"),
    "no images": ({"generated": 3}, UsageError, "cannot read images from a int"),
    "too few for the metric": (
        {"measures": ["frechet-inf:pixels"]},
        TooFewImages,
        "at least 386 generated images; counted has 230",
    ),
    "too few held out for the metric": (
        {
            "measures": ["frechet-inf:pixels"],
            "generated": np.zeros((400, 8, 8, 3), "u1"),
            "heldout": np.zeros((300, 8, 8, 3), "u1"),
        },
        TooFewImages,
        "at least 386 heldout images; array has 300",
    ),
    "labels for nothing": (
        {"labels": "folders"},
        UsageError,
        "labels are for measures by class.*none was asked for",
    ),
    "weights for nothing": (
        {"weights": "weights.pth"},
        UsageError,
        "weights.pth were given for 0 networks",
    ),
    "weights of another": (
        {"weights": {"inception": "weights.pth"}},
        UnknownName,
        "unknown extractor with weights 'inception'",
    ),
    "reference_n": ({"reference_n": 1}, UsageError, "reference_n must be at least 2, found 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_before_an_image_is_read(mistake, fake, real, counted):
    wrong, error, message = MISTAKES[mistake]
    generated, reference = counted(fake), counted(real)
    arguments = {"measures": [MEASURE], "generated": generated, "reference": reference, **wrong}
    with pytest.raises(error, match=message):
        evaluate(**arguments)
    assert generated.reads == reference.reads == 0


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_fewer_rows_than_a_metric_of_rows_can_bear_are_refused_before_an_image_is_read(
    rows, fake, real, counted
):
    metric = Metric(
        "toy",
        lambda features: Score({"toy": float(features["generated"].sample.n)}),
        {"toy": "lower"},
        "nobody",
        by_rows=True,
        least_n=lambda role, dim, params: 5,
    )
    generated, reference = counted(fake), counted(real)
    toy = Measure("toy", metric, "pixels", "pool")
    with pytest.raises(TooFewImages, match="toy needs at least 5"):
        evaluate(toy, generated=generated, reference=reference, rows=rows)
    assert generated.reads == reference.reads == 0
    (found,) = evaluate(toy, generated=generated, reference=reference, rows=5)
    assert found.value == 5


@pytest.mark.parametrize(
    ("measure", "params", "message"),
    [
        ("mmd:pixels", {"kernel": "rbff"}, "did you mean 'rbf'"),
        (
            "kid:pixels",
            {"subset_size": "foo"},
            "subset_size of kid:pixels is a number, such as 1000; found 'foo'",
        ),
        ("pr:pixels", {"inclusive": "maybe"}, "inclusive of pr:pixels is true or false, found 'maybe'"),
        ("pr:pixels", {"k": 0}, "from 1, found 0"),
        ("fid:pixels", {"mean_dtype": "float16"}, "dtype of the mean 'float16'"),
        ("intra-fid:pixels", {"mean_dtype": "float16"}, "dtype of the mean 'float16'"),
    ],
)
def test_parameters_are_refused_before_an_image_is_read(measure, params, message, fake, real, counted):
    generated, reference = counted(fake), counted(real)
    with pytest.raises(UsageError, match=message):
        evaluate(measure, generated=generated, reference=reference, params=params)
    assert generated.reads == reference.reads == 0


def test_a_cache_that_cannot_be_written_to_is_refused_before_an_image_is_read(
    fake, real, counted, measure, tmp_path
):
    (tmp_path / "file").write_text("no folder")
    generated, reference = counted(fake), counted(real)
    with pytest.raises(GenEvalError, match="cache"):
        measure(generated, reference, cache=tmp_path / "file")
    assert generated.reads == reference.reads == 0


# --- Corrupt files


@pytest.fixture
def damaged(tmp_path, fake, write_folder):
    folder = write_folder(tmp_path / "fake", fake)
    for index in (3, 200):
        path = folder / f"{index:04}.png"
        path.write_bytes(path.read_bytes()[:-40])
    return folder


def test_corrupt_files_stop_the_run_by_name_before_any_pass(damaged, real, measure, counted):
    reference = counted(real)
    with pytest.raises(CorruptImages, match="2 images in .*fake cannot be decoded") as caught:
        measure(damaged, reference)
    for name in ("0003.png", "0200.png"):
        assert name in str(caught.value)
    assert "--skip-corrupt" in str(caught.value)
    assert reference.reads == 0


def test_corrupt_files_are_left_out_on_request_counted_and_named(damaged, fake, measure):
    found = measure(damaged, skip_corrupt=True)
    whole = measure(np.delete(fake, [3, 200], 0))
    assert found.value == pytest.approx(whole.value, rel=1e-9)
    assert found.error == pytest.approx(whole.error, rel=1e-9)
    assert (found.sets["generated"].n, found.sets["generated"].skipped) == (len(fake) - 2, 2)
    (warning,) = found.warnings
    assert "2 corrupt files" in warning
    assert "0003.png" in warning
    assert "0200.png" in warning
    # What is left out leaves the other images their indices, which choose the rows.
    assert {3, 200}.isdisjoint(found.contributions["generated"][0].tolist())
    assert max(found.contributions["generated"][0].tolist()) == len(fake) - 1


def test_a_folder_of_nothing_but_corrupt_files_is_refused(tmp_path, measure):
    folder = tmp_path / "fake"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(ImagesError, match="none of the 3 images of .* can be decoded"):
        measure(folder, skip_corrupt=True)
