"""Training: to the same bytes whether or not it was killed, within its budget, and refusals."""

from __future__ import annotations

import dataclasses
import itertools
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gen_eval.errors import NumericalError, StoreError, UsageError
from gen_eval.sealed import read
from gen_eval.zoo.checkpoint import load
from gen_eval.zoo.run import Run
from gen_eval.zoo.training import FORMAT, state_path, train

pytestmark = pytest.mark.usefixtures("one_thread", "untouched")


def state_of(out):
    """Terms, less what a clock says, and tensors of the state beside a checkpoint."""
    terms, tensors = read(state_path(out), FORMAT, "a state")
    return {name: value for name, value in terms.items() if "seconds" not in name}, tensors


def assert_same_state(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        assert torch.equal(found[1][name], tensor), name


# --- The same bytes


def test_twenty_and_twenty_are_forty(toy, toy_data, tmp_path):
    """Weights, averages, Adam's moments, batch statistics and the vectors of spectral normalisation."""
    straight = train(toy(), toy_data, seed=3, steps=40, out=tmp_path / "a.safetensors", device="cpu")
    out = tmp_path / "b.safetensors"
    train(toy(), toy_data, seed=3, steps=20, out=out, device="cpu")
    resumed = train(toy(), toy_data, seed=3, steps=40, out=out, resume=True, device="cpu")
    expected = state_of(tmp_path / "a.safetensors")
    assert_same_state(state_of(out), expected)
    names = set(expected[1])
    for part in ("modules.generator.norm.running_mean", "average.generator.norm.running_var"):
        assert part in names
    assert any("features" in name and name.endswith("_u") for name in names)
    assert {f"adam.critic.critic.gain.{what}" for what in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert not any(name.startswith("adam.") and "fixed" in name for name in names)
    assert int(expected[1]["adam.critic.critic.gain.step"]) == 80
    assert all(torch.equal(resumed.weights[name], value) for name, value in straight.weights.items())
    assert torch.equal(
        resumed.sampler().sample(70, seed=1).double(), straight.sampler().sample(70, seed=1).double()
    )


_SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import torch
torch.set_num_threads(1)
from conftest import toy_images, toy_model
from gen_eval.zoo.training import train
train(toy_model(), toy_images(), seed=5, steps=1_000_000, out={out!r}, save_every=0.05, device="cpu")
"""


def test_resumes_what_was_killed(toy, pixels, tmp_path):
    out = tmp_path / "killed.safetensors"
    script = _SCRIPT.format(folder=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (state_path(out).exists() and state_of(out)[0]["steps"] >= 5):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    steps = state_of(out)[0]["steps"] + 7
    train(toy(), pixels, seed=5, steps=steps, out=out, resume=True, device="cpu")
    straight = tmp_path / "straight.safetensors"
    train(toy(), pixels, seed=5, steps=steps, out=straight, device="cpu")
    assert_same_state(state_of(out), state_of(straight))
    assert out.exists()


def test_observing_saving_and_files_change_nothing(toy, toy_data, tmp_path):
    plain = train(toy(), toy_data, steps=12, device="cpu")

    def spoil(step, losses, sampler):
        sampler.sample(3, seed=step)
        with torch.no_grad():
            for parameter in sampler.network.parameters():
                parameter.zero_()

    seen = train(
        toy(),
        toy_data,
        steps=12,
        out=tmp_path / "a.safetensors",
        save_every=0,
        observe=spoil,
        device="cpu",
    )
    assert all(torch.equal(seen.weights[name], value) for name, value in plain.weights.items())


def test_seeds_tell_trainings_apart(toy, points):
    first, same, other = (train(toy(), points, seed=seed, steps=2, device="cpu") for seed in (1, 1, 2))
    name = "generator.first.weight"
    assert torch.equal(first.weights[name], same.weights[name])
    assert not torch.equal(first.weights[name], other.weights[name])


def test_finished_training_goes_on_or_stays(toy, points, tmp_path):
    out = tmp_path / "a.safetensors"
    done = train(toy(), points, steps=5, out=out, device="cpu")
    again = train(toy(), points, steps=5, out=out, resume=True, device="cpu")
    assert again.steps == 5
    assert again.seconds == done.seconds
    assert all(torch.equal(again.weights[name], value) for name, value in done.weights.items())
    further = train(toy(), points, steps=9, out=out, resume=True, device="cpu")
    assert further.steps == 9
    assert further.seconds > done.seconds
    with pytest.raises(UsageError, match="there are 9 steps already, and 5 are asked for"):
        train(toy(), points, steps=5, out=out, resume=True, device="cpu")


# --- Steps


def test_averages_follow_the_weights(toy, pixels):
    run = Run(toy(), pixels, 0, "cpu")
    start = {name: value.clone() for name, value in run.tensors().items()}
    name = "generator.first.weight"
    assert torch.equal(start[f"average.{name}"], start[f"modules.{name}"])
    expected = start[f"average.{name}"].double()
    for step in range(30):
        run.step()
        tensors = run.tensors()
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * tensors[f"modules.{name}"].double()
        for buffer in ("running_mean", "num_batches_tracked"):
            copied = f"generator.norm.{buffer}"
            assert torch.equal(tensors[f"average.{copied}"], tensors[f"modules.{copied}"])
    torch.testing.assert_close(tensors[f"average.{name}"].double(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(tensors[f"average.{name}"], tensors[f"modules.{name}"])


def test_first_step_of_adam_is_the_rate_by_parameter(toy, points):
    """Adam's first step is the rate, whatever the gradient; the factor of the longest name counts."""
    run = Run(toy(rate=0.01), points, 0, "cpu")
    before = {name: value.clone() for name, value in run.tensors().items()}
    run.step()
    for name, rate in (("first.weight", 0.01), ("last.weight", 0.005), ("last.bias", 0.02)):
        moved = run.tensors()[f"modules.generator.{name}"] - before[f"modules.generator.{name}"]
        torch.testing.assert_close(moved.abs().max(), torch.tensor(rate), rtol=1e-3, atol=0)
    assert torch.equal(run.tensors()["modules.critic.fixed"], torch.ones(2))


def test_turns_have_batches_and_noise_of_their_own(toy, points):
    run = Run(toy(), points, 0, "cpu")
    for _ in range(3):
        run.step()
    task = run._task
    assert task.begun == [0, 1, 2]
    assert len(task.turns) == 9  # two of the critic and one of the generator, in three steps
    for (one, z), (other, w) in itertools.combinations(task.turns, 2):
        assert one.x.shape == (8, 2)
        assert not torch.equal(one.x, other.x)
        assert not torch.equal(z, w)


def test_only_the_player_in_turn_learns(toy, points):
    """No gradient is left with, or worked out for, what the other player moves."""
    run = Run(toy(), points, 0, "cpu")
    task = run._task
    held = []
    for player, other in (("generator", "critic"), ("critic", "generator")):
        loss = getattr(task, player)

        def spy(batch, noise, loss=loss, other=other):
            held.append(not any(each.requires_grad for each in task.modules[other].parameters()))
            return loss(batch, noise)

        index = [each.name for each in task.players].index(player)
        players = list(task.players)
        players[index] = dataclasses.replace(players[index], loss=spy)
        task.players = tuple(players)
    run.step()
    assert held == [True, True, True]


def test_projections_hold_after_every_update(toy, points):
    run = Run(toy(rate=10.0), points, 0, "cpu")
    for _ in range(5):
        run.step()
        assert 0.5 <= float(run._task.modules["critic"].gain) <= 2


def test_schedule_goes_on_where_it_was(toy, points, tmp_path):
    out = tmp_path / "a.safetensors"
    train(toy(), points, steps=3, out=out, device="cpu")
    run = Run(toy(), points, 0, "cpu")
    run.restore(*read(state_path(out), FORMAT, "a state"), state_path(out))
    run.step()
    assert run._task.begun == [3]


def test_rates_for_nobody_are_refused(toy, points):
    with pytest.raises(
        UsageError, match=r"generator has rates for generator\.lost\., and moves generator\.first"
    ):
        Run(toy(rate_of=(("generator.lost.", 0.1),)), points, 0, "cpu")


# --- Budget, progress, observing


def test_budget_in_seconds_spans_resumptions(toy, points, tmp_path):
    out, told = tmp_path / "a.safetensors", []
    first = train(toy(), points, seconds=0.2, out=out, device="cpu", progress=lambda *each: told.append(each))
    assert first.steps > 1
    assert 0.2 <= first.seconds < 0.6
    assert 0 < first.cpu_seconds < 1
    assert told[0] == ("toy on points", 0, 1, "second")
    assert told[-1] == ("toy on points", 1, 1, "second")
    assert [each[1] for each in told[:-1]] == [0] * (len(told) - 1)
    same = train(toy(), points, seconds=0.1, out=out, resume=True, device="cpu")
    assert same.steps == first.steps
    more = train(toy(), points, seconds=0.3, out=out, resume=True, device="cpu")
    assert more.steps > first.steps
    assert more.seconds >= 0.3


def test_steps_are_by_default_those_of_the_recipe(toy, points):
    told = []
    done = train(toy(steps=4), points, device="cpu", progress=lambda *each: told.append(each))
    assert done.steps == 4
    assert told == [("toy on points", step, 4, "step") for step in range(5)]


def test_observer_sees_a_geometric_series_and_the_end(toy, points):
    seen = []
    train(toy(), points, steps=50, device="cpu", observe=lambda *each: seen.append(each))
    assert [step for step, *_ in seen] == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 50]
    assert set(seen[0][1]) == {"critic", "critic gap", "generator"}
    assert seen[0][1]["critic"] == -seen[0][1]["critic gap"]
    early, late = (sampler.sample(5, seed=0) for sampler in (seen[0][2], seen[-1][2]))
    assert not torch.equal(early, late)


def test_observed_losses_are_means_since_the_last_time(toy, points):
    run = Run(toy(), points, 0, "cpu")
    losses = [run.step()["generator"] for _ in range(6)]
    seen = {}
    train(
        toy(),
        points,
        steps=6,
        device="cpu",
        observe=lambda step, losses, _: seen.update({step: losses["generator"]}),
    )
    assert seen[4] == pytest.approx(losses[3])
    assert seen[6] == pytest.approx((losses[4] + losses[5]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3, "seconds": 3.0}, "leave one out"),
        ({"steps": 0}, "expected 1 step or more"),
        ({"seconds": 0.0}, "seconds above 0"),
        ({"seconds": math.nan}, "seconds above 0"),
        ({"save_every": -1.0}, "save_every of 0 or more"),
        ({"resume": True}, "nothing to resume without a file"),
    ],
)
def test_arguments_that_make_no_sense(toy, points, options, message):
    with pytest.raises(UsageError, match=message):
        train(toy(), points, device="cpu", **options)


# --- Files that are there, and that are not


def test_nothing_is_written_over(toy, points, tmp_path):
    out = tmp_path / "a.safetensors"
    train(toy(), points, steps=2, out=out, device="cpu")
    with pytest.raises(
        UsageError, match=r"a\.state\.safetensors exists: go on with it by --resume .* another name"
    ):
        train(toy(), points, steps=2, out=out, device="cpu")
    state_path(out).unlink()
    with pytest.raises(UsageError, match=r"a\.safetensors exists: choose another name"):
        train(toy(), points, steps=2, out=out, device="cpu")
    with pytest.raises(UsageError, match=r"nothing to resume: .*a\.state\.safetensors does not exist"):
        train(toy(), points, steps=2, out=out, resume=True, device="cpu")


@pytest.mark.parametrize("name", ["a.pt", "nowhere/a.safetensors"])
def test_names_are_refused_before_the_work(toy, points, tmp_path, name):
    with pytest.raises(StoreError, match=r"ends in .safetensors|no folder"):
        train(toy(fails_at=0), points, out=tmp_path / name, device="cpu")


@pytest.mark.parametrize(
    ("options", "seed", "swap", "message"),
    [
        ({"rate": 0.02}, 0, False, r"its recipe\.rate is 0\.01, not 0\.02\. "),
        ({}, 1, False, r"its seed is 0, not 1\. "),
        ({}, 0, True, r"its data_digest is [0-9a-f]+, not [0-9a-f]+\. "),
        ({"batch": 9}, 1, False, r"its recipe\.batch is 8, not 9; its seed is 0, not 1\. "),
    ],
    ids=["recipe", "seed", "data", "two"],
)
def test_resumption_on_other_terms(toy, points, pixels, tmp_path, options, seed, swap, message):
    out = tmp_path / "a.safetensors"
    train(toy(), points, steps=2, out=out, device="cpu")
    with pytest.raises(UsageError, match=r"is of another training, points: " + message):
        train(
            toy(**options), pixels if swap else points, seed=seed, steps=4, out=out, resume=True, device="cpu"
        )


def test_state_cut_short(toy, points, tmp_path):
    out = tmp_path / "a.safetensors"
    train(toy(), points, steps=2, out=out, device="cpu")
    whole = state_path(out).read_bytes()
    state_path(out).write_bytes(whole[:-10])
    with pytest.raises(StoreError, match=r"cannot be read as the state of a training"):
        train(toy(), points, steps=4, out=out, resume=True, device="cpu")
    state_path(out).write_bytes(out.read_bytes())
    with pytest.raises(StoreError, match="does not hold the state of a training"):
        train(toy(), points, steps=4, out=out, resume=True, device="cpu")


# --- Numbers that are none


@pytest.mark.parametrize("failure", ["nan", "inf"])
def test_loss_that_is_no_number_stops_and_keeps_the_last_state(toy, points, tmp_path, failure):
    out, model = tmp_path / "a.safetensors", toy(fails_at=7, failure=failure)
    message = (
        r"the loss of generator is (nan|inf) in step 8 of toy on points\. The state after step 7 is kept in"
    )
    with pytest.raises(NumericalError, match=message):
        train(model, points, steps=20, out=out, save_every=0, device="cpu")
    assert not out.exists()
    assert state_of(out)[0]["steps"] == 7
    train(model, points, steps=7, out=out, save_every=0, resume=True, device="cpu")
    assert bool(load(out, {"toy": type(model.recipe)}).sampler().sample(5, seed=0).isfinite().all())
    with pytest.raises(NumericalError, match=r"step 8 of toy on points\. Try another seed"):
        train(model, points, steps=20, device="cpu")


def test_weights_that_are_no_numbers_are_never_saved(toy, points, tmp_path):
    """A loss may be finite and its gradient not."""
    out = tmp_path / "a.safetensors"
    model = toy(fails_at=0, failure="slope")
    with pytest.raises(NumericalError, match=r"is NaN or infinite after step 1 of .* after step 0 is kept"):
        train(model, points, steps=1, out=out, device="cpu")
    assert state_of(out)[0]["steps"] == 0
    with pytest.raises(NumericalError, match="is NaN or infinite after step 1"):
        train(model, points, steps=1, device="cpu")
