"""``geneval evaluate``: several measures at once, in a table, in JSON, and image by image."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from gen_eval.evaluation import DEFAULT_MEASURES
from gen_eval.metrics import METRICS, Metric, Score

FID, FD, ROWS, CLASSES = "fid", "fd:pixels", "toy-rows:pixels", "toy-classes:pixels"
NOISE = {"k": 1, "seed": 0, "scale": 2.5, "kernel": "rbf", "shape": (1, 2), "inclusive": True, "cap": None}


def rows_of(features, **params):
    each = {role: found.sample.in_order().double().mean(1) for role, found in features.items()}
    generated, reference = (float(each[role].mean()) for role in ("generated", "reference"))
    return Score(
        {
            "brighter": generated - reference,
            "darker": reference - generated,
            "spread": float(each["generated"].std()),
        },
        errors={"brighter": 0.5},
        biases={"brighter": 0.0},
        per_image=each,
        warnings=(f"a toy, seed {params['seed']}",),
    )


def classes_of(features):
    n = {f"n of {name}": float(part.n) for name, part in features["generated"].by_class().items()}
    return Score({"classes": float(len(n)), **n})


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """A metric with two values and a number for each image, and one by class."""
    rows = Metric(
        "toy-rows",
        rows_of,
        {"brighter": "higher", "darker": "lower"},
        "nobody",
        params=NOISE,
        by_rows=True,
    )
    classes = Metric(
        "toy-classes",
        classes_of,
        {"classes": "higher"},
        "nobody",
        by_rows=True,
        whole=("generated", "reference"),
        by_class=("generated", "reference"),
    )
    for metric in (rows, classes):
        monkeypatch.setitem(METRICS, metric.name, metric)


def measures(*names):
    return [each for name in names for each in ("-m", name)]


def lines(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def table(done):
    """The rows of the table, by their first cell."""
    assert done.code == 0, done.err
    _, *body = done.out.partition("generated  ")[0].splitlines()
    return {re.match(r" *\S+", line).group(): line.rstrip() for line in body}


# --- The table


def test_each_value_that_models_are_judged_by_has_a_line(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(FID, FD, ROWS))
    rows = table(done)
    assert list(rows) == ["fid", "fd:pixels", "brighter:pixels", "darker:pixels", "  spread"]
    for name, direction in (("fid", "lower"), ("brighter:pixels", "higher"), ("darker:pixels", "lower")):
        assert rows[name].endswith(f"{direction} is better")
        assert "10/12" in rows[name]
    assert "better" not in rows["  spread"]
    assert rows["brighter:pixels"].split()[2:4] == ["0.5", "+0"]
    assert rows["darker:pixels"].split()[2:4] == ["none", "unknown"]
    # The terms, each once.
    for term in (f"{sets.fake}, 10 images", f"{sets.real}, 12 images", "pixels pool", "torch-fidelity"):
        assert done.out.count(term) == 1
    assert "warning: a toy, seed 0" in done.err


def test_each_image_goes_once_through_each_network(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(FD, ROWS, "frechet:pixels/pool"))
    assert done.code == 0, done.err
    assert done.err.count(f"{sets.fake}  10/10 images") == done.err.count(f"{sets.real}  12/12 images") == 1


def test_values_are_those_of_the_short_verb(run, sets):
    (fid,) = lines(run("fid", sets.real, sets.fake, "--json"))
    first, second = lines(run("evaluate", sets.real, sets.fake, *measures(FID, FD), "--json"))
    assert [one["measure"] for one in (first, second)] == [FID, FD]
    assert first["value"] == second["value"] == fid["value"]
    assert first["standard_error"] == fid["standard_error"]


def test_without_a_measure_the_default_ones_are_taken(run, sets):
    done = run("evaluate", sets.real, sets.fake, "--json")
    assert [each["measure"] for each in lines(done)] == list(DEFAULT_MEASURES)


def test_json_is_a_line_a_measure_and_nothing_else(run, sets):
    fid, rows = lines(run("evaluate", sets.real, sets.fake, *measures(FID, ROWS), "--json"))
    assert (fid["measure"], rows["measure"]) == (FID, ROWS)
    assert rows["values"].keys() == {"brighter", "darker", "spread"}
    assert rows["better"] == {"brighter": "higher", "darker": "lower"}
    assert (rows["errors"], rows["biases"]) == ({"brighter": 0.5}, {"brighter": 0.0})
    assert rows["sets"]["generated"]["n"] == 10
    assert "heldout" in rows
    assert "per_image" not in rows
    assert "generated" not in rows["contributions"]


def test_a_set_keeps_its_size_beside_a_sample_of_it(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--rows", "5")
    rows = table(done)
    assert "10/12" in rows["fd:pixels"]
    assert "5/5" in rows["brighter:pixels"]
    assert f"{sets.fake}, 10 images" in done.out
    assert "a uniform sample of 5 was measured" in done.err


# --- Parameters


def test_parameters_are_set_by_name_and_read_as_what_they_say(run, sets):
    given = ("k=5", "toy-rows.kernel=laplace", "scale=1e-3", "inclusive=false", "shape=3,4.5", "cap=none")
    settings = [each for setting in given for each in ("--set", setting)]
    (result,) = lines(
        run("evaluate", sets.real, sets.fake, *measures(ROWS), *settings, "--seed", 7, "--json")
    )
    assert result["params"] == {
        "k": 5,
        "seed": 7,
        "scale": 1e-3,
        "kernel": "laplace",
        "shape": [3, 4.5],
        "inclusive": False,
        "cap": None,
    }
    assert result["warnings"][0] == "a toy, seed 7"


def test_a_parameter_reaches_the_metrics_that_have_it(run, sets):
    fid, rows = lines(
        run(
            "evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--set", "k=5", "--set", "ddof=0", "--json"
        )
    )
    assert (fid["params"]["ddof"], "k" in fid["params"]) == (0, False)
    assert (rows["params"]["k"], "ddof" in rows["params"]) == (5, False)


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        ("kk=5", 1, "unknown parameter 'kk': did you mean 'k'"),
        ("toy-row.k=5", 1, "unknown parameter 'toy-row.k': did you mean 'toy-rows.k'"),
        ("frechet.ddof=0", 1, "unknown parameter 'frechet.ddof'"),  # none of the measures is of that metric
        ("k", 2, "--set k: expected NAME=VALUE"),
        ("=5", 2, "--set =5: expected NAME=VALUE"),
    ],
)
def test_a_wrong_parameter_is_refused_before_the_work(run, sets, setting, code, said):
    done = run("evaluate", sets.real, sets.fake, *measures(ROWS), "--set", setting)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "images" not in done.err


def test_a_seed_for_measures_that_draw_nothing_is_refused(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(FD), "--seed", "3")
    assert (done.code, done.out) == (1, "")
    assert "unknown parameter 'seed'" in done.err


# --- Names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fidd", "unknown measure 'fidd': did you mean 'fid'"),
        ("toy-rows", "unknown measure 'toy-rows'"),  # a metric is seen through something
        ("toy-row:pixels", "unknown metric 'toy-row': did you mean 'toy-rows'"),
        ("fd:pixel", "unknown extractor 'pixel': did you mean 'pixels'"),
        ("fd:pixels/pol", "unknown tap of pixels 'pol': did you mean 'pool'"),
    ],
)
def test_wrong_names_are_refused_before_the_work(run, sets, name, said):
    done = run("evaluate", sets.real, sets.fake, *measures(FD, name))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert said in done.err
    assert "images" not in done.err


# --- Held-out images


@pytest.fixture
def spoilt(sets, tmp_path):
    """Real images of another kind, one gray and one broken."""
    folder = shutil.copytree(sets.fake, tmp_path / "heldout")
    Image.fromarray(np.asarray(Image.open(folder / "001.png"))[..., 0]).save(folder / "001.png")
    (folder / "002.png").write_bytes(b"")
    return folder


def test_held_out_images_have_a_column(run, sets):
    arguments = ("evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--heldout", sets.real)
    done = run(*arguments)
    rows = table(done)
    assert "held-out" in done.out.splitlines()[0]
    assert "held-out" not in run("evaluate", sets.real, sets.fake, *measures(FD)).out
    assert f"{'held-out':11}{sets.real}, 12 images" in done.out
    fd, toy = lines(run(*arguments, "--json"))
    assert fd["heldout"]["value"] == pytest.approx(0, abs=1e-6)
    assert toy["heldout"]["values"]["brighter"] == pytest.approx(0, abs=1e-9)
    assert "0 ± 0.5" in rows["brighter:pixels"]
    assert f"{toy['heldout']['values']['spread']:.4g}" in rows["  spread"]
    assert "…" not in done.out  # however wide that makes the table


def test_what_is_to_be_said_of_held_out_images_is_said(run, sets, spoilt):
    arguments = ("evaluate", sets.real, sets.fake, *measures(ROWS), "--heldout")
    done = run(*arguments, spoilt)
    assert (done.code, done.out) == (1, "")
    assert "002.png" in done.err
    done = run(*arguments, spoilt, "--skip-corrupt")
    assert done.code == 0, done.err
    assert f"1 corrupt file of {spoilt} left out: 002.png" in done.err
    assert f"note: 1 of {spoilt}: gray to RGB" in done.err
    # The reference itself is no held-out set.
    assert "hold the same images" in run(*arguments, sets.real).err


# --- Labels


@pytest.fixture
def labels(sets, tmp_path):
    """A file for each set; the last two of each are dogs."""
    files = {}
    for role, folder in (("reference", sets.real), ("generated", sets.fake)):
        names = sorted(path.name for path in folder.iterdir())
        files[role] = tmp_path / f"{role}.csv"
        files[role].write_text(
            "".join(f"{name},{'dog' if name in names[-2:] else 'cat'}\n" for name in names)
        )
    return files


def test_labels_are_a_file_or_one_a_set(run, sets, labels):
    each = [part for role in labels for part in ("--labels", f"{role}={labels[role]}")]
    arguments = ("evaluate", sets.real, sets.fake, *measures(CLASSES), "--json")
    (result,) = lines(run(*arguments, *each))
    assert result["values"] == {"classes": 2, "n of cat": 8, "n of dog": 2}
    # One that names the images of both: the dogs are images that the smaller set has not.
    (result,) = lines(run(*arguments, "--labels", labels["reference"]))
    assert result["values"] == {"classes": 1, "n of cat": 10}


def test_labels_that_do_not_fit_are_refused_before_the_work(run, sets, labels):
    arguments = ("evaluate", sets.real, sets.fake, *measures(CLASSES))
    for given, code, said in (
        ((), 1, "--labels FILE"),
        (("--labels", labels["generated"]), 1, "no label for 2 of the 12 images"),
        (("--labels", labels["generated"], "--labels", labels["reference"]), 2, "each is NAME=FILE"),
        (("--labels", "missing.csv"), 1, "missing.csv"),
    ):
        done = run(*arguments, *given)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert "10/10 images" not in done.err
    done = run("evaluate", sets.real, sets.fake, *measures(ROWS), "--labels", labels["reference"])
    assert done.code == 1
    assert "labels are for measures by class" in done.err


# --- The cache


def test_a_second_run_reads_the_cache_and_gives_the_digits(run, sets, tmp_path):
    arguments = ("evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--json")
    cache = ("--cache", tmp_path / "cache")
    direct, first, second = run(*arguments), run(*arguments, *cache), run(*arguments, *cache)
    passed = f"{sets.fake}  10/10 images"
    assert passed in first.err
    assert passed not in second.err
    # Everything but the seconds.
    runs = [[{**each, "seconds": 0} for each in lines(done)] for done in (direct, first, second)]
    assert runs[0] == runs[1] == runs[2]
    # A measure that is new costs no pass.
    assert passed not in run("fid", sets.real, sets.fake, *cache).err


# --- Image by image


def test_what_is_said_of_held_out_images_is_not_said_of_the_generated(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(FD), "--heldout", sets.real)
    (said,) = [line for line in done.err.splitlines() if "hold the same images" in line]
    assert said.startswith("warning: ")
    assert "of held-out images in the place of the generated" in said


@pytest.mark.parametrize("option", ["worst", "neighbors"])
def test_a_picture_that_nobody_asked_for_is_refused(run, sets, tmp_path, option):
    done = run("evaluate", sets.real, sets.fake, *measures(FD), f"--{option}-out", tmp_path / "a.png")
    assert done.code == 2
    assert f"give --{option} too" in done.err


def test_several_measures_in_one_are_told_apart(run, sets):
    done = run("evaluate", sets.real, sets.fake, "-m", "fd:pixels,kid:pixels")
    assert done.code == 1
    assert "give each by itself, as -m fid -m kid" in done.err


def test_images_that_are_not_known_one_by_one_are_counted(run, tmp_path):
    for name, seed in (("real", 0), ("fake", 1)):
        images = np.random.default_rng(seed).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
    pair = (tmp_path / "real.npy", tmp_path / "fake.npy", *measures(FD))
    out = tmp_path / "each.csv"
    done = run("evaluate", *pair, "--rows", "40", "--per-image", out)
    assert done.code == 0, done.err
    assert "note: 40 of the 50 generated images are known one by one; --rows keeps more" in done.err
    assert sum(line.startswith("generated,") for line in out.read_text().splitlines()) == 40
    assert "known one by one" not in run("evaluate", *pair, "--per-image", out).err


def test_per_image_numbers_that_cannot_be_written_are_told_of(run, sets):
    done = run("evaluate", sets.real, sets.fake, *measures(ROWS), "--per-image", "/dev/full")
    assert done.code == 1
    assert "cannot write /dev/full: No space left on device" in done.err


def test_per_image_numbers_are_written_as_csv(run, sets, tmp_path):
    out = tmp_path / "per image.csv"
    done = run("evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--per-image", out)
    assert done.code == 0, done.err
    with out.open(encoding="utf-8", newline="") as file:
        heading, *written = list(csv.reader(file))
    assert heading == ["set", "image", "measure", "is", "number"]
    by_measure = {name: [row for row in written if row[2] == name] for name in (FD, ROWS)}
    assert len(written) == sum(map(len, by_measure.values()))
    (scores,) = {row[3] for row in by_measure[ROWS]}
    assert scores == "score"
    for role, folder, n in (("generated", sets.fake, 10), ("reference", sets.real, 12)):
        mine = [row for row in by_measure[ROWS] if row[0] == role]
        assert [row[1] for row in mine] == [f"{index:03}.png" for index in range(n)]
        means = [np.asarray(Image.open(folder / row[1])).mean() for row in mine]
        np.testing.assert_allclose([float(row[4]) for row in mine], means, rtol=1e-5)
    assert {row[3] for row in by_measure[FD]} == {"contribution"}
    mine = [row for row in by_measure[FD] if row[0] == "generated"]
    assert sorted(row[1] for row in mine) == [f"{index:03}.png" for index in range(10)]


def test_images_without_names_are_called_by_number(run, sets, tmp_path):
    statistics = tmp_path / "real.safetensors"
    assert run("stats", sets.real, "-o", statistics).code == 0
    out = tmp_path / "out.csv"
    done = run("evaluate", statistics, sets.fake, *measures(ROWS), "--per-image", out)
    assert done.code == 0, done.err
    with out.open() as file:
        images = [row["image"] for row in csv.DictReader(file) if row["set"] == "reference"]
    assert images == [f"#{index}" for index in range(12)]


def test_a_csv_that_cannot_be_written_fails_before_the_work(run, sets, tmp_path):
    done = run(
        "evaluate", sets.real, sets.fake, *measures(ROWS), "--per-image", tmp_path / "missing" / "a.csv"
    )
    assert (done.code, done.out) == (1, "")
    assert "there is no folder" in done.err
    assert "images" not in done.err.replace(str(tmp_path), "")


def test_worst_is_of_the_first_measure(run, sets, tmp_path):
    out = ("--worst", "3", "--worst-out", tmp_path / "worst.png")
    done = run("evaluate", sets.real, sets.fake, *measures(FD, ROWS), *out)
    assert done.code == 0, done.err
    assert f"shows the images that raise {FD} most" in done.err
    assert (tmp_path / "worst.png").is_file()
    done = run("evaluate", sets.real, sets.fake, *measures(ROWS, FD), *out)
    assert (done.code, done.out) == (2, "")
    assert f"{ROWS} does not tell what each image counts for" in done.err
    assert "10/10 images" not in done.err  # before the work


def test_measures_that_tell_nothing_of_single_images_are_refused_before_the_work(run, sets, tmp_path):
    out = ("--per-image", tmp_path / "each.csv")
    done = run("evaluate", sets.real, sets.fake, *measures("mean-test:pixels"), *out)
    assert (done.code, done.out) == (2, "")
    assert "mean-test:pixels tell nothing of them" in done.err
    assert "10/10 images" not in done.err
    assert not (tmp_path / "each.csv").exists()
    assert run("evaluate", sets.real, sets.fake, *measures("mean-test:pixels", FD), *out).code == 0


def test_worst_leaves_the_rows_that_were_asked_for(run, sets, tmp_path):
    arguments = ("evaluate", sets.real, sets.fake, *measures(FD, ROWS), "--rows", "5", "--json")
    plain = run(*arguments)
    drawn = run(*arguments, "--worst", "3", "--worst-out", tmp_path / "worst.png")
    one, other = ([json.loads(line)["value"] for line in done.out.splitlines()] for done in (plain, drawn))
    assert one == pytest.approx(other, rel=1e-9)
