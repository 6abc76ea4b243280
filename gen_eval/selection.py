"""Which checkpoint is the best so far, and when to stop: by differences that are told apart, not by luck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gen_eval.comparison import Comparison, compare, find_value, is_finite, require_level
from gen_eval.errors import UsageError
from gen_eval.results import Result


@dataclass
class Best:
    """Keeps the best of several checkpoints as they come, and says when to stop.

    A checkpoint takes the place of the best if it is better at the level ``alpha / patience`` of a one-sided
    comparison. After ``patience`` checkpoints in a row that did not, it is time to stop. So where training has
    stopped to improve the model, some checkpoint passes for better before the stop with a probability of at most
    ``alpha``, however the comparisons depend on one another (Bonferroni). Small gains are not lost: each checkpoint is
    compared with the best, not with the one before, and gains add up until they are told.

    A checkpoint whose value or error is NaN or infinite, as that of a model that diverged, is not better than any,
    and none is worse: it is never the best.

    The least of many noisy values is too low by selection, so the value of the best here is that of a checkpoint which
    was better *before* it was kept; measure the one that you publish again, on other seeds.

    Args:
        alpha: probability of a false improvement between the last true one and the stop.
        patience: how many checkpoints without an improvement end the training.
        value: which value of the results; by default the metric's own.
        paired: whether image i is made from the same seed at every checkpoint, as :func:`gen_eval.compare` says. It
            makes smaller gains tell.

    Attributes:
        result: of the best.
        label: what the caller calls it, such as its step.
        waited: how many checkpoints came since without being better.
        last: how the last one compared, ``a`` with the best until then, ``b``; ``None`` of one that had none to be
            compared with, or no finite value.

    Raises:
        UsageError: if alpha is no probability, or patience is not positive.
    """

    alpha: float = 0.05
    patience: int = 10
    value: str | None = None
    paired: bool = False
    result: Result | None = None
    label: Any = None
    waited: int = 0
    last: Comparison | None = None

    def __post_init__(self) -> None:
        require_level(self.alpha)
        if self.patience < 1:
            raise UsageError(f"patience is 1 checkpoint or more, found {self.patience}")

    def update(self, result: Result, label: Any = None) -> bool:
        """Take in the next checkpoint's result.

        Args:
            result: on the same terms as those before it.
            label: what to call it.

        Returns:
            Whether it is the best now, as the first one is.

        Raises:
            IncomparableError: if it was measured on other terms.
            UsageError: if the value has no standard error, or this is no result.
        """
        name = find_value(result, result if self.result is None else self.result, self.value)
        told = is_finite(result, name)
        self.last = None
        if told and self.result is not None:
            self.last = compare(result, self.result, name, paired=self.paired)
            told = self.last.p_improved <= self.alpha / self.patience
        if told:
            self.result, self.label, self.waited = result, label, 0
        else:
            self.waited += 1
        return told

    @property
    def stop(self) -> bool:
        """Whether ``patience`` checkpoints came without an improvement."""
        return self.waited >= self.patience
