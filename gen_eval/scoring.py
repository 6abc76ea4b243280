"""From summaries to a result: one measure, its terms, and reasons to read it with care."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch

from gen_eval.errors import GenEvalError
from gen_eval.extractors import Extractor
from gen_eval.labels import Labels
from gen_eval.metrics import Measure
from gen_eval.metrics.metric import FEWEST_ROWS
from gen_eval.protocols import Protocol
from gen_eval.results import Result, SetInfo
from gen_eval.stats import Features
from gen_eval.summary import Summary, made_with


def compute(
    measure: Measure,
    extractor: Extractor,
    summaries: Mapping[str, Summary],
    protocol: Protocol,
    *,
    labels: Mapping[str, Labels] | None = None,
) -> Result:
    """One measure from summaries that were made for it.

    Args:
        measure: what to measure.
        extractor: the network that the summaries went through.
        summaries: by role.
        protocol: the settings.
        labels: by role, the class of each image, for measures by class.

    Raises:
        IncomparableError: if a summary was measured on other terms.
    """
    started = time.perf_counter()
    metric, spec = measure.metric, extractor.spec(measure.tap)
    summaries = {role: summaries[role] for role in metric.roles}
    features = {role: summary.require(spec, measure.tap) for role, summary in summaries.items()}
    if labels:
        features |= {role: _with_classes(features[role], labels[role]) for role in metric.by_class}
    params = protocol.params_for(metric.name, metric.params)
    try:
        score = metric.compute(features, **params)
    except GenEvalError as error:
        error.args = (f"{measure.name}: {error}",)
        raise
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
        warnings=(
            *score.warnings,
            *_set_warnings(summaries, features, metric.by_rows),
            *_divisor_warnings(summaries, features, params),
        ),
        cite=metric.cite,
        made_with={**made_with(extractor.device), **_backend(summaries)},
        seconds=time.perf_counter() - started,
        contributions=_by_index(score.contributions, features, metric.by_rows),
        per_image=_by_index(score.per_image, features, metric.by_rows),
    )


def compute_heldout(
    measure: Measure,
    extractor: Extractor,
    summaries: Mapping[str, Summary],
    protocol: Protocol,
    *,
    labels: Mapping[str, Labels] | None = None,
) -> Result | None:
    """The measure of the held-out images in the place of the generated, unless it knows of them itself.

    Args:
        measure: what to measure.
        extractor: the network that the summaries went through.
        summaries: by role.
        protocol: the settings.
        labels: by role, the class of each image, for measures by class.

    Returns:
        The result; ``None`` where there is no summary of held-out images, or the measure knows of them itself.

    Raises:
        IncomparableError: if a summary was measured on other terms.
    """
    if "heldout" not in summaries or "heldout" in measure.metric.roles:
        return None
    moved = {role: summary for role, summary in summaries.items() if role == "reference"}
    moved["generated"] = summaries["heldout"]
    labels = labels or {}
    moved_labels = {**labels, "generated": labels["heldout"]} if "heldout" in labels else labels
    found = compute(measure, extractor, moved, protocol, labels=moved_labels)
    warnings = tuple(f"of held-out images in the place of the generated: {each}" for each in found.warnings)
    return replace(found, warnings=warnings)


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


def _with_classes(features: Features, labels: Labels) -> Features:
    assert features.sample is not None  # every row of a measure by class is kept
    return replace(features, classes=tuple(labels.of[index] for index in features.sample.index.tolist()))


def _info(summary: Summary, features: Features, by_rows: bool) -> SetInfo:
    n = features.sample.n if by_rows and features.sample else features.n
    return SetInfo(summary.name, summary.digest, n, len(summary.skipped), summary.notes, summary.claimed)


def _backend(summaries: Mapping[str, Summary]) -> dict[str, str]:
    """What ran the network for each set, where that is known: statistics may come from another process."""
    records = [summary.made_with for summary in summaries.values()]
    found = dict.fromkeys(record["backend"] for record in records if "backend" in record)
    return {"backend": ", ".join(found)} if found else {}


def _set_warnings(
    summaries: Mapping[str, Summary], features: Mapping[str, Features], by_rows: bool
) -> list[str]:
    lines = []
    for (role, one), (other_role, other) in combinations(summaries.items(), 2):
        if one.digest and one.digest == other.digest:
            lines.append(f"the {role} and the {other_role} set hold the same images, to the last byte")
    for role, summary in summaries.items():
        sample, n = features[role].sample, features[role].n
        if by_rows and sample and sample.n != n:
            lines.append(f"of the {n} images of {summary.name}, a uniform sample of {sample.n} was measured")
        held = sample.n if sample else 0
        if not (by_rows or n is None or summary.claimed) and held < (least := min(FEWEST_ROWS, n)):
            lines.append(
                f"{held} feature rows of the {n} images of {summary.name} are at hand, and what their draw adds to the "
                f"error bar cannot be told from fewer than {least}: it takes them as exact; keep more with --rows "
                "(rows=)"
            )
        if summary.part:
            lines.append(
                f"{summary.name} is a part of a set, {summary.part}: join all parts with `geneval stats merge`"
            )
        if summary.claimed:
            lines.append(
                f"the {role} statistics are of another tool, which does not record what they were measured with: "
                "that they fit this protocol is your claim, and the error bar takes them as exact"
            )
        if summary.skipped:
            names = ", ".join(label for label, _ in summary.skipped[:3])
            more = ", ..." if len(summary.skipped) > 3 else ""
            files = "1 corrupt file" if len(summary.skipped) == 1 else f"{len(summary.skipped)} corrupt files"
            lines.append(f"{files} of {summary.name} left out: {names}{more}")
    return lines


def _divisor_warnings(
    summaries: Mapping[str, Summary], features: Mapping[str, Features], params: Mapping[str, Any]
) -> list[str]:
    """Covariances that the protocol divides by another number than came in a file, which does not say n."""
    if params.get("ddof", 1) == 1:
        return []
    return [
        f"the covariance of {summary.name} is divided by n - 1, and n is unknown: it stays so where this protocol "
        "divides by n, which takes a part of 1/n off; tell the number of images to have it converted"
        for role, summary in summaries.items()
        if features[role].n is None
    ]
