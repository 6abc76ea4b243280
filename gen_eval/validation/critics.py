"""What a discriminator learns of two fixed distributions, by the objectives and penalties that train GANs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.metrics.divergence.conjugates import DIVERGENCES
from gen_eval.validation.averages import follow
from gen_eval.validation.check import Check, Known, at_most, near
from gen_eval.zoo.nets.layers import Layers
from gen_eval.zoo.objectives import find_objective
from gen_eval.zoo.penalties import clip, gradient_penalty

_BATCH, _UNITS = 512, 64
_RATE = 2e-3
Draw = Callable[[int, torch.Generator], Tensor]  # so many rows [n, d]


def _critic(
    objective: str,
    real: Draw,
    fake: Draw,
    *,
    steps: int,
    penalty: float = 0.0,
    limit: float | None = None,
    spectral: bool = False,
) -> nn.Module:
    """A critic of two hidden layers, the running average over its training on fresh rows.

    Args:
        objective: a row of :data:`gen_eval.zoo.objectives.OBJECTIVES`.
        real: draws the data.
        fake: draws what a generator that stays as it is makes.
        steps: of Adam.
        penalty: weight of the gradient penalty.
        limit: of each weight.
        spectral: whether weights are spectrally normalised.
    """
    game, draws = find_objective(objective), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make = Layers(nn.init.orthogonal_, spectral)
        sizes = (real(1, draws).shape[1], _UNITS, _UNITS, 1)
        layers = [make.linear(*sizes[at : at + 2]) for at in range(3)]
        critic = nn.Sequential(layers[0], nn.ELU(), layers[1], nn.ELU(), layers[2], nn.Flatten(0))
    average = copy.deepcopy(critic)
    optimiser = torch.optim.Adam(critic.parameters(), _RATE, (0.5, 0.99))
    for step in range(steps):
        x, y = real(_BATCH, draws), fake(_BATCH, draws)
        loss = game.discriminator_loss(critic(x), critic(y))
        if penalty:
            loss = loss + penalty * gradient_penalty(critic, x, y, draws)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if limit is not None:
            clip(critic.parameters(), limit)
        follow(average, critic, step)
    return average.eval()


def _normal(mean: float, sd: float, dim: int = 1) -> Draw:
    """Gaussian rows, whose first components have that mean."""

    def draw(n: int, draws: torch.Generator) -> Tensor:
        return sd * torch.randn(n, dim, generator=draws) + mean * torch.eye(dim)[0]

    return draw


# --- Divergences. What is learned is integrated over the densities, so that no sampling hides what was missed.

_GRID = torch.linspace(-16, 18, 20_001, dtype=torch.float64)
_NARROW, _WIDE = (0.0, 1.0), (1.0, 1.5)
_JSD = 0.0992901


def _log_density(of: tuple[float, float]) -> Tensor:
    mean, sd = of
    return -(((_GRID - mean) / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))


def _gain(objective: str, critic: nn.Module, p: Tensor, q: Tensor) -> float:
    """What a discriminator earns over p and q."""
    game, step = find_objective(objective), float(_GRID[1] - _GRID[0])
    with torch.no_grad():
        v = critic(_GRID[:, None].float()).double()
    return -float((p * game.real(v) + q * game.fake(v)).sum()) * step


def _divergences() -> Sequence[float]:
    """Each learned bound over the divergence itself."""
    found = []
    for name, row in DIVERGENCES.items():
        # The terms of the reverse KL are ratios q / p of rows of p: their variance is finite where p is the wider.
        real, fake = (_WIDE, _NARROW) if name == "reverse-kl" else (_NARROW, _WIDE)
        log_p, log_q = _log_density(real), _log_density(fake)
        critic = _critic(f"f-gan:{name}", _normal(*real), _normal(*fake), steps=600)
        truth = float((log_q.exp() * row.f(torch.exp(log_p - log_q))).sum() * (_GRID[1] - _GRID[0]))
        found.append(_gain(f"f-gan:{name}", critic, log_p.exp(), log_q.exp()) / truth)
    return found


def _discriminator() -> Sequence[float]:
    """The divergence that it tells, and the error of its log-ratio where the data is, both sets counted alike."""
    log_p, log_q = _log_density(_NARROW), _log_density(_WIDE)
    p, q = log_p.exp(), log_q.exp()
    critic = _critic("non-saturating", _normal(*_NARROW), _normal(*_WIDE), steps=2000)
    with torch.no_grad():
        off = critic(_GRID[:, None].float()).double() - (log_p - log_q)
    near_data = _GRID.abs() < 4
    mean_square = ((p + q) * off**2)[near_data].sum() / (p + q)[near_data].sum()
    return math.log(2) + _gain("non-saturating", critic, p, q) / 2, math.sqrt(float(mean_square))


# --- Wasserstein-1 of a translation. The sets are narrow: lines between them are then equally dense all along, and the
# best critic under a penalty has one slope, as the formula has it.

_SHIFT, _SPREAD = 3.0, 0.1
_PENALTIES = (1.0, 10.0, 100.0)


def _estimates(**options: Any) -> tuple[float, float]:
    """The raw estimate of W1 by a critic, and its greatest slope on the rows and between them."""
    real, fake = _normal(_SHIFT, _SPREAD, 2), _normal(0.0, _SPREAD, 2)
    critic = _critic("wasserstein", real, fake, steps=400, **options)
    draws = torch.Generator().manual_seed(1)
    x, y = real(20_000, draws), fake(20_000, draws)
    with torch.no_grad():
        raw = float(critic(x).mean() - critic(y).mean())
    share = torch.rand(len(x), 1, generator=draws)
    at = torch.cat([x, y, y + share * (x - y)]).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(at).sum(), at)
    return raw, float(slopes.norm(dim=1).max())


def _biases() -> Sequence[float]:
    return [_estimates(penalty=penalty)[0] for penalty in _PENALTIES]


def _constraints() -> Sequence[float]:
    """Raw over W1 of clipping, a penalty and spectral normalisation; greatest slope of the last; bounds over W1."""
    clipped, penalised, spectral = (
        _estimates(**options) for options in ({"limit": 0.01}, {"penalty": 10.0}, {"spectral": True})
    )
    raws = [raw / _SHIFT for raw, _ in (clipped, penalised, spectral)]
    return [*raws, spectral[1], *(raw / slope / _SHIFT for raw, slope in (clipped, penalised, spectral))]


CRITICS = (
    Check(
        "gradient-penalty-bias",
        "A critic under a penalty of weight L has slope K = 1 + W1 / 2L, and overstates W1 = 3 as much.",
        ("wgan-gp",),
        "standard",
        tuple(
            near(_SHIFT * (1 + _SHIFT / (2 * penalty)), 0.01 * _SHIFT, f"penalty {penalty:g}")
            for penalty in _PENALTIES
        ),
        _biases,
        "Gulrajani et al. 2017, arXiv:1704.00028; K W1 - L (K - 1)² is greatest there",
    ),
    Check(
        "critics-of-a-translation",
        "Clipping estimates W1 far below a gradient penalty; over its greatest slope each estimate is a lower bound.",
        ("wgan", "wgan-gp", "sngan"),
        "standard",
        (
            at_most(0.05, "raw, clipped"),
            Known(1.15, 0.02, 0.02, "raw, penalised"),
            Known(1.0, 0.02, 0.005, "raw, spectral"),
            at_most(1.001, "slope, spectral"),
            at_most(1.005, "bound, clipped"),
            Known(1.0, 0.1, 0.005, "bound, penalised"),
            Known(1.0, 0.1, 0.005, "bound, spectral"),
        ),
        _constraints,
        "Arjovsky et al. 2017, arXiv:1701.07875; Miyato et al. 2018, arXiv:1802.05957",
    ),
    Check(
        "f-gan-bounds",
        "What a discriminator of each f-GAN learns, integrated, over the divergence: nearly all of it, and no more.",
        ("f-gan",),
        "standard",
        tuple(Known(1.0, 0.03, 0.001, name) for name in DIVERGENCES),
        _divergences,
        "Nowozin et al. 2016, arXiv:1606.00709",
    ),
    Check(
        "discriminator-as-density-ratio",
        "A discriminator of N(0, 1) and N(1, 1.5²) tells their Jensen-Shannon divergence and log-ratio.",
        ("gan", "avb"),
        "standard",
        (near(_JSD, 0.002, "divergence in nats"), at_most(0.15, "error of the log-ratio")),
        _discriminator,
        "Goodfellow et al. 2014, arXiv:1406.2661, theorem 1",
    ),
)
