"""What measures say of disturbed sets: the numbers of evaluate(), side by side with those of the clean set."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gen_eval.datasets import load
from gen_eval.disturbances import DISTURBANCES, find_disturbance, split
from gen_eval.errors import FetchError, ImagesError, NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.evaluation import Evaluation, evaluate
from gen_eval.images import open_images
from gen_eval.metrics import Measure
from gen_eval.metrics.metric import Metric
from gen_eval.metrics.score import Score
from gen_eval.sensitivity import Move, default_n, sensitivity

N = 60
FRECHET = ["frechet:pixels"]


@pytest.fixture(scope="module")
def images():
    """Colours by class, of which there are five."""
    rng = np.random.default_rng(0)
    classes = np.arange(6 * N) % 5
    base = rng.integers(60, 196, (5, 1, 1, 3))[classes]
    coarse = rng.integers(-50, 50, (6 * N, 6, 5, 3)).repeat(2, 1).repeat(2, 2)
    return (base + coarse).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def labels():
    return [f"class {index % 5}" for index in range(6 * N)]


@pytest.fixture(scope="module")
def report(images, labels, one_thread):
    return sensitivity(images, [*FRECHET, "pr:pixels"], n=N, labels=labels)


def test_every_disturbance_at_every_strength(report):
    assert report.disturbances == {name: list(row.strengths) for name, row in DISTURBANCES.items()}
    assert report.names == ["frechet:pixels", "precision:pixels", "recall:pixels"]
    assert len(report.moves) == 3 * sum(len(row.strengths) for row in DISTURBANCES.values())
    assert (report.n, report.images, report.left_out) == (N, "array", {})
    assert all(math.isfinite(move.z) for move in report.moves)


def test_the_numbers_are_those_of_evaluate(report, images, labels):
    parts = split(open_images(images), N, labels)
    for name, strength in (("noise", 24), ("drop-classes", 30)):
        disturbed = find_disturbance(name).of(parts, strength)
        (frechet, pr) = evaluate(
            [*FRECHET, "pr:pixels"], generated=disturbed, reference=parts.reference, workers=0, batch_size=7
        )
        moves = {
            move.name: move for move in report.moves if (move.disturbance, move.strength) == (name, strength)
        }
        for result, value, label in (
            (frechet, "frechet", "frechet:pixels"),
            (pr, "precision", "precision:pixels"),
            (pr, "recall", "recall:pixels"),
        ):
            assert moves[label].value == pytest.approx(result.values[value], rel=1e-9)
            assert moves[label].error == pytest.approx(result.errors[value], rel=1e-6)
            assert moves[label].better == result.better[value]
    (clean,) = evaluate(FRECHET, generated=parts.clean, reference=parts.reference)
    (shared,) = {move.clean for move in report.moves if move.name == "frechet:pixels"}
    assert shared == pytest.approx(clean.value, rel=1e-9)


def test_what_is_known_of_the_frechet_distance_is_seen(report):
    noise = [move.worse for move in report.of("noise", "frechet:pixels")]
    assert noise == sorted(noise)
    assert report.of("noise", "frechet:pixels")[-1].verdict == "worse"
    assert report.of("drop-classes", "frechet:pixels")[-1].verdict == "worse"
    # Copies of the reference are the best that there is; all of them are at no distance at all.
    copies = report.of("copies", "frechet:pixels")
    assert copies[-1].verdict == "better"
    assert copies[-1].value == pytest.approx(0, abs=1e-6 * copies[-1].clean)
    assert report.of("none", "frechet:pixels")[0].verdict == ""


def test_a_dataset_by_its_name_brings_its_classes(one_thread, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")  # whose copy of the digits is at hand
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    options = {"n": 60, "disturbances": ["drop-classes"], "strengths": {"drop-classes": (30,)}}
    found = sensitivity("digits:test", FRECHET, offline=True, **options)
    digits = load("digits", "test", offline=True)
    labels = [digits.classes[label] for label in digits.labels.tolist()]
    expected = sensitivity(digits.images, FRECHET, labels=labels, **options)
    assert found.images == "digits:test"
    assert [move.value for move in found.moves] == [move.value for move in expected.moves]
    with pytest.raises(FetchError, match="mnist"):
        sensitivity("mnist:test", FRECHET, offline=True, **options)


def test_the_same_again_and_another_seed(images, one_thread):
    options = {"n": 20, "disturbances": ["noise"], "strengths": {"noise": (60,)}}
    first = sensitivity(images, FRECHET, **options)
    again = sensitivity(images, FRECHET, workers=0, batch_size=3, **options)
    other = sensitivity(images, FRECHET, seed=1, **options)
    assert again.moves[0].value == pytest.approx(first.moves[0].value, rel=1e-9)
    assert other.moves[0].clean == first.moves[0].clean
    assert other.moves[0].value != pytest.approx(first.moves[0].value, rel=1e-6)


def test_strengths_rise_and_0_moves_nothing(images, one_thread):
    report = sensitivity(
        images, FRECHET, n=20, disturbances=["blur", "noise"], strengths={"noise": (9, 0, 3, 9)}
    )
    assert report.disturbances == {"blur": [0.5, 1, 2], "noise": [0, 3, 9]}
    assert report.of("noise", "frechet:pixels")[0].z == 0
    assert report.clean_values["frechet:pixels"][0] == report.moves[0].clean


def test_one_measure_may_be_named_by_itself(images, one_thread):
    found = sensitivity(images, "frechet:pixels", disturbances=["noise"], strengths={"noise": [64]}, n=40)
    assert found.names == ["frechet:pixels"]


def move(**changed) -> Move:
    given = {"better": "lower", "value": 7.0, "error": 3.0, "clean": 2.0, "clean_error": 4.0, **changed}
    return Move("noise", 8, "fid", "fid", **given)


def test_a_move_in_standard_errors_of_the_difference():
    assert (move().z, move().worse, move().verdict) == (1, 1, "")
    assert (move(value=12.0).z, move(value=12.0).verdict) == (2, "worse")
    higher = move(value=12.0, better="higher")
    assert (higher.z, higher.worse, higher.verdict) == (2, -2, "better")
    near = {"better": "near 5", "clean": 4.0}
    assert (move(**near, value=21.0).worse, move(**near, value=-11.0).worse) == (3, 3)
    assert move(**near, value=5.0).worse == pytest.approx(-0.2)
    assert (move(error=None).z, move(clean_error=None).worse, move(error=None).verdict) == (None, None, "")
    sure = {"error": 0.0, "clean_error": 0.0}
    assert (move(**sure).z, move(**sure, value=2.0).z, move(**sure, value=1.0).z) == (math.inf, 0, -math.inf)
    assert (move(value=math.nan).verdict, move(error=math.nan, value=99.0).verdict) == ("", "")
    assert move().to_json()["z"] == 1


def test_dropped_classes_without_classes(images, one_thread):
    report = sensitivity(images, FRECHET, n=20, strengths={"noise": [8]})
    assert set(report.left_out) == {"drop-classes 10", "drop-classes 30", "drop-classes 50"}
    assert "--labels" in report.left_out["drop-classes 10"]
    assert "drop-classes" not in report.disturbances
    assert "noise" in report.disturbances
    for asked in ({"disturbances": ["drop-classes"]}, {"strengths": {"drop-classes": [50]}}):
        with pytest.raises(UsageError, match="--labels"):
            sensitivity(images, FRECHET, n=20, **asked)
    with pytest.raises(UsageError, match="3 labels for the 360 images"):
        sensitivity(images, FRECHET, n=20, labels=["a", "b", "c"])
    with pytest.raises(ImagesError, match="no label"):
        sensitivity(images, FRECHET, n=20, labels={"#0": "a"})


def test_classes_of_which_too_few_images_are_to_spare(images, labels, one_thread):
    options = {"n": 90, "labels": labels, "strengths": {"noise": [8]}}
    some = {"disturbances": ["noise", "drop-classes"]}
    with pytest.raises(TooFewImages, match="smaller n"):
        sensitivity(images, FRECHET, **options, **some)
    report = sensitivity(images, FRECHET, **options)
    assert set(report.left_out) == {"drop-classes 50"}
    assert report.disturbances["drop-classes"] == [10, 30]


def test_folders_are_classes(tmp_path, write_folder, images, labels, one_thread):
    for name in sorted(set(labels)):
        write_folder(tmp_path / name, images[[label == name for label in labels]][:25])
    report = sensitivity(tmp_path, FRECHET, disturbances=["drop-classes"])
    assert report.n == default_n(open_images(tmp_path)) == 25
    assert report.disturbances == {"drop-classes": [10, 30, 50]}


def test_a_measure_that_fails_on_one_set_leaves_the_others(images, monkeypatch, one_thread):
    original, failing_sets = Evaluation.measure, ["noise 24"]

    def failing(self, generated, **options):
        if generated.name in failing_sets:
            raise NumericalError("the features are all alike")
        return original(self, generated, **options)

    monkeypatch.setattr(Evaluation, "measure", failing)
    report = sensitivity(images, FRECHET, n=20, disturbances=["noise"])
    assert report.left_out == {"noise 24": "the features are all alike"}
    assert report.disturbances == {"noise": [8, 72]}
    failing_sets += ["noise 8", "noise 72"]
    with pytest.raises(NumericalError, match="no disturbed set of array can be measured: the features"):
        sensitivity(images, FRECHET, n=20, disturbances=["noise"])


def test_measures_that_ask_for_heldout_images_get_others(images, one_thread):
    seen = []

    def compute(features):
        seen.append({role: features[role].sample.in_order() for role in features})
        return Score({"count": float(len(features["heldout"].sample.rows))}, errors={"count": 1.0})

    roles = ("generated", "reference", "heldout")
    metric = Metric("count", compute, {"count": "lower"}, "", roles=roles, by_rows=True)
    report = sensitivity(images, [Measure("count", metric, "pixels", "pool")], n=20, disturbances=["none"])
    assert report.moves[0].value == 20
    assert len(seen) == 2
    rows = [tuple(row.tolist()) for features in seen for name in roles for row in features[name]]
    # The reference and the held-out images are met twice; generated ones are the clean and the fresh set.
    assert len(set(rows)) == 4 * 20


def test_one_bar_for_all_sets_and_no_second_pass(images, tmp_path, one_thread):
    told = []

    def progress(task, done, total, unit):
        told.append((task, done, total))

    options = {"n": 20, "disturbances": ["noise", "copies"], "progress": progress}
    first = sensitivity(images, FRECHET, cache=tmp_path, **options)
    assert {task for task, _, _ in told} == {"array"}
    assert told[-1][1:] == (160, 160)
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    told.clear()
    files = len(list(tmp_path.iterdir()))
    again = sensitivity(images, FRECHET, cache=tmp_path, **options)
    assert again.moves == first.moves
    # Of the 8 sets, the one of copies alone is the reference again.
    assert len(list(tmp_path.iterdir())) == files == 7
    assert told[-1][1:] == (160, 160)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"disturbances": ["nose"]}, UnknownName, "did you mean 'noise'"),
        ({"strengths": {"blurr": [1]}}, UnknownName, "did you mean 'blur'"),
        ({"disturbances": ["blur"], "strengths": {"noise": [1]}}, UsageError, "only blur asked for"),
        ({"strengths": {"jpeg": [100]}}, UsageError, "expected 0 to 99"),
        ({"measures": ["intra-fid:pixels"]}, UsageError, "by class"),
        ({"measures": ["fib"]}, UnknownName, "did you mean 'fid'"),
        ({"n": 91}, TooFewImages, "at most n = 90"),
        ({"n": 3, "measures": ["pr:pixels"]}, TooFewImages, "needs at least 4"),
    ],
)
def test_refused_before_an_image_is_read(images, counted, options, error, message):
    source = counted(images)
    with pytest.raises(error, match=message):
        sensitivity(source, **{"measures": FRECHET, **options})
    assert source.reads == 0
