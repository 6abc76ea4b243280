"""A callback of Lightning that measures a generator while it trains, and logs values with their error bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import UnknownName, UsageError
from gen_eval.integrations.loggers import scalars
from gen_eval.monitor import Monitor
from gen_eval.results import Result
from gen_eval.selection import Best

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    try:
        from pytorch_lightning import (  # type: ignore[assignment]
            Callback,
            LightningModule,
            Trainer,
        )
    except ImportError as error:
        raise UsageError("this needs Lightning: python -m pip install 'gen_eval[lightning]'") from error


UNITS = ("epochs", "steps")


class EvaluateGenerator(Callback):
    """Measures ``n`` images of fixed seeds every few epochs, or steps, of a training.

    Under DDP each rank makes and feeds its share, and all log the result of them all. The module is in evaluation mode
    and without gradients meanwhile; its own mode comes back after.

    Args:
        monitor: measures, with a reference.
        sample: from the module and int64 seeds ``[b]`` on its device to images, as :meth:`gen_eval.Monitor.update`
            takes them; image i is to depend on seed i alone. By default the module's method ``sample``.
        n: number of images.
        seed: of the first one, the same at each measurement.
        batch_size: images made together.
        every: epochs between two measurements, or steps.
        unit: ``"epochs"``, or ``"steps"`` as ``trainer.global_step`` counts them: those of all optimizers.
        prefix: goes before each name that is logged.
        best: keeps the best checkpoint by the first measure, and stops the training when it says so.
        offload: leave no network on the GPU between measurements.

    Attributes:
        results: of the last measurement.

    What ``best`` knows goes into Lightning's checkpoints, so a training that is resumed goes on with it.

    Raises:
        UnknownName: if the unit is none of :data:`UNITS`.
        UsageError: if a number is not positive, or the monitor is none; at the start of a training, if there is nothing
            to sample by.
    """

    def __init__(
        self,
        monitor: Monitor,
        sample: Callable[[LightningModule, Tensor], Any] | None = None,
        *,
        n: int = 2000,
        seed: int = 0,
        batch_size: int = 64,
        every: int = 1,
        unit: str = "epochs",
        prefix: str = "",
        best: Best | None = None,
        offload: bool = False,
    ) -> None:
        if not isinstance(monitor, Monitor):
            raise UsageError(f"expected a gen_eval.Monitor, found {monitor!r}: Monitor([...], reference=...)")
        for name, value in (("n", n), ("batch_size", batch_size), ("every", every)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1, found {value}")
        if unit not in UNITS:
            raise UnknownName("unit", unit, UNITS)
        self.results: list[Result] = []
        self.best = best
        self._monitor, self._sample = monitor, sample
        self._n, self._seed, self._batch_size = n, seed, batch_size
        self._every, self._unit, self._prefix, self._offload = every, unit, prefix, offload
        self._step = 0  # of the last batch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module that makes no samples before it is trained."""
        if self._sample is None and not callable(getattr(pl_module, "sample", None)):
            raise UsageError(
                f"{type(pl_module).__name__} has no method sample(seeds): write one, or say by what to sample, "
                "EvaluateGenerator(monitor, sample=...)"
            )

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {} if self.best is None else {"best": self.best.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        if self.best is not None and "best" in state_dict:
            self.best.load_state_dict(state_dict["best"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here: a training that is resumed does not begin at 0."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Measure where enough steps were taken; a batch may take several of them, or none."""
        before, self._step = self._step, trainer.global_step
        if self._unit == "steps" and self._step // self._every > before // self._every:
            self._measure(trainer, pl_module, self._step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure where enough epochs are over."""
        if self._unit == "epochs" and (trainer.current_epoch + 1) % self._every == 0:
            self._measure(trainer, pl_module, trainer.current_epoch)

    def _measure(self, trainer: Trainer, module: LightningModule, label: int) -> None:
        """Measure, log, and say when to stop; ``label`` is what the best is called by."""
        self._monitor.reset()
        modes = {part: part.training for part in module.modules()}
        module.eval()
        try:
            self._feed(trainer, module)
        finally:
            for part, mode in modes.items():  # one by one: parts of it may be frozen
                part.training = mode
        self.results = self._monitor.compute()
        if self._offload:
            self._monitor.offload()
        module.log_dict(scalars(self.results, self._prefix))
        if self.best is not None:
            self.best.update(self.results[0], label)
            trainer.should_stop = trainer.should_stop or self.best.stop

    def _feed(self, trainer: Trainer, module: LightningModule) -> None:
        for start in range(0, self._n, self._batch_size * trainer.world_size):
            end = min(start + self._batch_size * trainer.world_size, self._n)
            index = torch.arange(start, end)[trainer.global_rank :: trainer.world_size]
            if not len(index):
                continue
            seeds = (self._seed + index).to(module.device)
            with torch.no_grad():
                images = (
                    self._sample(module, seeds) if self._sample is not None else module.sample(seeds)  # type: ignore[operator]
                )
            self._monitor.update(images, index=index)
