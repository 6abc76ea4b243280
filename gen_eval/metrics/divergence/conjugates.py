"""The table of f-divergences, each with what its variational bound is made of.

D_f(P || Q) = E_Q f(p/q) is the greatest value over functions T of E_P T - E_Q f*(T), and so at least that
for any one of them (Nguyen, Wainwright and Jordan 2010, arXiv:0809.0853; Nowozin et al. 2016, arXiv:1606.00709).
It is reached at T = f'(p/q).

A network gives an estimate v of log(p/q), and ``output`` makes T of it. That is the activation of Nowozin et al.
up to the scale of v (and, for Pearson's, a T above -2 alone, below which f* is not what the formula says). So a
network means the same for each divergence, and no T leaves the domain of f*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gen_eval.errors import UnknownName

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence; each function goes element by element.

    Args:
        name: what it is called.
        f: of the ratio u = p/q, convex, with f(1) = 0.
        conjugate: f*(t), the greatest value over u of ut - f(u).
        domain: open interval of t in which it is finite and the formula holds.
        optimal: f'(u) as a function of log u.
        output: from the output of a network to t.
        penalty: f* of that output, without the cancellation or overflow of doing one after the other.
        greatest: the divergence of distributions that share nothing.
        power: of the ratio, to which the terms of the bound grow at most.
    """

    name: str
    f: Function
    conjugate: Function
    domain: tuple[float, float]
    optimal: Function
    output: Function
    penalty: Function
    greatest: float
    power: float = 1.0


def _kl_slope(v: Tensor) -> Tensor:
    return 1 + v


def _reverse_kl_slope(v: Tensor) -> Tensor:
    return -torch.exp(-v)


def _pearson_slope(v: Tensor) -> Tensor:
    return 2 * torch.expm1(v)


def _hellinger_slope(v: Tensor) -> Tensor:
    return -torch.expm1(-v / 2)


def _js_slope(v: Tensor) -> Tensor:
    return (math.log(2) - softplus(-v)) / 2


def _js(u: Tensor) -> Tensor:
    return (torch.xlogy(u, u) - torch.xlogy(1 + u, (1 + u) / 2)) / 2


DIVERGENCES: dict[str, Divergence] = {
    row.name: row
    for row in (
        Divergence(
            "kl",
            f=lambda u: torch.xlogy(u, u),
            conjugate=lambda t: torch.exp(t - 1),
            domain=(-math.inf, math.inf),
            optimal=_kl_slope,
            output=_kl_slope,
            penalty=torch.exp,
            greatest=math.inf,
        ),
        Divergence(
            "reverse-kl",
            f=lambda u: -torch.log(u),
            conjugate=lambda t: -1 - torch.log(-t),
            domain=(-math.inf, 0.0),
            optimal=_reverse_kl_slope,
            output=_reverse_kl_slope,
            penalty=lambda v: v - 1,
            greatest=math.inf,
        ),
        # E_Q (p/q - 1)²
        Divergence(
            "pearson",
            f=lambda u: (u - 1) ** 2,
            conjugate=lambda t: t + t**2 / 4,
            domain=(-2.0, math.inf),
            optimal=_pearson_slope,
            output=_pearson_slope,
            penalty=lambda v: torch.expm1(2 * v),
            greatest=math.inf,
            power=2.0,
        ),
        # The integral of (√p - √q)²: twice the square of the distance that is at most 1.
        Divergence(
            "squared-hellinger",
            f=lambda u: (torch.sqrt(u) - 1) ** 2,
            conjugate=lambda t: t / (1 - t),
            domain=(-math.inf, 1.0),
            optimal=_hellinger_slope,
            output=_hellinger_slope,
            penalty=lambda v: torch.expm1(v / 2),
            greatest=2.0,
        ),
        # Half the integral of |p - q|. A network cannot jump as its T does: it approaches ±1/2 with growing |v|.
        Divergence(
            "total-variation",
            f=lambda u: (u - 1).abs() / 2,
            conjugate=lambda t: t,
            domain=(-0.5, 0.5),
            optimal=lambda v: torch.sign(v) / 2,
            output=lambda v: torch.tanh(v / 2) / 2,
            penalty=lambda v: torch.tanh(v / 2) / 2,
            greatest=1.0,
        ),
        # The mean of KL(P || M) and KL(Q || M), M = (P + Q) / 2: half of what Nowozin et al. call so.
        Divergence(
            "js",
            f=_js,
            conjugate=lambda t: -torch.log(2 - torch.exp(2 * t)) / 2,
            domain=(-math.inf, math.log(2) / 2),
            optimal=_js_slope,
            output=_js_slope,
            penalty=lambda v: (softplus(v) - math.log(2)) / 2,
            greatest=math.log(2),
        ),
    )
}


def find_divergence(name: str) -> Divergence:
    """The row of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in DIVERGENCES:
        raise UnknownName("divergence", name, DIVERGENCES)
    return DIVERGENCES[name]
