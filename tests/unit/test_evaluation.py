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

from gen_eval import store
from gen_eval.errors import (
    CorruptImages,
    GenEvalError,
    ImagesError,
    IncomparableError,
    NumericalError,
    StoreError,
    TooFewImages,
    UnknownName,
    UsageError,
)
from gen_eval.evaluation import evaluate, fid
from gen_eval.extractors import EXTRACTORS, Pixels
from gen_eval.images import open_images
from gen_eval.metrics.frechet import frechet
from gen_eval.metrics.gaussian import Gaussian
from gen_eval.resize import tf1_bilinear
from gen_eval.results import require_comparable
from gen_eval.stats import Moments
from gen_eval.summary import Request, summarize

MEASURE = "frechet:pixels"
DIM = 192
N, M = 230, 260  # more than dimensions


def images_of(n, seed, brightness):
    """Smooth blobs of any colour, uint8 ``[n, 12, 10, 3]``: at 8x8 no two pixels are independent."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, brightness, (n, 3, 4, 4)))
    fine = torch.nn.functional.interpolate(coarse, (12, 10), mode="bicubic", align_corners=False)
    noise = torch.from_numpy(rng.normal(0, 8, fine.shape))
    return (fine + noise).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


FAKE, REAL = images_of(N, 1, 255), images_of(M, 2, 220)


def measure(generated=FAKE, reference=REAL, **options):
    (result,) = evaluate([MEASURE], generated=generated, reference=reference, **options)
    return result


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Images this small are faster without threads, many times so where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected():
    return measure()


def assert_same_number(found, expected, rel=1e-12):
    assert found.value == pytest.approx(expected.value, rel=rel)
    assert found.error == pytest.approx(expected.error, rel=max(rel, 1e-9))
    assert found.bias == pytest.approx(expected.bias, rel=max(rel, 1e-9))
    assert found.worst(3)[0][0] == expected.worst(3)[0][0]


def write_folder(path, images=FAKE):
    path.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(path / f"{index:04}.png")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images") / "fake")


# --- Any source, one number


class Dataset:
    """As torch's: a length and items, here with a label."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return Image.fromarray(FAKE[index]), 3


def generate(seeds):
    """A generator whose image i depends on seed i alone."""
    return torch.from_numpy(FAKE)[seeds].permute(0, 3, 1, 2)


def zipped(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "fake.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"inside/{path.name}")
    return tmp_path / "fake.zip"


def tarred(folder, tmp_path):
    with tarfile.open(tmp_path / "fake.tar.gz", "w:gz") as archive:
        archive.add(folder, "inside")
    return tmp_path / "fake.tar.gz"


def saved(write, name, array):
    def make(folder, tmp_path):
        write(tmp_path / name, array)
        return tmp_path / name

    return make


SOURCES = {
    "array": lambda folder, tmp_path: FAKE,
    "array, channels first": lambda folder, tmp_path: FAKE.transpose(0, 3, 1, 2),
    "tensor": lambda folder, tmp_path: torch.from_numpy(FAKE).permute(0, 3, 1, 2),
    "folder": lambda folder, tmp_path: folder,
    "folder as text": lambda folder, tmp_path: str(folder),
    "zip": zipped,
    "tar": tarred,
    "npy": saved(np.save, "fake.npy", FAKE),
    "npz": saved(np.savez, "fake.npz", FAKE),
    "npz, compressed": saved(np.savez_compressed, "fake.npz", FAKE),
    "list of images": lambda folder, tmp_path: [Image.fromarray(image) for image in FAKE],
    "list of paths": lambda folder, tmp_path: sorted(folder.iterdir()),
    "dataset": lambda folder, tmp_path: Dataset(),
    "opened": lambda folder, tmp_path: open_images(FAKE),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_the_same_images_give_the_same_number_whatever_holds_them(source, folder, tmp_path, expected):
    images = source(folder, tmp_path)
    assert_same_number(measure(images), expected)
    assert measure(REAL, images).value == pytest.approx(expected.value, rel=1e-8)  # in the other role


def test_a_callable_gives_the_same_number(expected):
    assert_same_number(measure(generate, n=N), expected)


def test_the_seed_is_that_of_the_first_image():
    found = measure(lambda seeds: generate(seeds - 1000), n=N - 20, seed=1020)
    assert found.value == pytest.approx(measure(FAKE[20:]).value, rel=1e-12)


def test_the_number_is_that_of_the_engine_on_the_features(expected):
    sides = []
    for images in (FAKE, REAL):
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


def test_the_result_says_what_was_measured(expected, folder):
    assert (expected.measure, expected.metric, expected.better, expected.tap) == (
        MEASURE,
        "frechet",
        "lower",
        "pool",
    )
    assert expected.protocol == "torch-fidelity"
    assert expected.spec == Pixels(resize="tf1-bilinear").spec("pool")
    assert expected.params == {"ddof": 1, "mean_dtype": "float32", "method": "auto"}
    assert {role: info.n for role, info in expected.sets.items()} == {"generated": N, "reference": M}
    assert expected.warnings == ()
    assert expected.bias > 0
    named = measure(folder)
    assert named.sets["generated"].name == str(folder)
    assert named.sets["reference"].digest == expected.sets["reference"].digest


# --- Batches, workers, processes


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_batches_and_workers_do_not_move_the_number(batch_size, workers, folder, expected):
    found = measure(folder, batch_size=batch_size, workers=workers)
    assert_same_number(found, expected, rel=1e-6)
    assert found.sets["generated"].digest == measure(folder).sets["generated"].digest


def test_the_same_command_gives_the_same_digits():
    assert measure().value == measure().value
    assert measure().error == measure().error


def test_the_order_of_images_moves_the_digest_and_nothing_else(expected):
    found = measure(FAKE[::-1])
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.error == pytest.approx(expected.error, rel=1e-9)
    assert found.sets["generated"].digest != expected.sets["generated"].digest


def test_nothing_global_is_touched():
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
    measure(generate, n=N)
    assert state() == before


def test_results_do_not_require_gradients_to_be_off():
    with torch.enable_grad():
        assert not measure().contributions["generated"][1].requires_grad


def test_progress_is_told_of_every_image(folder):
    calls = []
    measure(folder, batch_size=100, progress=lambda *call: calls.append(call))
    for name, n in ((str(folder), N), ("array", M)):
        mine = [(done, total, unit) for task, done, total, unit in calls if task == name]
        assert mine[0] == (0, n, "image")
        assert mine[-1] == (n, n, "image")
        assert [done for done, _, _ in mine] == sorted({0, *range(100, n, 100), n})
        assert all(call[1:] == (n, "image") for call in mine)


# --- Rows


@pytest.mark.parametrize("rows", [None, M, 10_000])
def test_all_rows_give_one_error_bar(rows, expected):
    assert_same_number(measure(rows=rows), expected)


def test_some_rows_give_the_same_value_and_a_similar_error_bar(expected):
    found = measure(rows=150)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error == pytest.approx(expected.error, rel=0.2)
    assert len(found.contributions["generated"][0]) == 150
    assert len(set(found.contributions["generated"][0].tolist())) == 150


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_with_too_few_rows_the_value_stays_and_the_error_bar_is_absent(rows, expected):
    found = measure(rows=rows)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error is None  # 0.0 would say that it is exact
    assert found.worst(3) == []


@pytest.mark.parametrize("rows", [10_000, 30])
def test_fewer_images_than_dimensions_are_measured_with_a_warning(rows):
    found = measure(FAKE[:60], REAL[:70], rows=rows)
    sides = []
    for images in (FAKE[:60], REAL[:70]):
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        sides.append(tf1_bilinear(planes, 8).flatten(1).double().numpy())
    a, b = ((side - side.mean(0)) / np.sqrt(len(side) - 1) for side in sides)
    gap = sides[0].mean(0).astype("f4").astype("f8") - sides[1].mean(0).astype("f4").astype("f8")
    trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    assert found.value == pytest.approx(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * trace, rel=1e-8)
    assert found.error > 0
    assert found.bias is None
    assert "too few images: the generated set has 60 and the reference set has 70" in found.warnings[0]


# --- Statistics in place of images


def summary_of(images, protocol_resize="tf1-bilinear", **options):
    extractor = Pixels(resize=protocol_resize)
    return summarize(open_images(images), [Request(extractor, ("pool",))], **options)


def test_a_statistics_file_gives_the_same_number_in_either_role(tmp_path, expected):
    for role, images in (("generated", FAKE), ("reference", REAL)):
        path = tmp_path / f"{role}.safetensors"
        store.save(summary_of(images), path)
        for source in (path, str(path), store.load(path)):
            found = measure(**{role: source})
            assert_same_number(found, expected)
            assert found.sets[role].digest == expected.sets[role].digest
            require_comparable([found, expected])


def test_statistics_of_few_images_give_the_same_number(tmp_path):
    store.save(summary_of(FAKE[:60]), tmp_path / "few.safetensors")
    few, again = measure(FAKE[:60]), measure(tmp_path / "few.safetensors")
    assert again.value == pytest.approx(few.value, rel=1e-9)
    assert again.error == pytest.approx(few.error, rel=1e-6)


def write_moments(path, images=REAL):
    features = summary_of(images).features.values()
    (moments,) = (one.moments for one in features)
    np.savez(path, mu=moments.mean.numpy(), sigma=moments.cov().numpy())
    return path


def test_moments_of_another_tool_give_the_same_value_marked_as_claimed(tmp_path, expected):
    found = measure(reference=write_moments(tmp_path / "real.npz"))
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert 0 < found.error < expected.error  # that of the generated images alone
    assert found.bias is None
    assert found.sets["reference"].claimed
    assert found.sets["reference"].n is None
    assert any("of another tool" in warning and "your claim" in warning for warning in found.warnings)
    assert not any("too few" in warning for warning in found.warnings)


def test_a_claimed_number_of_images_gives_the_bias(tmp_path, expected):
    found = measure(reference=write_moments(tmp_path / "real.npz"), reference_n=M)
    assert found.sets["reference"].n == M
    assert found.bias == pytest.approx(expected.bias, rel=0.15)  # fourth moments are those of a Gaussian


@pytest.mark.parametrize("dim", [191, 2048])
def test_moments_of_another_dimension_are_refused(dim, tmp_path):
    np.savez(tmp_path / "real.npz", mu=np.zeros(dim), sigma=np.eye(dim))
    with pytest.raises(StoreError, match=r"expected mu \[192\]"):
        measure(reference=tmp_path / "real.npz")


class Counted:
    """Images that count how often they are read."""

    def __init__(self, images):
        self.images, self.name, self.thread_safe, self.reads = open_images(images), "counted", True, 0

    def __len__(self):
        return len(self.images)

    def label(self, index):
        return self.images.label(index)

    def read(self, indices):
        self.reads += len(indices)
        return self.images.read(indices)

    def check(self, progress):
        return []


@pytest.mark.parametrize("measured", ["generated", "reference"])
def test_statistics_of_another_protocol_are_refused_before_any_pass(measured, tmp_path):
    store.save(summary_of(REAL, "pil-bicubic"), tmp_path / "real.safetensors")
    other = {"generated": "reference", "reference": "generated"}[measured]
    images = Counted(FAKE)
    with pytest.raises(
        IncomparableError, match=r"resize: pil-bicubic to 8 against tf1-bilinear to 8"
    ) as caught:
        measure(**{measured: images, other: tmp_path / "real.safetensors"})
    assert "--protocol" in str(caught.value)
    assert images.reads == 0
    measure(**{measured: images, other: tmp_path / "real.safetensors"}, protocol="clean-fid")
    assert images.reads == N


@pytest.mark.parametrize("damaged", ["safetensors", "npz"])
def test_statistics_that_cannot_be_read_are_refused_before_any_pass(damaged, tmp_path):
    path = tmp_path / f"fake.{damaged}"
    if damaged == "npz":
        np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    else:
        path.write_bytes(b"cut short")
    images = Counted(REAL)
    with pytest.raises(StoreError):
        measure(path, images)
    assert images.reads == 0


def test_statistics_of_too_few_images_are_refused_before_any_pass(tmp_path):
    store.save(summary_of(FAKE[:1]), tmp_path / "one.safetensors")
    images = Counted(REAL)
    with pytest.raises(TooFewImages):
        measure(tmp_path / "one.safetensors", images)
    assert images.reads == 0


def test_results_of_two_protocols_refuse_to_be_compared():
    with pytest.raises(IncomparableError) as caught:
        require_comparable([measure(), measure(protocol="clean-fid")])
    assert "resize: tf1-bilinear to 8 against pil-bicubic to 8" in str(caught.value)


def test_protocols_move_the_number():
    values = {
        protocol: measure(protocol=protocol).value
        for protocol in ("torch-fidelity", "clean-fid", "pytorch-fid")
    }
    assert len({round(value, 3) for value in values.values()}) == 3


# --- What is refused, and when


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"measures": ["fidd"]}, UnknownName, "unknown measure 'fidd': did you mean 'fid'"),
        ({"measures": ["frechit:pixels"]}, UnknownName, "unknown metric 'frechit': did you mean 'frechet'"),
        ({"measures": ["frechet:pixel"]}, UnknownName, "unknown extractor 'pixel': did you mean 'pixels'"),
        ({"measures": ["frechet:pixels/logits"]}, GenEvalError, "logits"),
        ({"measures": []}, UsageError, "no measures"),
        ({"protocol": "cleanfid"}, UnknownName, "unknown protocol 'cleanfid': did you mean 'clean-fid'"),
        ({"device": "gpu"}, UsageError, "unknown device 'gpu'"),
        ({"generated": "no/such/folder"}, ImagesError, "does not exist"),
        ({"reference": "no/such/file.safetensors"}, ImagesError, "does not exist"),
        ({"generated": FAKE[:1]}, TooFewImages, "at least 2 generated images; array has 1 image"),
        ({"reference": FAKE[:1]}, TooFewImages, "at least 2 reference images; array has 1 image"),
        ({"generated": generate}, UsageError, "say how many images with n="),
        ({"n": 5}, UsageError, "n is only for a callable"),
        ({"generated": 3}, UsageError, "cannot read images from a int"),
        (
            {"measures": ["frechet-inf:pixels"]},
            TooFewImages,
            "at least 386 generated images; counted has 230",
        ),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_an_image_is_read(wrong, error, message):
    generated, reference = Counted(FAKE), Counted(REAL)
    arguments = {"measures": [MEASURE], "generated": generated, "reference": reference, **wrong}
    with pytest.raises(error, match=message):
        evaluate(**arguments)
    assert generated.reads == reference.reads == 0


class Unsound(Pixels):
    """An extractor that breaks down on one image."""

    def __call__(self, images, taps=("pool",)):
        features = super().__call__(images, taps)
        features["pool"][features["pool"].mean(1) > 254] = float("nan")
        return features


def test_features_that_are_not_finite_stop_the_run(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "unsound", lambda **options: Unsound())
    white = np.concatenate([FAKE, np.full((1, 12, 10, 3), 255, np.uint8)])
    with pytest.raises(
        NumericalError, match=r"features of 1 images of array are NaN or infinite, first those of #\d+"
    ):
        evaluate(["frechet:unsound"], generated=white, reference=REAL)


# --- Corrupt files


@pytest.fixture
def damaged(tmp_path):
    folder = write_folder(tmp_path / "fake", FAKE)
    for index in (3, 200):
        path = folder / f"{index:04}.png"
        path.write_bytes(path.read_bytes()[:-40])
    return folder


def test_corrupt_files_stop_the_run_by_name_before_any_pass(damaged):
    reference = Counted(REAL)
    with pytest.raises(CorruptImages, match="2 images in .*fake cannot be decoded") as caught:
        measure(damaged, reference)
    for name in ("0003.png", "0200.png"):
        assert name in str(caught.value)
    assert "--skip-corrupt" in str(caught.value)
    assert reference.reads == 0


def test_corrupt_files_are_left_out_on_request_counted_and_named(damaged):
    found = measure(damaged, skip_corrupt=True)
    whole = measure(np.delete(FAKE, [3, 200], 0))
    assert found.value == pytest.approx(whole.value, rel=1e-9)
    assert found.error == pytest.approx(whole.error, rel=1e-9)
    assert (found.sets["generated"].n, found.sets["generated"].skipped) == (N - 2, 2)
    (warning,) = found.warnings
    assert "2 corrupt files" in warning
    assert "0003.png" in warning
    assert "0200.png" in warning
    # What is left out leaves the other images their indices, which choose the rows.
    assert {3, 200}.isdisjoint(found.contributions["generated"][0].tolist())
    assert max(found.contributions["generated"][0].tolist()) == N - 1


def test_a_folder_of_nothing_but_corrupt_files_is_refused(tmp_path):
    folder = tmp_path / "fake"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(ImagesError, match="none of the 3 images of .* can be decoded"):
        measure(folder, skip_corrupt=True)


def test_images_that_decoding_changed_are_counted(tmp_path):
    folder = write_folder(tmp_path / "fake")
    buffer = io.BytesIO()
    Image.fromarray(FAKE[0]).convert("L").save(buffer, "png")
    (folder / "0000.png").write_bytes(buffer.getvalue())
    assert dict(measure(folder).sets["generated"].notes) == {"gray to RGB": 1}


# --- Several measures, and the shorthand


def test_several_measures_share_one_pass_over_each_set():
    generated, reference = Counted(np.concatenate([FAKE, REAL])), Counted(REAL)
    results = evaluate(
        ["frechet-inf:pixels", MEASURE, "frechet:pixels/pool"], generated=generated, reference=reference
    )
    assert [result.measure for result in results] == ["frechet-inf:pixels", MEASURE, "frechet:pixels/pool"]
    assert (generated.reads, reference.reads) == (N + M, M)
    assert results[0].values["frechet"] == pytest.approx(results[1].value, rel=1e-12)
    assert results[1].value == results[2].value
    assert results[0].error > results[1].error


def test_fid_takes_the_real_images_first(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "inception", lambda **options: Pixels())
    result = fid(REAL, FAKE)
    assert result.measure == "fid"
    assert (result.sets["reference"].n, result.sets["generated"].n) == (M, N)
    assert result.value == pytest.approx(measure().value, rel=1e-12)
