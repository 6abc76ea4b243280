"""``geneval zoo list`` and ``train``: what there is, and training that is watched, stopped and resumed."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from cli.console import _Log
from gen_eval.zoo import CHECKPOINTS, MODELS, WORLDS, checkpoint, open_sampler
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.task import Model
from gen_eval.zoo.training import state_path

SMALL = ("--set", "width=8", "--set", "batch=8", "--set", "latent=4")


def tiny(**settings):
    return Adversarial(latent=4, width=8, batch=8, steps=4, **settings)


ROWS = {
    model.name: model
    for model in (
        Model("tiny-gan", "Fully connected.", tiny(net="mlp", norm="none"), "nobody 2026"),
        Model(
            "tiny-biggan",
            "Knows classes, and attends.",
            tiny(net="resnet", norm="conditional", head="projection", attention=True),
            "nobody 2026",
        ),
    )
}


@pytest.fixture(autouse=True)
def models(monkeypatch):
    for name, row in ROWS.items():
        monkeypatch.setitem(MODELS, name, row)


@pytest.fixture
def pictures(tmp_path):
    """48 gray images of 8 x 8 in two classes, which a file tells."""
    array = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", array)
    (tmp_path / "labels.txt").write_text("\n".join(["0", "1"] * 24))
    return tmp_path / "pictures.npy"


def trained(run, out, *args, data="ring8"):
    return run("zoo", "train", "tiny-gan", "--data", data, "--device", "cpu", "-o", out, *args)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# --- list


def test_list_shows_every_row_of_the_three_tables(run):
    done = run("zoo", "list")
    assert (done.code, done.err) == (0, "")
    names = [line.split()[0] for line in done.out.splitlines() if line[:3].strip()]
    assert names == ["worlds", *WORLDS, "models", *MODELS, "checkpoints", *CHECKPOINTS]


def test_list_says_what_a_model_learns_as_its_networks_do(run):
    lines = run("zoo", "list").out.splitlines()
    learns = {
        name: lines[at + 1].strip() for name in ROWS for at, line in enumerate(lines) if f"  {name} " in line
    }
    assert learns == {
        "tiny-gan": "learns images or vectors; 4 steps by default",
        "tiny-biggan": "learns images with labels; 4 steps by default",
    }


def test_list_says_how_a_checkpoint_came_about_and_what_it_takes(run, pictures, tmp_path, monkeypatch):
    out = tmp_path / "tiny-pictures.safetensors"
    command = ("--data", pictures, "--labels", pictures.parent / "labels.txt", "--steps", 2, "--seed", 5)
    assert run("zoo", "train", "tiny-biggan", *command, "-o", out).code == 0
    scored = dataclasses.replace(checkpoint.load(out), scores={"fid": 123.456, "precision": 0.25})
    checkpoint.save(scored, out)
    monkeypatch.setitem(CHECKPOINTS, "tiny-pictures", out)
    lines = run("zoo", "list").out.splitlines()
    made = rf"  tiny-pictures +tiny-biggan of {re.escape(str(pictures))}, 2 steps of seed 5 in \d+ s, 0\.0"
    assert re.match(made, lines[-2])
    assert "MB; 2 classes; truncation: " in lines[-2]
    assert lines[-1].strip() == "fid 123.5, precision 0.25"
    done = run("zoo", "sample", "tiny-pictures", "-n", 2, "--labels", "1", "-o", tmp_path / "a.npz")
    assert done.code == 0, done.err


# --- train


def test_training_tells_losses_and_writes_the_checkpoint_with_its_command(run, tmp_path):
    out = tmp_path / "my ring.safetensors"
    done = trained(run, out, "--steps", 6, "-n", 100)
    assert done.code == 0, done.err
    steps = [
        line.split()[0] for line in done.err.splitlines() if " steps " in line and "/" not in line.split()[0]
    ]
    assert steps[:5] == ["1", "2", "3", "4", "6"]
    assert all(f"{player} " in done.err for player in ("critic", "generator"))
    assert f"{out}  tiny-gan of ring8, seeds {2**40} to {2**40 + 99}, 6 steps of seed 0 in " in done.out
    assert f"geneval zoo grid {shlex.quote(str(out))}" in done.out
    made = checkpoint.load(out)
    given = (
        "zoo",
        "train",
        "tiny-gan",
        "--data",
        "ring8",
        "--device",
        "cpu",
        "-o",
        out,
        "--steps",
        6,
        "-n",
        100,
    )
    assert made.command == shlex.join(["geneval", *map(str, given)])
    assert open_sampler(out).sample(3, seed=0).shape == (3, 2)


def test_a_resumed_training_ends_in_the_same_weights(run, tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert trained(run, whole, "--steps", 6).code == 0
    assert trained(run, parts, "--steps", 2).code == 0
    assert trained(run, parts, "--steps", 6).code == 1, "nothing is overwritten"
    done = trained(run, parts, "--steps", 6, "--resume")
    assert done.code == 0, done.err
    first, second = checkpoint.load(whole), checkpoint.load(parts)
    assert second.steps == 6
    assert second.command == first.command.replace("whole", "parts")
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_keeps_a_state_and_says_how_to_go_on(geneval_path, process, tmp_path):
    out = tmp_path / "stopped.safetensors"
    name = next(iter(MODELS))
    command = ("zoo", "train", name, "--data", "ring8", "--device", "cpu", "-o", out, *SMALL)
    with subprocess.Popen(
        [geneval_path, *map(str, command), "--steps", "1000000", "--save-every", "1000"],
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background of a script ignore it, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stderr is not None
        next(line for line in running.stderr if " 8 steps" in line)
        running.send_signal(signal.SIGINT)
        err = running.stderr.read()
    assert running.returncode == 130
    assert "Traceback" not in err
    again = shlex.split(err.partition("Go on from there: geneval ")[2])
    assert again[-1] == "--resume"
    assert f"is kept in {state_path(out)}" in err
    assert int(err.partition("The state after step ")[2].split()[0]) >= 8
    assert not out.exists()
    assert state_path(out).exists()
    done = process(*command, "--seconds", "0.01", "--resume")
    assert done.code == 0, done.err
    assert checkpoint.load(out).steps >= 8


def test_the_picture_has_a_row_for_the_data_and_each_observation(run, pictures, tmp_path):
    out, picture = tmp_path / "out.safetensors", tmp_path / "progress.png"
    labels = ("--labels", pictures.parent / "labels.txt")
    command = ("zoo", "train", "tiny-biggan", "--data", pictures, *labels, "--device", "cpu")
    assert run(*command, "-o", out, "--steps", 2, "--samples", picture).code == 0
    two = pixels(picture).shape
    assert checkpoint.load(out).kind.classes == ("0", "1")
    assert run(*command, "-o", tmp_path / "b.safetensors", "--steps", 4, "--samples", picture).code == 0
    four = pixels(picture).shape
    assert four[0] - two[0] == 2 * (96 + 16)
    assert four[1] == two[1] > 10 * 96


def test_the_picture_of_points_starts_with_those_of_the_data(run, tmp_path):
    picture = tmp_path / "progress.png"
    assert trained(run, tmp_path / "out.safetensors", "--steps", 2, "--samples", picture).code == 0
    panels = pixels(picture)[24:280, 24:280], pixels(picture)[24:280, 288:544]
    dark = [(panel.sum(2) < 500).nonzero() for panel in panels]
    spread = [float(np.std(places[0])) for places in dark]
    assert spread[0] > 2 * spread[1], "a ring, and beside it what an untrained network makes"


def test_a_resumed_training_leaves_the_picture_of_its_beginning(run, tmp_path):
    out, picture = tmp_path / "out.safetensors", tmp_path / "progress.png"
    assert trained(run, out, "--steps", 2, "--samples", picture).code == 0
    before = picture.read_bytes()
    done = trained(run, out, "--steps", 3, "--samples", picture, "--resume")
    assert f"{tmp_path / 'progress-2.png'}  samples" in done.out
    assert picture.read_bytes() == before


def test_settings_of_the_recipe_are_replaced(run, tmp_path):
    out = tmp_path / "out.safetensors"
    given = ("width=6", "rate_generator=1", "betas=0,0.9", "truncation=none")
    done = trained(run, out, *(text for each in given for text in ("--set", each)), "--steps", 1)
    assert done.code == 0, done.err
    recipe = checkpoint.load(out).recipe
    assert (recipe.width, recipe.rate_generator, recipe.truncation) == (6, 1.0, "none")
    assert recipe.betas == (0.0, 0.9)


def test_without_a_name_the_checkpoint_is_named_by_model_and_data(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("zoo", "train", "tiny-gan", "--data", "ring8", "--steps", 1).code == 0
    assert (tmp_path / "tiny-gan-ring8.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("tiny-gun", "--data", "ring8"), "did you mean 'tiny-gan'?"),
        (("tiny-gan", "--data", "ring9"), "did you mean 'ring8'?"),
        (("tiny-gan", "--data", "ring8", "--labels", "x.csv"), "labels is not for a generator"),
        (("tiny-gan", "--data", "ring8", "--set", "widht=8"), "did you mean 'width'?"),
        (("tiny-gan", "--data", "ring8", "--set", "width=wide"), "width of tiny-gan is 8 by default"),
        (("tiny-gan", "--data", "ring8", "--set", "width=0.5"), "found 0.5"),
        (("tiny-gan", "--data", "ring8", "--samples", "progress.txt"), "expected a name that ends in .png"),
        (("tiny-gan", "--data", "ring8", "--steps", 3, "--seconds", 3), "leave one out"),
        (("tiny-gan", "--data", "ring8", "--device", "foo"), "unknown device 'foo'"),
        (("tiny-gan", "--data", "ring8", "--device", "meta"), "device 'meta' is not supported"),
        (("tiny-gan", "--data", ""), "an empty path was given"),
        (("tiny-gan", "--data", "ring8", "--resume"), "nothing to resume"),
        (("tiny-gan", "--data", "ring8", "-o", "model.pt"), ".safetensors"),
        (("tiny-biggan", "--data", "ring8"), "attention"),
    ],
)
def test_wrong_trainings_are_refused_before_a_step(run, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    done = run("zoo", "train", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert "1 steps" not in done.err
    assert not list(tmp_path.iterdir())


def test_vectors_that_no_picture_shows_are_refused_for_samples_alone(run, tmp_path):
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(20, 5)))
    data = tmp_path / "vectors.npy"
    done = trained(run, tmp_path / "a.safetensors", "--samples", tmp_path / "p.png", data=data)
    assert done.code == 1
    assert "--samples draws images" in done.err
    assert trained(run, tmp_path / "a.safetensors", "--steps", 1, data=data).code == 0


def test_seeds_beyond_all_are_refused(run, tmp_path):
    out = tmp_path / "a.safetensors"
    for args in (("train", "tiny-gan", "--data", "ring8"), ("sample", "ring8", "-n", 2), ("grid", "ring8")):
        done = run("zoo", *args, "-o", out, "--seed", 2**63)
        assert done.code == 2
        assert "Invalid value for '--seed'" in done.err


def test_images_that_do_not_decode_are_left_out_where_asked(run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    done = trained(run, tmp_path / "a.safetensors", "--steps", 1, data=folder)
    assert done.code == 1
    assert "--skip-corrupt" in done.err
    done = trained(run, tmp_path / "a.safetensors", "--steps", 1, "--skip-corrupt", data=folder)
    assert done.code == 0, done.err
    assert "1 of 13 images" in done.err


def test_the_speed_of_a_resumed_task_is_that_of_this_run(capsys, monkeypatch):
    now = iter((0.0, 10.0))
    monkeypatch.setattr("cli.console.time.monotonic", lambda: next(now))
    log = _Log()
    log("a", 900, 1000, "step")
    log("a", 1000, 1000, "step")
    assert capsys.readouterr().err == "a  1,000/1,000 steps, 10.0/s\n"
