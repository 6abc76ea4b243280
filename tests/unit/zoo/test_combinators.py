"""Combinators: what each does to samples, what it shares with its base, and what it may claim to know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest, norm

from gen_eval import draws
from gen_eval.disturbances import pixels
from gen_eval.errors import UsageError
from gen_eval.zoo import combinators
from gen_eval.zoo.combinators import Blurred, KeepModes, Memoriser, Mix, Noisy, Shifted, Truncated
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import Checkerboard, Disc, Empirical, Gaussian, Mixture

LEVEL = 0.001  # of each test of a distribution, whose seeds do not change
N = 20_000
RNG = np.random.default_rng(0)
COLOUR = torch.from_numpy(RNG.integers(0, 256, (40, 3, 7, 6), dtype=np.uint8))
GRAY = COLOUR[:, :1]
LABELS = [k % 4 for k in range(40)]
POINTS = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def gaussian():
    return Gaussian([1.0, -1.0], [[1.0, 0.5], [0.5, 2.0]])


def images():
    return Empirical(COLOUR, LABELS)


class Bound(Sampler):
    """A generator that knows a lower bound of its likelihood, as a VAE does."""

    name, shape, bound = "bound", (2,), "lower"

    def _draw(self, seeds, labels, truncation):
        return draws.normal(seeds, 2).float()

    def log_prob(self, x):
        return x.double().sum(1)


@pytest.mark.parametrize(
    ("sampler", "known"),
    [
        (Noisy(gaussian(), 1), "bound log_prob noised score"),
        (Noisy(Mixture.ring(), 1), "bound keep log_prob noised score"),
        (Noisy(Noisy(gaussian(), 1), 1), "bound log_prob noised score"),
        (Noisy(Disc(), 1), ""),
        (Noisy(images(), 1), ""),
        (Noisy(Bound(), 1), ""),
        (Blurred(images(), 1), ""),
        (KeepModes(Mixture.ring(), [0]), "bound keep log_prob noised score"),
        (KeepModes(KeepModes(Mixture.ring(), [0, 4]), [1]), "bound keep log_prob noised score"),
        (KeepModes(images(), [0]), ""),
        (Mix([gaussian(), Mixture.ring()]), "bound log_prob noised score"),
        (Mix([gaussian(), Disc()]), "bound log_prob"),
        (Mix([gaussian(), Noisy(Disc(), 1)]), ""),
        (Mix([gaussian(), Bound()]), ""),
        (Mix([images(), images()]), ""),
        (Truncated(gaussian(), 0.5), "bound log_prob noised score"),
        (Truncated(gaussian(), 0), ""),
        (Truncated(Disc(), 0.5), "bound log_prob"),
        (Truncated(Noisy(gaussian(), 1), 0.5), ""),
        (Shifted(gaussian(), [1, 2]), "bound log_prob noised score"),
        (Shifted(Disc(), [1, 2]), "bound log_prob"),
        (Shifted(Bound(), [1, 2]), "bound log_prob"),
        (Shifted(Empirical(POINTS), [1, 2]), ""),
        (Shifted(images(), [1, 2]), ""),
        (Memoriser(POINTS, 3), ""),
    ],
    ids=lambda value: value.name if isinstance(value, Sampler) else None,
)
def test_a_combinator_has_what_it_knows_and_nothing_else(sampler, known):
    names = ("bound", "keep", "log_prob", "noised", "score")
    assert [name for name in names if hasattr(sampler, name)] == known.split()


def test_a_shift_leaves_a_bound_what_it_is():
    assert (Shifted(Bound(), [1, 2]).bound, Shifted(gaussian(), [1, 2]).bound) == ("lower", "exact")
    torch.testing.assert_close(Shifted(Bound(), [1, 2]).log_prob(POINTS), Bound().log_prob(POINTS) - 3)


# --- Noisy


def test_noise_is_gaussian_and_independent_of_the_sample_and_of_noise_below():
    base = gaussian()
    once, twice = Noisy(base, 0.5), Noisy(Noisy(base, 0.5), 0.2)
    clean, first, second = (sampler.sample(N, seed=0).double() for sampler in (base, once, twice))
    noises = torch.cat([clean - base.mean, (first - clean) / 0.5, (second - first) / 0.2], 1).numpy()
    for column in noises.T[2:]:
        assert kstest(column, "norm").pvalue > LEVEL
    correlations = np.corrcoef(noises.T)
    correlations[:2, :2] = 0  # of the Gaussian itself
    assert np.abs(correlations - np.diag(np.diag(correlations))).max() < 3.5 / math.sqrt(N)


def test_noise_on_images_is_that_of_the_disturbance():
    """The same arithmetic, given the same draws, on colour and on gray images."""

    class Drawn:
        def __init__(self, seed, count):
            self.numbers = draws.normal(torch.tensor([seed]), count, combinators._FIRST_STREAM)[0].numpy()

        def standard_normal(self, shape):
            height, width, channels = shape
            return self.numbers.reshape(channels, height, width).transpose(1, 2, 0)

    for data in (COLOUR, GRAY, GRAY.expand(-1, 3, -1, -1)):
        base = Empirical(data)
        clean, noisy = base.sample(20, seed=5), Noisy(base, 40).sample(20, seed=5)
        gray = data is not COLOUR
        for i in range(20):
            drawn = Drawn(5 + i, 42 if gray else 126)
            image = clean[i].expand(3, -1, -1).permute(1, 2, 0).numpy()
            expected = torch.from_numpy(pixels.noise(image, 40, drawn)).permute(2, 0, 1)
            assert torch.equal(noisy[i], expected[: len(noisy[i])])
        assert torch.equal(Noisy(base, 0).sample(20, seed=5), clean)


def test_images_get_the_same_noise_however_many_are_made(monkeypatch):
    sampler = Noisy(images(), 20)
    whole = sampler.sample(10, seed=0)
    monkeypatch.setattr(combinators, "_AT_ONCE", 3)
    assert torch.equal(sampler.sample(10, seed=0), whole)


def test_a_noisy_density_is_that_of_the_noised_world():
    truth = gaussian().noised(math.hypot(0.5, 0.2)).log_prob(POINTS)
    torch.testing.assert_close(Noisy(Noisy(gaussian(), 0.5), 0.2).log_prob(POINTS), truth)
    torch.testing.assert_close(Noisy(gaussian(), 0.5).noised(0.2).log_prob(POINTS), truth)


@pytest.mark.parametrize("sd", [-1, math.nan, math.inf])
@pytest.mark.parametrize("make", [Noisy, Blurred])
def test_standard_deviations_that_make_no_sense_are_refused(make, sd):
    with pytest.raises(UsageError, match="0 or more and finite"):
        make(images(), sd)


# --- Blurred


def test_blur_is_that_of_the_disturbance():
    for base in (images(), Empirical(GRAY)):
        clean, blurred = base.sample(10, seed=0), Blurred(base, 1.2).sample(10, seed=0)
        for one, other in zip(clean, blurred, strict=True):
            expected = pixels.blur(one.permute(1, 2, 0).numpy(), 1.2, np.random.default_rng(1))
            assert torch.equal(other, torch.from_numpy(expected).permute(2, 0, 1))
        assert torch.equal(Blurred(base, 0).sample(10, seed=0), clean)
    labelled = Blurred(images(), 1).sample(5, seed=0, labels=2)
    assert torch.equal(labelled, Blurred(Empirical(COLOUR[2::4]), 1).sample(5, seed=0))


def test_vectors_cannot_be_blurred():
    with pytest.raises(UsageError, match=r"gaussian makes vectors \[2\]"):
        Blurred(gaussian(), 1)


# --- KeepModes


def test_kept_classes_keep_their_samples_and_their_shares():
    base = Mixture([[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]], 0.2, [1, 2, 5], classes=("a", "b", "c"))
    kept, seeds = KeepModes(base, [2, 0]), torch.arange(N)
    assert kept.classes == ("c", "a")
    labels, own = kept.labels_of(seeds), base.labels_of(seeds)
    assert torch.equal(kept(seeds)[own != 1], base(seeds)[own != 1])
    assert binomtest(int((labels == 1).sum()), N, 1 / 6).pvalue > LEVEL
    redrawn = labels[own == 1]
    assert binomtest(int((redrawn == 1).sum()), len(redrawn), 1 / 6).pvalue > LEVEL
    assert torch.equal(kept.sample(9, seed=0, labels=0), base.sample(9, seed=0, labels=2))
    assert base.modes_covered(kept(seeds)).covered == 2
    torch.testing.assert_close(kept.log_prob(POINTS), base.keep([2, 0]).log_prob(POINTS))


def test_classes_of_data_are_kept_too():
    kept = KeepModes(images(), [3, 1])
    allowed = {tuple(row) for row in COLOUR[1::2].flatten(1).tolist()}
    assert {tuple(row) for row in kept.sample(300, seed=0).flatten(1).tolist()} == allowed
    with pytest.raises(UsageError, match="labels of .* are 0 to 1, found 3"):
        kept.sample(3, seed=0, labels=3)


def test_classes_that_are_hardly_ever_drawn_are_asked_for_by_label(monkeypatch):
    monkeypatch.setattr(combinators, "_REDRAWS", 5)
    rare = KeepModes(Mixture([[0.0], [1.0]], 1.0, [1.0, 1e-9]), [1])
    with pytest.raises(UsageError, match="hardly ever"):
        rare.sample(3, seed=0)
    assert rare.sample(3, seed=0, labels=0).shape == (3, 1)


@pytest.mark.parametrize("modes", [[], [8], [-1], [2, 2]])
def test_modes_that_do_not_exist_are_refused(modes):
    with pytest.raises(UsageError, match="labels 0 to 7"):
        KeepModes(Mixture.ring(), modes)
    with pytest.raises(UsageError, match="no classes"):
        KeepModes(gaussian(), modes or [0])


# --- Mix


def test_each_seed_of_a_mix_gives_the_sample_of_one_part():
    parts = [gaussian(), Shifted(gaussian(), [9, 9]), Checkerboard()]
    samples = Mix(parts, [2, 1, 1]).sample(N, seed=0)
    taken = torch.stack([(samples == part.sample(N, seed=0)).all(1) for part in parts])
    assert bool((taken.sum(0) == 1).all())
    for share, count in zip((0.5, 0.25, 0.25), taken.sum(1).tolist(), strict=True):
        assert binomtest(count, N, share).pvalue > LEVEL
    first = samples[taken[0]].double() - parts[0].mean  # what is taken says nothing about what is drawn
    assert kstest(first[:, 0].numpy(), "norm").pvalue > LEVEL


def test_a_mix_has_the_density_of_its_parts():
    parts = [gaussian(), Disc()]
    truth = torch.log(0.75 * parts[0].log_prob(POINTS).exp() + 0.25 * parts[1].log_prob(POINTS).exp())
    torch.testing.assert_close(Mix(parts, [3, 1]).log_prob(POINTS), truth)
    assert Mix([Disc(), Disc(2.0)]).log_prob(torch.full((1, 2), 5.0)).tolist() == [-math.inf]
    noised = Mix([gaussian(), Mixture.ring()]).noised(0.3)
    apart = torch.stack([world.noised(0.3).log_prob(POINTS) for world in (gaussian(), Mixture.ring())])
    torch.testing.assert_close(noised.log_prob(POINTS), apart.logsumexp(0) - math.log(2))


def test_a_mix_has_no_classes_and_the_truncation_that_all_parts_have():
    rings = Mix([Mixture.ring(), Mixture.ring(radius=5.0)])
    assert rings.classes == ()
    assert rings.labels_of(torch.arange(4)) is None
    with pytest.raises(UsageError, match="classes"):
        KeepModes(rings, [0])
    assert Mix([Mixture.ring(), gaussian()]).truncation is None
    both = Mix([gaussian(), Disc()])
    assert float(both.sample(50, seed=0, truncation=0.0).unique(dim=0).numel()) == 4


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ([], None, "found none"),
        ([gaussian(), images()], None, r"gaussian \[2\], empirical \[3, 7, 6\]"),
        ([gaussian(), Disc()], [1], "expected 2 weights"),
        ([gaussian(), Disc()], [1, -1], "above 0"),
    ],
)
def test_what_is_no_mix_is_refused(parts, weights, message):
    with pytest.raises(UsageError, match=message):
        Mix(parts, weights)


# --- Truncated, Memoriser, Shifted


def test_truncation_is_fixed():
    truncated = Truncated(gaussian(), 0.4)
    assert torch.equal(truncated.sample(9, seed=0), gaussian().sample(9, seed=0, truncation=0.4))
    torch.testing.assert_close(truncated.log_prob(POINTS), gaussian().truncated(0.4).log_prob(POINTS))
    with pytest.raises(UsageError, match="has no truncation"):
        truncated.sample(9, seed=0, truncation=0.5)
    with pytest.raises(UsageError, match="ring8 has no truncation; found truncation=0.5"):
        Truncated(Mixture.ring(), 0.5)
    for wrong in (-1, math.nan):
        with pytest.raises(UsageError, match="truncated by 0 or more"):
            Truncated(gaussian(), wrong)


def test_a_memoriser_returns_what_it_has_seen_first():
    memoriser = Memoriser(COLOUR, 10, LABELS, ("a", "b", "c", "d"))
    known = {tuple(row) for row in COLOUR[:10].flatten(1).tolist()}
    assert {tuple(row) for row in memoriser.sample(300, seed=0).flatten(1).tolist()} == known
    first = {tuple(row) for row in COLOUR[:10:4].flatten(1).tolist()}
    assert {tuple(row) for row in memoriser.sample(99, seed=0, labels=0).flatten(1).tolist()} == first
    for copies in (0, 41):
        with pytest.raises(UsageError, match=f"expected 1 to 40 copies.*found {copies}"):
            Memoriser(COLOUR, copies)


def test_vectors_are_shifted_with_their_density():
    base, by = gaussian(), torch.tensor([2.0, -3.0])
    shifted = Shifted(base, by)
    torch.testing.assert_close(shifted.sample(9, seed=0), base.sample(9, seed=0) + by)
    there = Gaussian(base.mean + by, base.covariance)
    for one, other in ((shifted, there), (shifted.noised(0.5), there.noised(0.5))):
        torch.testing.assert_close(one.log_prob(POINTS), other.log_prob(POINTS))
        torch.testing.assert_close(one.score(POINTS), other.score(POINTS))
    along = shifted.sample(N, seed=0)[:, 0].double().numpy()
    assert kstest(along, norm(3, 1).cdf).pvalue > LEVEL


def test_images_are_shifted_by_whole_pixels_and_filled_with_black():
    clean = images().sample(5, seed=0)
    assert torch.equal(Shifted(images(), (0, 0)).sample(5, seed=0), clean)
    moved = Shifted(images(), (2, -1)).sample(5, seed=0)
    assert torch.equal(moved[:, :, 2:, :-1], clean[:, :, :-2, 1:])
    assert not moved[:, :, :2].any()
    assert not moved[:, :, :, -1].any()
    moved = Shifted(images(), (-6, 5)).sample(5, seed=0)
    assert torch.equal(moved[:, :, 0, 5], clean[:, :, 6, 0])
    assert int((moved != 0).sum()) <= 15


@pytest.mark.parametrize("by", [[1.0], [math.nan, 0.0], 1.0, [[1.0, 2.0]]])
def test_shifts_of_vectors_that_do_not_fit_are_refused(by):
    with pytest.raises(UsageError, match=r"expected a shift \[2\], finite"):
        Shifted(gaussian(), by)


@pytest.mark.parametrize("by", [[1], [0.5, 0], [7, 0], [0, -6], [math.nan, 0]])
def test_shifts_of_images_that_do_not_fit_are_refused(by):
    with pytest.raises(UsageError, match="by whole pixels, less than the 7 x 6 of an image"):
        Shifted(images(), by)


# --- What KeepModes draws again


def test_classes_that_are_rare_are_redrawn_by_seed_alone(monkeypatch):
    rare = KeepModes(Mixture([[0.0], [1.0], [2.0]], 1.0, [1.0, 2e-3, 1e-3]), [1, 2])
    labels = rare.labels_of(torch.arange(300))
    assert binomtest(int(labels.sum()), 300, 1 / 3).pvalue > LEVEL
    monkeypatch.setattr(combinators, "_REDRAWN_AT_ONCE", 7)
    assert torch.equal(rare.labels_of(torch.arange(250, 300)), labels[250:])


def test_classes_that_are_rare_are_drawn_in_few_passes():
    class Counted(Mixture):
        passes = 0

        def labels_of(self, seeds):
            self.passes += 1
            return super().labels_of(seeds)

    base = Counted([[0.0], [1.0]], 1.0, [1.0, 1e-3])
    KeepModes(base, [1]).labels_of(torch.arange(100))
    assert 2 < base.passes < 100  # thousands, where each is a draw of each seed
