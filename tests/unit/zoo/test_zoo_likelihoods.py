"""What decoders say of x: densities by quadrature, draws by their distribution function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gen_eval.errors import UnknownName
from gen_eval.zoo.likelihoods import (
    FLOOR,
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    find_likelihood,
    log_normaliser,
)

# On both sides of where series take over, at 0, and as steep as pixels of a black background make it.
LOGITS = [0.0, 1e-12, -1e-6, 1e-3, 0.3, -0.2499999, 0.2500001, 2.0, -7.0, 40.0, -700.0]
# Quadrature of Gauss on 40 even parts of [0, 1].
NODES, GAUSS = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(32))
X = ((torch.arange(40)[:, None] + (NODES + 1) / 2) / 40).flatten()
WEIGHTS = (GAUSS / 80).repeat(40)


def column(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)[:, None]


def integral(values):
    return float((values * WEIGHTS).sum())


def density(logit):
    likelihood = ContinuousBernoulli()
    return likelihood.log_prob(X[:, None], torch.full((len(X), 1), logit, dtype=torch.float64)).exp()


# --- Continuous Bernoulli


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_a_density_with_this_mean_and_entropy(logit):
    p, eta = density(logit), column([logit])
    mean = float(ContinuousBernoulli().mean(eta))
    assert integral(p) == pytest.approx(1, abs=1e-11)
    assert mean == pytest.approx(integral(X * p), abs=1e-11)
    assert float(log_normaliser(eta)) - logit * mean == pytest.approx(-integral(p * p.log()), abs=1e-9)


def test_continuous_bernoulli_is_that_of_the_paper():
    """C(λ) = 2 artanh(1 - 2λ) / (1 - 2λ), and λ / (2λ - 1) + 1 / (2 artanh(1 - 2λ)) is the mean."""
    lam = torch.tensor([0.01, 0.2, 0.4, 0.7, 0.99], dtype=torch.float64)[:, None]
    x, eta, twice = torch.full_like(lam, 0.3), torch.logit(lam), 1 - 2 * lam
    by_paper = (2 * twice.atanh() / twice).log() + x * lam.log() + (1 - x) * (1 - lam).log()
    torch.testing.assert_close(ContinuousBernoulli().log_prob(x, eta), by_paper[:, 0])
    torch.testing.assert_close(ContinuousBernoulli().mean(eta), -lam / twice + 1 / (2 * twice.atanh()))


def test_the_mean_is_the_slope_of_the_log_normaliser():
    eta = column(LOGITS).requires_grad_()
    log_normaliser(eta).sum().backward()
    torch.testing.assert_close(eta.grad, ContinuousBernoulli().mean(eta.detach()), rtol=1e-9, atol=1e-12)
    assert bool(torch.autograd.functional.jacobian(ContinuousBernoulli().mean, eta).isfinite().all())


def test_single_precision_is_enough_near_the_middle_and_far_out():
    eta = torch.cat([torch.linspace(-1, 1, 4001), torch.logspace(0, 3.3, 200)])
    exact = log_normaliser(eta.double())
    assert float((log_normaliser(eta).double() - exact).abs().div(exact.abs().clamp(min=1)).max()) < 3e-7
    mean = ContinuousBernoulli().mean
    assert float((mean(eta).double() - mean(eta.double())).abs().max()) < 5e-7


@pytest.mark.parametrize("logit", LOGITS)
def test_draws_follow_the_continuous_bernoulli(logit):
    """The share of the density below a draw is that of normals below its noise."""
    noise = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]
    drawn = ContinuousBernoulli().draw(torch.full_like(noise, logit), noise)[:, 0]
    assert bool((drawn.diff() > 0).all())
    for x, share in zip(drawn.tolist(), stats.norm.cdf(noise[:, 0]), strict=True):
        inside = X * x
        below = x * integral((logit * inside - float(log_normaliser(column([logit])))).exp())
        assert below == pytest.approx(share, abs=1e-7)


# --- The others


def test_gaussian_shares_one_sd():
    likelihood = Gaussian().double()
    with torch.no_grad():
        likelihood.log_excess.fill_(math.log(0.7 - FLOOR))
    x, outputs, noise = torch.randn(3, 5, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    expected = stats.norm.logpdf(x.numpy(), outputs.numpy(), 0.7).sum((1, 2))
    torch.testing.assert_close(likelihood.log_prob(x, outputs).detach(), torch.from_numpy(expected))
    torch.testing.assert_close(likelihood.draw(outputs, noise).detach(), outputs + 0.7 * noise)
    assert likelihood.mean(outputs) is outputs


def test_gaussian_never_becomes_a_spike():
    likelihood = Gaussian()
    with torch.no_grad():
        likelihood.log_excess.fill_(-1000.0)
    assert float(likelihood.sd.detach()) == pytest.approx(FLOOR)
    assert bool(likelihood.log_prob(torch.zeros(2, 3), torch.zeros(2, 3)).isfinite().all())


def test_bernoulli_is_the_cross_entropy_and_no_density():
    generator = torch.Generator().manual_seed(0)
    x, outputs = torch.rand(6, 3, 4, generator=generator), torch.randn(6, 3, 4, generator=generator)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(outputs, x, reduction="none")
    torch.testing.assert_close(Bernoulli().log_prob(x, outputs), expected.sum((1, 2)))
    assert not Bernoulli.density
    ones = Bernoulli().draw(torch.full((4000, 1), 0.8), torch.randn(4000, 1, generator=generator))
    assert set(ones.flatten().tolist()) == {0.0, 1.0}
    assert float(ones.mean()) == pytest.approx(1 / (1 + math.exp(-0.8)), abs=0.025)


def test_likelihoods_by_name():
    assert all(find_likelihood(name) is row for name, row in LIKELIHOODS.items())
    with pytest.raises(UnknownName, match="did you mean 'gaussian'"):
        find_likelihood("gausian")
