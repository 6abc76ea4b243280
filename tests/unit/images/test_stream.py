"""The overlapped pass: order, bounds, errors, and no thread left behind."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval.errors import CorruptImages
from gen_eval.images import Decoded, open_images, stream
from gen_eval.threads import in_order

N = 23


def value(pixels):
    return int(pixels[0, 0, 0])


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def folder(tmp_path):
    for index in range(N):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def generate(seeds):
    return seeds.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


SOURCES = {
    "folder": lambda folder: open_images(folder),
    "array": lambda folder: open_images(
        np.arange(N, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    ),
    "list": lambda folder: open_images([Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(N)]),
    "generated": lambda folder: open_images(generate, n=N),
}


def run(images, indices=range(N), *, batch_size=5, workers=2, prepare=value, skip_corrupt=False):
    return stream(
        images, indices, batch_size=batch_size, workers=workers, prepare=prepare, skip_corrupt=skip_corrupt
    )


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_everything_arrives_in_order(source, workers, folder):
    indices = [*range(1, N), 0]
    chunks = list(run(source(folder), indices, workers=workers))
    assert [len(chunk.items) for chunk in chunks] == [5, 5, 5, 5, 3]
    assert torch.cat([chunk.index for chunk in chunks]).tolist() == indices
    assert chunks[0].index.dtype == torch.int64
    assert [item for chunk in chunks for item in chunk.items] == indices
    assert len({digest for chunk in chunks for digest in chunk.digests}) == N
    assert all(chunk.broken == [] for chunk in chunks)


def test_the_batch_size_changes_nothing(folder):
    def everything(batch_size):
        chunks = list(run(open_images(folder), batch_size=batch_size))
        return [pair for chunk in chunks for pair in zip(chunk.items, chunk.digests, strict=True)]

    assert everything(1) == everything(7) == everything(100)


def test_no_indices(folder):
    assert list(run(open_images(folder), [])) == []


def test_notes_are_counted():
    images = open_images([Image.new("L", (2, 2)), Image.new("RGB", (2, 2)), Image.new("L", (2, 2))])
    (chunk,) = run(images, range(3))
    assert chunk.notes == {"gray to RGB": 2}


@pytest.mark.parametrize("workers", [0, 3])
def test_broken_files_are_left_out_on_request(folder, workers):
    (folder / "03.png").write_bytes(b"")
    (folder / "11.png").write_text("x")
    chunks = list(run(open_images(folder), workers=workers, skip_corrupt=True))
    assert [item for chunk in chunks for item in chunk.items] == [i for i in range(N) if i not in (3, 11)]
    assert [[label for label, _ in chunk.broken] for chunk in chunks[:3]] == [["03.png"], [], ["11.png"]]
    assert chunks[0].index.tolist() == [0, 1, 2, 4]


def test_a_chunk_may_be_all_broken(folder):
    for index in range(5):
        (folder / f"{index:02}.png").write_bytes(b"")
    first = next(iter(run(open_images(folder), skip_corrupt=True)))
    assert len(first.index) == 0
    assert len(first.broken) == 5


def test_broken_files_raise_with_those_under_way(folder):
    for index in (6, 8, 12, 22):
        (folder / f"{index:02}.png").write_bytes(b"")
    chunks = run(open_images(folder), batch_size=2, workers=1)
    assert [next(chunks).items for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(CorruptImages, match=folder.name) as caught:
        next(chunks)
    # Chunks of 2, 1 + 2 of them under way: 6 to 11. Number 12 was not begun.
    assert [label for label, _ in caught.value.broken] == ["06.png", "08.png"]


class Slow:
    """Images that record how many were begun."""

    name = "slow"
    thread_safe = True

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.begun = 0
        self.lock = threading.Lock()

    def __len__(self):
        return 1000

    def label(self, index):
        return f"#{index}"

    def read(self, indices):
        with self.lock:
            self.begun += len(indices)
        time.sleep(self.seconds * len(indices))
        return [Decoded(np.zeros((1, 1, 3), np.uint8), b"", None) for _ in indices]

    def check(self, progress):
        return []


@pytest.mark.parametrize("thread_safe", [True, False])
def test_look_ahead_is_bounded(thread_safe):
    images = Slow()
    images.thread_safe = thread_safe
    chunks = run(images, range(1000), batch_size=10, workers=2)
    next(chunks)
    time.sleep(0.1)
    assert images.begun <= 10 * (2 + 2)
    chunks.close()


def test_closing_early_is_prompt():
    chunks = run(Slow(0.01), range(205), batch_size=5, workers=4)
    next(chunks)
    started = time.monotonic()
    chunks.close()
    assert time.monotonic() - started < 1


def test_an_error_stops_the_other_workers_within_their_chunks():
    def failing(pixels):
        raise RuntimeError("mine")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="mine"):
        list(run(Slow(0.01), range(1000), batch_size=200, workers=4, prepare=failing))
    assert time.monotonic() - started < 1  # a whole chunk takes 2 s


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("workers", [0, 3])
def test_errors_of_prepare_come_through(folder, error, workers):
    def prepare(pixels):
        if value(pixels) == 7:
            raise error("mine")

    with pytest.raises(error, match="mine"):
        list(run(open_images(folder), workers=workers, prepare=prepare))


def test_errors_of_the_source_come_through():
    def function(seeds):
        if 12 in seeds:
            raise ZeroDivisionError
        return generate(seeds)

    with pytest.raises(ZeroDivisionError):
        list(run(open_images(function, n=N)))


def test_an_interrupted_consumer_leaves_nothing_behind(folder):
    def consume():
        for _ in run(Slow(0.001), range(1000), batch_size=50):
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        consume()
    assert time.monotonic() - started < 2


def test_a_generator_is_called_on_the_calling_thread():
    callers, preparers = set(), set()

    def function(seeds):
        callers.add(threading.current_thread())
        return generate(seeds)

    list(run(open_images(function, n=N), prepare=lambda pixels: preparers.add(threading.current_thread())))
    assert callers == {threading.current_thread()}
    assert threading.current_thread() not in preparers


def test_large_images_are_quiet_in_threads(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert len(list(run(open_images(folder)))) == 5


def test_in_order_stops_within_a_chunk():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.01)
        return item

    chunks = in_order(work, iter([range(2), range(2, 1000)]), 1)
    assert next(chunks) == [0, 1]
    chunks.close()
    assert len(begun) < 100
