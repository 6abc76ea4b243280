"""Wasserstein-1 by its dual: the most that a function of slope 1 can set the two sets apart.

Kantorovich and Rubinstein: W1(p, q) is the greatest value, over functions f with |f(x) - f(y)| <= |x - y|, of
E_p f - E_q f. A network that plays f, a critic, is held to its slope by clipped weights (Arjovsky et al. 2017,
arXiv:1701.07875), a penalty on its gradients (Gulrajani et al. 2017, arXiv:1704.00028) or spectral
normalisation (Miyato et al. 2018, arXiv:1802.05957).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, UnknownName, UsageError
from gen_eval.metrics.networks import (
    Difference,
    Fit,
    Layers,
    Learner,
    Network,
    Scaling,
    Training,
    cross_fit,
    divide,
    negative,
    outputs,
)
from gen_eval.metrics.rows import matched
from gen_eval.metrics.score import Score

CONSTRAINTS = ("gradient-penalty", "clip", "spectral-norm")
# Pairs of rows for which the exact dual is solved; a linear program has an inequality for each.
MOST_PAIRS = 250_000
_BLOCK = 4096
# Of weights under a gradient penalty. Less leaves critics steep where rows are few, which loosens the bound; more
# keeps them from bending.
_PENALISED_DECAY = 0.3


def kantorovich_rubinstein(
    generated: Tensor,
    reference: Tensor,
    *,
    constraint: str = "spectral-norm",
    penalty: float = 10.0,
    clip: float = 0.01,
    folds: int = 5,
    steps: int = 1500,
    width: int = 64,
    seed: int = 2020,
) -> Score:
    """Wasserstein-1 from below, by critics that are judged on rows they have not seen.

    ``bound``, the metric's own value, is at most W1 in expectation:

    - ``"spectral-norm"``: strictly, as the product of the layers' norms is 1. Loose where f must bend.
    - ``"gradient-penalty"`` and ``"clip"``: the raw value over the greatest gradient seen, on the rows of both
      sets and on lines between them. As far as nowhere between the rows it is greater. Clipping is the loosest.

    ``raw`` is E_reference f - E_generated f as it stands. Under a gradient penalty of weight L it is no bound:
    a critic of slope K earns K W1 - L (K - 1)², which is greatest at K = 1 + W1 / (2 L), so that raw tends to
    W1 (1 + W1 / (2 L)). ``corrected`` solves that for W1. It is an estimate that errs to either side. The best
    critic has one slope throughout only between two points: it is steeper where lines between the sets are
    few, which raises raw (for Gaussians 3 standard deviations apart by 1.7 % at L = 1, by 0.4 % at 10), and
    what a network cannot bend lowers it. A few rows that lie far off may raise both several times over, and not
    the bound. Under clipping raw is in units of an unknown slope.

    Standard errors are those of the held-out terms, with the networks and their greatest gradients taken as
    given: how far the bound is below W1 they do not say. Memory and time as
    for :func:`gen_eval.metrics.divergence.variational.f_divergence`; a step with a penalty takes about three
    times as long. Of few rows of many features a penalised critic learns little: there the spectral norm, which
    has no slope to learn, is closer (0.29 against 0.03, of 0.32 or more, for 2,500 rows of 2,048 features).

    Args:
        generated: ``[n, d]`` rows.
        reference: ``[m, d]`` rows.
        constraint: one of :data:`CONSTRAINTS`.
        penalty: weight of the gradient penalty, in units of the features.
        clip: the greatest size of a weight, of features scaled to a mean variance of 1.
        folds: parts of the rows; each is judged by a network that learned from the others.
        steps: the most steps of training.
        width: units of each of the two hidden layers.
        seed: of the folds and the networks.

    Returns:
        ``bound``, ``raw`` and, with a penalty, ``corrected``, in units of the features; and ``max_gradient``,
        the greatest seen for any critic.

    Raises:
        TooFewImages: if a set has fewer than ``4 * folds`` rows.
        NumericalError: if a feature is not finite.
        UsageError: if the dimensions differ or an argument makes no sense.
        UnknownName: if there is no such constraint.
    """
    if constraint not in CONSTRAINTS:
        raise UnknownName("constraint", constraint, CONSTRAINTS)
    if not (0 < penalty < math.inf and 0 < clip < math.inf):
        raise UsageError(f"penalty and clip must be positive, found {penalty} and {clip}")
    training = Training(folds, steps, width, seed)
    pair = divide(generated, reference, training)
    scaling = Scaling.common(pair)
    unit = float(scaling.scale)
    fit = cross_fit(pair, scaling, _learner(constraint, unit, penalty, clip), training)
    if constraint == "spectral-norm":
        fit = Fit(_of_norm_one(fit.layers), scaling, pair)
    terms = [unit * fit.held_out(side) for side in pair]
    steepest = _steepest(fit, seed)
    # A critic that is flat sets nothing apart.
    slopes = torch.ones_like(steepest) if constraint == "spectral-norm" else steepest.where(steepest > 0, 1.0)
    bound = Difference.of(pair, *(part / slopes[side.fold] for part, side in zip(terms, pair, strict=True)))
    raw = Difference.of(pair, *terms)
    values = {"bound": bound.value, "raw": raw.value, "max_gradient": float(steepest.max())}
    errors = {"bound": bound.error, "raw": raw.error}
    if constraint == "gradient-penalty":
        values["corrected"], slope = _without_penalty_bias(raw.value, penalty)
        errors["corrected"] = slope * raw.error
    return Score(values, errors=errors, contributions=bound.contributions, warnings=negative(bound))


def _without_penalty_bias(raw: float, penalty: float) -> tuple[float, float]:
    """W of raw = W (1 + W / (2 penalty)), for a negative raw by symmetry, and how much it grows with raw."""
    root = math.sqrt(1 + 2 * abs(raw) / penalty)
    return math.copysign(penalty * (root - 1), raw), 1 / root


def _learner(constraint: str, unit: float, penalty: float, clip: float) -> Learner:
    """Raises the difference of means of f(x) = unit * network((x - centre) / unit), whose slope is the network's."""

    def difference(network: Network, fake: Tensor, real: Tensor, mixing: Tensor) -> Tensor:
        return unit * (network(real).mean(1) - network(fake).mean(1))

    def excess(network: Network, fake: Tensor, real: Tensor, mixing: Tensor) -> Tensor:
        lines = fake.lerp(real, mixing).requires_grad_()
        (gradients,) = torch.autograd.grad(network(lines).sum(), lines, create_graph=True)
        lengths: Tensor = torch.linalg.vector_norm(gradients, dim=2)
        return lengths - 1

    def penalised(network: Network, fake: Tensor, real: Tensor, mixing: Tensor) -> Tensor:
        beyond = excess(network, fake, real, mixing)
        return difference(network, fake, real, mixing) - penalty * beyond.square().mean(1)

    # A penalty on flatness would steepen the first networks whichever way they happen to lean, and on a line they
    # could not turn round any more.
    def leaning(network: Network, fake: Tensor, real: Tensor, mixing: Tensor) -> Tensor:
        beyond = excess(network, fake, real, mixing).clamp_min(0)
        return difference(network, fake, real, mixing) - penalty * beyond.square().mean(1)

    def clipped(layers: Layers) -> None:
        for layer in layers:
            for tensor in layer:
                tensor.clamp_(-clip, clip)

    if constraint == "gradient-penalty":
        return Learner(penalised, first=leaning, decay=_PENALISED_DECAY)
    if constraint == "clip":
        return Learner(difference, project=clipped)
    return Learner(difference, constrained=SpectralNorm())


class SpectralNorm:
    """Divides weights by their spectral norms, which are followed by a step of power iteration at each call."""

    def __init__(self) -> None:
        self._vectors: list[Tensor] = []

    def __call__(self, layers: Layers) -> Layers:
        """``W / sigma`` for the weights of each layer, differentiable in W; biases as they are."""
        if not self._vectors:
            draws = torch.Generator().manual_seed(0)
            for weight, _ in layers:
                drawn = torch.randn(len(weight), weight.shape[2], 1, generator=draws, dtype=weight.dtype)
                self._vectors.append(drawn.to(weight.device))
        normalised = []
        for at, (weight, bias) in enumerate(layers):
            norms, self._vectors[at] = power_iteration(weight, self._vectors[at], steps=1)
            normalised.append((weight / norms, bias))
        return normalised


def power_iteration(weight: Tensor, vectors: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """The spectral norms of matrices from below, ``[k, 1, 1]``, and their right singular vectors, ``[k, out, 1]``.

    Args:
        weight: ``[k, in, out]``; the norms are differentiable in it.
        vectors: ``[k, out, 1]`` to start from, such as those of the step before.
        steps: of the iteration, at least 1.
    """
    with torch.no_grad():
        for _ in range(steps):
            left = torch.nn.functional.normalize(weight @ vectors, dim=1)
            vectors = torch.nn.functional.normalize(weight.mT @ left, dim=1)
    return left.mT @ weight @ vectors, vectors


def _of_norm_one(layers: Layers) -> Layers:
    """Weights over their spectral norms to the last digit, so that no critic is steeper than 1."""
    with torch.inference_mode(False):
        return [(weight / torch.linalg.matrix_norm(weight, 2, keepdim=True), bias) for weight, bias in layers]


def _steepest(fit: Fit, seed: int) -> Tensor:
    """The greatest gradient of each critic on the rows and on lines between those of one set and the other, ``[k]``."""
    fake, real = (side.rows for side in fit.pair)
    lines = min(len(fake), len(real))
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.rand(lines, 1, generator=draws, dtype=torch.float64).to(fake.device)
    blocks = [*torch.split(fake, _BLOCK), *torch.split(real, _BLOCK)]
    found = [_slopes(fit, block) for block in blocks]
    for places in torch.split(torch.arange(lines, device=fake.device), _BLOCK):
        found.append(_slopes(fit, fake[places].double().lerp(real[places].double(), mixing[places])))
    return torch.stack(found).amax(0)


def _slopes(fit: Fit, rows: Tensor) -> Tensor:
    """The greatest gradient of each critic on ``[b, d]`` rows, ``[k]``."""
    with torch.inference_mode(False), torch.enable_grad():
        scaled = fit.scaling(rows)[None].requires_grad_()
        gradients = [
            torch.autograd.grad(outputs(fit.network(fold), scaled).sum(), scaled)[0]
            for fold in range(fit.folds)
        ]
    return torch.stack([torch.linalg.vector_norm(each, dim=2).max() for each in gradients])


class Potentials(NamedTuple):
    """An optimal function of the dual, of slope 1 on and between all rows.

    Args:
        value: its mean over x less that over y: Wasserstein-1.
        on_x: ``[n]`` float64.
        on_y: ``[m]`` float64.
    """

    value: float
    on_x: Tensor
    on_y: Tensor


def kantorovich_rubinstein_dual(x: Tensor, y: Tensor) -> Potentials:
    """The dual of Wasserstein-1 between two small sets, solved to the last digits by a linear program.

    Maximises mean a - mean b under a_i - b_j <= |x_i - y_j|; then f(z) = min_j b_j + |z - y_j| has slope 1
    everywhere and is as good. Time grows steeply: a second for 100 and 100 rows. Runs on the CPU.

    Args:
        x: ``[n, d]`` rows.
        y: ``[m, d]`` rows.

    Raises:
        TooFewImages: if a set has fewer than four rows.
        NumericalError: if a feature is not finite or the program is not solved.
        UsageError: if there are more than :data:`MOST_PAIRS` pairs, or the dimensions differ.
    """
    x, y = (rows.double().cpu() for rows in matched(4, x=x, y=y))
    n, m = len(x), len(y)
    if n * m > MOST_PAIRS:
        raise UsageError(
            f"the exact dual of {n} and {m} rows has {n * m} inequalities, more than {MOST_PAIRS}; take fewer "
            "rows, or the primal, which is as exact"
        )
    costs = _distances(x, y)
    pairs = np.arange(n * m)
    entries = np.concatenate([np.ones(n * m), -np.ones(n * m)])
    columns = np.concatenate([pairs // m, n + pairs % m])
    unit = float(costs.max()) or 1.0  # the solver's tolerances are absolute
    inequalities = scipy.sparse.csr_matrix((entries, (np.concatenate([pairs, pairs]), columns)))
    goal = np.concatenate([np.full(n, -1 / n), np.full(m, 1 / m)])
    # Potentials are free up to a constant: the first is 0.
    bounds = [(0, 0)] + [(None, None)] * (n + m - 1)
    found = scipy.optimize.linprog(
        goal, inequalities, costs.numpy().ravel() / unit, bounds=bounds, method="highs"
    )
    if found.status != 0:
        raise NumericalError(f"the linear program of the dual was not solved: {found.message}")
    highest = torch.from_numpy(found.x[n:]) * unit
    on_x, on_y = ((_distances(rows, y) + highest).amin(1) for rows in (x, y))
    return Potentials(float(on_x.mean() - on_y.mean()), on_x, on_y)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Between all rows, ``[n, m]``, from their differences: products would lose the digits of small ones."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
