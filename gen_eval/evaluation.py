"""Plan, summarize, compute: from images or statistics to results."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gen_eval.cache import FeatureCache
from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import Extractor
from gen_eval.extractors.backends import TORCH
from gen_eval.images import Images, require_unbroken
from gen_eval.labels import FOLDERS, Labels, read_labels
from gen_eval.metrics import Measure, Score
from gen_eval.passing import summarize
from gen_eval.planning import (
    Plan,
    by_metric,
    find_measures,
    load_extractors,
    pick_device,
    rehearse,
    require_fit,
    role_in,
)
from gen_eval.progress import Progress, silent
from gen_eval.protocols import DEFAULT_PROTOCOL, Protocol, find_protocol
from gen_eval.references import DatasetImages, References
from gen_eval.results import Result
from gen_eval.scoring import compute, compute_heldout
from gen_eval.sources import Source, dim_of_vectors, known_classes, open_source, settle
from gen_eval.stats import Features
from gen_eval.summary import Summary

_ROLES = ("generated", "reference", "heldout")
DEFAULT_MEASURES = ("fid", "kid", "pr", "dc")


class Evaluation:
    """Measures of any number of generated sets against one reference, which is passed through the networks once.

    Args:
        measures: names such as ``"fid"``, ``"kid"`` and ``"pr:dinov2"``; see :func:`gen_eval.metrics.find_measure`.
        reference: images, as :func:`gen_eval.images.open_images` takes them; feature vectors, floating point
            ``[n, d]``, for measures through ``identity``; a statistics file; a :class:`Summary`; the name of a
            dataset, such as ``"cifar10:train"`` (see :mod:`gen_eval.references`). Not needed by measures of the
            generated images alone.
        heldout: real images that the reference does not hold. Each measure is taken of them too, in the place
            of the generated ones: what a perfect generator would get.
        labels: for measures by class, as :func:`gen_eval.labels.read_labels` takes them: one source for all sets,
            or by role; by default the folders that the images lie in, and what a generator of the zoo was asked for.
        protocol: the settings that the number is to mean, a name in :data:`gen_eval.protocols.PROTOCOLS`
            or a row of one's own. It may also say which network a measure looks through that names none, as
            ``"pr"`` does through VGG16 under ``"kynkaanniemi"``; such a result is of ``"pr:vgg16"``.
        params: metric parameters to set over the protocol's: ``{"k": 5}`` for all metrics that have it,
            ``{"precision-recall.k": 5}`` or ``{"pr.k": 5}`` for one.
        extractors: extractors of one's own, by the name that measures call them.
        weights: a local weights file; by extractor where several networks are needed. By default they are found
            in the cache or fetched.
        precision: ``"fp32"``; or ``"tf32"`` or ``"bf16"``, faster and not comparable with it.
        backend: what runs the Inception network: ``"torch"``; or on the CPU ``"onnxruntime"`` or ``"openvino"``, which
            come with extras of those names. The features are the same to rounding.
        device: such as ``"cuda"``; by default CUDA where there is one.
        rows: the most feature rows kept of each set, or by role, such as ``{"generated": 50_000}``; by default all
            where a measure is made of them, and 10,000 for error bars elsewhere. A measure that cannot do without
            all of them keeps them all.
        reference_n: number of images behind statistics of another tool that do not say.
        batch_size: images that go through the network together.
        workers: decoding threads.
        skip_corrupt: leave broken files out, and say so in the result.
        cache: folder in which features are kept and found again; see :mod:`gen_eval.cache`.
        offline: never touch the network; by default as the environment says.
        progress: told of images and downloaded bytes as they are done.

    Raises:
        GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
    """

    def __init__(
        self,
        measures: str | Measure | Sequence[str | Measure] = DEFAULT_MEASURES,
        *,
        reference: Any = None,
        heldout: Any = None,
        labels: Any = None,
        protocol: str | Protocol = DEFAULT_PROTOCOL,
        params: Mapping[str, Any] | None = None,
        extractors: Mapping[str, Extractor] | None = None,
        weights: str | Path | Mapping[str, str | Path] | None = None,
        precision: str = "fp32",
        backend: str = TORCH,
        device: str | torch.device | None = None,
        rows: int | Mapping[str, int] | None = None,
        reference_n: int | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
        offline: bool | None = None,
        progress: Progress = silent,
    ) -> None:
        protocol = find_protocol(protocol)
        self._measures = find_measures(measures, protocol)
        if not self._measures:
            raise UsageError("no measures were asked for")
        _require_range(batch_size=(batch_size, 1), workers=(workers, 0), reference_n=(reference_n, 2))
        _require_rows(rows)
        self._params = by_metric(params or {}, self._measures)
        self._protocol = protocol.with_params(
            self._params, {measure.metric.name: measure.metric.params for measure in self._measures}
        )
        self._labels = labels
        self._rows, self._reference_n, self._skip_corrupt = rows, reference_n, skip_corrupt
        self._device = pick_device(device)
        self._loading: dict[str, Any] = {
            "own": extractors or {},
            "weights": weights,
            "precision": precision,
            "backend": backend,
            "device": self._device,
            "offline": offline,
            "progress": progress,
        }
        self._observing: dict[str, Any] = {
            "batch_size": batch_size,
            "workers": workers,
            "skip_corrupt": skip_corrupt,
            "progress": progress,
        }
        self._cache = FeatureCache(Path(cache)) if cache else None
        given = {"reference": reference, "heldout": heldout}
        self._opening: dict[str, Any] = {"offline": offline, "progress": progress}
        self._sources = {
            role: open_source(each, **self._opening) for role, each in given.items() if each is not None
        }
        self._plan: Plan | None = None
        self._summaries: dict[str, Summary] = {}
        self._of_heldout: list[Result | None] | None = None

    def measure(self, generated: Any, *, n: int | None = None, seed: int = 0) -> list[Result]:
        """Measure one set of generated images, all measures from one pass over it.

        Names, weights, sets and sizes are settled before the first image goes through a network.

        Args:
            generated: what the reference may be; and a callable from seeds to images, or a generator of the zoo.
            n: number of images asked of it; of a generator of the zoo, by default as many as the reference has.
            seed: seed of its first image. The draws of a metric have one of their own, ``params={"seed": ...}``.

        Returns:
            A result for each measure, in their order.

        Raises:
            GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
        """
        _require_whole(n=n, seed=seed)
        sources = dict(self._sources)
        if generated is not None:
            beside = self._sources.get("reference")
            sources["generated"] = open_source(generated, n=n, seed=seed, beside=beside, **self._opening)
        plan = self._plan = self._plan or self._make_plan(sources)
        self._summaries.pop("generated", None)
        settled = {
            role: self._summaries.get(role) or self._settle(role, source, plan)
            for role, source in sources.items()
            if plan.requests(role)
        }
        require_fit(plan, settled)
        classes = _read_classes(self._measures, sources, self._labels)
        if not self._skip_corrupt:
            for source in settled.values():
                if not isinstance(source, Summary):
                    require_unbroken(source)
        for role, source in settled.items():
            self._summaries[role] = self._summarize(role, source, plan)
        return self._compute(plan, classes)

    def rehearse(self) -> list[Score | None]:
        """What each measure says of a few made-up rows, in their order; see :func:`gen_eval.planning.rehearse`."""
        return [rehearse(measure, self._protocol, self._params) for measure in self._measures]

    def features(self, measure: Measure, role: str) -> Features:
        """What a measure saw of a set, in the last measurement.

        Args:
            measure: one of those measured.
            role: ``"generated"``, ``"reference"`` or ``"heldout"``.

        Raises:
            UsageError: if nothing was measured yet.
        """
        if self._plan is None:
            raise UsageError("there are no features before the first measurement")
        spec = self._plan.extractors[measure.extractor].spec(measure.tap)
        return self._summaries[role].require(spec, measure.tap)

    def _make_plan(self, sources: Mapping[str, Source]) -> Plan:
        dim = dim_of_vectors(list(sources.values()))
        extractors = load_extractors(self._measures, self._protocol, dim=dim, **self._loading)
        plan = Plan(self._measures, extractors, self._protocol, row_limit=self._rows)
        if self._params:
            self.rehearse()
        return plan

    def _settle(self, role: str, source: Source, plan: Plan) -> Images | Summary:
        n = self._reference_n if role == "reference" else None
        requests, rows = plan.requests(role), plan.rows(role)
        if isinstance(source, DatasetImages):
            references, progress = self._references(role, plan), self._opening["progress"]
            source = references.find(source, requests, rows=rows, progress=progress) or source
        return settle(source, requests, rows=rows, n=n)

    def _summarize(self, role: str, source: Images | Summary, plan: Plan) -> Summary:
        if isinstance(source, Summary):
            return source
        options = {"rows": plan.rows(role), **self._observing}
        if isinstance(source, DatasetImages):
            return self._references(role, plan).summarize(source, plan.requests(role), **options)
        observe = self._cache.summarize if self._cache else summarize
        return observe(source, plan.requests(role), **options)

    def _references(self, role: str, plan: Plan) -> References:
        return References(partial(plan.served_by, role), self._cache)

    def _compute(self, plan: Plan, classes: Mapping[str, Labels]) -> list[Result]:
        asked = [
            (measure, plan.extractors[measure.extractor], self._summaries, self._protocol)
            for measure in self._measures
        ]
        if self._of_heldout is None:  # the same for every generated set
            self._of_heldout = [compute_heldout(*each, labels=classes) for each in asked]
        return [
            replace(compute(*each, labels=classes), heldout=heldout)
            for each, heldout in zip(asked, self._of_heldout, strict=True)
        ]


def evaluate(
    measures: str | Measure | Sequence[str | Measure] = DEFAULT_MEASURES,
    *,
    generated: Any,
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Result]:
    """Measure generated images against a reference, all measures from one pass over each set.

    Args:
        measures: names such as ``"fid"``, ``"kid"`` and ``"pr:dinov2"``.
        generated: images, vectors, a statistics file, a callable from seeds to images, or a generator of the zoo.
        n: number of images asked of the last two; of the last, by default as many as the reference has.
        seed: seed of its first image.
        options: ``reference``, ``heldout``, and all else that :class:`Evaluation` takes.

    Returns:
        A result for each measure, in their order.

    Raises:
        GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
    """
    return Evaluation(measures, **options).measure(generated, n=n, seed=seed)


def fid(real: Any, fake: Any, **options: Any) -> Result:
    """The Fréchet Inception Distance of generated images to real ones.

    Args:
        real: the reference images, or their statistics.
        fake: the generated images, or their statistics.
        options: as :func:`evaluate` takes them.
    """
    return evaluate(["fid"], generated=fake, reference=real, **options)[0]


def _require_whole(**arguments: object) -> None:
    for name, value in arguments.items():
        try:
            operator.index(0 if value is None else value)  # type: ignore[arg-type]  # or it raises
        except TypeError:
            raise UsageError(f"{name} must be a whole number, found {value!r}") from None


def _require_range(**arguments: tuple[int | None, int]) -> None:
    for name, (value, least) in arguments.items():
        _require_whole(**{name: value})
        if value is not None and value < least:
            raise UsageError(f"{name} must be at least {least}, found {value}")


def _require_rows(rows: int | Mapping[str, int] | None) -> None:
    by_role = rows if isinstance(rows, Mapping) else {"generated": rows}
    for role, limit in by_role.items():
        if role not in _ROLES:
            raise UnknownName("set to keep rows of", role, _ROLES)
        _require_range(rows=(limit, 0))


def _read_classes(
    measures: Sequence[Measure], sources: Mapping[str, Source], labels: Any
) -> dict[str, Labels]:
    """The labels of each set, where a measure needs them."""
    needed = [
        role
        for role in sources
        if any(role_in(measure.metric, role) in measure.metric.by_class for measure in measures)
    ]
    if not needed:
        if labels is not None:
            raise UsageError("labels are for measures by class, such as intra-fid, and none was asked for")
        return {}
    by_role = labels if isinstance(labels, Mapping) and set(labels) & set(_ROLES) else None
    for role in by_role or ():
        if role not in sources:
            raise UnknownName("set to label", role, sources)
    found = {}
    for role in needed:
        source = sources[role]
        if isinstance(source, (Summary, Path)):
            raise UsageError(f"a measure by class needs the {role} images, not their statistics")
        chosen = by_role.get(role) if by_role is not None else labels
        if chosen is None:
            chosen = known_classes(source)
        found[role] = read_labels(FOLDERS if chosen is None else chosen, source)
    return found
