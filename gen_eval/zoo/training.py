"""One trainer for every task: players in turn, averaged weights, and a state on disk to go on from to the same bytes.

All that is drawn is a function of the seed and the place in the training: the weights of the seed, a batch and the
noise of (seed, step, player, turn). So no generator has a state that would have to be kept.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gen_eval import sealed
from gen_eval.errors import NumericalError, UsageError
from gen_eval.progress import Progress, silent
from gen_eval.sealed import EXTENSION
from gen_eval.zoo.checkpoint import Checkpoint, require_name, save
from gen_eval.zoo.data import TrainingData
from gen_eval.zoo.run import Run
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Model

FORMAT = "gen_eval training 1"
_WHAT = "the state of a training"
_ADVICE = "Try another seed, or a recipe with lower rates."

# From the steps done, the losses averaged since the last call, and the generator as it is by then.
Observe = Callable[[int, Mapping[str, float], Sampler], None]


def train(
    model: Model,
    data: TrainingData,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    save_every: float = 60.0,
    command: str = "",
    progress: Progress = silent,
    observe: Observe | None = None,
) -> Checkpoint:
    """Train a model.

    Args:
        model: a row of :data:`gen_eval.zoo.MODELS`, or one of your own.
        data: what to learn from.
        seed: of the weights, the batches and the noise.
        steps: how many, those before a resumption included; by default what the recipe says.
        seconds: how long instead, by the clock; what observing and saving take does not count.
        out: a new ``.safetensors`` file for the generator; the state of the training lies beside it.
        resume: go on from the state beside ``out``.
        device: such as ``"cuda"``; by default CUDA where there is one.
        save_every: seconds between two saved states.
        command: what the checkpoint is to say that made it.
        progress: told of steps or seconds as they are done.
        observe: called after 1, 2, 3, 4, 6, 8, 11, 16 ... steps (each about root 2 times the one before) and at the
            end; the training is the same with and without it.

    Returns:
        The generator with averaged weights, also written to ``out``.

    Raises:
        UsageError: if an argument makes no sense, the model is not for such data, ``out`` exists, or there is nothing
            to resume, or something made on other terms.
        StoreError: if a state cannot be read, or a file not written.
        NumericalError: if a loss or a weight is NaN or infinite; the last saved state is kept.
        KeyboardInterrupt: at Ctrl-C, once the step is done and its state saved; it says of which step.
    """
    budget = _budget(model, steps, seconds, save_every)
    keeper = _Keeper(None if out is None else Path(out), save_every)
    keeper.require(resume)
    run = Run(model, data, seed, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if resume:
        run.restore(*keeper.load())
        budget.require_ahead_of(run.steps)
    try:
        with _held_ctrl_c() as require_no_stop:
            keeper.save(run)
            _proceed(run, budget, keeper, progress, observe, require_no_stop)
            keeper.save(run)
    except NumericalError as error:
        raise NumericalError(f"{error}. {keeper.kept()}{_ADVICE}") from error
    except KeyboardInterrupt as stop:
        if not run.torn:
            keeper.save(run)
        raise KeyboardInterrupt(keeper.kept().strip()) from stop
    checkpoint = run.checkpoint(command)
    if out is not None:
        save(checkpoint, out)
    return checkpoint


def state_path(out: str | Path) -> Path:
    """Where the state of a training lies whose generator goes to ``out``."""
    return Path(out).with_suffix(f".state{EXTENSION}")


class _Budget(NamedTuple):
    steps: int | None
    seconds: float | None

    def require_ahead_of(self, steps: int) -> None:
        if self.steps is not None and self.steps < steps:
            raise UsageError(f"there are {steps} steps already, and {self.steps} are asked for: ask for more")

    def spent(self, run: Run) -> bool:
        if self.steps is not None:
            return run.steps >= self.steps
        return self.seconds is not None and run.seconds >= self.seconds

    def tell(self, run: Run, progress: Progress) -> None:
        if self.steps is not None:
            progress(run.name, run.steps, self.steps, "step")
        elif self.seconds is not None:
            total = math.ceil(self.seconds)
            progress(run.name, total if self.spent(run) else int(run.seconds), total, "second")


def _budget(model: Model, steps: int | None, seconds: float | None, save_every: float) -> _Budget:
    if steps is not None and seconds is not None:
        raise UsageError("a training takes so many steps or so many seconds: leave one out")
    if steps is None and seconds is None:
        steps = model.recipe.steps
    if (steps is not None and steps < 1) or (seconds is not None and not seconds > 0) or not save_every >= 0:
        raise UsageError(
            "expected 1 step or more, or seconds above 0, and save_every of 0 or more; found "
            f"steps={steps}, seconds={seconds}, save_every={save_every}"
        )
    return _Budget(steps, seconds)


def _proceed(
    run: Run,
    budget: _Budget,
    keeper: _Keeper,
    progress: Progress,
    observe: Observe | None,
    require_no_stop: Callable[[], None],
) -> None:
    """Train until the budget is spent."""
    totals: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    budget.tell(run, progress)
    while not budget.spent(run):
        losses = run.step()
        totals.update(losses)
        counts.update(losses.keys())
        budget.tell(run, progress)
        if observe is not None and (_is_observed(run.steps) or budget.spent(run)):
            observe(run.steps, {name: totals[name] / counts[name] for name in counts}, run.sampler())
            totals.clear()
            counts.clear()
        require_no_stop()
        keeper.save_if_due(run)


@contextmanager
def _held_ctrl_c() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the function that is given is called, which raises it; a second one is not held back.

    So no step is stopped halfway. Threads other than the main one get none, and a handler of the caller's own stays.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            signal.default_int_handler(number, frame)
        held.append(number)

    def require_no_stop() -> None:
        if held:
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, hold)
    try:
        yield require_no_stop
        require_no_stop()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_observed(step: int) -> bool:
    """Whether a step is a power of root 2, rounded."""
    return step == round(2 ** (round(2 * math.log2(step)) / 2))


class _Keeper:
    """The state of a training on disk; nothing where there is no file to write."""

    def __init__(self, out: Path | None, every: float) -> None:
        self._out, self._every = out, every
        self._saved: tuple[float, int] | None = None  # when, and after how many steps

    def require(self, resume: bool) -> None:
        """Refuse what could not be written or resumed, before the work is done."""
        if self._out is None:
            if resume:
                raise UsageError("there is nothing to resume without a file: say which with out=")
            return
        require_name(self._out)
        state = state_path(self._out)
        if resume and not state.exists():
            raise UsageError(
                f"there is nothing to resume: {state} does not exist. Leave --resume (resume=True) out"
            )
        for path in (state, self._out):
            if not resume and path.exists():
                cure = "go on with it by --resume (resume=True), or " if path == state else ""
                raise UsageError(f"{path} exists: {cure}choose another name")

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
        assert self._out is not None
        path = state_path(self._out)
        return *sealed.read(path, FORMAT, _WHAT), path

    def save(self, run: Run) -> None:
        """Write the state.

        Raises:
            NumericalError: if a tensor is not finite; what was saved before stays.
        """
        run.require_finite()
        if self._out is not None:
            sealed.write(state_path(self._out), FORMAT, run.terms(), run.tensors(), _WHAT)
            self._saved = time.monotonic(), run.steps

    def save_if_due(self, run: Run) -> None:
        if self._saved is not None and time.monotonic() - self._saved[0] >= self._every:
            self.save(run)

    def kept(self) -> str:
        """What is left of a training that did not end, a sentence and a space; empty where nothing is."""
        if self._saved is None or self._out is None:
            return ""
        return f"The state after step {self._saved[1]} is kept in {state_path(self._out)}. "
