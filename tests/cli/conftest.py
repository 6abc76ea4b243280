"""Tiny sets of images, and two ways to run the command line on them: in this process, and in its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from gen_eval.errors import FetchError

GENEVAL = Path(sys.executable).with_name("geneval")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def value(self) -> float:
        """Of the one result that was printed as JSON."""
        assert self.code == 0, self.err
        return float(json.loads(self.out)["value"])


class Sets(NamedTuple):
    root: Path
    real: Path
    fake: Path


def picture(seed: int, index: int, size: int = 32) -> np.ndarray:
    blocks = np.random.default_rng([seed, index]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return blocks.repeat(size // 4, 0).repeat(size // 4, 1)


def write_folder(folder: Path, seed: int, n: int) -> Path:
    folder.mkdir(parents=True)
    for index in range(n):
        Image.fromarray(picture(seed, index)).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """Read only: 12 real and 10 fake images of 32 pixels."""
    root = tmp_path_factory.mktemp("sets")
    return Sets(root, write_folder(root / "real", 0, 12), write_folder(root / "fake", 1, 10))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run ``geneval`` in this process, with pixels in the place of Inception: milliseconds, no weights."""
    from gen_eval.extractors import EXTRACTORS

    monkeypatch.setitem(EXTRACTORS, "inception", EXTRACTORS["pixels"])
    return run_here


@pytest.fixture
def measured(run: Callable[..., Done], sets: Sets, tmp_path: Path) -> Path:
    """Statistics of the real images, through pixels."""
    out = tmp_path / "real.safetensors"
    done = run("stats", sets.real, "-o", out)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{out}  12 images")
    assert len(done.out.splitlines()) == 1
    return out


@pytest.fixture
def run_inception() -> Callable[..., Done]:
    """Run ``geneval`` in this process, with the real network."""
    return run_here


def run_here(*args: Any) -> Done:
    """The entry point as a shell would call it, less the process."""
    from gen_eval_cli.main import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["geneval", *map(str, args)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


def run_process(*args: Any, **env: str) -> Done:
    """The installed command in a process of its own; both streams are pipes, not terminals."""
    done = subprocess.run(
        [GENEVAL, *map(str, args)],
        env={**os.environ, "PYTHONWARNINGS": "error", **env},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def geneval_path() -> Path:
    """The installed command."""
    return GENEVAL


@pytest.fixture(scope="session")
def process() -> Callable[..., Done]:
    return run_process


@pytest.fixture(scope="session")
def weights() -> Path:
    """The real Inception weights."""
    from gen_eval.extractors.inception_weights import WEIGHTS
    from gen_eval.fetch import fetch

    try:
        return fetch(WEIGHTS)
    except FetchError as error:
        pytest.skip(f"the weights cannot be had here: {error}")
