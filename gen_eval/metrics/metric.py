"""What a row of the metric table is, and how engines are given the features they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import TooFewImages
from gen_eval.metrics.frechet.gaussian import Gaussian, Gaussians
from gen_eval.metrics.rows import mean_of
from gen_eval.metrics.score import Score
from gen_eval.stats import Features

# The sets that most metrics compare.
BOTH = ("generated", "reference")
# From an engine and the roles of its row to what the row computes.
Adapter = Callable[[Callable[..., Score], Sequence[str]], Callable[..., Score]]


def at_least(n: int) -> Callable[[str, int, Mapping[str, Any]], int]:
    """A row's ``least_n`` where neither role nor dimension nor parameters matter."""
    return partial(_always, n)


def _always(n: int, role: str, dim: int, params: Mapping[str, Any]) -> int:
    return n


_TWO = at_least(2)


@dataclass(frozen=True)
class Metric:
    """One row of :data:`gen_eval.metrics.table.METRICS`.

    Args:
        name: what it is called.
        compute: features by role, and the parameters by name, to a score.
        better: its values that models are judged by, each ``"lower"``, ``"higher"``, or such as ``"near 0.5"``; the
            metric's own first.
        cite: the paper.
        roles: the sets it compares.
        params: its parameters and their defaults; protocols may set others.
        tap: the features it looks at, where none are named.
        by_rows: whether it is measured on feature rows, so that a set counts as many images as it has rows.
        whole: the roles of which every feature row is needed, not a bounded sample.
        by_subset: whether a uniform subset of the rows of any set gives the same value, with a larger error.
        by_class: the roles whose images need labels.
        least_n: from role, feature dimension and parameters to the fewest images that it can bear.
        version: raised whenever its numbers would move.
    """

    name: str
    compute: Callable[..., Score]
    better: Mapping[str, str]
    cite: str
    roles: tuple[str, ...] = BOTH
    params: Mapping[str, Any] = field(default_factory=dict)
    tap: str = "pool"
    by_rows: bool = False
    whole: tuple[str, ...] = ()
    by_subset: bool = False
    by_class: tuple[str, ...] = ()
    least_n: Callable[[str, int, Mapping[str, Any]], int] = _TWO
    version: int = 1


def parameters(*functions: Callable[..., Any]) -> dict[str, Any]:
    """What functions take by keyword alone, and its defaults: such are the parameters of a metric.

    >>> from gen_eval.metrics.diversity.vendi import vendi
    >>> parameters(vendi)
    {'q': 1.0, 'kernel': 'linear', 'bandwidth': 'median'}
    """
    found = [each for function in functions for each in inspect.signature(function).parameters.values()]
    return {each.name: each.default for each in found if each.kind is each.KEYWORD_ONLY}


# A subset of fewer rows than this tells no variance worth printing.
FEWEST_ROWS = 30


def _gaussian(features: Features, ddof: int) -> Gaussian:
    rows = None
    if features.sample and features.sample.n >= min(FEWEST_ROWS, features.n or FEWEST_ROWS):
        rows = features.sample.rows
    return Gaussian(features.n, features.moments.mean, partial(features.cov, ddof), rows, ddof)


def on_gaussians(engine: Callable[..., Score], roles: Sequence[str]) -> Callable[..., Score]:
    """An engine that takes the Gaussian fitted to the features of each role."""

    def compute(features: Mapping[str, Features], *, ddof: int = 1, **params: Any) -> Score:
        return engine(*(_gaussian(features[role], ddof) for role in roles), **params)

    return compute


def on_rows(engine: Callable[..., Score], roles: Sequence[str]) -> Callable[..., Score]:
    """An engine that takes the feature rows of each role, in the order of the images."""

    def compute(features: Mapping[str, Features], **params: Any) -> Score:
        return engine(*(_rows(features[role]) for role in roles), **params)

    return compute


def _rows(features: Features) -> Tensor:
    assert features.sample is not None  # evaluation refuses statistics without rows for a metric of rows
    return features.sample.in_order()


def _by_class(features: Features, ddof: int) -> Gaussians:
    classes = features.by_class()
    return Gaussians(classes.sizes, lambda name: _gaussian(classes[name], ddof))


def on_classes(engine: Callable[..., Score], roles: Sequence[str]) -> Callable[..., Score]:
    """An engine that takes the Gaussians of each class of each role, by name."""

    def compute(features: Mapping[str, Features], *, ddof: int = 1, **params: Any) -> Score:
        return engine(*(_by_class(features[role], ddof) for role in roles), **params)

    return compute


def _mode(name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and scale of the rows of a class."""
    if len(rows) < 2:
        raise TooFewImages(f"the scale of class '{name}' needs at least 2 images, found {len(rows)}")
    centre = mean_of(rows)
    return centre, ((rows - centre).square_().sum() / (len(rows) - 1)).sqrt()


def on_modes(engine: Callable[..., Score], roles: Sequence[str]) -> Callable[..., Score]:
    """An engine that takes the rows of the first role, and the centre, scale and frequency of each class of the second.

    The scale of a class is the root of the mean squared distance of its rows to their mean.
    """
    judged, known = roles

    def compute(features: Mapping[str, Features], **params: Any) -> Score:
        modes = features[known].by_class()
        found = [_mode(name, modes.rows(name)) for name in modes]
        centres, scales = (torch.stack(each) for each in zip(*found, strict=True))
        weights = centres.new_tensor(list(modes.sizes.values()))
        return engine(_rows(features[judged]), centres, scales, weights, **params)

    return compute
