"""What a list of measures takes: networks, taps, rows and sizes, settled before the first image is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gen_eval.errors import GenEvalError, TooFewImages, UnknownName, UsageError
from gen_eval.extractors import WITH_BACKENDS, Extractor, find_extractor
from gen_eval.extractors.backends import BACKENDS, TORCH
from gen_eval.extractors.vectors import NAME as IDENTITY
from gen_eval.images import Images
from gen_eval.metrics import Measure, Metric, Score, find_measure
from gen_eval.passing import DEFAULT_ROWS, Request
from gen_eval.progress import Progress, silent
from gen_eval.protocols import Protocol
from gen_eval.stats import Features
from gen_eval.summary import Summary

# Extractors that have no weights to name.
_WITHOUT_WEIGHTS = (IDENTITY, "pixels")


_REHEARSED = (64, 8)  # rows and features of a dry run


def role_in(metric: Metric, role: str) -> str:
    """The role that a metric sees a set in: held-out images stand for the generated, unless it knows of them."""
    return "generated" if role == "heldout" and role not in metric.roles else role


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how.

    Args:
        measures: the measures.
        extractors: by name, those that they look through.
        protocol: the settings.
        row_limit: the most feature rows that the caller allows of a set, or of those in some roles; ``None`` leaves
            it to the measures.
    """

    measures: Sequence[Measure]
    extractors: Mapping[str, Extractor]
    protocol: Protocol
    row_limit: int | Mapping[str, int] | None = None

    def of(self, role: str) -> list[Measure]:
        """The measures that look at the set in a role."""
        return [measure for measure in self.measures if role_in(measure.metric, role) in measure.metric.roles]

    def limit(self, role: str) -> int | None:
        """The most feature rows that the caller allows of the set in a role; ``None`` leaves it to the measures."""
        return self.row_limit.get(role) if isinstance(self.row_limit, Mapping) else self.row_limit

    def requests(self, role: str) -> list[Request]:
        """What one pass over the set in a role is to read."""
        taps: dict[str, dict[str, None]] = {}
        for measure in self.of(role):
            taps.setdefault(measure.extractor, {})[measure.tap] = None
        return [Request(self.extractors[name], tuple(wanted)) for name, wanted in taps.items()]

    def whole(self, role: str) -> bool:
        """Whether every feature row of the set in a role is needed."""
        return any(role_in(measure.metric, role) in measure.metric.whole for measure in self.of(role))

    def served_by(self, role: str, request: Request, rows: int) -> bool:
        """Whether moments of all images of the set in a role, and so many of its rows, serve as well as the images.

        They do where rows make error bars alone, and where a metric takes a subset of them for the whole and can do
        with so few; not where the caller asks for more of them.

        Args:
            role: of the set.
            request: the features, one of :meth:`requests` or a part of it: what other measures need does not matter.
            rows: of each feature.
        """
        if (self.limit(role) or 0) > rows:
            return False
        return all(
            self._does_with(measure, role, rows)
            for measure in self.of(role)
            if self.extractors[measure.extractor] is request.extractor and measure.tap in request.taps
        )

    def _does_with(self, measure: Measure, role: str, rows: int) -> bool:
        metric = measure.metric
        if role_in(metric, role) in metric.whole:
            return False
        return not metric.by_rows or (metric.by_subset and self.least_n(measure, role) <= rows)

    def least_n(self, measure: Measure, role: str) -> int:
        """The fewest images of the set in a role, or rows where it is measured on those, that a measure can bear."""
        metric, extractor = measure.metric, self.extractors[measure.extractor]
        params = self.protocol.params_for(metric.name, metric.params)
        return metric.least_n(role_in(metric, role), extractor.taps[measure.tap], params)

    def rows(self, role: str) -> int | None:
        """The most feature rows to keep of the set in a role; ``None`` for all."""
        metrics = [measure.metric for measure in self.of(role)]
        if self.whole(role):
            return None
        limit = self.limit(role)
        if limit is None and not any(metric.by_rows for metric in metrics):
            return DEFAULT_ROWS
        return limit


def find_measures(measures: str | Measure | Sequence[str | Measure], protocol: Protocol) -> list[Measure]:
    """The measures of names; one that names no network looks through that of the protocol, where it has one.

    Args:
        measures: one or several, as :func:`gen_eval.metrics.find_measure` takes them.
        protocol: the settings.

    Raises:
        UnknownName: if there is no such measure, with the nearest name there is.
    """
    if isinstance(measures, (str, Measure)):
        measures = [measures]
    return [find_measure(protocol.through(each) if isinstance(each, str) else each) for each in measures]


def by_metric(params: Mapping[str, Any], measures: Sequence[Measure]) -> dict[str, Any]:
    """Parameters by the names of metrics, where some are by those of measures: ``pr.k`` is ``precision-recall.k``.

    Args:
        params: names and values.
        measures: those asked for.
    """
    metrics = {measure.name.partition(":")[0]: measure.metric.name for measure in measures}
    split = {name: name.partition(".") for name in params}
    return {
        f"{metrics.get(head, head)}.{own}" if dot else head: params[name]
        for name, (head, dot, own) in split.items()
    }


def load_extractors(
    measures: Sequence[Measure],
    protocol: Protocol,
    *,
    device: torch.device,
    own: Mapping[str, Extractor] | None = None,
    weights: str | Path | Mapping[str, str | Path] | None = None,
    precision: str = "fp32",
    backend: str = TORCH,
    dim: int | None = None,
    offline: bool | None = None,
    progress: Progress = silent,
) -> dict[str, Extractor]:
    """Each extractor that the measures look through, once, set up as the protocol says.

    Args:
        measures: what is to be measured.
        protocol: how images reach the networks.
        device: where they run.
        own: extractors of the caller's, by name.
        weights: a local file, or files by extractor.
        precision: of the networks.
        backend: what runs them, a name in :data:`gen_eval.extractors.backends.BACKENDS`; those of ``own`` run as
            they do.
        dim: of the vectors that ``identity`` is to pass on.
        offline: never touch the network.
        progress: told how downloads stand.

    Raises:
        UnknownName: if there is no such extractor, tap or backend.
        UsageError: if it does not show which network the weights are for, or a network does not run by the backend.
        WeightsError: if weights do not fit, or lack what a tap needs.
        FetchError: if weights can be had from nowhere.
    """
    own = own or {}
    names = list({measure.extractor: None for measure in measures})
    loaders = {name: find_extractor(name) for name in names if name not in own}
    _require_backend(backend, loaders)
    files = _weights_by_extractor(weights, [name for name in loaders if name not in _WITHOUT_WEIGHTS])
    extractors = {}
    for name in names:
        taps = list({measure.tap: None for measure in measures if measure.extractor == name})
        if name in own:
            extractor = own[name]
        else:
            extractor = loaders[name](
                weights=files.get(name),
                taps=taps,
                precision=precision,
                device=device,
                offline=offline,
                progress=progress,
                **({"backend": backend} if name in WITH_BACKENDS else {}),
                **({"dim": dim} if name == IDENTITY else protocol.preprocessing.get(name, {})),
            )
        for tap in taps:
            extractor.spec(tap)  # refuses what it lacks
        extractors[name] = extractor
    return extractors


def _require_backend(backend: str, names: Collection[str]) -> None:
    """Refuse a backend that a network, of those loaded here, does not run by."""
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    for name in names:
        if backend != TORCH and name not in (*WITH_BACKENDS, *_WITHOUT_WEIGHTS):
            raise UsageError(
                f"backend {backend} runs {' and '.join(WITH_BACKENDS)} alone, and {name} was asked for too: leave "
                "--backend (backend=) out, or measure the two apart"
            )


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU.

    Raises:
        UsageError: if CUDA is asked for and missing, or the name is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{device}': expected cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{device}' is not supported: expected cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{device}' asked for, but torch finds no CUDA here; use --device cpu")
    return chosen


def require_row_limit(plan: Plan) -> None:
    """Refuse a limit of rows that leaves a measure too few, however many images come.

    Raises:
        UsageError: names the measure and how many it needs.
    """
    for measure in plan.measures:
        for role in measure.metric.roles:
            rows, needed = plan.rows(role), plan.least_n(measure, role)
            if measure.metric.by_rows and rows is not None and rows < needed:
                raise UsageError(
                    f"{measure.name} needs at least {needed} feature rows of the {role} images, and rows={rows} keeps "
                    f"fewer: raise it to {needed} or more, or leave it out"
                )


def require_fit(plan: Plan, sources: Mapping[str, Images | Summary]) -> None:
    """Refuse before the first pass what would be refused after it, or in the second.

    Raises:
        UsageError: if a set that a measure needs is missing, or its statistics lack the rows.
        TooFewImages: if a set is too small for a measure.
        IncomparableError: if statistics were measured on other terms.
    """
    for measure in plan.measures:
        for role in measure.metric.roles:
            if role not in sources:
                raise UsageError(f"{measure.name} needs {role} images, and none were given")
    for role, source in sources.items():
        for measure in plan.of(role):
            if isinstance(source, Summary):
                _require_rows(measure, plan.extractors[measure.extractor], role, source)
            _require_enough(measure, plan, role, source)


def rehearse(measure: Measure, protocol: Protocol, params: Mapping[str, Any]) -> Score | None:
    """Compute a measure of a few made-up rows, to see before the work what it refuses, and what a score of it holds.

    Args:
        measure: which.
        protocol: the settings.
        params: those of them that the caller set, for messages.

    Returns:
        The score; ``None`` where such rows are too few or otherwise not for it.

    Raises:
        UsageError: if the metric refuses its parameters, or fails on them.
    """
    metric = measure.metric
    settings = protocol.params_for(metric.name, metric.params)
    for name, default in metric.params.items():
        if isinstance(default, bool) and not isinstance(settings[name], bool):
            raise UsageError(f"{name} of {measure.name} is true or false, found {settings[name]!r}")
    try:
        return metric.compute({role: _made_up(metric, role) for role in metric.roles}, **settings)
    except UsageError:
        raise
    except GenEvalError:
        return None
    except Exception as error:
        _require_numbers(measure, settings)
        given = ", ".join(f"{name}={value!r}" for name, value in params.items())
        raise UsageError(f"{measure.name} cannot be computed with {given}: {error}") from error


def _require_numbers(measure: Measure, settings: Mapping[str, Any]) -> None:
    for name, default in measure.metric.params.items():
        if isinstance(default, (int, float)) and not isinstance(settings[name], (int, float)):
            raise UsageError(
                f"{name} of {measure.name} is a number, such as {default}; found {settings[name]!r}"
            )


def _made_up(metric: Metric, role: str) -> Features:
    n, dim = _REHEARSED
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(len(role)))
    classes = tuple("ab"[index % 2] for index in range(n)) if metric.by_class else None
    return replace(Features.of(rows), classes=classes)


def _require_enough(measure: Measure, plan: Plan, role: str, source: Images | Summary) -> None:
    metric, needed = measure.metric, plan.least_n(measure, role)
    if isinstance(source, Summary):
        features = source.require(plan.extractors[measure.extractor].spec(measure.tap), measure.tap)
        n = features.sample.n if metric.by_rows and features.sample else features.n
    else:
        n = len(source)
        rows = plan.rows(role)
        if metric.by_rows and rows is not None:
            n = min(n, rows)
    if n is not None and n < needed:
        found = "1 image" if n == 1 else f"{n} images"
        kept = " to measure" if metric.by_rows and plan.limit(role) is not None else ""
        raise TooFewImages(
            f"{measure.name} needs at least {needed} {role} images; {source.name} has {found}{kept}"
        )


def _require_rows(measure: Measure, extractor: Extractor, role: str, source: Summary) -> None:
    features = source.require(extractor.spec(measure.tap), measure.tap)
    held = features.sample.n if features.sample else 0
    whole = role_in(measure.metric, role) in measure.metric.whole
    if (whole and held != features.n) or (measure.metric.by_rows and not held):
        there = f" (images:{source.name})" if source.claimed and source.notes else ""  # beside the statistics
        raise UsageError(
            f"{measure.name} needs {'every feature row' if whole else 'feature rows'} of the {role} images, and "
            f"{source.title} hold {held} of {features.n or 'unknown'}: pass the images{there}, or make "
            "the statistics anew with more --rows"
        )


def _weights_by_extractor(
    weights: str | Path | Mapping[str, str | Path] | None, names: Sequence[str]
) -> Mapping[str, str | Path]:
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise UnknownName("extractor with weights", name, names)
        return weights
    if len(names) != 1:
        raise UsageError(
            f"weights {weights} were given for {len(names)} networks ({', '.join(names) or 'none'}): say which one "
            "takes them, with --weights NAME=FILE (weights={name: file})"
        )
    return {names[0]: weights}
