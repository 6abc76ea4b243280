"""What a number means, and which published numbers it may be set beside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gen_eval import direction, terms
from gen_eval.errors import UnknownName
from gen_eval.explanation.meanings import MEANINGS
from gen_eval.explanation.practices import PRACTICES, Practice
from gen_eval.metrics import METRICS, Measure, find_measure
from gen_eval.protocols import PROTOCOLS, Protocol
from gen_eval.results import DRAWS, ROUTES, Result

# Parameters that move a number by rounding or by the luck of a draw alone.
_MINOR = ("mean_dtype", "seed", *ROUTES, *DRAWS)
# What to do about a term of the features that no --protocol settles.
_CURES = {"weights": "take the published weights", "precision": "leave --precision out"}
_LEVEL = 1.96  # standard errors to either side that hold 95 %


@dataclass(frozen=True)
class Gap:
    """What keeps a number out of a table.

    Args:
        term: what differs.
        found: in the result.
        wanted: in the table.
        cure: what to do.
    """

    term: str
    found: str
    wanted: str
    cure: str

    def __str__(self) -> str:
        return f"{self.term} {self.found}, there {self.wanted}: {self.cure}"


@dataclass(frozen=True)
class Placement:
    """A kind of published numbers, and what keeps a result from being set beside them; nothing, where it may be."""

    practice: Practice
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class Number:
    """One value in words.

    Args:
        label: what it is called.
        value: the number.
        meaning: what it says.
        better: which way is better.
        sureness: what its standard error says.
        bias: what is known of how the number of images moves it.
    """

    label: str
    value: float
    meaning: str
    better: str
    sureness: str
    bias: str


@dataclass(frozen=True)
class Explanation:
    """A result in words.

    Args:
        result: the result.
        numbers: its values that models are judged by.
        terms: what it was measured on, by term.
        placements: kinds of published numbers of this measure, the nearest first.
        cautions: what to beware of.
    """

    result: Result
    numbers: tuple[Number, ...]
    terms: Mapping[str, str]
    placements: tuple[Placement, ...]
    cautions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the result itself, as plain data."""
        return {
            "measure": self.result.measure,
            "numbers": [
                {**asdict(each), "value": each.value if math.isfinite(each.value) else None}
                for each in self.numbers
            ],
            "terms": dict(self.terms),
            "comparable_with": [each.practice.numbers for each in self.placements if not each.gaps],
            "not_yet_comparable_with": [
                {"numbers": each.practice.numbers, "gaps": [asdict(gap) for gap in each.gaps]}
                for each in self.placements
                if each.gaps
            ],
            "cautions": list(self.cautions),
        }


def explain(result: Result) -> Explanation:
    """Say in words what a result means.

    Args:
        result: such as :func:`gen_eval.results.read_results` reads.
    """
    numbers = tuple(_number(result, name) for name in result.better if name in result.values)
    return Explanation(result, numbers, _terms(result), place(result), tuple(_cautions(result)))


def place(result: Result) -> tuple[Placement, ...]:
    """The kinds of published numbers of a result's measure, each with what keeps it from them; the nearest first."""
    measure = _measure(result)
    if measure is None:
        return ()
    found = [
        Placement(practice, tuple(_gaps(result, measure, practice)))
        for practice in PRACTICES
        if any(_key(find_measure(name)) == _key(measure) for name in practice.measures)
    ]
    return tuple(sorted(found, key=lambda each: len(each.gaps)))


def _key(measure: Measure) -> tuple[str, str, str]:
    return measure.metric.name, measure.extractor, measure.tap


def _measure(result: Result) -> Measure | None:
    try:
        return find_measure(result.measure)
    except UnknownName:
        return None  # of a metric of somebody's own


def _gaps(result: Result, measure: Measure, practice: Practice) -> Iterator[Gap]:
    protocol = PROTOCOLS[practice.protocol]
    yield from _setting_gaps(result, measure, protocol)
    n = result.sets["generated"].n if "generated" in result.sets else None
    if practice.generated and n != practice.generated:
        yield _of_size("generated images", n, practice.generated, "generate as many")
    yield from _subset_gaps(result)
    if (reference := result.sets.get("reference")) is None:
        return
    if practice.reference_n and reference.n != practice.reference_n:
        yield _of_size("reference images", reference.n, practice.reference_n, f"take {practice.reference}")


def _subset_gaps(result: Result) -> Iterator[Gap]:
    """Where a set is smaller than the subsets that tables take, smaller ones were drawn."""
    size = result.params.get("subset_size")
    n = min((info.n for info in result.sets.values() if info.n is not None), default=None)
    if size and n is not None and n < size:
        yield _of_size("images of a subset", n, size, "take at least as many of each set")


def _of_size(term: str, found: int | None, wanted: int, cure: str) -> Gap:
    return Gap(term, "unknown" if found is None else f"{found:,}", f"{wanted:,}", cure)


def _setting_gaps(result: Result, measure: Measure, protocol: Protocol) -> Iterator[Gap]:
    """Settings, not names: two protocols may be one for a measure."""
    cure = f"--protocol {protocol.name}"
    for term, (found, there) in terms.gaps(result.spec, result.tap, measure.extractor, protocol).items():
        yield Gap(term, found, there, _CURES.get(term, cure))
    wanted = protocol.params_for(measure.metric.name, measure.metric.params)
    for name, value in result.params.items():
        if name in wanted and name not in _MINOR and value != wanted[name]:
            yield Gap(name, _spell(value), _spell(wanted[name]), cure)


def _spell(value: Any) -> str:
    return "none" if value is None else str(value)


def _number(result: Result, name: str) -> Number:
    value, meanings = result.values[name], MEANINGS.get(result.metric, {})
    return Number(
        label=result.label(name),
        value=value,
        meaning=meanings.get(name, f"see {result.cite}"),
        better=direction.spell(result.better[name]),
        sureness=_sureness(value, result.errors.get(name)),
        bias=_bias(result, value, result.biases.get(name)),
    )


def _sureness(value: float, error: float | None) -> str:
    if error is None:
        return "no standard error is known of it"
    if not (math.isfinite(error) and math.isfinite(value)):
        return "no standard error is known of it: it, or the error, is no number"
    low, high = value - _LEVEL * error, value + _LEVEL * error
    return f"another draw of as many images would give {low:.4g} to {high:.4g} in 95 of 100 cases"


def _bias(result: Result, value: float, bias: float | None) -> str:
    sizes = [info.n for info in result.sets.values()]
    at = f"{' and '.join(f'{n:,}' for n in sizes if n)} images" if all(sizes) else "this many images"
    if bias is None:
        return "how the number of images moves it is not known: compare it at equal n alone"
    if bias == 0:
        return "unbiased: the number of images moves its error, not its expectation"
    # Where the bias is as large as the value, the first order says no more than that.
    if abs(bias) >= abs(value):
        return f"{at} bring about {bias:+.2g}, which is no less than the value itself"
    left = f"; infinitely many would give about {value - bias:.4g}"
    return f"about {bias:+.2g} of it, {abs(bias / value):.0%} of it, is what {at} bring{left}"


def _terms(result: Result) -> dict[str, str]:
    spec = result.spec
    sets = {
        role: f"{info.name}, {info.count}, content {info.digest[:12]}"
        + (" (claimed)" if info.claimed else "")
        for role, info in result.sets.items()
    }
    protocol = PROTOCOLS.get(result.protocol)
    return {
        **sets,
        "network": f"{spec.name} {result.tap}, weights {spec.weights}, {spec.precision}",
        "resize": f"{spec.resize}; pixels become {spec.normalize}",
        "protocol": f"{result.protocol}: as {protocol.tool}, {protocol.meaning}"
        if protocol
        else result.protocol,
        "parameters": ", ".join(f"{name}={_spell(value)}" for name, value in result.params.items()) or "none",
    }


def _cautions(result: Result) -> Iterator[str]:
    yield from result.warnings
    if result.metric not in METRICS:
        yield f"{result.metric} is a metric of somebody's own: nothing is known here of its numbers"
    elif result.version != METRICS[result.metric].version:
        yield (
            f"measured by version {result.version} of {result.metric}, which is {METRICS[result.metric].version} now: "
            "the CHANGELOG says what moved"
        )
    protocol, measure = PROTOCOLS.get(result.protocol), _measure(result)
    if protocol is None or measure is None:
        return
    if protocol.measures and _key(measure) not in [_key(find_measure(name)) for name in protocol.measures]:
        yield (
            f"{protocol.tool} has no {result.measure}: under its protocol this is its preprocessing, and the metric's "
            f"own settings where the protocol says nothing. It has {', '.join(protocol.measures)}"
        )
