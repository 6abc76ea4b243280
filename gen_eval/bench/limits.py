"""The machine's limit: how fast matrices are multiplied and memory is copied, by each library that is used here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg.blas
import torch
from threadpoolctl import threadpool_limits

from gen_eval.precision import arithmetic
from gen_eval.progress import Progress, silent

GEMM, COPY = "gemm", "copy"
UNITS = {GEMM: "GFLOP/s", COPY: "GB/s"}
# Sides of the square matrices, and bytes of a buffer that no cache holds, by type of device.
SIDES = {"cpu": 1536, "cuda": 8192}
BUFFERS = {"cpu": 256 * 2**20, "cuda": 512 * 2**20}
_FEWEST = 3  # runs of each thing, of which the fastest counts
_LONGEST = 2.0  # seconds of one run in bfloat16, from which on it is not measured
_ROWS_TRIED = 16  # of the matrix, to tell how long the whole would take

Work = Callable[[], Any]
Job = Callable[[float], "list[Rate]"]  # from the seconds that it may be repeated


@dataclass(frozen=True)
class Rate:
    """How fast one thing goes on this machine at its best.

    Args:
        what: ``gemm``, a product of square matrices, or ``copy``, of memory.
        library: who does it: ``torch``, ``numpy`` or ``scipy``.
        numbers: ``float32``, ``float64``, ``bfloat16`` or ``tf32``; ``bytes`` of a copy.
        device: ``cpu`` or the name of a GPU; of a copy onto it also ``cpu to`` and the name.
        threads: of the processor; 0 on a GPU.
        value: GFLOP/s, where a multiplication and an addition are two; GB/s, read and written bytes together.
    """

    what: str
    library: str
    numbers: str
    device: str
    threads: int
    value: float

    @property
    def unit(self) -> str:
        """``GFLOP/s`` or ``GB/s``."""
        return UNITS[self.what]


def measure_limits(
    device: torch.device, threads: Sequence[int], *, seconds: float = 0.5, progress: Progress = silent
) -> list[Rate]:
    """Measure the rates of the processor, and those of a GPU if it is the device.

    Args:
        device: where networks run.
        threads: numbers of threads to measure the processor with.
        seconds: how long each thing is repeated; three times it is in any case.
        progress: told of the rates measured.
    """
    jobs = [*_cpu_jobs(threads), *(_cuda_jobs(device) if device.type == "cuda" else ())]
    rates = []
    progress("limits", 0, len(jobs), "step")
    for done, job in enumerate(jobs, 1):
        rates += job(seconds)
        progress("limits", done, len(jobs), "step")
    return rates


def device_name(device: torch.device) -> str:
    """``cpu``, or what a GPU is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def best_gemm(rates: Iterable[Rate], numbers: str, device: str) -> Rate | None:
    """The fastest matrix product of a type of numbers on a device; ``None`` if none was measured."""
    found = [rate for rate in rates if (rate.what, rate.numbers, rate.device) == (GEMM, numbers, device)]
    return max(found, key=lambda rate: rate.value, default=None)


def fastest(work: Work, seconds: float, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of the fastest of several runs, after one that does not count.

    Args:
        work: what is run.
        seconds: how long it is repeated.
        wait: returns when the work is done, where running it only begins it.
    """
    work()
    wait()
    runs: list[float] = []
    while len(runs) < _FEWEST or sum(runs) < seconds:
        start = time.perf_counter()
        work()
        wait()
        runs.append(time.perf_counter() - start)
    return min(runs)


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Give torch and the BLAS of numpy and SciPy so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def _cpu_jobs(threads: Sequence[int]) -> Iterator[Job]:
    """Of each library and type of numbers, with each number of threads, what measures its rate."""
    side, here = SIDES["cpu"], torch.device("cpu")
    products: dict[tuple[str, str], Callable[[], Work]] = {
        ("torch", "float32"): partial(_torch_product, side, torch.float32, here),
        ("numpy", "float32"): partial(_numpy_product, side, np.float32),
        ("scipy", "float32"): partial(_scipy_product, side, scipy.linalg.blas.sgemm, np.float32),
        ("torch", "float64"): partial(_torch_product, side, torch.float64, here),
        ("numpy", "float64"): partial(_numpy_product, side, np.float64),
        ("scipy", "float64"): partial(_scipy_product, side, scipy.linalg.blas.dgemm, np.float64),
        ("torch", "bfloat16"): partial(_torch_product, side, torch.bfloat16, here),
    }
    for (library, numbers), make in products.items():
        for count in threads:
            yield partial(_cpu_gemm, library, numbers, make, count)
    for count in threads:
        yield partial(_cpu_copy, count)


def _cpu_gemm(
    library: str, numbers: str, make: Callable[[], Work], threads: int, seconds: float
) -> list[Rate]:
    with threads_of(threads), arithmetic("fp32", "cpu"):
        if numbers == "bfloat16" and _too_slow():
            return []
        took = fastest(make(), seconds)
    return [Rate(GEMM, library, numbers, "cpu", threads, 2e-9 * SIDES["cpu"] ** 3 / took)]


def _cpu_copy(threads: int, seconds: float) -> list[Rate]:
    source = torch.ones(BUFFERS["cpu"], dtype=torch.uint8)
    target = torch.empty_like(source)
    with threads_of(threads):
        took = fastest(lambda: target.copy_(source), seconds)
    return [Rate(COPY, "torch", "bytes", "cpu", threads, 2e-9 * len(source) / took)]


def _torch_product(side: int, dtype: torch.dtype, device: torch.device) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _numpy_product(side: int, dtype: type[np.floating[Any]]) -> Work:
    a, b = np.random.default_rng(0).standard_normal((2, side, side)).astype(dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _scipy_product(side: int, gemm: Callable[..., Any], dtype: type[np.floating[Any]]) -> Work:
    # BLAS takes columns first: the transposes, as they lie, are spared a copy.
    a, b = (matrix.T for matrix in np.random.default_rng(0).standard_normal((2, side, side)).astype(dtype))
    return lambda: gemm(1.0, a, b)


def _too_slow() -> bool:
    """Whether a product in bfloat16 would take longer than anybody waits, by a few rows of one.

    Processors without the instructions for it convert number by number, at a hundredth of the speed of float32.
    """
    side = SIDES["cpu"]
    a, b = torch.ones(_ROWS_TRIED, side, dtype=torch.bfloat16), torch.ones(side, side, dtype=torch.bfloat16)
    torch.mm(a, b)  # the first one prepares the library
    start = time.perf_counter()
    torch.mm(a, b)
    return (time.perf_counter() - start) * side / _ROWS_TRIED > _LONGEST


def _cuda_jobs(device: torch.device) -> Iterator[Job]:
    """The same of a GPU, which rounds float32 to tf32 if it is let."""
    yield partial(_cuda_gemm, device, "float32", "fp32", torch.float32)
    yield partial(_cuda_gemm, device, "tf32", "tf32", torch.float32)
    yield partial(_cuda_gemm, device, "bfloat16", "fp32", torch.bfloat16)
    yield partial(_cuda_gemm, device, "float64", "fp32", torch.float64)
    yield partial(_cuda_copy, device)


def _cuda_gemm(
    device: torch.device, numbers: str, precision: str, dtype: torch.dtype, seconds: float
) -> list[Rate]:
    side = SIDES["cuda"]
    with arithmetic(precision, "cuda"):
        took = fastest(_torch_product(side, dtype, device), seconds, partial(torch.cuda.synchronize, device))
    return [Rate(GEMM, "torch", numbers, device_name(device), 0, 2e-9 * side**3 / took)]


def _cuda_copy(device: torch.device, seconds: float) -> list[Rate]:
    wait, name = partial(torch.cuda.synchronize, device), device_name(device)
    there = torch.ones(BUFFERS["cuda"], dtype=torch.uint8, device=device)
    target, here = torch.empty_like(there), torch.ones(len(there), dtype=torch.uint8).pin_memory()
    within = fastest(lambda: target.copy_(there), seconds, wait)
    onto = fastest(lambda: target.copy_(here, non_blocking=True), seconds, wait)
    return [
        Rate(COPY, "torch", "bytes", name, 0, 2e-9 * len(there) / within),
        # Read here and written there: what counts is how many cross.
        Rate(COPY, "torch", "bytes", f"cpu to {name}", 0, 1e-9 * len(there) / onto),
    ]
