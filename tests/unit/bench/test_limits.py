"""Rates of the machine: the arithmetic of a rate, and that every library and number of threads is measured."""

from __future__ import annotations

import time

import pytest
import torch

from gen_eval.bench import limits
from gen_eval.bench.limits import Rate, best_gemm, fastest, measure_limits, threads_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(limits.SIDES, "cpu", 192)
    monkeypatch.setitem(limits.BUFFERS, "cpu", 2**20)


def test_every_library_with_every_number_of_threads():
    told = []
    rates = measure_limits(CPU, [1, 2], seconds=0.01, progress=lambda *args: told.append(args))
    found = {(rate.what, rate.library, rate.numbers, rate.threads) for rate in rates}
    products = [("torch", "numpy", "scipy"), ("float32", "float64"), (1, 2)]
    wanted = {
        ("gemm", *each) for each in ((a, b, c) for a in products[0] for b in products[1] for c in products[2])
    }
    assert wanted | {("copy", "torch", "bytes", 1), ("copy", "torch", "bytes", 2)} <= found
    assert {rate.numbers for rate in rates} <= {"float32", "float64", "bfloat16", "bytes"}
    assert all(rate.value > 0 and rate.device == "cpu" for rate in rates)
    assert told[0] == ("limits", 0, told[-1][2], "step")
    assert told[-1][1] == told[-1][2]


def test_a_rate_is_work_by_the_fastest_time(monkeypatch):
    monkeypatch.setattr(limits, "fastest", lambda work, seconds, wait=None: 0.5)
    rates = measure_limits(CPU, [1], seconds=0.01)
    product = best_gemm(rates, "float32", "cpu")
    assert product.value == pytest.approx(2 * 192**3 / 0.5 / 1e9)
    (copy,) = [rate for rate in rates if rate.what == "copy"]
    assert copy.value == pytest.approx(2 * 2**20 / 0.5 / 1e9)  # read and written
    assert (product.unit, copy.unit) == ("GFLOP/s", "GB/s")


def test_products_are_products():
    """What is timed multiplies: each library gives the product of its own two matrices."""
    work = limits._torch_product(16, torch.float64, CPU)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(16, 16, generator=generator).double() for _ in range(2))
    torch.testing.assert_close(work(), a @ b)
    rows, columns = limits.np.random.default_rng(0).standard_normal((2, 16, 16))
    limits.np.testing.assert_allclose(limits._numpy_product(16, limits.np.float64)(), rows @ columns)
    gemm = limits.scipy.linalg.blas.dgemm
    limits.np.testing.assert_allclose(
        limits._scipy_product(16, gemm, limits.np.float64)(), rows.T @ columns.T
    )


def test_fastest_takes_the_fastest_and_not_the_first():
    naps = iter([0.8, 0.5, 0.02, 0.4])
    assert 0.02 <= fastest(lambda: time.sleep(next(naps)), 0) < 0.4


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with threads_of(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_slow_type_of_number_is_left_out(monkeypatch):
    monkeypatch.setattr(limits, "_too_slow", lambda: True)
    assert "bfloat16" not in {rate.numbers for rate in measure_limits(CPU, [1], seconds=0.01)}
    monkeypatch.setattr(limits, "_too_slow", lambda: False)
    assert "bfloat16" in {rate.numbers for rate in measure_limits(CPU, [1], seconds=0.01)}


def test_the_best_is_of_the_same_numbers_and_device():
    rates = [
        Rate("gemm", "torch", "float32", "cpu", 1, 10.0),
        Rate("gemm", "numpy", "float32", "cpu", 2, 30.0),
        Rate("gemm", "torch", "bfloat16", "cpu", 2, 90.0),
        Rate("gemm", "torch", "float32", "GPU", 0, 900.0),
        Rate("copy", "torch", "float32", "cpu", 2, 99.0),
    ]
    assert best_gemm(rates, "float32", "cpu") is rates[1]
    assert best_gemm(rates, "tf32", "cpu") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_beside_the_processor(monkeypatch):
    monkeypatch.setitem(limits.SIDES, "cuda", 512)
    monkeypatch.setitem(limits.BUFFERS, "cuda", 2**20)
    rates = measure_limits(torch.device("cuda"), [1], seconds=0.01)
    name = limits.device_name(torch.device("cuda"))
    numbers = {rate.numbers for rate in rates if rate.device == name}
    assert numbers == {"float32", "tf32", "bfloat16", "float64", "bytes"}
    assert f"cpu to {name}" in {rate.device for rate in rates}
