"""Which checkpoint is the best so far, and when to stop: by differences that are told apart, not by luck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gen_eval.comparison import Comparison, compare, require_level
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
        last: how the last one compared, ``a`` with the best until then, ``b``; ``None`` of the first.

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
            UsageError: if the value has no standard error.
        """
        against = result if self.result is None else self.result
        found = compare(result, against, self.value, paired=self.paired)
        if self.result is not None:
            self.last = found
            if found.p_improved > self.alpha / self.patience:
                self.waited += 1
                return False
        self.result, self.label, self.waited = result, label, 0
        return True

    @property
    def stop(self) -> bool:
        """Whether ``patience`` checkpoints came without an improvement."""
        return self.waited >= self.patience
