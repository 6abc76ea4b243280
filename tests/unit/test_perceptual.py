"""Path lengths with closed forms, and the diversity of pairs against all pairs formed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.integrate import quad

from gen_eval.datasets import load
from gen_eval.errors import ImagesError, NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.perceptual import CONVENTIONS, lpips_diversity, perceptual_path_length
from gen_eval.spec import Resize

SIDE = 4


def squared(a, b):
    return (a.double() - b.double()).square().sum((1, 2, 3))


class Linear:
    """Images that are linear in normal latents: [b, 3, 4, 4] about a middle gray."""

    def __init__(self, dim=8, scale=3.0):
        noise = torch.randn(3 * SIDE**2, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.matrix = torch.linalg.qr(noise)[0] * scale  # so that lengths are those of latents
        self.dim = dim

    def latent(self, seeds):
        draws = [np.random.default_rng(int(seed)).standard_normal(self.dim) for seed in seeds]
        return torch.from_numpy(np.stack(draws))

    def synthesize(self, latents):
        return 128 + (latents.double() @ self.matrix.T).view(-1, 3, SIDE, SIDE)


class Mapped(Linear):
    stretch = 5.0

    def mapping(self, z):
        return self.stretch * z + 1


def length(generator, n=1500, **options):
    options = {"distance": squared, "discard": None, "batch_size": 500, **options}
    return perceptual_path_length(generator, n=n, **options)


def near(score, truth):
    value, error = score.values["perceptual_path_length"], score.errors["perceptual_path_length"]
    return abs(value - truth) < 3 * error < 0.15 * truth


# --- Closed forms


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_a_linear_generator_on_straight_ways(sampling, epsilon):
    """E |A (z' - z)|² = 2 tr A'A, wherever a step begins and however long it is."""
    score = length(Linear(), interpolation="lerp", sampling=sampling, epsilon=epsilon)
    assert near(score, 2 * 8 * 3.0**2)


@pytest.mark.parametrize("dim", [2, 8])
def test_a_linear_generator_on_great_circles(dim):
    """The angle's density is as sin^(d - 2): in two dimensions E angle² is pi² / 3."""
    weight, square = (quad(lambda x, k=k: x**k * math.sin(x) ** (dim - 2), 0, math.pi)[0] for k in (0, 2))
    assert dim != 2 or square / weight == pytest.approx(math.pi**2 / 3)
    score = length(Linear(dim), epsilon=1e-3)
    assert near(score, 3.0**2 * square / weight)


def test_a_path_in_w_is_that_of_the_mapping():
    mapped = length(Mapped(), space="w")
    assert near(mapped, Mapped.stretch**2 * 2 * 8 * 3.0**2)
    in_z = length(Mapped(), space="z", interpolation="lerp")  # an affine mapping: straight ways stay straight
    torch.testing.assert_close(in_z.per_image["generated"], mapped.per_image["generated"], rtol=2e-3, atol=0)


def test_a_constant_generator_has_none():
    class Constant(Linear):
        def synthesize(self, latents):
            return torch.full((len(latents), 3, SIDE, SIDE), 77, dtype=torch.uint8)

    for discard in (None, (1, 99)):
        score = length(Constant(), n=50, discard=discard, quantize=True)
        assert score.values == {"perceptual_path_length": 0, "std": 0}
        assert score.errors == {"perceptual_path_length": 0}


# --- Which paths, and what is made of them


def test_paths_depend_on_their_seeds_alone():
    whole = length(Linear(), n=40).per_image["generated"]
    assert torch.equal(length(Linear(), n=25).per_image["generated"], whole[:25])
    torch.testing.assert_close(
        length(Linear(), n=40, batch_size=7).per_image["generated"], whole, rtol=1e-9, atol=0
    )
    assert torch.equal(length(Linear(), n=40, seed=20).per_image["generated"][:30], whole[10:])


def test_steps_begin_anywhere_or_at_the_start():
    class Sine(Linear):
        """Moves as cos² of its one latent, so that it matters where a step begins."""

        def synthesize(self, latents):
            return (128 + latents[:, :1].sin()).view(-1, 1, 1, 1).expand(-1, 3, 1, 1).double()

    generator = Sine(1)
    first, second = (generator.latent(torch.arange(2 * 400)[start::2])[:, 0] for start in (0, 1))
    at_end = 3 * (((first + 0.01 * (second - first)).sin() - first.sin()) / 0.01) ** 2
    found = length(generator, n=400, sampling="end", interpolation="lerp", epsilon=0.01)
    torch.testing.assert_close(found.per_image["generated"], at_end, rtol=0.01, atol=0.01)
    # Over a whole way, cos² has the mean (1 + sin(2b) - sin(2a) over 2 (b - a)) / 2.
    across = 3 * (second - first) ** 2 / 2
    across = across * (1 + ((2 * second).sin() - (2 * first).sin()) / (2 * (second - first)))
    score = length(generator, n=400, sampling="full", interpolation="lerp", epsilon=0.01)
    gap = score.per_image["generated"] - across
    assert abs(float(gap.mean())) < 3 * float(gap.std()) / 20
    assert abs(float((at_end - across).mean())) > 3 * float(gap.std()) / 20  # so that the end would show


def test_the_value_is_the_mean_within_percentiles():
    every = length(Linear(), n=300)
    paths = every.per_image["generated"].numpy()
    assert every.values["perceptual_path_length"] == pytest.approx(paths.mean())
    assert every.errors["perceptual_path_length"] == pytest.approx(paths.std(ddof=1) / math.sqrt(300))
    assert every.bias == 0
    score = length(Linear(), n=300, discard=(10, 80))
    inner = np.sort(paths)[29:241]  # of positions 29.9 and 239.2, the outer neighbours
    assert score.values["perceptual_path_length"] == pytest.approx(inner.mean())
    assert score.values["std"] == pytest.approx(inner.std())
    assert score.bias is None
    assert torch.equal(score.per_image["generated"], every.per_image["generated"])


@pytest.mark.parametrize("discard", [None, (1, 99), (5, 70)])
def test_the_standard_error_is_the_spread_of_repetitions(discard):
    class Chosen(Linear):
        """Latents of one component, so that paths are heavy-tailed: squares of normals."""

        def latent(self, seeds):
            return torch.from_numpy(np.random.default_rng(int(seeds[0])).standard_normal((len(seeds), 1)))

    scores = [
        length(Chosen(1), n=150, seed=1000 * k, discard=discard, sampling="end", interpolation="lerp")
        for k in range(400)
    ]
    values = np.array([score.values["perceptual_path_length"] for score in scores])
    errors = np.array([score.errors["perceptual_path_length"] for score in scores])
    # The spread of 400 repetitions is known to 1 / sqrt(2 * 400) for a normal.
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.12)


def test_images_reach_the_distance_as_asked():
    class Fine(Linear):
        def synthesize(self, latents):
            small = super().synthesize(latents)
            return F.interpolate(small, (6, 6), mode="bilinear").float() + 0.3

    seen = []

    def watching(a, b):
        seen.append(a)
        return squared(a, b)

    plain = length(Fine(), n=2, distance=watching)
    length(Fine(), n=2, distance=watching, resize=3)
    torch.testing.assert_close(seen[1], F.avg_pool2d(seen[0], 2))  # boxes of 2 pixels
    length(Fine(), n=2, distance=watching, resize=12)
    assert torch.equal(seen[2], seen[0])
    length(Fine(), n=2, distance=watching, resize=12, enlarge=True)
    torch.testing.assert_close(
        seen[3], F.interpolate(seen[0], (12, 12), mode="bilinear", align_corners=False)
    )
    length(Fine(), n=2, distance=watching, quantize=True)
    assert torch.equal(seen[4], seen[0].round())
    assert plain.warnings == ()


def test_whole_levels_are_warned_of_unless_asked_for():
    class Rounded(Linear):
        def synthesize(self, latents):
            return super().synthesize(latents).round().to(torch.uint8)

    assert "floating point" in length(Rounded(), n=10).warnings[0]
    assert length(Rounded(), n=10, quantize=True).warnings == ()


def test_conventions_are_settings():
    for name, options in CONVENTIONS.items():
        score = length(Mapped(), n=4, **options)
        assert score.values["perceptual_path_length"] >= 0, name


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n": 1}, TooFewImages),
        ({"seed": -1}, UsageError),
        ({"epsilon": 0.0}, UsageError),
        ({"epsilon": math.nan}, UsageError),
        ({"batch_size": 0}, UsageError),
        ({"resize": 0}, UsageError),
        ({"enlarge": True}, UsageError),
        ({"discard": (99, 1)}, UsageError),
        ({"discard": (-1, 99)}, UsageError),
        ({"space": "v"}, UnknownName),
        ({"space": "w"}, UsageError),
        ({"sampling": "start"}, UnknownName),
        ({"interpolation": "slurp"}, UnknownName),
        ({"distance": lambda a, b: torch.full((len(a),), math.nan)}, NumericalError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, error):
    with pytest.raises(error):
        length(Linear(), **{"n": 4, **options})


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    length(Linear(), n=4)
    lpips_diversity(IMAGES, lpips=Flat(), pairs=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


# --- Diversity


class Flat:
    """In the place of LPIPS, pixels by themselves."""

    device = torch.device("cpu")

    def features(self, images):
        return images.flatten(1) / 100

    def __call__(self, a, b):
        return (self.features(a) - self.features(b)).square().sum(1)


IMAGES = np.random.default_rng(0).integers(0, 256, (21, 5, 6, 3), dtype=np.uint8)


def between_all(images):
    rows = images.reshape(len(images), -1) / 100
    return ((rows[:, None] - rows[None]) ** 2).sum(2)


def test_all_pairs_are_all_pairs_formed():
    score = lpips_diversity(IMAGES, lpips=Flat())
    table = between_all(IMAGES)
    n = len(table)
    assert score.values["lpips_diversity"] == pytest.approx(table.sum() / (n * (n - 1)), rel=1e-6)
    assert score.per_image["generated"].numpy() == pytest.approx(table.sum(1) / (n - 1), rel=1e-6)
    assert score.bias == 0
    without = [np.delete(np.delete(table, i, 0), i, 1).sum() / ((n - 1) * (n - 2)) for i in range(n)]
    jackknife = math.sqrt((n - 1) / n * ((without - np.mean(without)) ** 2).sum())
    assert score.errors["lpips_diversity"] == pytest.approx(jackknife, rel=1e-5)
    left_out = score.values["lpips_diversity"] - np.array(without)
    assert score.contributions["generated"].numpy() == pytest.approx(left_out, rel=1e-5, abs=1e-6)  # of 100


def test_order_and_batches_do_not_matter():
    score = lpips_diversity(IMAGES, lpips=Flat())
    for other in (
        lpips_diversity(IMAGES[::-1].copy(), lpips=Flat()),
        lpips_diversity(IMAGES, lpips=Flat(), batch_size=4, workers=2),
    ):
        assert dict(other.values) == pytest.approx(dict(score.values), rel=1e-9)
        assert dict(other.errors) == pytest.approx(dict(score.errors), rel=1e-9)


def test_random_pairs_are_pairs_of_different_images_each_in_one():
    seen = []

    class Watching(Flat):
        def __call__(self, a, b):
            seen.extend(zip(a[:, 0, 0, 0].tolist(), b[:, 0, 0, 0].tolist(), strict=True))
            return super().__call__(a, b)

    images = np.zeros((20, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(20)
    score = lpips_diversity(images, lpips=Watching(), pairs=10, batch_size=3)
    assert sorted(index for pair in seen for index in pair) == list(range(20))
    distances = np.array([(a - b) ** 2 / 1e4 for a, b in seen])
    assert score.values["lpips_diversity"] == pytest.approx(distances.mean(), rel=1e-5)
    assert score.errors["lpips_diversity"] == pytest.approx(distances.std(ddof=1) / math.sqrt(10), rel=1e-5)


def test_random_pairs_differ_by_seed_and_have_the_mean_of_all():
    exact = lpips_diversity(IMAGES, lpips=Flat()).values["lpips_diversity"]
    by_seed = [
        lpips_diversity(IMAGES, lpips=Flat(), pairs=10, seed=seed).values["lpips_diversity"]
        for seed in range(100)
    ]
    assert len(set(by_seed)) == 100
    assert abs(np.mean(by_seed) - exact) < 3 * np.std(by_seed) / 10 < 0.05 * exact


def test_the_standard_errors_are_the_spread_of_repetitions():
    rng = np.random.default_rng(0)
    for pairs in (None, 15):
        scores = []
        for _ in range(300):
            gains = rng.uniform(0, 1, (30, 1, 1, 1))  # some images are flatter than others
            images = (128 + gains * rng.integers(-120, 120, (30, 2, 2, 3))).astype(np.uint8)
            scores.append(lpips_diversity(images, lpips=Flat(), pairs=pairs, batch_size=30))
        values = np.array([score.values["lpips_diversity"] for score in scores])
        errors = np.array([score.errors["lpips_diversity"] for score in scores])
        assert math.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.13)


def test_a_dataset_by_its_name():
    pytest.importorskip("sklearn")  # whose copy of the digits is at hand
    found = lpips_diversity("digits:test", lpips=Flat(), offline=True)
    expected = lpips_diversity(load("digits", "test", offline=True).images, lpips=Flat())
    assert found.values == expected.values
    with pytest.raises(UsageError, match="no split 'tset'"):
        lpips_diversity("digits:tset", lpips=Flat())


def test_one_image_again_and_again_has_none():
    score = lpips_diversity(IMAGES[:1].repeat(5, 0), lpips=Flat())
    assert score.values["lpips_diversity"] == pytest.approx(0, abs=1e-9)


def test_images_of_several_sizes_are_resized_or_refused():
    mixed = [Image.fromarray(image) for image in (*IMAGES[:3], IMAGES[3, :4])]
    for batch_size in (16, 2):
        with pytest.raises(UsageError, match="several sizes"):
            lpips_diversity(mixed, lpips=Flat(), batch_size=batch_size)
    for kernel in ("pil-bicubic", "tf1-bilinear"):
        score = lpips_diversity(mixed, lpips=Flat(), resize=Resize(8, kernel))
        assert score.values["lpips_diversity"] > 0
    same = lpips_diversity(IMAGES, lpips=Flat(), resize=Resize(5, "pil-bicubic"))
    assert same.values != lpips_diversity(IMAGES, lpips=Flat()).values


@pytest.mark.parametrize(
    ("images", "options", "error"),
    [
        (IMAGES[:3], {}, TooFewImages),
        (IMAGES, {"pairs": 11}, TooFewImages),
        (IMAGES, {"pairs": 1}, UsageError),
        (IMAGES.astype(np.float32), {}, ImagesError),
        ("/nowhere", {}, ImagesError),
        (np.zeros((9, 2), np.float32), {}, UsageError),
    ],
)
def test_what_has_no_diversity_is_refused(images, options, error):
    with pytest.raises(error):
        lpips_diversity(images, lpips=Flat(), **options)
