"""Metrics against numbers that pencil and paper give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import norm
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from gen_eval import draws
from gen_eval.latent import truncated_normal
from gen_eval.metrics.divergence.conjugates import DIVERGENCES, Divergence
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.metrics.inception_score import inception_score
from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.likelihood import elbo, iwae
from gen_eval.metrics.transport.critic import kantorovich_rubinstein_dual
from gen_eval.metrics.transport.exact import wasserstein
from gen_eval.metrics.two_sample.c2st import c2st
from gen_eval.validation.check import Check, near


def normals(n: int, dim: int, seed: int) -> Tensor:
    """Standard normal rows, float64 ``[n, dim]``, another set for each seed."""
    return draws.normal(torch.arange(n) + seed * 10**6, dim)


# --- Distances of Gaussians, whose axes are turned so that no covariance is diagonal

_NARROW = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
_WIDE = torch.linspace(1.2, 0.7, 8, dtype=torch.float64)
_GAP = 0.6
_W2 = 8 * _GAP**2 + float((_NARROW - _WIDE).square().sum())
_BANDWIDTH = 3.0
_SEEDS = range(20)


def _turn() -> Tensor:
    turn: Tensor = torch.linalg.qr(normals(8, 8, 0))[0]
    return turn


def _turned_rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    return (normals(n, 8, 2 * seed + 1) * _NARROW + _GAP) @ _turn(), normals(
        n, 8, 2 * seed + 2
    ) * _WIDE @ _turn()


def fitted(rows: Tensor) -> Gaussian:
    """The Gaussian of rows ``[n, d]``."""
    return Gaussian(len(rows), rows.mean(0), rows.T.cov(), rows)


def _frechet() -> Sequence[float]:
    turn = _turn()
    exact = [
        Gaussian(None, mean @ turn, turn.T @ torch.diag(sd.square()) @ turn)
        for mean, sd in ((_GAP + 0 * _NARROW, _NARROW), (0 * _WIDE, _WIDE))
    ]
    of_rows = [
        frechet(*(fitted(rows) for rows in _turned_rows(5000, seed))).values["frechet"] for seed in _SEEDS
    ]
    return frechet(*exact).values["frechet"], sum(of_rows) / len(of_rows)


def _kernel_mean(first: Tensor, second: Tensor, gap: float) -> float:
    """E exp(-|x - y|² / 2s²) of Gaussians with these standard deviations along common axes."""
    total = _BANDWIDTH**2 + first.square() + second.square()
    return float(torch.prod(_BANDWIDTH / total.sqrt() * torch.exp(-(gap**2) / total / 2)))


_MMD2 = (
    _kernel_mean(_NARROW, _NARROW, 0) + _kernel_mean(_WIDE, _WIDE, 0) - 2 * _kernel_mean(_NARROW, _WIDE, _GAP)
)


def _mmd() -> float:
    found = [mmd(*_turned_rows(1000, seed), bandwidth=_BANDWIDTH).values["mmd2"] for seed in _SEEDS]
    return sum(found) / len(found)


# --- Scores of classes, and transport

_RIGHT, _OTHER = 0.82, 0.02
_NOISY_CLASSES = 10 * math.exp(_RIGHT * math.log(_RIGHT) + 9 * _OTHER * math.log(_OTHER))


def _inception_score() -> float:
    logits = torch.full((100, 10), math.log(_OTHER), dtype=torch.float64)
    logits[torch.arange(100), torch.arange(100) % 10] = math.log(_RIGHT)
    return inception_score(logits, splits=1).values["inception_score"]


def _duality() -> float:
    x, y = 1.5 * normals(40, 2, 0) + 1, normals(40, 2, 1)
    return kantorovich_rubinstein_dual(x, y).value - wasserstein(x, y).values["wasserstein"]


def _optimal_bound(row: Divergence) -> float:
    """E_P T* - E_Q f*(T*) - D_f(P || Q) of N(0, 1) and N(1, 1.5²), integrated on a grid."""
    x = torch.linspace(-16, 18, 20_001, dtype=torch.float64)
    log_p, log_q = -(x**2) / 2, -(((x - 1) / 1.5) ** 2) / 2 - math.log(1.5)
    p, q = (torch.exp(each) / math.sqrt(2 * math.pi) for each in (log_p, log_q))
    t = row.optimal(log_p - log_q)
    gain = (p * t - q * row.conjugate(t) - q * row.f(torch.exp(log_p - log_q))).sum()
    return float(gain * (x[1] - x[0]))


# --- Bounds of likelihoods


def _log_normal(x: Tensor, sd: float) -> Tensor:
    return -((x / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))


def _linear_autoencoder() -> Sequence[float]:
    """By how much the ELBO of x = W z + noise is off, of the true posterior and of one whose axes are turned.

    The mean over sigma points is that over q, as log p(x, z) - log q(z) is quadratic in z: nothing is drawn.
    """
    noise, loadings, axes = 0.7, normals(5, 2, 0), torch.linalg.qr(normals(2, 2, 1))[0]
    x = normals(200, 2, 2) @ loadings.T + noise * normals(200, 5, 3)
    covariance = loadings @ loadings.T + noise**2 * torch.eye(5).double()
    data: Any = MultivariateNormal(torch.zeros(5).double(), covariance)
    exact = data.log_prob(x)

    def posterior(w: Tensor) -> Any:
        spread = torch.linalg.inv(torch.eye(2) + w.T @ w / noise**2)
        return MultivariateNormal((x @ w @ spread / noise**2)[:, None], spread)

    off = []
    for q in (posterior(loadings), posterior(loadings @ axes)):
        steps = math.sqrt(2) * torch.linalg.cholesky(q.covariance_matrix[0, 0]).T
        z = q.mean + torch.cat([steps, -steps])
        joint = _log_normal(z, 1.0).sum(-1) + _log_normal(x[:, None] - z @ loadings.T, noise).sum(-1)
        bound = elbo(joint, q.log_prob(z)).per_image["heldout"]
        off.append(bound - exact + kl_divergence(q, posterior(loadings))[:, 0])
    return [float(each.abs().max()) for each in off]


_WIDER = 1.5
_WIDE_GAP = (_WIDER**2 - 1) / 2 - math.log(_WIDER)
_WEIGHT_VARIANCE = _WIDER**2 / math.sqrt(2 * _WIDER**2 - 1) - 1


def _wide_proposal() -> Sequence[float]:
    """Bounds less the log-likelihood, of x = z + noise and a q that is too wide, with 1, 10 and 1000 draws."""
    x, spread = math.sqrt(2) * normals(1000, 1, 0), _WIDER * math.sqrt(0.5)
    z = x / 2 + spread * normals(1000, 1000, 1)
    weights = _log_normal(z, 1.0) + _log_normal(x - z, 1.0) - _log_normal(z - x / 2, spread)
    score = iwae(weights, nested=(1, 10))
    exact = float(_log_normal(x, math.sqrt(2)).mean())
    return [score.values[name] - exact for name in ("iwae_1", "iwae_10", "iwae")]


# --- Classifiers, and latents

_SHIFTS = (0.5, 1.0, 2.0)


def _accuracies() -> Sequence[float]:
    found = []
    for delta in _SHIFTS:
        x, y = normals(20_000, 5, 1), normals(20_000, 5, 2)
        x[:, 0] += delta
        found.append(c2st(x, y, permutations=0).values["accuracy"])
    return found


_THRESHOLDS = (3.0, 2.0, 1.5, 1.0, 0.5)


def _truncated_variance(t: float) -> float:
    return float(1 - 2 * t * norm.pdf(t) / (2 * norm.cdf(t) - 1))


def _truncated_variances() -> Sequence[float]:
    seeds = torch.arange(2000)
    return [float(truncated_normal(seeds, 100, t).double().square().mean()) for t in _THRESHOLDS]


CLOSED_FORMS = (
    Check(
        "frechet-gaussians",
        "The Fréchet distance of Gaussians is their squared Wasserstein-2 distance, which sets of 5000 rows come near.",
        ("frechet", "fid"),
        "quick",
        (near(_W2, 1e-9, "of the moments"), near(_W2, 0.08, "mean of 20 pairs of sets")),
        _frechet,
        "Dowson and Landau 1982, JMVA 12:450; Heusel et al. 2017, arXiv:1706.08500",
    ),
    Check(
        "mmd-gaussians",
        "The squared MMD of two Gaussians under an RBF kernel, as the mean over 20 pairs of sets.",
        ("mmd",),
        "quick",
        (near(_MMD2, 0.005),),
        _mmd,
        "Gretton et al. 2012, JMLR 13:723; Gaussian integrals",
    ),
    Check(
        "inception-score-noisy-classes",
        "Posteriors with .82 on the right one of ten classes score 10 exp(-H).",
        ("inception-score",),
        "quick",
        (near(_NOISY_CLASSES, 1e-9),),
        _inception_score,
        "Salimans et al. 2016, arXiv:1606.03498",
    ),
    Check(
        "kantorovich-rubinstein",
        "The dual of Wasserstein-1, by a linear program, less the primal, by assignment.",
        ("wasserstein",),
        "quick",
        (near(0.0, 1e-7),),
        _duality,
        "Villani 2009, Optimal Transport, theorem 5.10",
    ),
    Check(
        "f-divergences-at-the-optimum",
        "The variational bound at T* = f'(p/q), less the divergence itself, by quadrature.",
        ("f-divergence", "f-gan"),
        "quick",
        tuple(near(0.0, 1e-9, name) for name in DIVERGENCES),
        lambda: [_optimal_bound(row) for row in DIVERGENCES.values()],
        "Nowozin et al. 2016, arXiv:1606.00709, table 2",
    ),
    Check(
        "elbo-of-a-linear-autoencoder",
        "It is the log-likelihood at the true posterior, and short of it by KL(q, posterior) elsewhere; the largest "
        "deviations over 200 rows.",
        ("vae",),
        "quick",
        (near(0.0, 1e-9, "at the solution of pPCA"), near(0.0, 1e-9, "with turned axes")),
        _linear_autoencoder,
        "Lucas et al. 2019, arXiv:1911.02469; Tipping and Bishop 1999",
    ),
    Check(
        "iwae-of-a-wide-proposal",
        "The gap to the log-likelihood: -KL of one draw, about -var(w) / 2K of K, and nearly none of 1000.",
        ("vae",),
        "quick",
        (
            near(-_WIDE_GAP, 0.01, "1 draw"),
            near(-_WEIGHT_VARIANCE / 20, 0.0015, "10 draws"),
            near(0.0, 0.001, "1000 draws"),
        ),
        _wide_proposal,
        "Burda et al. 2016, arXiv:1509.00519",
    ),
    Check(
        "c2st-accuracy",
        "A linear classifier tells Gaussians that are delta apart with accuracy Phi(delta / 2).",
        ("c2st",),
        "quick",
        tuple(near(float(norm.cdf(delta / 2)), 0.01, f"delta {delta:g}") for delta in _SHIFTS),
        _accuracies,
        "Lopez-Paz and Oquab 2017, arXiv:1610.06545",
    ),
    Check(
        "variance-of-truncated-latents",
        "Components drawn again beyond ±t have variance 1 - 2 t phi(t) / (2 Phi(t) - 1), here over the known one.",
        ("biggan",),
        "quick",
        tuple(near(1.0, 0.01, f"t {t:g}") for t in _THRESHOLDS),
        lambda: [
            got / _truncated_variance(t) for got, t in zip(_truncated_variances(), _THRESHOLDS, strict=True)
        ],
        "Brock et al. 2019, arXiv:1809.11096, section 3.1",
    ),
)
