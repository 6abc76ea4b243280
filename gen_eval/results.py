"""A number, how sure it is, and the terms it was measured on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gen_eval.contributions import explained, packed, unpacked
from gen_eval.errors import IncomparableError, StoreError
from gen_eval.result_terms import require_result
from gen_eval.spec import Spec

# Ways to a number that agree but for rounding.
ROUTES = ("method", "engine")
# How much is drawn at random to estimate a number without bias: it moves the error, and what the number is of stays.
DRAWS = ("sample", "frequencies")
# By term, how two measurements are brought onto it.
CURES: Mapping[str, str] = {
    "metric": "ask for the same measure (-m)",
    "metric version": "measure both with one version of gen_eval",
    "parameters": "use one --protocol and the same --set",
    "tap": "look at the same tap of the network",
    "roles": "give both the same kinds of sets",
    "generated n": "generate equally many images",
    "reference n": "use one reference, whole",
    "reference images": "use one reference",
    "heldout n": "use the same held-out images",
    "heldout images": "use the same held-out images",
    "name": "look through one network",
    "weights": "use the same weights",
    "resize": "use one --protocol",
    "normalize": "use one --protocol",
    "precision": "use one --precision",
}


@dataclass(frozen=True)
class SetInfo:
    """Which images stood in one role.

    Args:
        name: what the user called the set.
        digest: sha256 over its content.
        n: number of images measured; ``None`` if statistics of another tool do not say.
        skipped: number of corrupt files left out.
        notes: how many images decoding changed, by what it changed.
        claimed: whether the terms are only what the user says of a file of another tool.
    """

    name: str
    digest: str
    n: int | None
    skipped: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)
    claimed: bool = False

    @property
    def count(self) -> str:
        """How many images, for people."""
        return "unknown n" if self.n is None else f"{self.n:,} images"


@dataclass(frozen=True)
class Result:
    """One measured value.

    Args:
        measure: what was asked for, such as ``"fid"``.
        metric: the row of the metric table behind it.
        version: of the metric's numbers.
        better: the values that models are judged by, each ``"lower"``, ``"higher"``, or such as ``"near 0.5"``; the
            metric's own first.
        params: the metric's parameters.
        protocol: the name of the settings.
        spec: what produced the features.
        tap: which features of the extractor.
        sets: by role, which images.
        values: the numbers; the metric's own first.
        errors: the standard errors of those that have one.
        biases: by how much each is expected to exceed that of infinitely many images, where known.
        warnings: reasons to read the value with care.
        cite: the paper.
        made_with: versions and device.
        seconds: what the metric took once the features were there.
        contributions: by role, image indices ``[k]`` and how much each raises the value, ``[k]``.
        per_image: by role, image indices ``[k]`` and what the metric says of each image, ``[k]``.
        heldout: the same measure of held-out real images in place of the generated, if there were any.
    """

    measure: str
    metric: str
    version: int
    better: Mapping[str, str]
    params: Mapping[str, Any]
    protocol: str
    spec: Spec
    tap: str
    sets: Mapping[str, SetInfo]
    values: Mapping[str, float]
    errors: Mapping[str, float]
    biases: Mapping[str, float]
    warnings: Sequence[str]
    cite: str
    made_with: Mapping[str, str]
    seconds: float
    contributions: Mapping[str, tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )
    per_image: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)
    heldout: Result | None = None

    @property
    def value(self) -> float:
        """The number asked for."""
        return next(iter(self.values.values()))

    @property
    def error(self) -> float | None:
        """Its standard error, where there is one."""
        return self.errors.get(next(iter(self.values)))

    @property
    def bias(self) -> float | None:
        """By how much it is expected to exceed that of infinitely many images, where that is known."""
        return self.biases.get(next(iter(self.values)))

    @property
    def pairable(self) -> bool:
        """Whether the contributions are parts of the error, so that those of a set that another shares go out of it."""
        return explained(self.contributions, {role: info.n for role, info in self.sets.items()}, self.error)

    def label(self, name: str) -> str:
        """What to call one of the values by itself: ``fid``, or ``recall:dinov2``; :func:`labelled` beside others."""
        if name in self.better and len(self.better) == 1:
            return self.measure
        _, colon, through = self.measure.partition(":")
        return name + colon + through

    def worst(self, k: int, role: str = "generated") -> list[tuple[int, float]]:
        """The images that raise the value most: ``(index, contribution)``, largest first."""
        if role not in self.contributions:
            return []
        index, contribution = self.contributions[role]
        order = contribution.argsort(descending=True)[:k].cpu()
        return [(int(index[i]), float(contribution[i])) for i in order]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; of the numbers of single images what pairs two results of one reference."""
        pairable = self.pairable
        return {
            "measure": self.measure,
            "value": self.value,
            "standard_error": self.error,
            "bias": self.bias,
            "values": dict(self.values),
            "errors": dict(self.errors),
            "biases": dict(self.biases),
            "better": dict(self.better),
            "metric": self.metric,
            "version": self.version,
            "params": dict(self.params),
            "protocol": self.protocol,
            "spec": {**self.spec.to_json(), "digest": self.spec.digest},
            "tap": self.tap,
            "sets": {role: dict(vars(info)) for role, info in self.sets.items()},
            "warnings": list(self.warnings),
            "cite": self.cite,
            "made_with": dict(self.made_with),
            "seconds": round(self.seconds, 3),
            "contributions": {
                role: packed(*each)
                for role, each in self.contributions.items()
                if pairable and role != "generated"
            },
            "heldout": self.heldout and self.heldout.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """The inverse of :meth:`to_json`, but for the numbers of single images that do not go along.

        Args:
            data: what it gave; what others added to it is left aside. A number that is null is none, NaN.

        Raises:
            StoreError: if it is no result.
        """
        require_result(data)
        try:
            contributions = {role: unpacked(text) for role, text in data.get("contributions", {}).items()}
        except ValueError as error:
            raise StoreError(f"not a result of gen_eval: its contributions are damaged: {error}") from error
        spec = {name: term for name, term in data["spec"].items() if name != "digest"}
        return cls(
            spec=Spec.from_json(spec),
            params={name: _tuple(value) for name, value in data["params"].items()},
            sets={role: SetInfo(**info) for role, info in data["sets"].items()},
            values=_numbers(data["values"]),
            errors=_numbers(data["errors"]),
            biases=_numbers(data["biases"]),
            warnings=tuple(data["warnings"]),
            seconds=float(data["seconds"]),
            contributions=contributions,
            heldout=cls.from_json(data["heldout"]) if data["heldout"] else None,
            **{name: data[name] for name in _PLAIN},
        )

    def json_line(self) -> str:
        """One line of JSON; numbers that are none, or infinite, are null."""
        return json.dumps(_finite(self.to_json()), allow_nan=False)


# Terms of a result that JSON holds as they are.
_PLAIN = ("measure", "metric", "version", "better", "protocol", "tap", "cite", "made_with")


def read_results(lines: Iterable[str], name: str) -> list[Result]:
    """Results from their JSON lines, as ``geneval evaluate --json`` prints them, or from what others make of these.

    Args:
        lines: of the file. An object may take several, and several objects may stand in a list.
        name: what the file is called, for messages.

    Raises:
        StoreError: if something is no result, or there is none.
    """
    text = "\n".join(line.rstrip("\r\n") for line in lines).removeprefix("\ufeff")
    found: list[Result] = []
    decoder, at = json.JSONDecoder(), _after_space(text, 0)
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
            found += map(Result.from_json, value if isinstance(value, list) else [value])
        except json.JSONDecodeError as error:
            raise _no_result(name, error.lineno, error.msg) from error
        except StoreError as error:
            raise _no_result(name, text.count("\n", 0, at) + 1, str(error)) from error
        at = _after_space(text, end)
    if not found:
        raise StoreError(f"{name} holds no result: expected what `geneval evaluate --json` prints")
    return found


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _no_result(name: str, line: int, reason: str) -> StoreError:
    return StoreError(f"{name}, line {line}: {reason}. Expected what `geneval evaluate --json` prints")


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def labelled(results: Iterable[Result]) -> list[tuple[str, Result, str]]:
    """Each value that models are judged by: what to call it beside the others, its result, and its name there.

    Two that would share a label, such as the precision of ``pr`` and that of ``prdc``, are told apart by the measure.
    """
    judged = [(result.label(name), result, name) for result in results for name in result.better]
    often = Counter(label for label, _, _ in judged)
    return [
        (label if often[label] == 1 else f"{name} of {result.measure}", result, name)
        for label, result, name in judged
    ]


def require_comparable(results: Sequence[Result]) -> None:
    """Refuse to set numbers side by side that were measured on different terms.

    Equal must be: metric, its version and parameters, spec, tap, the reference's content and n, and
    the generated n, since the distances are biased in n. Versions of libraries and the device may differ, and so may
    how many images (``sample``) or waves (``frequencies``) were drawn to estimate a number: its error says so.

    Raises:
        IncomparableError: names each term that differs.
    """
    for other in results[1:]:
        found = differences(results[0], other)
        if found:
            cures = dict.fromkeys(CURES[term] for term in found)
            raise IncomparableError(
                f"{results[0].measure} of {_generated(results[0])} and {other.measure} of {_generated(other)} "
                "are not comparable:\n"
                + "\n".join(f"  {term}: {how}" for term, how in found.items())
                + f"\nMeasure both on the same terms: {'; '.join(cures)}."
            )


def differences(a: Result, b: Result) -> dict[str, str]:
    """The terms in which two results differ that must be equal, a key of :data:`CURES` each, and how they differ."""
    terms: dict[str, tuple[object, object]] = {
        "metric": (a.metric, b.metric),
        "metric version": (a.version, b.version),
        "parameters": (_moving(a.params), _moving(b.params)),
        "tap": (a.tap, b.tap),
        "roles": (sorted(a.sets), sorted(b.sets)),
    }
    for role in sorted(set(a.sets) & set(b.sets)):
        terms[f"{role} n"] = (a.sets[role].n, b.sets[role].n)
        if role != "generated":
            terms[f"{role} images"] = (a.sets[role].digest[:16], b.sets[role].digest[:16])
    for role in ("generated", "reference"):
        if terms.get(f"{role} n") == (None, None) and a.sets[role].digest != b.sets[role].digest:
            terms[f"{role} n"] = ("unknown", "unknown too")
    found = {term: f"{left} against {right}" for term, (left, right) in terms.items() if left != right}
    return found | dict(line.split(": ", 1) for line in a.spec.differences(b.spec))


def _moving(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that say what a number is of: not the routes to it, which agree, nor draws that its error counts.

    The seed of a metric with a ``sample`` is that of its draw and of nothing else.
    """
    left_out = {*ROUTES, *DRAWS, *(("seed",) if "sample" in params else ())}
    return {name: value for name, value in params.items() if name not in left_out}


def _generated(result: Result) -> str:
    return result.sets["generated"].name if "generated" in result.sets else "?"
