"""What each term of a result may be, where it comes as plain data from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gen_eval.direction import WORDS, is_direction
from gen_eval.errors import StoreError


@dataclass(frozen=True)
class _Kind:
    """What a term may be: in words, whether a value is that, and whether it may be left out."""

    words: str
    holds: Callable[[Any], bool]
    optional: bool = False


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.words}, or null", lambda value: value is None or kind.holds(value))


def _by_name(kind: _Kind) -> _Kind:
    return _Kind(
        f"an object whose values are each {kind.words}",
        lambda value: isinstance(value, Mapping) and all(map(kind.holds, value.values())),
    )


def _is_number(value: Any, kinds: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_COUNT = _Kind("a whole number, 0 or more", lambda value: _is_number(value, int) and value >= 0)
_NUMBER = _Kind("a number", _is_number)
_SPREAD = _Kind("a number, 0 or more", lambda value: _is_number(value) and not value < 0)
_DIRECTION = _Kind(WORDS, lambda value: isinstance(value, str) and is_direction(value))
_TERMS = _Kind("an object", lambda value: isinstance(value, Mapping))
_RESULT: Mapping[str, _Kind] = {
    **dict.fromkeys(("measure", "metric", "protocol", "tap", "cite"), _TEXT),
    "version": _COUNT,
    "better": _by_name(_DIRECTION),
    "params": _TERMS,
    "spec": _TERMS,
    "sets": _TERMS,
    "values": _by_name(_or_null(_NUMBER)),
    "errors": _by_name(_or_null(_SPREAD)),
    "biases": _by_name(_or_null(_NUMBER)),
    "warnings": _Kind(
        "a list of texts", lambda value: isinstance(value, list) and all(map(_TEXT.holds, value))
    ),
    "made_with": _by_name(_TEXT),
    "seconds": _NUMBER,
    "contributions": replace(_by_name(_TEXT), optional=True),
    "heldout": _or_null(_TERMS),
}
_SPEC = {
    **dict.fromkeys(("name", "weights", "normalize", "precision"), _TEXT),
    "resize": _TERMS,
    "digest": replace(_TEXT, optional=True),
}
_RESIZE = {
    "size": _COUNT,
    "kernel": _TEXT,
    "fit": replace(_TEXT, optional=True),
    "scaled": replace(_COUNT, optional=True),
}
_SET = {
    "name": _TEXT,
    "digest": _TEXT,
    "n": _or_null(_COUNT),
    "skipped": replace(_COUNT, optional=True),
    "notes": replace(_by_name(_COUNT), optional=True),
    "claimed": _Kind("true or false", lambda value: isinstance(value, bool), optional=True),
}


def require_result(data: Any) -> None:
    """Refuse plain data that no result was, or one whose terms a later version knows more of.

    Args:
        data: such as JSON holds; terms of the result itself that are none of ours are left aside.

    Raises:
        StoreError: says what was found, and what was expected.
    """
    _require(data, _RESULT, "it")
    parts = {"its spec": (data["spec"], _SPEC), "its resize": (data["spec"].get("resize"), _RESIZE)}
    parts |= {f"its {role} set": (info, _SET) for role, info in data["sets"].items()}
    for what, (terms, kinds) in parts.items():
        _require(terms, kinds, what)
        if unknown := terms.keys() - kinds.keys():
            version = data["made_with"].get("gen_eval", "another")
            raise StoreError(
                f"{what} has {', '.join(sorted(unknown))}, which this version of gen_eval knows nothing of: version "
                f"{version} wrote it; read it with that, or a later one"
            )
    if missing := data["better"].keys() - data["values"].keys():
        raise _refusal(f"it lacks the value {', '.join(sorted(missing))}")
    if not data["values"]:
        raise _refusal("it has no value")


def _require(data: Any, kinds: Mapping[str, _Kind], what: str) -> None:
    if not isinstance(data, Mapping):
        raise _refusal(f"{what} is {data!r:.40}, expected an object")
    for name, kind in kinds.items():
        if name not in data and not kind.optional:
            raise _refusal(f"{what} lacks {name}")
        if name in data and not kind.holds(data[name]):
            raise _refusal(f"{name} of {what} is {data[name]!r:.60}, expected {kind.words}")


def _refusal(reason: str) -> StoreError:
    return StoreError(f"not a result of gen_eval: {reason}")
