"""From any kind of images to one and the same number, through the pixels extractor."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval.evaluation import evaluate, fid
from gen_eval.extractors import EXTRACTORS, Pixels
from gen_eval.images import open_images
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.resize import tf1_bilinear
from gen_eval.stats import Moments

MEASURE = "frechet:pixels"

pytestmark = pytest.mark.usefixtures("one_thread")


# --- Any source, one number


class Dataset:
    """As torch's: a length and items, here with a label."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Image.fromarray(self.images[index]), 3


@pytest.fixture
def generate(fake):
    """A generator whose image i depends on seed i alone."""
    return lambda seeds: torch.from_numpy(fake)[seeds].permute(0, 3, 1, 2)


def zipped(fake, folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "fake.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"inside/{path.name}")
    return tmp_path / "fake.zip"


def tarred(fake, folder, tmp_path):
    with tarfile.open(tmp_path / "fake.tar.gz", "w:gz") as archive:
        archive.add(folder, "inside")
    return tmp_path / "fake.tar.gz"


def saved(write, name):
    def make(fake, folder, tmp_path):
        write(tmp_path / name, fake)
        return tmp_path / name

    return make


SOURCES = {
    "array": lambda fake, folder, tmp_path: fake,
    "array, channels first": lambda fake, folder, tmp_path: fake.transpose(0, 3, 1, 2),
    "tensor": lambda fake, folder, tmp_path: torch.from_numpy(fake).permute(0, 3, 1, 2),
    "folder": lambda fake, folder, tmp_path: folder,
    "folder as text": lambda fake, folder, tmp_path: str(folder),
    "zip": zipped,
    "tar": tarred,
    "npy": saved(np.save, "fake.npy"),
    "npz": saved(np.savez, "fake.npz"),
    "npz, compressed": saved(np.savez_compressed, "fake.npz"),
    "list of images": lambda fake, folder, tmp_path: [Image.fromarray(image) for image in fake],
    "list of paths": lambda fake, folder, tmp_path: sorted(folder.iterdir()),
    "dataset": lambda fake, folder, tmp_path: Dataset(fake),
    "opened": lambda fake, folder, tmp_path: open_images(fake),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_the_same_images_give_the_same_number_whatever_holds_them(
    source, fake, real, folder, tmp_path, measure, expected, assert_same_number
):
    images = source(fake, folder, tmp_path)
    assert_same_number(measure(images), expected)
    assert measure(real, images).value == pytest.approx(expected.value, rel=1e-8)  # in the other role


def test_a_callable_gives_the_same_number(measure, generate, fake, expected, assert_same_number):
    assert_same_number(measure(generate, n=len(fake)), expected)


def test_the_seed_is_that_of_the_first_image(measure, generate, fake):
    found = measure(lambda seeds: generate(seeds - 1000), n=len(fake) - 20, seed=1020)
    assert found.value == pytest.approx(measure(fake[20:]).value, rel=1e-12)


def test_the_number_is_that_of_the_engine_on_the_features(fake, real, expected):
    sides = []
    for images in (fake, real):
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        rows = tf1_bilinear(planes, 8).flatten(1)
        moments = Moments.of(rows)
        sides.append(Gaussian(moments.n, moments.mean, moments.cov(), rows))
    score = frechet(*sides, mean_dtype="float32")
    assert expected.value == pytest.approx(score.values["frechet"], rel=1e-9)
    assert expected.error == pytest.approx(score.errors["frechet"], rel=1e-9)
    assert expected.bias == pytest.approx(score.bias, rel=1e-9)
    # The contributions lie beside the index of the image that each belongs to.
    index, contributions = expected.contributions["generated"]
    by_image = torch.empty_like(contributions)
    by_image[index] = contributions
    np.testing.assert_allclose(by_image, score.contributions["generated"], rtol=1e-6, atol=1e-9)


def test_the_result_says_what_was_measured(measure, expected, folder, fake, real):
    assert (expected.measure, expected.metric, expected.tap) == (MEASURE, "frechet", "pool")
    assert expected.better == {"frechet": "lower"}
    assert expected.protocol == "torch-fidelity"
    assert expected.spec == Pixels(resize="tf1-bilinear").spec("pool")
    assert expected.params == {"ddof": 1, "mean_dtype": "float32", "method": "auto"}
    n = {role: info.n for role, info in expected.sets.items()}
    assert n == {"generated": len(fake), "reference": len(real)}
    assert expected.warnings == ()
    assert set(expected.biases) <= set(expected.values)
    assert expected.bias > 0
    assert expected.heldout is None
    named = measure(folder)
    assert named.sets["generated"].name == str(folder)
    assert named.sets["reference"].digest == expected.sets["reference"].digest


# --- Batches, workers, processes


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_batches_and_workers_do_not_move_the_number(
    batch_size, workers, folder, measure, expected, assert_same_number
):
    found = measure(folder, batch_size=batch_size, workers=workers)
    assert_same_number(found, expected, rel=1e-6)
    assert found.sets["generated"].digest == measure(folder).sets["generated"].digest


def test_the_same_command_gives_the_same_digits(measure, expected):
    again = measure()
    assert again.value == expected.value
    assert again.error == expected.error


def test_the_order_of_images_moves_the_digest_and_nothing_else(measure, fake, expected):
    found = measure(fake[::-1])
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.error == pytest.approx(expected.error, rel=1e-9)
    assert found.sets["generated"].digest != expected.sets["generated"].digest


def test_nothing_global_is_touched(measure, generate, fake):
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_num_threads(),
            Image.MAX_IMAGE_PIXELS,
            list(warnings.filters),
        )

    before = state()
    measure()
    measure(generate, n=len(fake))
    assert state() == before


def test_results_do_not_require_gradients_to_be_off(measure):
    with torch.enable_grad():
        assert not measure().contributions["generated"][1].requires_grad


def test_progress_is_told_of_every_image(folder, measure, fake, real):
    calls = []
    measure(folder, batch_size=100, progress=lambda *call: calls.append(call))
    for name, n in ((str(folder), len(fake)), ("array", len(real))):
        mine = [(done, total, unit) for task, done, total, unit in calls if task == name]
        assert mine[0] == (0, n, "image")
        assert mine[-1] == (n, n, "image")
        assert [done for done, _, _ in mine] == sorted({0, *range(100, n, 100), n})
        assert all(call[1:] == (n, "image") for call in mine)


# --- Rows


@pytest.mark.parametrize("rows", [None, 260, 10_000])
def test_all_rows_give_one_error_bar(rows, measure, expected, assert_same_number):
    assert_same_number(measure(rows=rows), expected)


def test_some_rows_give_the_same_value_and_a_similar_error_bar(measure, expected):
    found = measure(rows=150)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error == pytest.approx(expected.error, rel=0.2)
    assert len(found.contributions["generated"][0]) == 150
    assert len(set(found.contributions["generated"][0].tolist())) == 150


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_with_too_few_rows_the_value_stays_and_the_error_bar_is_absent(rows, measure, expected):
    found = measure(rows=rows)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error is None  # 0.0 would say that it is exact
    assert found.worst(3) == []


@pytest.mark.parametrize("rows", [10_000, 30])
def test_fewer_images_than_dimensions_are_measured_with_a_warning(rows, measure, fake, real):
    found = measure(fake[:60], real[:70], rows=rows)
    sides = []
    for images in (fake[:60], real[:70]):
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        sides.append(tf1_bilinear(planes, 8).flatten(1).double().numpy())
    a, b = ((side - side.mean(0)) / np.sqrt(len(side) - 1) for side in sides)
    gap = sides[0].mean(0).astype("f4").astype("f8") - sides[1].mean(0).astype("f4").astype("f8")
    trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    assert found.value == pytest.approx(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * trace, rel=1e-8)
    assert found.error > 0
    assert found.bias is None
    assert "too few images: the generated set has 60 and the reference set has 70" in found.warnings[0]


# --- Several measures, and the shorthand


def test_several_measures_share_one_pass_over_each_set(fake, real, counted):
    generated, reference = counted(np.concatenate([fake, real])), counted(real)
    names = ["frechet-inf:pixels", MEASURE, "frechet:pixels/pool"]
    results = evaluate(names, generated=generated, reference=reference)
    assert [result.measure for result in results] == names
    assert (generated.reads, reference.reads) == (len(generated), len(reference))
    assert results[0].values["frechet"] == pytest.approx(results[1].value, rel=1e-12)
    assert results[1].value == results[2].value
    assert results[0].error > results[1].error


def test_fid_takes_the_real_images_first(monkeypatch, fake, real, expected):
    monkeypatch.setitem(EXTRACTORS, "inception", lambda **options: Pixels())
    result = fid(real, fake)
    assert result.measure == "fid"
    assert (result.sets["reference"].n, result.sets["generated"].n) == (len(real), len(fake))
    assert result.value == pytest.approx(expected.value, rel=1e-12)


# --- What decoding changed


def test_images_that_decoding_changed_are_counted(measure, fake, write_folder, tmp_path):
    folder = write_folder(tmp_path / "fake", fake)
    buffer = io.BytesIO()
    Image.fromarray(fake[0]).convert("L").save(buffer, "png")
    (folder / "0000.png").write_bytes(buffer.getvalue())
    assert dict(measure(folder).sets["generated"].notes) == {"gray to RGB": 1}
