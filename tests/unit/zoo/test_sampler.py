"""The contract of samplers, on every world and combinator; and that samples have the density that is claimed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from gen_eval.errors import UsageError
from gen_eval.zoo.combinators import Blurred, KeepModes, Memoriser, Mix, Noisy, Shifted, Truncated
from gen_eval.zoo.worlds import WORLDS, Checkerboard, Disc, Empirical, Gaussian, Mixture

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (60, 1, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (60, 3, 6, 6), dtype=np.uint8)
VECTORS = RNG.standard_normal((60, 2))
DIGITS = [k % 4 for k in range(60)]


def tilted():
    """Two Gaussians of different shapes, one four times as frequent."""
    covariances = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.7]]])
    return Mixture([[-1.0, 0.5], [1.5, -0.5]], covariances, [0.8, 0.2], classes=("left", "right"))


def wide():
    return Gaussian([0.5, -0.5], [[0.6, -0.3], [-0.3, 0.4]])


def images():
    return Empirical(COLOUR, DIGITS)


SAMPLERS = {
    **WORLDS,
    "tilted": tilted,
    "gaussian-5d": lambda: Gaussian(torch.arange(5.0), torch.eye(5) + 0.3),
    "board": lambda: Checkerboard(3, 1.5),
    "vectors": lambda: Empirical(VECTORS),
    "gray": lambda: Empirical(GRAY),
    "images": images,
    "memoriser": lambda: Memoriser(COLOUR, 8, DIGITS),
    "noisy": lambda: Noisy(tilted(), 0.5),
    "noisy-disc": lambda: Noisy(Disc(), 0.5),
    "noisy-noisy": lambda: Noisy(Noisy(wide(), 0.3), 0.4),
    "noisy-images": lambda: Noisy(images(), 20),
    "blurred": lambda: Blurred(Empirical(GRAY), 0.8),
    "kept": lambda: KeepModes(Mixture.ring(), [6, 0, 3]),
    "kept-noisy": lambda: KeepModes(Noisy(tilted(), 0.4), [1]),
    "kept-images": lambda: KeepModes(images(), [3, 1]),
    "mix": lambda: Mix([wide(), tilted(), Checkerboard()], [1, 2, 3]),
    "mix-smooth": lambda: Mix([wide(), Shifted(wide(), [-2, 1])], [3, 1]),
    "mix-images": lambda: Mix([images(), Noisy(images(), 9)]),
    "truncated": lambda: Truncated(wide(), 0.6),
    "truncated-disc": lambda: Truncated(Disc(3.0), 0.5),
    "shifted": lambda: Shifted(tilted(), [0.5, 1.0]),
    "shifted-board": lambda: Shifted(Checkerboard(), [1.0, 0.5]),
    "shifted-images": lambda: Shifted(images(), (2, -1)),
}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]()


# --- Seeds


def test_the_first_samples_are_those_that_would_have_been_drawn_alone(sampler):
    samples = sampler.sample(100, seed=3)
    assert torch.equal(samples[:50], sampler.sample(50, seed=3))
    for i in (0, 1, 99):
        assert torch.equal(samples[i : i + 1], sampler.sample(1, seed=3 + i))


def test_a_sample_is_that_of_its_seed(sampler):
    assert torch.equal(sampler.sample(10, seed=5)[3], sampler.sample(10, seed=8)[0])
    seeds = torch.tensor([12, 5, 900, 5])
    samples = sampler(seeds)
    for row, seed in zip(samples, seeds.tolist(), strict=True):
        assert torch.equal(row, sampler.sample(1, seed=seed)[0])
    assert seeds.tolist() == [12, 5, 900, 5]


def test_the_same_sampler_made_again_gives_the_same_bytes(sampler, request):
    again = SAMPLERS[request.node.callspec.params["sampler"]]()
    assert torch.equal(again.sample(40, seed=2), sampler.sample(40, seed=2))
    assert not torch.equal(sampler.sample(40, seed=50), sampler.sample(40, seed=2))


def test_samples_are_images_or_vectors(sampler):
    samples = sampler.sample(7, seed=0)
    assert samples.shape == (7, *sampler.shape)
    assert samples.dtype == (torch.uint8 if len(sampler.shape) == 3 else torch.float32)
    assert samples.device.type == "cpu"
    assert samples.is_contiguous()
    assert len(samples.unique(dim=0)) > 1
    assert sampler.name


def test_global_random_state_is_neither_touched_nor_used(sampler):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    samples = sampler.sample(20, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        assert torch.equal(sampler.sample(20, seed=1), samples)


# --- Labels, truncation, and what is refused


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (5, -1)])
def test_counts_and_seeds_that_make_no_sense_are_refused(sampler, n, seed):
    with pytest.raises(UsageError, match=f"n={n} and seed={seed}"):
        sampler.sample(n, seed=seed)


def test_labels_that_are_drawn_are_those_that_can_be_asked_for(sampler):
    seeds = torch.arange(30)
    labels = sampler.labels_of(seeds)
    if not sampler.classes:
        assert labels is None
        with pytest.raises(UsageError, match="knows no classes"):
            sampler.sample(3, seed=0, labels=0)
        return
    assert set(labels.tolist()) <= set(range(len(sampler.classes)))
    assert torch.equal(sampler(seeds, labels=labels), sampler(seeds))
    last = len(sampler.classes) - 1
    assert torch.equal(sampler.sample(3, seed=0, labels=last), sampler.sample(3, seed=0, labels=[last] * 3))


@pytest.mark.parametrize("labels", [99, -1, [0, 0], [0.0, 1.0, 2.0], [True, True, True], [[0], [0], [0]]])
def test_labels_that_do_not_exist_are_refused(sampler, labels):
    with pytest.raises(UsageError, match="labels"):
        sampler.sample(3, seed=0, labels=labels)


def test_truncation_makes_samples_more_alike_or_is_refused(sampler):
    if sampler.truncation is None:
        with pytest.raises(UsageError, match="has no truncation; found truncation=0.5"):
            sampler.sample(3, seed=0, truncation=0.5)
        return
    spread = [float(sampler.sample(300, seed=0, truncation=psi).var(0).sum()) for psi in (0.2, 0.5, 1.0)]
    assert spread == sorted(spread)
    assert torch.equal(sampler.sample(5, seed=0, truncation=1.0), sampler.sample(5, seed=0))
    for wrong in (-0.5, math.nan, math.inf):
        with pytest.raises(UsageError):
            sampler.sample(3, seed=0, truncation=wrong)


# --- Densities. A box of 24 x 24 fields from -6 to 6, each of them 10 x 10 points.

FIELDS, POINTS, HALF = 24, 10, 6.0
STEP = 2 * HALF / (FIELDS * POINTS)
TICKS = (torch.arange(FIELDS * POINTS, dtype=torch.float64) + 0.5) * STEP - HALF
BOX = torch.cartesian_prod(TICKS, TICKS)

FLAT = [name for name, make in SAMPLERS.items() if make().shape == (2,) and hasattr(make(), "log_prob")]
SMOOTH = [name for name, make in SAMPLERS.items() if hasattr(make(), "score")]


def test_the_samplers_that_have_densities_are_these():
    """So that none of the tests below passes by having nothing to look at."""
    assert set(FLAT) == {
        *(*WORLDS, "tilted", "board", "noisy", "noisy-noisy", "kept", "kept-noisy", "mix", "mix-smooth"),
        *("truncated", "truncated-disc", "shifted", "shifted-board"),
    }
    rough = {"disc", "checkerboard", "board", "truncated-disc", "shifted-board", "mix"}
    assert set(SMOOTH) == {*FLAT, "gaussian-5d"} - rough


@pytest.mark.parametrize(
    "name", [name for name in FLAT if "disc" not in name]
)  # see test_worlds.py for discs
def test_a_density_integrates_to_1_and_samples_have_it(name):
    sampler = SAMPLERS[name]()
    assert sampler.bound == "exact"
    density = sampler.log_prob(BOX)
    assert density.dtype == torch.float64
    assert density.shape == (len(BOX),)
    fields = density.exp().view(FIELDS, POINTS, FIELDS, POINTS).sum((1, 3)) * STEP**2
    assert float(fields.sum()) == pytest.approx(1, abs=1e-6)
    samples = sampler.sample(20_000, seed=0)
    assert bool(sampler.log_prob(samples).isfinite().all())
    edges = np.linspace(-HALF, HALF, FIELDS + 1)
    counts, _, _ = np.histogram2d(*samples.T.double().numpy(), bins=[edges, edges])
    found, expected = counts.ravel(), len(samples) * fields.flatten().numpy()
    often = expected > 5
    found = np.append(found[often], len(samples) - found[often].sum())
    expected = np.append(expected[often], len(samples) - expected[often].sum())
    if expected[-1] < 5:  # what is left over goes with the field before
        found, expected = (np.append(x[:-2], x[-2:].sum()) for x in (found, expected))
    assert chisquare(found, expected).pvalue > 0.001


@pytest.mark.parametrize("name", SMOOTH)
def test_a_score_is_the_gradient_of_the_log_density(name):
    sampler = SAMPLERS[name]()
    x = (2 * torch.randn(200, *sampler.shape, generator=torch.Generator().manual_seed(0))).double()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(sampler.log_prob(x).sum(), x)
    score = sampler.score(x.detach())
    assert score.dtype == torch.float64
    torch.testing.assert_close(score, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*FLAT, "gaussian-5d"])
def test_densities_refuse_what_are_no_rows_of_their_dimension(name):
    sampler = SAMPLERS[name]()
    (dim,) = sampler.shape
    for x in (torch.zeros(3, dim + 1), torch.zeros(3, 1), torch.zeros(dim), torch.zeros(3, dim).long()):
        with pytest.raises(UsageError, match=rf"expects floating point \[n, {dim}\]"):
            sampler.log_prob(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch finds no CUDA device")
@pytest.mark.parametrize("name", FLAT)
def test_densities_and_scores_on_a_gpu_are_those_of_the_cpu(name):
    sampler = SAMPLERS[name]()
    x = sampler.sample(500, seed=0)
    torch.testing.assert_close(sampler.log_prob(x.cuda()).cpu(), sampler.log_prob(x), rtol=1e-10, atol=1e-10)
    if hasattr(sampler, "score"):
        torch.testing.assert_close(sampler.score(x.cuda()).cpu(), sampler.score(x), rtol=1e-9, atol=1e-9)
    assert torch.equal(sampler(torch.arange(50).cuda()), sampler.sample(50, seed=0))
