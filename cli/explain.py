"""``geneval explain``: what a result means, and which published numbers it may be set beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from .reading import read

if TYPE_CHECKING:
    from gen_eval.explanation import Explanation, Practice

_INDENT = "  "


@click.command()
@click.argument("result")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a result on standard output.")
def explain(result: str, as_json: bool) -> None:
    """Say in words what the numbers in the file RESULT mean, as `geneval evaluate --json` wrote it; - reads them
    from a pipe.

    Of each number: what it measures, which way is better, how sure it is and what of it is bias. Of each result:
    its terms, the published numbers that it may be set beside, and what else they would take.
    """
    from gen_eval.explanation import explain as explained

    explanations = [explained(each) for each in read(result)]
    if as_json:
        for each in explanations:
            click.echo(json.dumps(each.to_json(), allow_nan=False))
        return
    told: Mapping[str, str] = {}
    for place, each in enumerate(explanations):
        click.echo(("\n" if place else "") + "\n".join(_paragraphs(each, told)))
        told = each.terms


def _paragraphs(explanation: Explanation, told: Mapping[str, str]) -> Iterator[str]:
    """What is said of a result, but for the terms that were just told of another."""
    yield click.style(explanation.result.measure, bold=True)
    for number in explanation.numbers:
        yield f"{_INDENT}{number.label} = {number.value:.6g}, {number.better}"
        for line in (number.meaning, number.sureness, number.bias):
            yield _INDENT * 2 + line
    if held := explanation.result.heldout:
        scored = ", ".join(f"{held.label(name)} {held.values[name]:.4g}" for name in held.better)
        yield f"{_INDENT}held-out real images in the place of the generated: {scored}"
    new = {term: text for term, text in explanation.terms.items() if told.get(term) != text}
    yield f"{_INDENT}measured on" + (" the same, but for" if len(new) < len(explanation.terms) else "")
    for term, text in new.items():
        yield f"{_INDENT * 2}{term:11}{text}"
    yield from _placements(explanation)
    if explanation.cautions:
        yield f"{_INDENT}beware"
        yield from (_INDENT * 2 + caution for caution in explanation.cautions)


def _placements(explanation: Explanation) -> Iterator[str]:
    fits = [each.practice for each in explanation.placements if not each.gaps]
    misses = [each for each in explanation.placements if each.gaps]
    if not explanation.placements:
        yield f"{_INDENT}no published tables of it are known here: set it beside your own results on equal terms"
        return
    yield f"{_INDENT}may be set beside" + (
        "" if fits else " no published table that is known here, as it stands"
    )
    for practice in fits:
        yield _INDENT * 2 + practice.numbers + _provided(practice)
    if misses:
        yield f"{_INDENT}could be set beside, but for"
    for each in misses:
        yield _INDENT * 2 + each.practice.numbers
        yield from (f"{_INDENT * 3}{gap}" for gap in each.gaps)


def _provided(practice: Practice) -> str:
    """What a result file cannot tell."""
    conditions = [] if practice.generated else ["it is of as many images"]
    if practice.reference != "none":
        conditions.append(f"the reference is {practice.reference}")
    return f"; if {' and '.join(conditions)}" if conditions else ""
