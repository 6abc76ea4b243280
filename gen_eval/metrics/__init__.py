"""Metrics, and measures: a measure is a metric seen through an extractor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gen_eval.errors import UnknownName, UsageError
from gen_eval.metrics.metric import Metric
from gen_eval.metrics.score import Score
from gen_eval.metrics.table import ALIASES, METRICS

__all__ = ["ALIASES", "METRICS", "Measure", "Metric", "Score", "find_measure"]


@dataclass(frozen=True)
class Measure:
    """A metric seen through a tap of an extractor: ``frechet`` through Inception's ``pool`` is FID.

    Args:
        name: what was asked for.
        metric: the row.
        extractor: a name in :data:`gen_eval.extractors.EXTRACTORS`.
        tap: which of its features.
    """

    name: str
    metric: Metric
    extractor: str
    tap: str

    def __getstate__(self) -> dict[str, Any]:
        """For pickles, where rows of the table go by name: no pickle holds the functions that they are made of."""
        metric = self.metric
        return {**vars(self), "metric": metric.name if METRICS.get(metric.name) is metric else metric}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        metric = state["metric"]
        vars(self).update(state, metric=METRICS[metric] if isinstance(metric, str) else metric)


def find_measure(name: str | Measure) -> Measure:
    """The measure of a name; a :class:`Measure` is returned as it is.

    Args:
        name: an alias such as ``"fid"``, or ``"METRIC:EXTRACTOR"`` or ``"METRIC:EXTRACTOR/TAP"``, where the
            metric is a name in :data:`METRICS` or an alias.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
        UsageError: if it is a list of several.

    >>> find_measure("fd:pixels").tap
    'pool'
    """
    if isinstance(name, Measure):
        return name
    if not isinstance(name, str):
        raise UnknownName("measure", name, ALIASES)
    if "," in name:
        raise UsageError(
            f"'{name}' names several measures: give each by itself, as -m fid -m kid (['fid', 'kid'])"
        )
    called, colon, seen_through = name.partition(":")
    if not colon and called not in ALIASES:
        raise UnknownName("measure", name, ALIASES)
    row, extractor, tap = ALIASES.get(called, (called, "", ""))
    if row not in METRICS:
        raise UnknownName("metric", row, (*METRICS, *ALIASES))
    usual = {extractor: tap}
    if colon:
        extractor, _, tap = seen_through.partition("/")
    return Measure(name, METRICS[row], extractor, tap or usual.get(extractor) or METRICS[row].tap)
