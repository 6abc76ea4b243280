"""``geneval zoo likelihood``: what generators make of data that they have not seen, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gen_eval.zoo import WORLDS, train
from gen_eval.zoo.continuous import ContinuousFlow
from gen_eval.zoo.data import open_data
from gen_eval.zoo.task import Model
from gen_eval.zoo.variational import Variational


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def autoencoder(images, tmp_path_factory):
    """A checkpoint with a lower bound, hardly trained."""
    path = tmp_path_factory.mktemp("zoo") / "tiny.safetensors"
    model = Model("vae-density", "", Variational(latent=2, width=8, batch=8, draws=4), "")
    train(model, open_data(images), steps=3, device="cpu", out=path)
    return path


def lines(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_world_tells_its_entropy(run):
    (found,) = lines(run("zoo", "likelihood", "gaussian", "gaussian", "-n", 4000, "--json"))
    entropy = np.log(2 * np.pi * np.e) + np.log(1 - 0.25) / 2  # of unit variances with correlation .5
    assert abs(found["value"] - entropy) < 4 * found["standard_error"] < 0.1
    assert (found["kind"], found["data"]["n"], found["model"]) == ("exact", 4000, "gaussian")


def test_the_right_world_is_the_likelier_one(run):
    _, _, difference = lines(run("zoo", "likelihood", "ring8", "gaussian", "ring8", "-n", 200, "--json"))
    assert difference["name"] == "gaussian less ring8"
    assert difference["values"]["nll"] > 3


def test_points_are_not_those_that_models_learn_from(run):
    from gen_eval_cli.zoo_training import open_training_data

    learnt = open_training_data("gaussian", None, 50, False, None, lambda *_: None)
    found = lines(run("zoo", "likelihood", "gaussian", "gaussian", "-n", 50, "--json"))[0]["value"]
    assert found != pytest.approx(float(-WORLDS["gaussian"]().log_prob(learnt.x).mean()), abs=1e-6)


def test_a_bound_says_what_it_is_and_how_many_draws_it_took(run, images, autoencoder, tmp_path):
    np.save(tmp_path / "images.npy", images)
    done = run("zoo", "likelihood", tmp_path / "images.npy", autoencoder, "-n", 20, "--draws", 7)
    assert done.code == 0, done.err
    assert "lower, 7 draws: a lower bound" in done.out
    assert "64 dimensions, 256 levels to a unit" in done.out
    assert "claimed" not in done.out


def test_an_equation_is_solved_as_asked_and_tells_its_cost(run, tmp_path):
    model = Model("ffjord", "", ContinuousFlow(width=8, batch=8), "")
    points = open_data(np.random.default_rng(0).normal(size=(30, 2)))
    train(model, points, steps=2, device="cpu", out=tmp_path / "flow.safetensors")
    np.save(tmp_path / "points.npy", np.random.default_rng(1).normal(size=(30, 2)))
    for solver, evaluations in (("rk4:3", 12), ("euler:5", 5)):
        done = run(
            *("zoo", "likelihood", tmp_path / "points.npy", tmp_path / "flow.safetensors"),
            *("--solver", solver, "--json"),
        )
        (found,) = lines(done)
        assert found["values"]["evaluations"] == evaluations


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ring8", "vae-mnist"), "has no likelihood"),
        (("ring8", "gaussian", "--draws", "3"), "--draws is for lower bounds"),
        (
            ("ring8", "gaussian", "--solver", "rk4:3"),
            "--solver is for densities along differential equations",
        ),
        (("ring8", "nobody"), "nobody"),
        (("nothing", "ring8"), "nothing"),
    ],
)
def test_what_has_none_is_refused(run, arguments, said):
    done = run("zoo", "likelihood", *arguments)
    assert done.code != 0
    assert said in done.err
