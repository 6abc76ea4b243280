"""What holds for all tests: a share of the cores for each process, and no verdict by the clock of a busy machine."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("gen_eval", deadline=None)
settings.load_profile("gen_eval")


def pytest_configure(config: pytest.Config) -> None:
    """Files in their order: pytest-xdist would leave those of few and long tests for last, when one core idles."""
    config.option.loadscopereorder = False


_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    # Read when the libraries are loaded, here and in processes that tests start. Threads that wait for one another
    # spin: more of them than cores would cost several times what they save.
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, str(max(1, (os.cpu_count() or 1) // _WORKERS)))
