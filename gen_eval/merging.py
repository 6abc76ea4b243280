"""Summaries of the parts of a set, added up: the moments and rows of the whole, as one pass would have found them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add

from gen_eval.errors import IncomparableError, UsageError
from gen_eval.spec import Spec
from gen_eval.stats import Features, Sample
from gen_eval.summary import Part, Summary, all_made_with

_Key = tuple[Spec, str]


def merge(summaries: Sequence[Summary], names: Sequence[str] = ()) -> Summary:
    """The summary of several sets as one.

    Parts of one set, as ``summarize(part=...)`` measures them, give in any order what one pass over it gives: the
    same rows, content and n to the last bit, and moments to rounding. Sets of their own are laid one after the other;
    each must hold all of its rows or none, since a subset that was chosen within one set is none of the whole.

    Args:
        summaries: two or more, measured on the same terms.
        names: what to call each in messages, such as their files; by default by their images.

    Raises:
        IncomparableError: if they were measured on different terms; names those that differ.
        UsageError: if they have images in common, leave a gap, do not say how many images they are of, or hold
            rows that do not add.
    """
    if len(summaries) < 2:
        raise UsageError(f"merging takes two statistics or more, found {len(summaries)}")
    for summary in summaries:
        _require_counted(summary)
        _require_same_terms(summaries[0], summary)
    _require_apart(summaries, names or [summary.name for summary in summaries])
    if any(summary.part for summary in summaries):
        ordered = _in_order(summaries)
        part, digest = _joined(ordered)
    else:
        ordered = _laid_out(summaries)
        part = None
        digest = hashlib.sha256("".join(summary.digest for summary in ordered).encode()).hexdigest()
    return Summary(
        name=" + ".join(dict.fromkeys(summary.name for summary in ordered)),
        digest=digest,
        features={key: _added([summary.features[key] for summary in ordered]) for key in ordered[0].features},
        made_with=all_made_with(ordered),
        skipped=tuple(each for summary in ordered for each in summary.skipped),
        notes=dict(sum((Counter(summary.notes) for summary in ordered), Counter[str]())),
        claimed=any(summary.claimed for summary in ordered),
        part=part,
    )


def _require_counted(summary: Summary) -> None:
    for spec, tap in summary.features:
        if summary.features[spec, tap].n is None:
            raise UsageError(
                f"{summary.name} does not say how many images it is of, so it has no weight in a sum: give its number "
                "with `geneval stats convert --n`"
            )


def _require_same_terms(first: Summary, other: Summary) -> None:
    lines = []
    for mine, theirs in ((first, other), (other, first)):
        for spec, tap in mine.features:
            if (spec, tap) not in theirs.features:
                lines.append(f"  {mine.name} has {spec.name} {tap}, which {theirs.name} lacks on these terms")
    apart = (
        [key for key in mine.features if key not in theirs.features]
        for mine, theirs in ((first, other), (other, first))
    )
    for (spec, tap), (other_spec, other_tap) in zip(*apart, strict=False):
        if tap == other_tap:
            lines += [f"  {difference}" for difference in spec.differences(other_spec)]
    if lines:
        raise IncomparableError(
            f"{first.name} and {other.name} were not measured on the same terms:\n"
            + "\n".join(lines)
            + "\nMeasure all parts under one protocol and for the same measures."
        )


def _require_apart(summaries: Sequence[Summary], names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for summary, name in zip(summaries, names, strict=True):
        if summary.digest in seen:
            raise UsageError(
                f"{seen[summary.digest]} and {name} hold the same images, to the last byte: merged, they would count "
                "twice"
            )
        if summary.digest:
            seen[summary.digest] = name


def _in_order(summaries: Sequence[Summary]) -> list[Summary]:
    """Parts in the order of their images, with neither gap nor overlap."""
    parts = [(summary.part, summary) for summary in summaries]
    whole = [summary.name for part, summary in parts if part is None]
    if whole:
        raise UsageError(f"{whole[0]} is a set of its own, and others are parts of one: merge those first")
    ordered = sorted(
        ((part, summary) for part, summary in parts if part is not None), key=lambda pair: pair[0].first
    )
    for (part, _), (following, _) in pairwise(ordered):
        if part.total != following.total:
            raise UsageError(f"{part} and {following} are parts of different sets")
        if part.stop != following.first:
            what = "have images in common" if part.stop > following.first else "leave out those between them"
            raise UsageError(f"{part} and {following} {what}: give each part once")
    return [summary for _, summary in ordered]


def _joined(ordered: Sequence[Summary]) -> tuple[Part | None, str]:
    """Which images adjoining parts hold together, ``None`` for all; and the digest of these."""
    parts = [summary.part for summary in ordered if summary.part]
    contents = b"".join(part.contents for part in parts)
    joined = Part(parts[0].first, parts[-1].stop, parts[0].total, contents)
    complete = (joined.first, joined.stop) == (0, joined.total)
    return None if complete else joined, hashlib.sha256(contents).hexdigest()


def _laid_out(summaries: Sequence[Summary]) -> list[Summary]:
    """Sets of their own, with their images numbered one set after the other."""
    laid_out, start = [], 0
    for summary in summaries:
        moved = {key: _moved(summary, features, start) for key, features in summary.features.items()}
        laid_out.append(replace(summary, features=moved))
        start += max(features.n or 0 for features in summary.features.values()) + len(summary.skipped)
    return laid_out


def _moved(summary: Summary, features: Features, start: int) -> Features:
    sample = features.sample
    if sample is None or not sample.n:
        return features
    if sample.n != features.n:
        raise UsageError(
            f"{summary.name} keeps {sample.n:,} of {features.n:,} feature rows, chosen within that set, which "
            "are no uniform subset of the whole: measure them as parts of one (--part K/N), with more --rows or none"
        )
    return replace(features, sample=replace(sample, index=sample.index + start))


def _added(parts: Sequence[Features]) -> Features:
    moments = reduce(add, (part.moments for part in parts)).symmetric()
    samples = [part.sample for part in parts]
    kept = [sample for sample in samples if sample is not None]
    if kept and len(kept) != len(samples):
        raise UsageError(
            "some of these statistics hold feature rows and others none: make them with the same --rows"
        )
    sample = Sample.joined(kept) if kept else None
    return Features(moments.n, moments, sample)
