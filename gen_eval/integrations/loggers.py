"""Results as loggers take them: flat numbers by name, each with its error bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gen_eval.results import Result, labelled

_BAND = ("low", "high")  # ends of the band of two errors about a value


def scalars(results: Sequence[Result], prefix: str = "") -> dict[str, float]:
    """Each value that models are judged by, as ``fid``, with its standard error as ``fid/error``.

    Args:
        results: of one checkpoint.
        prefix: goes before each name, such as ``"val/"``.

    Returns:
        The numbers; an error is missing where a value has none.
    """
    found = {}
    for label, result, name in labelled(results):
        found[prefix + label] = result.values[name]
        if (error := result.errors.get(name)) is not None:
            found[f"{prefix}{label}/error"] = error
    return found


def log_to_tensorboard(writer: Any, results: Sequence[Result], step: int, prefix: str = "") -> None:
    """Write results to TensorBoard: value, error, and the band of two errors about the value.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``.
        results: of one checkpoint.
        step: of the training.
        prefix: goes before each name.
    """
    found = scalars(results, prefix)
    for name, value in found.items():
        writer.add_scalar(name, value, step)
        if (error := found.get(f"{name}/error")) is not None:
            for end, bound in zip(_BAND, (value - 2 * error, value + 2 * error), strict=True):
                writer.add_scalar(f"{name}/{end}", bound, step)


def tensorboard_layout(results: Sequence[Result], prefix: str = "") -> dict[str, dict[str, list[Any]]]:
    """Charts that show each value within its band of two errors, for ``SummaryWriter.add_custom_scalars``.

    Args:
        results: such as will be logged.
        prefix: the same.
    """
    found = scalars(results, prefix)
    charts: dict[str, list[Any]] = {
        name: ["Margin", [name, *(f"{name}/{end}" for end in _BAND)]]
        for name in found
        if f"{name}/error" in found
    }
    return {"gen_eval": charts}


def log_to_wandb(run: Any, results: Sequence[Result], step: int | None = None, prefix: str = "") -> None:
    """Write results to Weights & Biases: values and errors as numbers, the terms once, as the run's config.

    Args:
        run: what ``wandb.init`` gave.
        results: of one checkpoint.
        step: of the training; by default the run's own.
        prefix: goes before each name.
    """
    terms = {
        prefix + result.measure: {
            "protocol": result.protocol,
            "params": dict(result.params),
            "spec": result.spec.to_json(),
            "tap": result.tap,
            "version": result.version,
        }
        for result in results
    }
    known = run.config.get("gen_eval") or {}  # of another prefix, or logged before
    run.config.update({"gen_eval": {**known, **terms}}, allow_val_change=True)
    run.log(scalars(results, prefix), step=step)
