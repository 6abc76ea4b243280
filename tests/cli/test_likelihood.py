"""``geneval likelihood``: files of log-likelihoods and log-weights, what is printed, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from gen_eval_cli.likelihood import likelihood

from gen_eval.errors import GenEvalError, IncomparableError, UsageError

N, DIMS = 50, 12


def run(*args):
    return CliRunner().invoke(likelihood, [*map(str, args), "--dims", str(DIMS)])


def lines(*args):
    done = run(*args, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def numbers():
    return np.random.default_rng(0).normal(-5, 1, N)


@pytest.fixture
def exact(tmp_path, numbers):
    np.save(tmp_path / "exact.npy", numbers)
    return tmp_path / "exact.npy"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.npy"
    np.save(path, np.random.default_rng(1).normal(-6, 1, (N, 200)).astype(np.float32))
    return path


def test_formats_of_files_agree(tmp_path, numbers, exact):
    np.savetxt(tmp_path / "exact.csv", numbers, delimiter=",")
    np.savetxt(tmp_path / "exact.txt", numbers)
    values = [
        lines(exact.with_suffix(ending), "--kind", "exact")[0]["values"]
        for ending in (".npy", ".csv", ".txt")
    ]
    assert values[0] == values[1] == values[2]
    assert values[0]["nll"] == pytest.approx(DIMS * math.log(256) - numbers.mean(), rel=1e-12)


def test_scale_is_what_was_said_or_goes_with_the_dequantization(exact, numbers):
    for options, scale in (
        ((), 256),
        (("--scale", 128), 128),
        (("--dequantization", "variational"), 256),
        (("--dequantization", "none"), 1),
        (("--dequantization", "binary"), 1),
    ):
        (line,) = lines(exact, "--kind", "exact", *options)
        bits = (math.log(scale) - numbers.mean() / DIMS) / math.log(2)
        assert line["values"]["bits_per_dim"] == pytest.approx(bits, rel=1e-12)
        assert line["scale"] == scale


def test_the_table_names_kind_and_dequantisation(exact):
    done = run(exact, "--kind", "unbiased")
    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "lower is better" in rows["nll"]
    assert "bits_per_dim" in rows
    assert rows["kind"].startswith("kind       unbiased: an estimate of log p(x)")
    assert "uniform noise between levels" in rows["x"]
    assert "12 dimensions, 256 levels to a unit" in rows["space"]


def test_log_weights_show_the_bound_of_fewer_draws(weights):
    (line,) = lines(weights, "--kind", "lower")
    assert line["draws"] == 200
    assert list(line["bounds"]) == ["1", "10", "100"]
    bounds = [bound["nll"] for bound in line["bounds"].values()]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] > line["value"]
    out = run(weights, "--kind", "lower").stdout
    assert "nll at K = 100" in out
    assert "error_of_draws" in out
    assert "lower, 200 draws: a lower bound" in out


def test_two_files_are_compared_image_by_image(tmp_path, exact, numbers):
    other = tmp_path / "other.npy"
    np.save(other, numbers + 0.3 + np.random.default_rng(2).normal(0, 0.1, N))
    first, second, difference = lines(exact, other, "--kind", "exact")
    assert difference["values"]["nll"] == pytest.approx(first["value"] - second["value"], rel=1e-9)
    assert difference["errors"]["nll"] < 0.1 * first["standard_error"] + 0.02
    assert difference["values"]["p_value"] < 1e-20
    assert difference["name"] == f"{exact} less {other}"
    out = run(exact, other, "--kind", "exact").stdout
    assert f"nll, {exact} less {other}" in out
    assert "in the same order (claimed)" in out


def test_a_difference_of_bounds_is_warned_about(weights):
    done = run(weights, weights, "--kind", "lower")
    assert "difference of lower bounds" in done.output
    assert len(lines(weights, weights, weights, "--kind", "lower")) == 5


def test_what_does_not_compare_is_refused(tmp_path, exact, weights, numbers):
    np.save(tmp_path / "fewer.npy", numbers[:-1])
    np.save(tmp_path / "draws.npy", np.load(weights)[:, :20])
    for files, kind, term in (
        ((exact, tmp_path / "fewer.npy"), "exact", "images: 50 against 49"),
        ((weights, tmp_path / "draws.npy"), "lower", "draws: 200 against 20"),
        ((weights, exact), "lower", "draws: 200 against 1"),
    ):
        error = run(*files, "--kind", kind).exception
        assert isinstance(error, IncomparableError)
        assert term in str(error)


@pytest.mark.parametrize("kind", ["exact", "unbiased"])
def test_log_weights_are_a_lower_bound_and_nothing_else(weights, kind):
    error = run(weights, "--kind", kind).exception
    assert isinstance(error, UsageError)
    assert "lower bound" in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "1,2\n3\n", "cannot be read as log-likelihoods"),
        ("a.csv", "nll\n3\n", "cannot be read"),
        ("a.json", "[1, 2]", "expected .npy, .csv or .txt"),
        ("a.npy", "not an array", "cannot be read"),
        ("a.csv", "1\n", "at least 2 images, found 1"),
        ("a.csv", "1,2,3\n", "give a lower bound"),
        ("a.csv", "1\nnan\n", "NaN"),
    ],
)
def test_files_that_cannot_serve(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    error = run(tmp_path / name, "--kind", "exact").exception
    assert isinstance(error, GenEvalError)
    assert message in str(error)


def test_missing_files_and_pickles_are_refused(tmp_path):
    assert "cannot be read" in str(run(tmp_path / "none.npy", "--kind", "exact").exception)
    np.save(tmp_path / "objects.npy", np.array([1.0, None]), allow_pickle=True)
    assert "cannot be read" in str(run(tmp_path / "objects.npy", "--kind", "exact").exception)


def test_kind_must_be_said(exact):
    done = run(exact)
    assert done.exit_code == 2
    assert "--kind" in done.output
