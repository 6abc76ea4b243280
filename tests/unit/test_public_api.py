"""What `import gen_eval` gives, and what it does not cost."""

from __future__ import annotations

import json
import subprocess
import sys

import gen_eval

MEASURE = """
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import gen_eval
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_names_are_those_that_are_announced():
    assert len(gen_eval.__all__) == len(set(gen_eval.__all__))
    assert dir(gen_eval) == sorted(gen_eval.__all__)
    assert {"evaluate", "fid", "load", "open_images", "save", "summarize"} <= set(gen_eval.__all__)


def test_every_name_resolves_to_what_its_home_calls_so():
    for name in gen_eval.__all__:
        value = getattr(gen_eval, name)
        assert value is getattr(gen_eval, name)
        home = getattr(value, "__module__", "gen_eval.")
        assert home.startswith("gen_eval.")
        assert getattr(value, "__name__", name) == name


def test_a_star_import_brings_all_names():
    out = run(
        "from gen_eval import *; import gen_eval, json; print(json.dumps([n in globals() for n in gen_eval.__all__]))"
    )
    assert all(json.loads(out))


def test_names_resolve_whichever_is_touched_first():
    # Each in a fresh process: a submodule that is imported becomes an attribute of the package, and one
    # called like a function would take its place.
    run("import gen_eval; gen_eval.fid; from gen_eval import evaluate; assert callable(evaluate)")
    run(
        "import gen_eval.evaluation, gen_eval.store, gen_eval.passing, gen_eval.images\n"
        "from gen_eval import evaluate, fid, load, summarize\n"
        "assert all(map(callable, (evaluate, fid, load, summarize)))\n"
    )


def test_no_module_of_the_package_is_called_like_a_public_name():
    out = run(
        "import gen_eval, json, pkgutil; print(json.dumps([m.name for m in pkgutil.iter_modules(gen_eval.__path__)]))"
    )
    assert not set(json.loads(out)) & set(gen_eval.__all__)


def test_an_unknown_name_is_an_attribute_error():
    try:
        gen_eval.fidd  # noqa: B018
    except AttributeError as error:
        assert "module 'gen_eval' has no attribute 'fidd'" in str(error)
    else:
        raise AssertionError("there is no such name")


def test_importing_is_quick_and_brings_neither_torch_nor_numpy():
    runs = [json.loads(run(MEASURE)) for _ in range(3)]
    for heavy in ("torch", "numpy", "scipy", "PIL", "torchvision", "urllib.request"):
        assert heavy not in runs[0][1]
    assert min(seconds for seconds, _ in runs) < 0.2  # the quickest of three: other work shares the machine


def test_importing_everything_needs_no_network():
    # A socket that cannot be made stands for a machine that has none.
    run(
        "import socket\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "import gen_eval\n"
        "[getattr(gen_eval, name) for name in gen_eval.__all__]\n"
    )
