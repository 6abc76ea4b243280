"""Plan, summarize, compute: from images or statistics to results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gen_eval.cache import FeatureCache
from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import Extractor
from gen_eval.labels import FOLDERS, Labels, read_labels
from gen_eval.metrics import Measure, find_measure
from gen_eval.planning import Plan, load_extractors, pick_device, rehearse, require_fit, role_in
from gen_eval.progress import Progress, silent
from gen_eval.protocols import DEFAULT_PROTOCOL, Protocol, find_protocol
from gen_eval.results import Result, SetInfo
from gen_eval.sources import Source, dim_of_vectors, open_source, settle
from gen_eval.stats import Features
from gen_eval.summary import Summary, made_with, require_whole, summarize

_ROLES = ("generated", "reference", "heldout")
DEFAULT_MEASURES = ("fid", "kid", "pr", "dc")


def evaluate(
    measures: str | Measure | Sequence[str | Measure] = DEFAULT_MEASURES,
    *,
    generated: Any,
    reference: Any = None,
    heldout: Any = None,
    labels: Any = None,
    protocol: str | Protocol = DEFAULT_PROTOCOL,
    params: Mapping[str, Any] | None = None,
    extractors: Mapping[str, Extractor] | None = None,
    weights: str | Path | Mapping[str, str | Path] | None = None,
    precision: str = "fp32",
    device: str | torch.device | None = None,
    n: int | None = None,
    seed: int = 0,
    rows: int | None = None,
    reference_n: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    skip_corrupt: bool = False,
    cache: str | Path | None = None,
    offline: bool | None = None,
    progress: Progress = silent,
) -> list[Result]:
    """Measure generated images against a reference, all measures from one pass over each set.

    Names, weights, sets and sizes are settled before the first image goes through a network.

    Args:
        measures: names such as ``"fid"``, ``"kid"`` and ``"pr:dinov2"``; see :func:`gen_eval.metrics.find_measure`.
        generated: images, as :func:`gen_eval.images.open_images` takes them; feature vectors, floating point
            ``[n, d]``, for measures through ``identity``; a statistics file; a :class:`Summary`.
        reference: the same; not needed by measures of the generated images alone.
        heldout: real images that the reference does not hold. Each measure is taken of them too, in the place
            of the generated ones: what a perfect generator would get.
        labels: for measures by class, as :func:`gen_eval.labels.read_labels` takes them: one source for all sets,
            or by role; by default the folders that the images lie in.
        protocol: the settings that the number is to mean, a name in :data:`gen_eval.protocols.PROTOCOLS`
            or a row of one's own.
        params: metric parameters to set over the protocol's: ``{"k": 5}`` for all metrics that have it,
            ``{"precision-recall.k": 5}`` for one.
        extractors: extractors of one's own, by the name that measures call them.
        weights: a local weights file; by extractor where several networks are needed. By default they are found
            in the cache or fetched.
        precision: ``"fp32"``; or ``"tf32"`` or ``"bf16"``, faster and not comparable with it.
        device: such as ``"cuda"``; by default CUDA where there is one.
        n: number of images asked of a ``generated`` that is a callable.
        seed: seed of its first image. The draws of a metric have one of their own, ``params={"seed": ...}``.
        rows: the most feature rows kept of each set; by default all where a measure is made of them, and
            10,000 for error bars elsewhere. A measure that cannot do without all of them keeps them all.
        reference_n: number of images behind a ``{mu, sigma}`` file that does not say.
        batch_size: images that go through the network together.
        workers: decoding threads.
        skip_corrupt: leave broken files out, and say so in the result.
        cache: folder in which features are kept and found again; see :mod:`gen_eval.cache`.
        offline: never touch the network; by default as the environment says.
        progress: told of images and downloaded bytes as they are done.

    Returns:
        A result for each measure, in their order.

    Raises:
        GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
    """
    if isinstance(measures, (str, Measure)):
        measures = [measures]
    wanted = [find_measure(measure) for measure in measures]
    if not wanted:
        raise UsageError("no measures were asked for")
    _require_range(
        rows=(rows, 0), batch_size=(batch_size, 1), workers=(workers, 0), reference_n=(reference_n, 2)
    )
    terms = find_protocol(protocol).with_params(
        params or {}, {measure.metric.name: measure.metric.params for measure in wanted}
    )
    given = {"reference": reference, "generated": generated, "heldout": heldout}
    sources = {
        role: open_source(source, n=n if role == "generated" else None, seed=seed)
        for role, source in given.items()
        if source is not None
    }
    plan = Plan(
        wanted,
        load_extractors(
            wanted,
            terms,
            own=extractors or {},
            weights=weights,
            precision=precision,
            dim=dim_of_vectors(list(sources.values())),
            device=pick_device(device),
            offline=offline,
            progress=progress,
        ),
        terms,
        row_limit=rows,
    )
    if params:
        rehearse(plan, params)
    settled = {
        role: settle(source, plan.requests(role), n=reference_n if role == "reference" else None)
        for role, source in sources.items()
        if plan.requests(role)
    }
    require_fit(plan, settled)
    classes = _read_classes(wanted, sources, labels)
    observe = FeatureCache(Path(cache)).summarize if cache else summarize
    if not skip_corrupt:
        for source in settled.values():
            if not isinstance(source, Summary):
                require_whole(source)
    summaries = {
        role: source
        if isinstance(source, Summary)
        else observe(
            source,
            plan.requests(role),
            rows=plan.rows(role),
            batch_size=batch_size,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )
        for role, source in settled.items()
    }
    return [
        compute(measure, plan.extractors[measure.extractor], summaries, terms, labels=classes)
        for measure in wanted
    ]


def fid(real: Any, fake: Any, **options: Any) -> Result:
    """The Fréchet Inception Distance of generated images to real ones.

    Args:
        real: the reference images, or their statistics.
        fake: the generated images, or their statistics.
        options: as :func:`evaluate` takes them.
    """
    return evaluate(["fid"], generated=fake, reference=real, **options)[0]


def compute(
    measure: Measure,
    extractor: Extractor,
    summaries: Mapping[str, Summary],
    protocol: Protocol,
    *,
    labels: Mapping[str, Labels] | None = None,
) -> Result:
    """One measure from summaries that were made for it; with one of ``heldout``, its result is attached.

    Raises:
        IncomparableError: if a summary was measured on other terms.
    """
    heldout = _of_heldout(measure, extractor, summaries, protocol, labels or {})
    started = time.perf_counter()
    metric, spec = measure.metric, extractor.spec(measure.tap)
    summaries = {role: summaries[role] for role in metric.roles}
    features = {role: summary.require(spec, measure.tap) for role, summary in summaries.items()}
    if labels:
        features |= {role: _with_classes(features[role], labels[role]) for role in metric.by_class}
    params = protocol.params_for(metric.name, metric.params)
    score = metric.compute(features, **params)
    return Result(
        measure=measure.name,
        metric=metric.name,
        version=metric.version,
        better=metric.better,
        params=params,
        protocol=protocol.name,
        spec=spec,
        tap=measure.tap,
        sets={role: _info(summaries[role], features[role], metric.by_rows) for role in metric.roles},
        values=score.values,
        errors=score.errors,
        biases=score.biases,
        warnings=(*score.warnings, *_set_warnings(summaries, features, metric.by_rows)),
        cite=metric.cite,
        made_with=made_with(extractor.device),
        seconds=time.perf_counter() - started,
        contributions=_by_index(score.contributions, features, metric.by_rows),
        per_image=_by_index(score.per_image, features, metric.by_rows),
        heldout=heldout,
    )


def _of_heldout(
    measure: Measure,
    extractor: Extractor,
    summaries: Mapping[str, Summary],
    protocol: Protocol,
    labels: Mapping[str, Labels],
) -> Result | None:
    """The measure of the held-out images in the place of the generated, unless it knows of them itself."""
    if "heldout" not in summaries or "heldout" in measure.metric.roles:
        return None
    moved = {**summaries, "generated": summaries["heldout"]}
    moved_labels = {**labels, "generated": labels["heldout"]} if "heldout" in labels else labels
    del moved["heldout"]
    return compute(measure, extractor, moved, protocol, labels=moved_labels)


def _by_index(
    numbers: Mapping[str, torch.Tensor], features: Mapping[str, Features], in_order: bool
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By role, the numbers of single images beside the images' indices.

    Args:
        numbers: by role, ``[k]``.
        features: by role, those that the metric saw.
        in_order: whether it saw the rows in the order of the images, or as the sample holds them.
    """
    samples = {role: features[role].sample for role in numbers}
    return {
        role: (sample.index.sort().values if in_order else sample.index, numbers[role])
        for role, sample in samples.items()
        if sample is not None
    }


def _require_range(**arguments: tuple[int | None, int]) -> None:
    for name, (value, least) in arguments.items():
        if value is not None and value < least:
            raise UsageError(f"{name} must be at least {least}, found {value}")


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
        found[role] = read_labels(FOLDERS if chosen is None else chosen, source)
    return found


def _with_classes(features: Features, labels: Labels) -> Features:
    assert features.sample is not None  # every row of a measure by class is kept
    return replace(features, classes=tuple(labels.of[index] for index in features.sample.index.tolist()))


def _info(summary: Summary, features: Features, by_rows: bool) -> SetInfo:
    n = features.sample.n if by_rows and features.sample else features.n
    return SetInfo(summary.name, summary.digest, n, len(summary.skipped), summary.notes, summary.claimed)


def _set_warnings(
    summaries: Mapping[str, Summary], features: Mapping[str, Features], by_rows: bool
) -> list[str]:
    lines = []
    digests = [summary.digest for summary in summaries.values()]
    if any(digests.count(digest) > 1 for digest in digests if digest):
        lines.append("both sets hold the same images, to the last byte")
    for role, summary in summaries.items():
        sample, n = features[role].sample, features[role].n
        if by_rows and sample and sample.n != n:
            lines.append(f"of the {n} images of {summary.name}, a uniform sample of {sample.n} was measured")
        if summary.claimed:
            lines.append(
                f"the {role} statistics are of another tool, which does not record what they were measured with: "
                "that they fit this protocol is your claim, and the error bar takes them as exact"
            )
        if summary.skipped:
            names = ", ".join(label for label, _ in summary.skipped[:3])
            more = ", ..." if len(summary.skipped) > 3 else ""
            lines.append(
                f"{len(summary.skipped)} corrupt files of {summary.name} were left out: {names}{more}"
            )
    return lines
