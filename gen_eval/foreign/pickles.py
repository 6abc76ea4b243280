"""What a pickle holds, as plain data: a machine of its own that calls nothing, so that nothing can run.

A pickle is a program. This reads the part of the language that arrays, numbers, texts, lists, tuples and dictionaries
take, and gives the few names that numpy's arrays need a meaning of its own. Any other name is refused before anything
is made of it. Python's unpickler with a list of allowed names would call numpy's functions and set the state of its
types with what the file says; some of them trust it.

The opcodes are those of PEP 307, 3154 and 574, as :mod:`pickletools` takes them apart.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from gen_eval.errors import StoreError

# More than any statistics file takes: an array takes 14 to 35 of them, and a list of batches holds some thousand.
_MOST_STEPS = 1_000_000
# Arrays and texts that are made of a file, in sizes of that file: each byte of it becomes one of both, once.
_MOST_MADE = 4
_DTYPE = re.compile(r"[biufcSUO]\d{0,3}\Z")
_ORDERS = ("<", ">", "=", "|")


class ForeignName(StoreError):
    """A pickle that asks for something that statistics do not need."""


class _Name:
    """A name that a pickle asks for. It stands for itself; nothing is imported."""

    def __init__(self, name: str) -> None:
        if name not in _CALLS and name != _NDARRAY:
            raise ForeignName(
                f"it asks for {name[:80]!r}, which is no part of statistics; nothing of it was run"
            )
        self.name = name


class _Dtype:
    """A type of numbers under construction."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"


class _Array:
    """An array under construction; later references to it find what it became."""

    became: Any = None


def load(data: bytes) -> Any:
    """The one object that a pickle describes: arrays, numbers, texts, lists, tuples and dictionaries by text.

    Args:
        data: the pickle, of any protocol.

    Raises:
        ForeignName: if it asks for anything but numpy's arrays and numbers; it is named, and not run.
        StoreError: if it is cut short, damaged, or no pickle.
    """
    machine = _Machine(_MOST_MADE * len(data))
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if steps >= _MOST_STEPS:
                raise StoreError(f"it has more than {_MOST_STEPS:,} steps, which no statistics take")
            machine.step(opcode.name, argument)
        return machine.result()
    except StoreError:
        raise
    except Exception as error:  # whatever the bytes of another's making bring about is about those bytes
        raise StoreError(f"it is cut short, damaged or no pickle: {error!r:.200}") from error


class _Machine:
    """The stack and the memo of a pickle.

    Args:
        budget: the most bytes to make of it.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name](argument))
        elif name in _WITHOUT_EFFECT:
            pass
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ForeignName(f"it uses {name}, which is no part of statistics; nothing of it was run")

    def result(self) -> Any:
        """What is on the stack at the end."""
        (value,) = self._stack
        return value

    def _to_mark(self) -> list[Any]:
        return self._last(len(self._stack) - self._marks.pop())

    def _last(self, count: int) -> list[Any]:
        place = len(self._stack) - count
        if not 0 <= place <= len(self._stack):
            raise ValueError("too few values on the stack")
        values = self._stack[place:]
        del self._stack[place:]
        return values

    def _tuple(self, values: list[Any]) -> None:
        self._stack.append(tuple(values))

    def _extend(self, values: list[Any]) -> None:
        _of(list, self._stack[-1]).extend(values)

    def _set(self, values: list[Any]) -> None:
        target = _of(dict, self._stack[-1])
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_of(str, key)] = value

    def _dict(self, values: list[Any]) -> None:
        self._stack.append({})
        self._set(values)

    def _put(self, place: Any) -> None:
        self._memo[int(place)] = self._stack[-1]

    def _get(self, place: Any) -> None:
        value = self._memo[int(place)]
        self._stack.append(value if type(value) is not _Array or value.became is None else value.became)

    def _global(self, text: str) -> None:
        self._stack.append(_Name(text.replace(" ", ".")))

    def _stack_global(self) -> None:
        module, name = self._last(2)
        self._stack.append(_Name(f"{_of(str, module)}.{_of(str, name)}"))

    def _reduce(self) -> None:
        function, arguments = self._last(2)
        self._append_made(_CALLS[_of(_Name, function).name](*_of(tuple, arguments)))

    def _build(self) -> None:
        made, state = self._last(2)
        if isinstance(made, _Dtype):
            made.order = _one_of(_ORDERS, _of(tuple, state)[1])
            self._stack.append(made)
            return
        made.became = _from_state(_of(_Array, made), *_of(tuple, state))
        self._append_made(made.became)

    def _append_made(self, value: Any) -> None:
        self._budget -= getattr(value, "nbytes", 0) + (len(value) if type(value) is bytes else 0)
        if self._budget < 0:
            raise StoreError("it makes many times its own size of itself, which no statistics do")
        self._stack.append(value)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _one_of(known: tuple[str, ...], value: Any) -> str:
    if _of(str, value) not in known:
        raise ValueError(f"{value!r:.20} in the place of one of {known}")
    return str(value)


def _dtype(code: Any, *_: Any) -> _Dtype:
    if not _DTYPE.match(_of(str, code)):
        raise ValueError(f"an array of type {code!r:.40}")
    return _Dtype(code)


def _numpy_dtype(dtype: Any) -> np.dtype[Any]:
    code, order = _of(_Dtype, dtype).code, dtype.order
    if code.startswith("O"):
        raise ForeignName("it holds an array of objects, which is no array of numbers")
    numbers: np.dtype[Any] = np.dtype(code if order == "|" else order + code)
    return numbers


def _from_state(_: _Array, version: Any, shape: Any, dtype: Any, fortran: Any, data: Any) -> Any:
    """The state of an array, as ``ndarray.__reduce__`` gives it."""
    if shape == () and _of(_Dtype, dtype).code.startswith("O") and len(_of(list, data)) == 1:
        return data[0]  # what `numpy.save` makes of a dictionary: an array without axes that holds one object
    return _filled(data, dtype, shape, "F" if _of(bool, fortran) else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, _: Any = None) -> np.ndarray[Any, Any]:
    return _filled(data, dtype, shape, _one_of(("C", "F"), order))


def _filled(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    numbers, shape = _numpy_dtype(dtype), tuple(_of(int, side) for side in _of(tuple, shape))
    if isinstance(data, str):
        data = data.encode("latin-1")  # Python 2 wrote bytes as text
    if not isinstance(data, (bytes, bytearray)) or min(shape, default=0) < 0:
        raise ValueError("an array without data, or of a negative size")
    if math.prod(shape) * numbers.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} with {len(data)} bytes of data")
    flat = np.frombuffer(data, numbers) if data else np.empty(0, numbers)
    array: np.ndarray[Any, Any] = flat.reshape(shape, order="F" if order == "F" else "C")
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    return _filled(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocols before 3 write bytes."""
    _one_of(("latin1", "latin-1"), encoding)
    return bytes(_of(str, text).encode("latin-1"))


_NDARRAY = "numpy.ndarray"
# What stands behind the names that a pickle may ask for, in numpy 1 and 2.
_CALLS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",  # how protocols before 3 write no bytes
    "numpy.dtype": _dtype,
    **{
        f"numpy.{core}.{name}": meaning
        for core in ("core", "_core")
        for name, meaning in (
            ("multiarray._reconstruct", lambda *_: _Array()),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}

_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), lambda number: number),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), lambda number: number),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), lambda text: text),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), lambda text: text),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), bytes),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
}
_WITHOUT_EFFECT = ("PROTO", "FRAME", "STOP")
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine._marks.append(len(machine._stack)),
    "APPEND": lambda machine, _: machine._extend(machine._last(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._to_mark()),
    "LIST": lambda machine, _: machine._stack.append(machine._to_mark()),
    "TUPLE": lambda machine, _: machine._tuple(machine._to_mark()),
    "TUPLE1": lambda machine, _: machine._tuple(machine._last(1)),
    "TUPLE2": lambda machine, _: machine._tuple(machine._last(2)),
    "TUPLE3": lambda machine, _: machine._tuple(machine._last(3)),
    "DICT": lambda machine, _: machine._dict(machine._to_mark()),
    "SETITEM": lambda machine, _: machine._set(machine._last(2)),
    "SETITEMS": lambda machine, _: machine._set(machine._to_mark()),
    "PUT": lambda machine, place: machine._put(place),
    "BINPUT": lambda machine, place: machine._put(place),
    "LONG_BINPUT": lambda machine, place: machine._put(place),
    "MEMOIZE": lambda machine, _: machine._put(len(machine._memo)),
    "GET": lambda machine, place: machine._get(place),
    "BINGET": lambda machine, place: machine._get(place),
    "LONG_BINGET": lambda machine, place: machine._get(place),
    "GLOBAL": lambda machine, text: machine._global(text),
    "STACK_GLOBAL": lambda machine, _: machine._stack_global(),
    "REDUCE": lambda machine, _: machine._reduce(),
    "BUILD": lambda machine, _: machine._build(),
}
