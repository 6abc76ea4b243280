"""Which checkpoint is the best so far, and when to stop: by differences that are told apart, not by luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gen_eval.comparison import Comparison, compare, find_value, is_finite, require_level
from gen_eval.errors import StoreError, UsageError
from gen_eval.results import Result

FORMAT = "gen_eval best 1"


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

    def state_dict(self) -> dict[str, Any]:
        """The best so far and how long ago it was, to go on from: tensors and plain data, if the label is such.

        The arguments are not among it.
        """
        return {
            "format": FORMAT,
            "result": self.result and _state_of(self.result),
            "label": self.label,
            "waited": self.waited,
            "last": self.last and dict(vars(self.last)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, in place of what was kept here.

        Raises:
            StoreError: if it is the state of something else, or damaged; nothing is changed then.
        """
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        if found != FORMAT:
            raise StoreError(f"expected a state in the format '{FORMAT}', found {found!r}")
        try:
            kept = {
                "result": state["result"] and _result_of(state["result"]),
                "label": state["label"],
                "waited": int(state["waited"]),
                "last": state["last"] and Comparison(**state["last"]),
            }
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"this state of the best checkpoint is damaged: {error!r}") from error
        vars(self).update(kept)

    @property
    def stop(self) -> bool:
        """Whether ``patience`` checkpoints came without an improvement."""
        return self.waited >= self.patience


def _state_of(result: Result) -> dict[str, Any]:
    """Everything as it is, the numbers of single images too: by those of the reference two results are paired."""
    return {
        **result.to_json(),
        "seconds": result.seconds,
        "contributions": _on_cpu(result.contributions),
        "per_image": _on_cpu(result.per_image),
    }


def _on_cpu(of_images: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    return {role: (index.cpu(), numbers.cpu()) for role, (index, numbers) in of_images.items()}


def _result_of(state: Mapping[str, Any]) -> Result:
    of_images: dict[str, Any] = {name: state[name] for name in ("contributions", "per_image")}
    return replace(Result.from_json({**state, "contributions": {}}), **of_images)
