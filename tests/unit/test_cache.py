"""The feature cache: no second pass, never stale, the same digits with and without."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval import sealed, store
from gen_eval.cache import FeatureCache
from gen_eval.errors import CorruptImages
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom, Pixels
from gen_eval.images import open_images
from gen_eval.metrics import Measure, Metric, Score
from gen_eval.passing import Request, summarize
from gen_eval.spec import Spec

pytestmark = pytest.mark.usefixtures("one_thread")

N = 40


class CountedPixels(Pixels):
    """Pixels, and their halves, that count the images they are shown."""

    def __init__(self, weights="none", **options):
        super().__init__(**options)
        self.taps, self.weights, self.seen = {"pool": 192, "half": 192}, weights, 0

    def spec(self, tap):
        return Spec("counted", self.weights, self.resize, "x")

    def __call__(self, images, taps=("pool",)):
        self.seen += len(images)
        rows = images.flatten(1)
        return {tap: rows if tap == "pool" else rows / 2 for tap in taps}


@pytest.fixture
def extractor():
    return CountedPixels()


@pytest.fixture
def images(tmp_path, fake, write_folder):
    return write_folder(tmp_path / "fake", fake[:N])


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "deep" / "cache"


def passes(cache, source, extractor, *taps, **options):
    """A summary from the cache, and how many images went through the extractor for it."""
    before = extractor.seen
    requests = [Request(extractor, taps or ("pool",))]
    summary = FeatureCache(cache).summarize(open_images(source), requests, **options)
    return summary, extractor.seen - before


# --- What it saves


def test_a_second_run_costs_no_pass_and_gives_the_same_to_the_last_bit(
    cache, images, extractor, assert_same_summary
):
    direct = summarize(open_images(images), [Request(extractor, ("pool",))])
    first, cost = passes(cache, images, extractor)
    assert cost == N
    second, cost = passes(cache, images, extractor)
    assert cost == 0
    assert_same_summary(first, direct)
    assert_same_summary(second, direct)


def test_a_pass_keeps_all_taps_of_its_extractor(cache, images, extractor, assert_same_summary):
    both = summarize(open_images(images), [Request(extractor, ("pool", "half"))])
    assert passes(cache, images, extractor, "half")[1] == N
    found, cost = passes(cache, images, extractor, "pool", "half")
    assert cost == 0
    assert_same_summary(found, both)


def test_what_is_there_is_taken_and_what_is_missing_is_made(cache, images, extractor):
    passes(cache, images, extractor)
    other = CountedPixels(resize="pil-bicubic")
    requests = [Request(one, ("pool",)) for one in (extractor, other)]
    before = extractor.seen
    found = FeatureCache(cache).summarize(open_images(images), requests)
    assert (extractor.seen - before, other.seen) == (0, N)
    assert [spec for spec, _ in found.features] == [one.spec("pool") for one in (extractor, other)]


def test_a_second_measure_of_the_same_images_costs_no_pass(cache, images, real, extractor):
    def run(measure, **options):
        before = extractor.seen
        own = {"mine": extractor}
        (found,) = evaluate(measure, generated=images, reference=real, extractors=own, **options)
        return found, extractor.seen - before

    rows = Metric(
        "rows",
        lambda features: Score({"rows": float(features["generated"].sample.in_order().double().mean())}),
        {"rows": "lower"},
        "nobody",
        by_rows=True,
    )
    for measure, cost in (("frechet:mine", N + len(real)), (Measure("rows", rows, "mine", "pool"), 0)):
        direct, _ = run(measure)
        found, passed = run(measure, cache=cache)
        again, nothing = run(measure, cache=str(cache))
        assert (passed, nothing) == (cost, 0)
        for one in (found, again):
            assert (one.values, one.errors, one.biases) == (direct.values, direct.errors, direct.biases)
            assert one.sets == direct.sets
            assert one.warnings == direct.warnings
            for role, (index, number) in direct.contributions.items():
                assert torch.equal(one.contributions[role][0], index)
                assert torch.equal(one.contributions[role][1], number)


def test_whatever_holds_the_same_files_is_known_again(cache, images, extractor, tmp_path):
    passes(cache, images, extractor)
    with zipfile.ZipFile(tmp_path / "moved.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path, path.name)
    for source in (tmp_path / "moved.zip", images.rename(tmp_path / "moved")):
        found, cost = passes(cache, source, extractor)
        assert (cost, found.name) == (0, str(source))


def test_arrays_are_kept_too(cache, fake, extractor):
    first, cost = passes(cache, fake[:N], extractor)
    second, again = passes(cache, torch.from_numpy(fake[:N]), extractor)
    assert (cost, again) == (N, 0)
    assert first.digest == second.digest


# --- Never stale


def flip_a_byte(images, extractor):
    """The same name and times; one pixel differs by one."""
    path = images / "0007.png"
    before = path.stat()
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 3, 0] ^= 1
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return extractor


def rename(images, extractor):
    """The same files in another order, in which an index means another image."""
    (images / "0000.png").rename(images / "9999.png")
    return extractor


def add(images, extractor):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(images / "9999.png")
    return extractor


CHANGES = {
    "a byte of one image": flip_a_byte,
    "the order": rename,
    "an image less": lambda images, extractor: (images / "0000.png").unlink() or extractor,
    "an image more": add,
    "another resize": lambda images, extractor: CountedPixels(resize="pil-bicubic"),
    "other weights": lambda images, extractor: CountedPixels(weights="others"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_may_move_a_feature_is_measured_anew(change, cache, images, extractor, assert_same_summary):
    passes(cache, images, extractor)
    before, extractor = extractor, change(images, extractor)
    opened = open_images(images)
    found, cost = passes(cache, images, extractor)
    assert cost == len(opened)
    assert_same_summary(found, summarize(opened, [Request(extractor, ("pool",))]))
    if extractor is not before:  # each keeps its entry
        assert passes(cache, images, before)[1] == 0


@pytest.mark.parametrize("package", ["gen_eval", "pillow"])
def test_other_code_measures_anew(package, cache, images, extractor, monkeypatch):
    passes(cache, images, extractor)
    installed = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: installed(name) + (".post9" if name == package else "")
    )
    assert passes(cache, images, extractor)[1] == N
    assert passes(cache, images, extractor)[1] == 0


@pytest.mark.parametrize("kept", [0, 5, N, 1000, None])
@pytest.mark.parametrize("wanted", [0, 1, 5, 6, N, 1000, None])
def test_a_pass_keeps_all_rows_whatever_was_asked_for(
    kept, wanted, cache, images, extractor, assert_same_summary
):
    for rows, expected_cost in ((kept, N), (wanted, 0)):
        found, cost = passes(cache, images, extractor, rows=rows)
        assert cost == expected_cost
        assert_same_summary(found, summarize(open_images(images), [Request(extractor, ("pool",))], rows=rows))


class Moving:
    """Images that are others while they are read than when their content is looked at; they may stay so."""

    name, thread_safe = "moving", True

    def __init__(self, before, after, stay):
        self.before, self.after, self.stay, self.was_read = (
            open_images(before),
            open_images(after),
            stay,
            False,
        )

    def __len__(self):
        return len(self.before)

    def label(self, index):
        return self.before.label(index)

    def read(self, indices):
        self.was_read = True
        return self.after.read(indices)

    def check(self, progress):
        return []

    def content(self, progress):
        return (self.after if self.was_read and self.stay else self.before).content(progress)


@pytest.mark.parametrize(("broken", "stay"), [(False, False), (False, True), (True, True)])
def test_files_that_change_while_they_are_read_are_not_kept(
    broken, stay, cache, fake, images, write_folder, extractor, tmp_path, assert_same_summary
):
    after = write_folder(tmp_path / "after", fake[N : 2 * N])
    if broken:
        for folder in (images, after):
            (folder / "0003.png").write_bytes(b"broken")
    passes(cache, Moving(images, after, stay), extractor, skip_corrupt=True)
    found, _ = passes(cache, images, extractor, skip_corrupt=True)
    expected = summarize(open_images(images), [Request(extractor, ("pool",))], skip_corrupt=True)
    assert_same_summary(found, expected)


# --- What is not kept


def test_images_that_are_made_on_demand_are_measured_each_time(cache, fake, extractor):
    generator = open_images(lambda seeds: fake[seeds.numpy()], n=N)
    dataset = [Image.fromarray(image) for image in fake[:N]]
    for source in (generator, dataset):
        assert [passes(cache, source, extractor)[1] for _ in range(2)] == [N, N]
    assert not list(cache.iterdir())


def test_features_of_a_callable_nobody_can_look_into_are_not_kept(cache, images):
    seen = []

    def looked_at(batch):
        seen.append(len(batch))
        return batch.flatten(2).mean(2)

    extractor = Custom(looked_at, size=8)
    for _ in range(2):
        seen.clear()
        FeatureCache(cache).summarize(open_images(images), [Request(extractor, ("pool",))])
        assert sum(seen) == N
    assert not list(cache.iterdir())


# --- Broken files


@pytest.fixture
def damaged(images):
    (images / "0003.png").write_bytes(b"broken")
    Image.open(images / "0005.png").convert("L").save(images / "0005.png")
    return images


def test_a_set_with_broken_files_is_measured_each_time(cache, damaged, extractor, assert_same_summary):
    (first, cost), (second, again) = (passes(cache, damaged, extractor, skip_corrupt=True) for _ in range(2))
    assert (cost, again) == (N - 1, N - 1)
    assert_same_summary(second, first)
    assert [label for label, _ in second.skipped] == ["0003.png"]
    assert dict(second.notes) == {"gray to RGB": 1}


def test_a_set_with_broken_files_is_refused_after_one_that_left_them_out(cache, damaged, extractor):
    passes(cache, damaged, extractor, skip_corrupt=True)
    with pytest.raises(CorruptImages, match=r"0003\.png"):
        passes(cache, damaged, extractor)


def test_a_repaired_file_is_measured(cache, damaged, extractor, fake):
    passes(cache, damaged, extractor, skip_corrupt=True)
    Image.fromarray(fake[3]).save(damaged / "0003.png")
    found, cost = passes(cache, damaged, extractor)
    assert cost == N
    assert found.skipped == ()


# --- Damage, and company


def entry_of(cache, tap="pool"):
    (path,) = (
        path for path in cache.glob("*.safetensors") if tap in {key[1] for key in store.load(path).features}
    )
    return path


DAMAGE = {
    "cut short": lambda path, other: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path, other: path.write_bytes(b""),
    "a byte changed": lambda path, other: path.write_bytes(
        path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])
    ),
    "text": lambda path, other: path.write_text("<html>"),
    "another entry": lambda path, other: path.write_bytes(other.read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_made_anew(damage, cache, images, extractor, assert_same_summary):
    expected, _ = passes(cache, images, extractor)
    damage(entry_of(cache), entry_of(cache, "half"))
    for cost in (N, 0):
        found, passed = passes(cache, images, extractor)
        assert passed == cost
        assert_same_summary(found, expected)


def test_what_else_lies_in_the_folder_is_left_alone(cache, images, extractor):
    cache.mkdir(parents=True)
    (cache / "notes.txt").write_text("mine")
    passes(cache, images, extractor)
    assert (cache / "notes.txt").read_text() == "mine"


PROCESS = """
import sys
import torch
torch.set_num_threads(1)
from gen_eval.evaluation import evaluate
folder, cache = sys.argv[1:]
sys.stdin.readline()  # both begin together
(result,) = evaluate("frechet:pixels", generated=folder, reference=folder, cache=cache)
print(repr(result.error))
"""


def test_two_processes_at_once_share_a_folder(cache, images):
    command = [sys.executable, "-W", "error", "-c", PROCESS, images, cache]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    both = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    (first, complaint), (second, other) = (process.communicate(timeout=120) for process in both)
    assert (complaint, other) == ("", "")
    assert first == second != ""
    entry_of(cache)  # one, and no part of another
    assert len(list(cache.iterdir())) == 1


def test_writers_with_one_process_id_share_a_folder(
    cache, images, extractor, monkeypatch, assert_same_summary
):
    # Two threads, or two containers on one disk, in each of which this is process 1.
    write, began = sealed.save_file, []

    def interrupted(tensors, path, header):
        write(tensors, path, header)
        if not began:
            began.append(path)
            passes(cache, images, extractor)  # the other finishes meanwhile

    monkeypatch.setattr(sealed, "save_file", interrupted)
    first, _ = passes(cache, images, extractor)
    assert len(began) == 1
    second, cost = passes(cache, images, extractor)
    assert cost == 0
    assert_same_summary(second, first)
    assert len(list(cache.iterdir())) == len(extractor.taps)


def test_a_frugal_cache_keeps_what_was_asked_for_and_loses_nothing(images, extractor, cache):
    """Another tap is measured alone: the entry that has all rows stays as it is."""
    frugal, images = FeatureCache(cache, frugal=True), open_images(images)
    frugal.summarize(images, [Request(extractor, ("pool",))], rows=None)
    assert extractor.seen == N
    both = frugal.summarize(images, [Request(extractor, ("pool", "half"))], rows=10)
    assert extractor.seen == 2 * N
    assert {found.sample.n for found in both.features.values()} == {10}
    whole = frugal.summarize(images, [Request(extractor, ("pool",))], rows=None)
    assert extractor.seen == 2 * N
    assert next(iter(whole.features.values())).sample.n == N
