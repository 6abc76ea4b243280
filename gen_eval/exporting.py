"""Summaries written for other tools, whose files do not say what they were measured with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from gen_eval import foreign, terms
from gen_eval.errors import IncomparableError, UsageError
from gen_eval.foreign import Held
from gen_eval.protocols import PROTOCOLS, Protocol
from gen_eval.spec import Spec
from gen_eval.summary import Summary


def export(
    summary: Summary,
    path: Path,
    form: str,
    *,
    only: str | None = None,
    images: Any = None,
    other_terms: bool = False,
) -> list[tuple[Spec, str]]:
    """Write a summary for another tool. The file appears whole or not at all.

    Args:
        summary: what is written.
        path: where.
        form: a name in :data:`gen_eval.foreign.FORMATS`.
        only: of several features, those of this network and tap, such as ``"inception-2015-12-05 pool"``.
        images: uint8 ``[n, h, w, 3]``, which some formats hold beside the statistics.
        other_terms: write it though that tool measures on other terms, which its file cannot say.

    Returns:
        Spec and tap of what was written.

    Raises:
        UnknownName: if there is no such format, or no such features.
        UsageError: if the format does not take them, or they are of a part of a set, which its files cannot say.
        IncomparableError: if they are on other terms than the tool's; names those that differ.
        StoreError: if the file cannot be written.
    """
    foreign.require_name(path, form)
    if summary.part:
        raise UsageError(
            f"{summary.name} is measured in part ({summary.part}), and a file of {form} would pass it for the whole: "
            "join all parts first, with `geneval stats merge`"
        )
    chosen = choose(summary, form, only)
    if not other_terms and (lines := differences(chosen, form)):
        raise IncomparableError(
            f"{summary.name} was not measured as {form} measures:\n"
            + "\n".join(f"  {line}" for line in lines)
            + f"\nThe file could not say so. {_cure(summary, chosen, form)}"
        )
    foreign.write(path, form, list(chosen.values()), images)
    return list(chosen)


def choose(summary: Summary, form: str, only: str | None = None) -> dict[tuple[Spec, str], Held]:
    """The features that are written, by spec and tap: of networks that the tool has, or all where it has none of them.

    Args:
        summary: the features.
        form: a name in :data:`gen_eval.foreign.FORMATS`, of those that are written.
        only: as :func:`export` has it.

    Raises:
        UnknownName: if there is no such format, or no such features.
    """
    protocol = _protocol(form)
    features = summary.to(torch.device("cpu")).features
    held = {
        (spec, tap): Held(str(spec.resize), each, spec.name, tap) for (spec, tap), each in features.items()
    }
    chosen = foreign.choose(list(held.values()), only)
    named = {key: each for key, each in held.items() if each in chosen}
    return {key: each for key, each in named.items() if terms.extractor_of(key[0], protocol)} or named


def differences(keys: Collection[tuple[Spec, str]], form: str) -> list[str]:
    """One line for each term in which features are not those of the tool whose format is written.

    Args:
        keys: spec and tap of each.
        form: a name in :data:`gen_eval.foreign.FORMATS`, of those that are written.

    Raises:
        UnknownName: if there is no such format.
    """
    protocol = _protocol(form)
    found: dict[str, None] = {}
    for spec, tap in keys:
        extractor = terms.extractor_of(spec, protocol)
        if extractor is None:
            gaps = {"network": (spec.name, next(iter(protocol.preprocessing)))}
        else:
            gaps = terms.gaps(spec, tap, extractor, protocol)
        found |= dict.fromkeys(f"{term}: {mine} against {theirs}" for term, (mine, theirs) in gaps.items())
    return list(found)


def _protocol(form: str) -> Protocol:
    return PROTOCOLS[foreign.find_format(form).protocol]


def _cure(summary: Summary, keys: Collection[tuple[Spec, str]], form: str) -> str:
    wanted = foreign.find_format(form)
    alike = [
        f"--to {name}"
        for name, each in foreign.FORMATS.items()
        if each.write and (each.extension, each.keys) == (wanted.extension, wanted.keys)
        if not differences(keys, name)
    ]
    instead = f", or write it for a tool that measures so, with {' or '.join(alike)}" if alike else ""
    command = f"geneval stats {summary.name} --protocol {wanted.protocol} -o FILE.safetensors"
    return f"Measure it anew with `{command}`{instead}; --other-terms (other_terms=True) writes it as it is."
