"""The table of metrics: a metric is a row that names a pure function.

A measure is a metric seen through an extractor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gen_eval.errors import UnknownName
from gen_eval.metrics.frechet import frechet, frechet_infinity
from gen_eval.metrics.gaussian import Gaussian
from gen_eval.metrics.score import Score
from gen_eval.stats import Features

__all__ = ["ALIASES", "METRICS", "Measure", "Metric", "Score", "find_measure"]


@dataclass(frozen=True)
class Metric:
    """One row of :data:`METRICS`.

    Args:
        name: what it is called.
        compute: features by role, and the parameters by name, to a score.
        better: ``"lower"`` or ``"higher"``.
        roles: the sets it compares.
        params: its parameters and their defaults; protocols may set others.
        all_rows: whether every feature row is needed, not a bounded sample.
        least_n: from the feature dimension to the fewest generated images that it can bear.
        version: raised whenever its numbers would move.
        cite: the paper.
    """

    name: str
    compute: Callable[..., Score]
    better: str
    cite: str
    version: int = 1
    roles: tuple[str, ...] = ("generated", "reference")
    params: Mapping[str, Any] = field(default_factory=dict)
    all_rows: bool = False
    least_n: Callable[[int], int] = lambda dim: 2


@dataclass(frozen=True)
class Measure:
    """A metric seen through a tap of an extractor: ``frechet`` through Inception's ``pool`` is FID."""

    name: str
    metric: Metric
    extractor: str
    tap: str


# A subset of fewer rows than this tells no variance worth printing.
_FEWEST_ROWS = 30


def _gaussian(features: Features, ddof: int) -> Gaussian:
    rows = None
    if features.sample and features.sample.n >= min(_FEWEST_ROWS, features.n or _FEWEST_ROWS):
        rows = features.sample.rows
    return Gaussian(features.n, features.moments.mean, features.moments.cov(ddof), rows, ddof)


def _frechet(features: Mapping[str, Features], *, ddof: int, mean_dtype: str, method: str) -> Score:
    sides = [_gaussian(features[role], ddof) for role in ("generated", "reference")]
    return frechet(sides[0], sides[1], mean_dtype=mean_dtype, method=method)


def _frechet_infinity(features: Mapping[str, Features], *, ddof: int, mean_dtype: str, **fit: int) -> Score:
    sides = [_gaussian(features[role], ddof) for role in ("generated", "reference")]
    return frechet_infinity(sides[0], sides[1], mean_dtype=mean_dtype, **fit)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "frechet",
            _frechet,
            "lower",
            "Heusel et al. 2017, arXiv:1706.08500",
            params={"ddof": 1, "mean_dtype": "float64", "method": "auto"},
        ),
        Metric(
            "frechet-inf",
            _frechet_infinity,
            "lower",
            "Chong and Forsyth 2020, arXiv:1911.07023",
            params={"ddof": 1, "mean_dtype": "float64", "points": 15, "smallest": 5000},
            all_rows=True,
            least_n=lambda dim: 2 * dim + 2,
        ),
    )
}

# What the field calls a metric through an extractor: (metric, extractor, tap).
ALIASES: dict[str, tuple[str, str, str]] = {
    "fid": ("frechet", "inception", "pool"),
    "fid-inf": ("frechet-inf", "inception", "pool"),
}


def find_measure(name: str | Measure) -> Measure:
    """The measure of a name; a :class:`Measure` is returned as it is.

    Args:
        name: an alias such as ``"fid"``, or ``"METRIC:EXTRACTOR"`` or ``"METRIC:EXTRACTOR/TAP"``.

    Raises:
        UnknownName: if there is none, with the nearest name there is.

    >>> find_measure("frechet:pixels").tap
    'pool'
    """
    if isinstance(name, Measure):
        return name
    if not isinstance(name, str):
        raise UnknownName("measure", name, ALIASES)
    if name in ALIASES:
        metric, extractor, tap = ALIASES[name]
    elif ":" in name:
        metric, _, seen_through = name.partition(":")
        extractor, _, tap = seen_through.partition("/")
    else:
        raise UnknownName("measure", name, ALIASES)
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    return Measure(name, METRICS[metric], extractor, tap or "pool")
