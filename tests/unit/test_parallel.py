"""Whole pieces of work in threads: in order, and with the libraries' own threads put back however it ends."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import torch

from gen_eval.metrics.linalg import product
from gen_eval.parallel import _LIBRARIES, in_parallel

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def counts():
    """Threads that torch, and the libraries that NumPy and SciPy call, would use from here."""
    libraries = _LIBRARIES.select(user_api="blas").info()
    return torch.get_num_threads(), [library["num_threads"] for library in libraries]


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gen_eval")]


def test_results_come_in_the_order_of_the_jobs(threads):
    def slower_first(job):
        time.sleep(0.002 * (10 - job))
        return job**2

    assert list(in_parallel(slower_first, range(10), CPU)) == [job**2 for job in range(10)]
    assert list(in_parallel(slower_first, [], CPU)) == []


def test_a_job_has_one_thread_of_each_library(threads):
    before = counts()
    for at_work in in_parallel(lambda _: counts(), range(4), CPU):
        assert at_work[0] == 1
        assert threads == 1 or set(at_work[1]) == {1}  # and there are some
    assert counts() == before


def test_one_thread_needs_no_other():
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(in_parallel(lambda _: threading.get_ident(), range(3), CPU)) == {threading.get_ident()}
    finally:
        torch.set_num_threads(torch_threads)


def test_jobs_of_a_job_run_where_it_does(threads):
    def nested(_):
        return {threading.get_ident(), *in_parallel(lambda _: threading.get_ident(), range(3), CPU)}

    assert all(len(where) == 1 for where in in_parallel(nested, range(4), CPU))


def test_jobs_are_drawn_on_the_calling_thread_and_a_few_ahead(threads):
    drawn = []

    def jobs():
        for job in itertools.count():
            drawn.append(threading.get_ident())
            yield job

    results = in_parallel(lambda job: job, jobs(), CPU)
    assert [next(results) for _ in range(20)] == list(range(20))
    assert set(drawn) == {threading.get_ident()}
    assert len(drawn) <= 20 + threads + 2
    results.close()


def test_an_early_close_puts_everything_back(threads):
    before = counts()
    results = in_parallel(lambda job: job, itertools.count(), CPU)
    assert next(results) == 0
    results.close()
    assert counts() == before
    assert not helpers()


def test_an_error_in_a_job_comes_through_and_puts_everything_back(threads):
    before = counts()

    def fail(job):
        if job == 3:
            raise ValueError("job 3")
        return job

    results = in_parallel(fail, itertools.count(), CPU)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="job 3"):
        next(results)
    assert counts() == before
    assert not helpers()


def test_an_error_among_the_jobs_comes_through_and_puts_everything_back(threads):
    before = counts()

    def jobs():
        yield 0
        raise ValueError("no more jobs")

    with pytest.raises(ValueError, match="no more jobs"):
        list(in_parallel(lambda job: job, jobs(), CPU))
    assert counts() == before
    assert not helpers()


def test_products_are_the_same_in_threads(threads):
    a = torch.randn(60, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blocks = torch.split(a, 7)
    found = list(in_parallel(lambda block: product(block, a.T), blocks, CPU))
    for block, each in zip(blocks, found, strict=True):
        torch.testing.assert_close(each, block @ a.T)
