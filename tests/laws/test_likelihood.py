"""What must hold of every likelihood: error bars, directions of bounds, and how little it says of samples."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from gen_eval.errors import FetchError
from gen_eval.likelihood import compare_likelihoods, evaluate_likelihood
from gen_eval.metrics.likelihood import elbo, iwae, log_mean_exp, nll, paired

NOISE = 3.0  # standard deviations that chance is allowed
REPETITIONS = 600
EXAMPLE = Path(__file__).parents[2] / "examples" / "likelihood_and_samples.py"


def assert_share(found, expected, repetitions=REPETITIONS):
    assert abs(found - expected) < NOISE * math.sqrt(expected * (1 - expected) / repetitions)


def log_normal(x, mean, sd):
    return -(((x - mean) / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))


def weights_of(x, k, wider, rng):
    """Log-weights of x = z + noise under a q that is too wide, float64 ``[n, k]``."""
    spread = wider * math.sqrt(0.5)
    z = x[:, None] / 2 + spread * rng.standard_normal((len(x), k))
    joint = log_normal(z, 0, 1) + log_normal(x[:, None], z, 1)
    return torch.from_numpy(joint - log_normal(z, x[:, None] / 2, spread))


# --- Error bars


@pytest.mark.parametrize("n", [20, 200])
def test_intervals_of_the_likelihood_cover_it(n):
    rng, truth = np.random.default_rng(0), 0.5 * math.log(2 * math.pi * math.e * 2)
    covered = []
    for _ in range(REPETITIONS):
        score = nll(
            torch.from_numpy(stats.norm.logpdf(rng.standard_normal(n) * math.sqrt(2), 0, math.sqrt(2)))
        )
        covered.append(abs(score.values["nll"] - truth) < stats.t.ppf(0.975, n - 1) * score.errors["nll"])
    low = 0.88 if n == 20 else 0.93  # chi-squared summands are skewed
    assert low - NOISE * math.sqrt(low * (1 - low) / REPETITIONS) < np.mean(covered) < 0.97


@pytest.mark.parametrize(("k", "wider"), [(4, 1.5), (10, 1.5), (50, 2.5)])
def test_error_counts_images_and_draws_and_error_of_draws_the_draws(k, wider):
    """Over fresh draws of the same images the value spreads by the one, over fresh images by the other."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((REPETITIONS, 20)) * math.sqrt(2)
    fresh = [iwae(weights_of(x, k, wider, rng)) for x in images]
    same = [iwae(weights_of(images[0], k, wider, rng)) for _ in range(REPETITIONS)]
    spread = {
        name: np.std([one.values["iwae"] for one in of], ddof=1)
        for name, of in (("all", fresh), ("draws", same))
    }
    all_ = np.sqrt(np.mean([one.errors["iwae"] ** 2 for one in fresh]))
    draws = np.sqrt(np.mean([one.values["error_of_draws"] ** 2 for one in same]))
    assert all_ / spread["all"] == pytest.approx(1, abs=0.1)
    # The jackknife is never too small in expectation (Efron and Stein 1981); of few draws it is too large.
    assert 0.92 < draws / spread["draws"] < (1.2 if k == 4 else 1.1)


def test_p_values_of_equal_models_are_uniform():
    rng = np.random.default_rng(2)
    values = []
    for _ in range(REPETITIONS):
        shared = rng.standard_normal(30)
        first, second = (torch.from_numpy(shared + 0.3 * rng.standard_normal(30)) for _ in range(2))
        values.append(paired(first, second).values["p_value"])
    assert stats.kstest(values, "uniform").pvalue > 0.01


# --- Directions


def test_importance_sampling_is_unbiased_for_p_and_below_it_in_log():
    rng = np.random.default_rng(3)
    x = np.full(40_000, 1.3)
    exact = stats.norm.logpdf(1.3, 0, math.sqrt(2))
    estimates = log_mean_exp(weights_of(x, 3, 1.5, rng)).numpy()
    ratios = np.exp(estimates - exact)
    error = ratios.std() / math.sqrt(len(x))
    assert abs(ratios.mean() - 1) < NOISE * error
    assert estimates.mean() < exact - 10 * estimates.std() / math.sqrt(len(x))


def test_bounds_lie_below_the_likelihood_and_rise_with_draws():
    rng = np.random.default_rng(4)
    x = rng.standard_normal(1000) * math.sqrt(2)
    exact = torch.from_numpy(stats.norm.logpdf(x, 0, math.sqrt(2)))
    below = []
    for k in (1, 4, 16, 64):
        weights = weights_of(x, k, 2.0, rng)
        gap = paired(iwae(weights).per_image["heldout"], exact)
        below.append(gap.values["difference"])
        assert gap.values["difference"] < NOISE * gap.errors["difference"]
    assert below == sorted(below)
    assert below[0] == pytest.approx(-((2.0**2 - 1) / 2 - math.log(2.0)), abs=0.1)
    first = weights_of(x, 1, 2.0, rng)
    assert elbo(first, torch.zeros_like(first)).values["elbo"] < float(exact.mean())


class Pixel:
    """A mixture of two normals over one pixel on [0, 1], which does not sit still between levels."""

    bound = "exact"

    def log_prob(self, x):
        x = x.flatten(1).double()
        parts = [
            -((x - mean) ** 2) / (2 * sd**2) - math.log(2 * sd * math.sqrt(2 * math.pi))
            for mean, sd in self.parts
        ]
        return torch.logaddexp(*parts).sum(1)

    parts = ((0.3, 0.002), (0.7, 0.1))

    def level_log_prob(self, levels):
        edges = [np.diff(stats.norm.cdf(np.arange(257) / 256, mean, sd)) / 2 for mean, sd in self.parts]
        return np.log(np.add(*edges))[levels]


def test_uniform_dequantisation_is_a_lower_bound_for_levels():
    model, rng = Pixel(), np.random.default_rng(5)
    of_levels = np.exp(model.level_log_prob(np.arange(256)))
    images = rng.choice(256, (2000, 1, 2), p=of_levels / of_levels.sum()).astype(np.uint8)
    found = evaluate_likelihood(model, images)
    gap = paired(found.per_image, torch.from_numpy(model.level_log_prob(images[:, 0]).sum(1)))
    assert found.terms.kind == "exact"  # of what it was given
    assert gap.values["difference"] < -10 * gap.errors["difference"]


# --- Likelihood and samples


@pytest.mark.parametrize("share", [0.5, 0.01, 1e-6])
def test_dilution_costs_no_more_than_the_log_of_the_share(share):
    """log(s p + (1 - s) noise) is at least log p + log s, of every single image."""
    x = np.random.default_rng(6).standard_normal(2000)
    data, noise = stats.norm.logpdf(x), stats.norm.logpdf(x, 3, 5)
    diluted = np.logaddexp(math.log(share) + data, math.log(1 - share) + noise)
    score = paired(torch.from_numpy(diluted), torch.from_numpy(data))
    assert float(score.per_image["heldout"].min()) >= math.log(share)
    assert math.log(share) < score.values["difference"] < 0


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("likelihood_and_samples", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(example):
    try:
        train, held_out = example.digits()
    except FetchError as error:
        pytest.skip(str(error))
    return {row.name: row for row in example.rows(train[:2000], held_out[:500])}


@pytest.mark.network
def test_good_likelihood_with_bad_samples(rows):
    ppca, diluted = rows["ppca"], rows["diluted"]
    loss = compare_likelihoods(diluted.likelihood, ppca.likelihood)
    assert 0 < loss.values["nll"] <= math.log(100)
    assert float(loss.per_image["heldout"].max()) <= math.log(100) + 1e-9
    assert loss.values["bits_per_dim"] <= 0.00848
    assert diluted.frechet > 20 * ppca.frechet
    assert diluted.precision < 0.05 < 0.5 < ppca.precision


@pytest.mark.network
def test_good_samples_with_bad_likelihood(rows):
    ppca, memoriser = rows["ppca"], rows["memoriser"]
    assert memoriser.likelihood.value > 100 * ppca.likelihood.value
    assert compare_likelihoods(memoriser.likelihood, ppca.likelihood).values["p_value"] < 1e-100
    assert memoriser.frechet < ppca.frechet / 3
    assert memoriser.precision > 0.8  # 0.89 of fresh digits
    assert memoriser.authenticity == 0 < 0.5 < ppca.authenticity


@pytest.mark.network
def test_densities_of_the_example_integrate_and_are_sampled(example, rows):
    """On 3 pixels, where it can be told: each integrates to 1, and has the mean likelihood of its own samples."""
    points = torch.from_numpy(np.random.default_rng(7).uniform(0.3, 0.6, (50, 3)))
    grid = torch.cartesian_prod(*3 * [torch.linspace(-0.5, 1.5, 101).double()])
    cell = 0.02**3
    ppca = example.PPCA(points, 2)
    for model in (ppca, example.Memoriser(points, 0.05)):
        log_density = model.log_prob(grid)
        assert float(log_density.exp().sum() * cell) == pytest.approx(1, abs=1e-3)
        entropy = -float((log_density.exp() * log_density).sum() * cell)
        drawn = nll(model.log_prob(model.sample(4000, torch.Generator().manual_seed(0))))
        assert abs(drawn.values["nll"] - entropy) < 4 * drawn.errors["nll"] + 1e-3


@pytest.mark.network
def test_the_example_prints_its_table(example, rows, monkeypatch, capsys):
    monkeypatch.setattr(example, "rows", lambda train, held_out: list(rows.values()))
    example.main()
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["model", "bits/dim"]
    assert [line.split()[0] for line in lines] == ["ppca", "diluted", "memoriser"]
