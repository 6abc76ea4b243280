"""A pickle is read as data: the same data that Python's unpickler gives, or a refusal; nothing in it runs."""

from __future__ import annotations

import functools
import io
import os
import pickle
import pickletools
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gen_eval.errors import StoreError
from gen_eval.foreign import pickles
from gen_eval.foreign.pickles import ForeignName

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


arrays = hnp.arrays(
    st.sampled_from(["<f8", ">f8", "<f4", "<i8", "|u1", "<f2", "<c16", "|b1"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements={"allow_nan": False},
)
plain = st.recursive(
    arrays
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=8,
)


@settings(max_examples=80)
@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back(value, protocol):
    data = pickle.dumps(value, protocol)
    assert_same(pickles.load(data), pickle.loads(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_any_layout_come_back(protocol):
    base = np.arange(24.0).reshape(4, 6)
    value = {
        "columns": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, ::3],
        "shared": [base, base],
        "number": base,
        "empty": np.empty((0, 3)),
    }
    found = pickles.load(pickle.dumps(value, protocol))
    assert_same(found, value)
    assert found["shared"][0] is found["shared"][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_numpy_become_numbers(protocol):
    assert pickles.load(pickle.dumps({"n": np.int64(7), "x": np.float32(1.5)}, protocol)) == {
        "n": 7,
        "x": 1.5,
    }


@pytest.mark.parametrize("core", ["core", "_core"])
def test_names_of_numpy_one_and_two_are_known(core):
    data = pickle.dumps(np.arange(3.0), 2).replace(b"numpy._core.", f"numpy.{core}.".encode())
    assert f"numpy.{core}.".encode() in data
    np.testing.assert_array_equal(pickles.load(data), np.arange(3.0))


class Runs:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (subprocess.Popen, "Popen"),
        (eval, "eval"),
        (getattr, "getattr"),
        (functools.partial, "functools.partial"),
        (np.load, "load"),
        (np.ndarray, "numpy.ndarray"),
    ],
    ids=["system", "Popen", "eval", "getattr", "partial", "load", "ndarray"],
)
def test_no_function_is_called(function, name, protocol, tmp_path):
    trace = tmp_path / "trace"
    for value in (
        Runs(function, f"touch {trace}"),
        {"mu": Runs(function, f"touch {trace}")},
        [Runs(function, (2, 2))],
    ):
        with pytest.raises(StoreError) as caught:
            pickles.load(pickle.dumps(value, protocol))
        if function is not np.ndarray:  # a name that is known, and no function
            assert name in str(caught.value)
            assert "nothing of it was run" in str(caught.value)
    assert not trace.exists()


def test_the_attack_is_one(tmp_path):
    """Python's own unpickler runs it, so that the refusals above are of something."""
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Runs(os.system, f"touch {trace}")))
    assert trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"cos\nsystem\n(S'true'\nt\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pa name\n.",  # PERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"cnumpy\ndtype\n(S'O8'\ntR}S'a'\nS'b'\nsb.",
        b"cnumpy\nndarray\n}S'a'\nS'b'\nsb.",
    ],
)
def test_other_ways_to_run_something_are_refused(program):
    with pytest.raises(StoreError):
        pickles.load(program)


def test_objects_in_arrays_are_refused_by_kind():
    for value in (np.array([{}, 1], object), np.array([None], object)):
        with pytest.raises(ForeignName, match="an array of objects"):
            pickles.load(pickle.dumps(value))


def test_a_set_an_instance_and_keys_that_are_no_text_are_refused():
    for value in ({1, 2}, frozenset(), io.BytesIO(), {1: 2}, {(): 1}, complex(1, 2), np.float64):
        with pytest.raises(StoreError):
            pickles.load(pickle.dumps(value))


def test_what_would_take_all_memory_is_refused():
    far = b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b"."  # a memo of 4 billion places
    assert pickles.load(far) is None
    long_text = b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"abc."
    with pytest.raises(StoreError, match="cut short"):
        pickles.load(long_text)
    state = b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftcnumpy\ndtype\n(S'f8'\ntR\x89S''\ntb."
    with pytest.raises(StoreError, match=r"shape \(2147483647, 2147483647\) with 0 bytes"):
        pickles.load(b"cnumpy.core.multiarray\n_reconstruct\n(tR" + state)


def test_what_grows_without_end_is_refused(monkeypatch):
    text = b"X" + struct.pack("<I", 1000) + b"a" * 1000
    program = b"c_codecs\nencode\nq\x00" + text + b"q\x01]" + b"h\x00h\x01\x85Ra" * 200 + b"."
    with pytest.raises(StoreError, match="many times its own size"):
        pickles.load(program)
    monkeypatch.setattr(pickles, "_MOST_STEPS", 1000)
    assert pickles.load(b"](" + b"N" * 995 + b"e.") == [None] * 995
    with pytest.raises(StoreError, match="more than 1,000 steps"):
        pickles.load(b"](" + b"N" * 997 + b"e.")


def test_deep_nesting_breaks_nothing():
    assert isinstance(pickles.load(b"N" + b"\x85" * 50_000 + b"."), tuple)
    with pytest.raises(StoreError):  # the hash of such a key would overrun the stack
        pickles.load(b"}N" + b"\x85" * 50_000 + b"Ns.")


VALID = [pickle.dumps({"mu": np.arange(3.0), "n": 5, "l": [np.eye(2), "x"]}, each) for each in PROTOCOLS]


@settings(max_examples=150)
@given(st.data())
def test_damaged_pickles_give_data_or_our_error(data):
    program = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(program)))
        program[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        pickles.load(bytes(program))
    except StoreError as error:
        assert str(error)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
            + [b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"S'f8'\n", b"K\x02", b"q\x00"]
        ),
        max_size=30,
    )
)
def test_any_program_gives_data_or_our_error(opcodes):
    try:
        pickles.load(b"".join(opcodes) + b".")
    except StoreError as error:
        assert str(error)
