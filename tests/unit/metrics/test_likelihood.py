"""Likelihoods and their bounds, against models that know their own."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics import likelihood
from gen_eval.metrics.likelihood import bits_per_dim, elbo, iwae, log_mean_exp, nll, on_levels, paired

N = 40


def normal(shape, seed, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def log_normal(x, mean, variance):
    return -0.5 * (x - mean) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)


# --- Nats and bits


def test_nll_is_the_mean_with_the_error_of_a_mean():
    log_probs = normal(N, 0) - 100
    score = nll(log_probs)
    assert score.values["nll"] == pytest.approx(-log_probs.mean().item(), rel=1e-12)
    assert score.errors["nll"] == pytest.approx(stats.sem(log_probs.numpy()), rel=1e-12)
    assert score.bias == 0
    assert torch.equal(score.per_image["heldout"], -log_probs)


@pytest.mark.parametrize(
    ("log_density", "scale"),
    [(0.0, 256), (-math.log(2), 128), (-math.log(256), 1)],
    ids=["on [0, 1]", "on [-1, 1]", "levels themselves"],
)
def test_what_knows_nothing_takes_eight_bits(log_density, scale):
    score = bits_per_dim(torch.full((5,), 784 * log_density, dtype=torch.float64), dims=784, scale=scale)
    assert score.values["bits_per_dim"] == pytest.approx(8, rel=1e-12)
    assert score.errors["bits_per_dim"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("width", [1.0, 2.0, 4.0])
def test_a_density_flat_between_levels_takes_the_bits_of_its_levels(width):
    """Uniform noise loses nothing there: the bound of Theis et al. is attained, whatever the range of pixels."""
    probs = np.array([0.5, 0.25, 0.125, 0.125])  # of 4 levels
    levels = np.random.default_rng(0).choice(4, (N, 6), p=probs)
    discrete = torch.from_numpy(np.log(probs)[levels].sum(1))
    density = torch.from_numpy(np.log(probs * 4 / width)[levels].sum(1))  # pixels on [0, width]
    expected = bits_per_dim(discrete, dims=6)
    found = bits_per_dim(density, dims=6, scale=4 / width)
    assert found.values == pytest.approx(expected.values, rel=1e-12)
    assert found.errors == pytest.approx(expected.errors, rel=1e-12)
    assert expected.values["bits_per_dim"] == pytest.approx(-np.log2(probs)[levels].mean(), rel=1e-12)


def test_scales_are_those_of_a_change_of_variables():
    x = normal((N, 3), 1)
    unit = log_normal(x, 0, 1.0).sum(1)
    stretched = log_normal(5 * x, 0, 25.0).sum(1)  # the same distribution over 5 x
    torch.testing.assert_close(on_levels(unit, 3, 5.0), stretched, rtol=0, atol=1e-12)


# --- Bounds


class Linear(NamedTuple):
    """A linear VAE, which probabilistic PCA solves: x = W z + noise, with rotated W in the encoder.

    Args:
        w: ``[d, k]``.
        sd: of the noise.
        turn: ``[k, k]`` orthogonal: q is the posterior of W turn.
    """

    w: torch.Tensor
    sd: float
    turn: torch.Tensor

    def posterior(self, x, w):
        precision = torch.eye(w.shape[1], dtype=w.dtype) + w.T @ w / self.sd**2
        cov = torch.linalg.inv(precision)
        return x @ w @ cov / self.sd**2, cov

    def log_prob(self, x):
        cov = self.w @ self.w.T + self.sd**2 * torch.eye(len(self.w), dtype=x.dtype)
        return torch.distributions.MultivariateNormal(torch.zeros_like(x[0]), cov).log_prob(x)

    def draws(self, x):
        """Sigma points: as log p - log q is quadratic in z, its mean over them is that over q."""
        mean, cov = self.posterior(x, self.w @ self.turn)
        k = len(cov)
        spread = math.sqrt(k) * torch.linalg.cholesky(cov)
        z = mean[:, None] + torch.cat([spread.T, -spread.T])
        joint = log_normal(z, 0, 1.0).sum(2) + log_normal(x[:, None], z @ self.w.T, self.sd**2).sum(2)
        return joint, torch.distributions.MultivariateNormal(mean[:, None], cov).log_prob(z)

    def divergence(self, x):
        q, p = (
            torch.distributions.MultivariateNormal(*self.posterior(x, w))
            for w in (self.w @ self.turn, self.w)
        )
        return torch.distributions.kl_divergence(q, p)


@pytest.fixture
def linear():
    turn = torch.linalg.qr(normal((3, 3), 3))[0]
    return Linear(normal((6, 3), 2), 0.7, turn)


def test_elbo_at_the_solution_of_ppca_is_the_log_likelihood(linear):
    x, solved = normal((N, 6), 4), linear._replace(turn=torch.eye(3, dtype=torch.float64))
    score = elbo(*solved.draws(x))
    torch.testing.assert_close(score.per_image["heldout"], solved.log_prob(x), rtol=0, atol=1e-9)
    assert score.values["error_of_draws"] == pytest.approx(0, abs=1e-9)
    joint, posterior = solved.draws(x)
    bound = iwae(joint - posterior, nested=(1, 3))
    for name in ("iwae", "iwae_1", "iwae_3"):
        assert bound.values[name] == pytest.approx(float(solved.log_prob(x).mean()), abs=1e-9)


def test_elbo_of_a_rotated_encoder_falls_short_by_the_divergence(linear):
    x = normal((N, 6), 4)
    score, gap = elbo(*linear.draws(x)), linear.divergence(x)
    assert gap.min() > 0.1
    torch.testing.assert_close(linear.log_prob(x) - score.per_image["heldout"], gap, rtol=0, atol=1e-9)


WIDER = 1.5


def wide_weights(n, k, seed):
    """Log-weights of x = z + noise under a q that is 1.5 times too wide, and log p(x)."""
    x = math.sqrt(2) * normal(n, seed)
    spread = WIDER * math.sqrt(0.5)
    z = x[:, None] / 2 + spread * normal((n, k), seed + 1)
    joint = log_normal(z, 0, 1.0) + log_normal(x[:, None], z, 1.0)
    return joint - log_normal(z, x[:, None] / 2, spread**2), log_normal(x, 0, 2.0)


def test_iwae_closes_the_gap_of_a_wide_proposal():
    weights, exact = wide_weights(1000, 1000, 0)
    score = iwae(weights, nested=(1, 10, 100))
    gaps = [score.values[name] - float(exact.mean()) for name in ("iwae_1", "iwae_10", "iwae_100", "iwae")]
    divergence = (WIDER**2 - 1) / 2 - math.log(WIDER)
    assert divergence == pytest.approx(0.21953, abs=1e-5)
    assert gaps == sorted(gaps)
    assert gaps == pytest.approx([-divergence, -0.0106, -0.0010, -0.0001], abs=2e-3)
    # To first order the gap is var(w) / 2 K.
    variance = WIDER**2 / math.sqrt(2 * WIDER**2 - 1) - 1
    assert gaps[1] == pytest.approx(-variance / 20, abs=0.0015)


def test_one_draw_is_the_elbo():
    weights, _ = wide_weights(N, 12, 1)
    zeros = torch.zeros_like(weights)
    expected = elbo(weights, zeros)
    found = iwae(weights, nested=(1,))
    assert found.values["iwae_1"] == pytest.approx(expected.values["elbo"], rel=1e-12)
    assert found.errors["iwae_1"] == pytest.approx(expected.errors["elbo"], rel=1e-12)
    alone = iwae(weights[:, :1])
    assert alone.values["iwae"] == pytest.approx(elbo(weights[:, 0], zeros[:, 0]).values["elbo"], rel=1e-12)
    assert set(alone.values) == {"iwae"}  # of one draw nothing tells the error


def test_error_of_draws_of_the_elbo_is_that_of_a_mean():
    weights, _ = wide_weights(N, 12, 1)
    found = elbo(weights, torch.zeros_like(weights)).values["error_of_draws"]
    assert found == pytest.approx(math.sqrt(float((weights.var(1) / 12).mean()) / N), rel=1e-12)


def test_nested_bounds_rise_to_the_last_digit_where_each_divides_the_next():
    weights = 5 * normal((N, 64), 5)
    score = iwae(weights, nested=(1, 2, 8, 32))
    values = [score.values[f"iwae_{size}"] for size in (1, 2, 8, 32)]
    assert [*values, score.values["iwae"]] == sorted([*values, score.values["iwae"]])
    assert values[0] == pytest.approx(float(weights.mean()), rel=1e-12)


def test_nested_bounds_are_those_of_as_many_fresh_draws():
    """Also where the size does not divide the number of draws."""
    weights, fresh = 2 * normal((4000, 10), 6), 2 * normal((4000, 300), 7)
    for size in (2, 3, 7):
        one, other = (
            iwae(weights, nested=(size,)),
            log_mean_exp(fresh[:, : 300 // size * size].view(4000, -1, size)),
        )
        error = math.hypot(one.errors[f"iwae_{size}"], float(other.mean(1).std()) / math.sqrt(4000))
        assert abs(one.values[f"iwae_{size}"] - float(other.mean())) < 4 * error


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_error_of_draws_is_the_jackknife(spread):
    weights = spread * normal((N, 6), 8) - 5000
    without = torch.stack([log_mean_exp(weights[:, torch.arange(6) != draw]) for draw in range(6)], 1)
    expected = math.sqrt(float((without.var(1, correction=0) * 5).mean()) / N)
    assert iwae(weights).values["error_of_draws"] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_effective_draws():
    even, one = torch.zeros(N, 25), torch.zeros(N, 25).index_fill(1, torch.tensor(3), 100.0)
    assert iwae(even).values["effective_draws"] == pytest.approx(25, rel=1e-12)
    assert iwae(one).values["effective_draws"] == pytest.approx(1, rel=1e-12)
    assert not iwae(even).warnings
    (warning,) = iwae(one).warnings
    assert "of 40 of 40 images one of the 25 draws" in warning


def test_a_weight_of_zero_is_a_weight():
    weights = normal((N, 5), 9)
    weights[3, 2] = -math.inf
    expected = float(weights.exp().mean(1).log().mean())
    assert iwae(weights).values["iwae"] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(NumericalError, match=r"1 of 40 images have a bound of 1 draws of .* image 3, -inf"):
        iwae(weights, nested=(1,))
    weights[3, :4] = -math.inf
    assert "error_of_draws" not in iwae(weights).values
    weights[3] = -math.inf
    with pytest.raises(NumericalError, match="image 3"):
        iwae(weights)


# --- Two models


def test_paired_is_the_paired_t_test():
    first, second = normal(N, 10), normal(N, 11) + 0.2
    score, expected = paired(first, second), stats.ttest_rel(first.numpy(), second.numpy())
    assert score.values["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert score.values["difference"] / score.errors["difference"] == pytest.approx(
        expected.statistic, rel=1e-9
    )
    other_way = paired(second, first).values
    assert other_way["difference"] == -score.values["difference"]
    assert other_way["p_value"] == score.values["p_value"]


@pytest.mark.parametrize(("shift", "p_value"), [(0.0, 1.0), (0.5, 0.0)])
def test_paired_differences_that_are_all_the_same(shift, p_value):
    first = torch.arange(8.0)
    score = paired(first + shift, first)
    assert (score.values["difference"], score.values["p_value"]) == (shift, p_value)


# --- What all share


def test_order_of_images_does_not_matter():
    weights = 3 * normal((N, 20), 12)
    one, other = iwae(weights, nested=(1, 5)), iwae(weights.flip(0), nested=(1, 5))
    assert one.values == pytest.approx(other.values, rel=1e-12)
    assert one.errors == pytest.approx(other.errors, rel=1e-12)
    torch.testing.assert_close(one.per_image["heldout"].flip(0), other.per_image["heldout"])


def test_blocks_do_not_matter(monkeypatch):
    weights = 3 * normal((N, 20), 12)
    whole = iwae(weights, nested=(5,))
    monkeypatch.setattr(likelihood, "_BLOCK", 60)
    assert iwae(weights, nested=(5,)).values == pytest.approx(whole.values, rel=1e-12)


def test_float32_is_summed_in_float64():
    log_probs = (normal(10_000, 13) * 1e-3 - 5000).float()
    assert nll(log_probs).values["nll"] == pytest.approx(-float(log_probs.double().mean()), rel=1e-14)
    weights = (normal((N, 50), 14) - 5000).float()
    assert iwae(weights).values == pytest.approx(iwae(weights.double()).values, rel=1e-14)


def test_same_bytes_and_global_random_state_left_alone():
    weights = normal((N, 20), 15)
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert iwae(weights, nested=(3,)).values == iwae(weights, nested=(3,)).values
    assert iwae(weights, nested=(3,), seed=1).values["iwae_3"] != iwae(weights, nested=(3,)).values["iwae_3"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nll(torch.zeros(1)), TooFewImages, "at least 2 images, found 1"),
        (lambda: nll(torch.zeros(4, 2)), UsageError, r"found shape \(4, 2\)"),
        (lambda: nll(torch.zeros(4, dtype=torch.int64)), UsageError, "in int64"),
        (lambda: nll(torch.tensor([0.0, math.nan])), NumericalError, "1 of 2 images.*image 1, nan"),
        (lambda: nll(torch.tensor([-math.inf, 0.0])), NumericalError, "rules the image out"),
        (lambda: bits_per_dim(torch.zeros(4), dims=0), UsageError, "dims must be at least 1"),
        (lambda: bits_per_dim(torch.zeros(4), dims=2, scale=0.0), UsageError, "scale positive"),
        (lambda: elbo(torch.zeros(4), torch.zeros(4, 2)), UsageError, r"\(4,\) and \(4, 2\)"),
        (lambda: elbo(torch.full((4,), -math.inf), torch.zeros(4)), NumericalError, "4 of 4"),
        (lambda: iwae(torch.zeros(4)), UsageError, r"\[n, K\]"),
        (lambda: iwae(torch.zeros(4, 0)), UsageError, r"\[n, K\]"),
        (lambda: iwae(torch.zeros(1, 3)), TooFewImages, "found 1"),
        (lambda: iwae(torch.zeros(4, 3), nested=(3,)), UsageError, "1 to 2 of the 3 draws"),
        (lambda: iwae(torch.zeros(4, 3), nested=(1, 1)), UsageError, "each once"),
        (lambda: iwae(torch.tensor([[0.0, math.nan]] * 4)), NumericalError, "4 of 4"),
        (lambda: iwae(torch.tensor([[0.0, math.inf]] * 4)), NumericalError, "4 of 4"),
        (lambda: paired(torch.zeros(4), torch.zeros(5)), UsageError, "as many"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
