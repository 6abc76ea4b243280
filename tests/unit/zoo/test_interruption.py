"""A training that is stopped by Ctrl-C keeps the last step that it finished."""

from __future__ import annotations

import signal

import pytest
import torch

from gen_eval.sealed import read
from gen_eval.zoo.run import Run
from gen_eval.zoo.training import FORMAT, state_path, train


@pytest.fixture(autouse=True)
def interruptible():
    """Jobs in the background of a script ignore SIGINT, and hand that down.

    No signal is sent in here, as this may be a process of pytest-xdist's with more to do: its handler is called.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def steps_of(out):
    return read(state_path(out), FORMAT, "a state")[0]["steps"]


def test_ctrl_c_in_a_step_ends_it_and_saves(toy, points, tmp_path, monkeypatch):
    out, model, turn = tmp_path / "a.safetensors", toy(), Run._turn

    def interrupted(self, *args):
        if self.steps == 4 and args == (self._task.players[0], 0):
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return turn(self, *args)

    monkeypatch.setattr(Run, "_turn", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="The state after step 5 is kept in"):
        train(model, points, steps=9, out=out, device="cpu")
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert steps_of(out) == 5
    resumed = train(model, points, steps=9, out=out, resume=True, device="cpu")
    whole = train(model, points, steps=9, device="cpu")
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value)


def test_a_step_that_is_stopped_halfway_is_not_saved(toy, points, tmp_path, monkeypatch):
    out, turn = tmp_path / "a.safetensors", Run._turn

    def stopped(self, *args):
        losses = turn(self, *args)
        if self.steps == 4:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(Run, "_turn", stopped)
    with pytest.raises(KeyboardInterrupt, match="The state after step 0 is kept in"):
        train(toy(), points, steps=9, out=out, device="cpu")
    assert steps_of(out) == 0
