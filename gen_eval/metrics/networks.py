"""Small networks that learn to tell two sets apart, each judged on rows that it has not seen.

A learned bound is honest only on rows that had no part in learning it. So the rows are divided into folds, and
there is a network for each: it learns from the other folds but one, which says when to stop, and what is
reported of a row comes from the network of the row's own fold. The networks are trained side by side, as one
stack of matrices.

All is float64: results then move by rounding alone between devices and numbers of threads, which training in
float32 would amplify. All draws come from one generator on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_eval.errors import NumericalError, TooFewImages
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.rows import identities, matched
from gen_eval.transfer import moved

# Weights [k, in, out] and biases [k, 1, out] of each layer of k networks.
Layers = list[tuple[Tensor, Tensor]]
# From rows [k, b, d] to the output of each network for its own, [k, b].
Network = Callable[[Tensor], Tensor]
# Of a network, generated and reference rows [k, b, d] and numbers in [0, 1), [k, b, 1]: what each of the k
# networks is to raise, [k].
Objective = Callable[[Network, Tensor, Tensor, Tensor], Tensor]

_HIDDEN_LAYERS = 2
_FIRST_OUTPUT = 0.01  # of networks before training, about
_BATCH = 256  # rows of each set in a step
_RATE, _MOMENTA = 2e-3, (0.5, 0.99)  # of AdamW
_AVERAGING = 0.01  # the networks that are judged are running averages of those that learn
_FIRST_CHECK, _CHECK_GROWTH = 8, 1.15  # steps after which networks are judged, a geometric series
_PATIENCE, _LEAST_STEPS = 2.0, 100  # training ends at so many times the best step, but not before
_FIRST_STEPS = 100  # of a learner that begins with another objective
_JUDGES = 1000  # rows of each set that say when to stop, at most
_BLOCK = 4096  # rows that are evaluated at a time
_LEAST_A_FOLD = 4


@dataclass(frozen=True)
class Training:
    """How the networks are trained.

    Args:
        folds: parts of the rows, each held out once; at least 3.
        steps: the most steps of training.
        width: units of each hidden layer.
        seed: of the folds, the initial weights and the batches.
    """

    folds: int = 5
    steps: int = 1500
    width: int = 64
    seed: int = 2020

    def __post_init__(self) -> None:
        # A fold to learn from, one to stop by, one to be judged on.
        for name, value, least in (
            ("folds", self.folds, 3),
            ("steps", self.steps, 1),
            ("width", self.width, 1),
        ):
            require_whole(name, value, least)


def _as_trained(layers: Layers) -> Layers:
    return layers


def _leave(layers: Layers) -> None:
    return None


@dataclass(frozen=True)
class Learner:
    """What the networks learn.

    Args:
        objective: what they raise.
        first: what they raise in the first steps, if that is something else; they are judged by the objective.
        constrained: from the weights that are trained to those that are used.
        project: changes the trained weights in place after each step.
        decay: of the trained weights, by AdamW.
    """

    objective: Objective
    first: Objective | None = None
    constrained: Callable[[Layers], Layers] = _as_trained
    project: Callable[[Layers], None] = _leave
    decay: float = 0.01


@dataclass(frozen=True)
class Side:
    """One set, in an order that its content alone decides.

    Args:
        rows: ``[n, d]``.
        order: ``[n]`` where in the caller's order each row stands.
        fold: ``[n]`` the fold of each row.
    """

    rows: Tensor
    order: Tensor
    fold: Tensor

    def in_order(self, values: Tensor) -> Tensor:
        """``[n]`` values of the rows, in the caller's order."""
        ordered = torch.empty_like(values)
        ordered[self.order] = values
        return ordered


class Pair(NamedTuple):
    """Two sets to be told apart."""

    generated: Side
    reference: Side


def divide(generated: Tensor, reference: Tensor, training: Training) -> Pair:
    """Both sets in folds. Equal rows share one, in whichever set they are: no network has seen a held-out row.

    Args:
        generated: ``[n, d]``.
        reference: ``[m, d]``.
        training: for the number of folds and the seed.

    Raises:
        TooFewImages: if a fold would hold fewer than four rows of a set.
        NumericalError: if a feature is NaN or infinite.
        UsageError: if the rows are no matrices of floats with equally many features.
    """
    generated, reference = matched(least_rows(training.folds), generated=generated, reference=reference)
    draws = torch.Generator().manual_seed(training.seed)
    multipliers = torch.randint(-(2**63), 2**63 - 1, (generated.shape[1],), generator=draws) | 1
    which = identities(multipliers.to(generated.device), generated, reference)
    of_set, distinct = torch.split(which, [len(generated), len(reference)]), int(which.max()) + 1
    # Rows of one set alone and of both are dealt out one kind after another, so that folds are alike.
    kind = which.new_zeros(distinct)
    for weight, at in zip((1, 2), of_set, strict=True):
        kind += weight * (torch.bincount(at, minlength=distinct) > 0)
    fold = torch.empty_like(kind)
    fold[torch.argsort(kind, stable=True)] = torch.arange(distinct, device=fold.device) % training.folds
    sides = []
    for role, rows, at in zip(Pair._fields, (generated, reference), of_set, strict=True):
        if int(torch.bincount(fold[at], minlength=training.folds).min()) < _LEAST_A_FOLD:
            raise TooFewImages(
                f"each of {training.folds} folds needs {_LEAST_A_FOLD} images of each set that differ, "
                f"{least_rows(training.folds)} in all; the {role} set has {len(torch.unique(at))} among {len(at)}"
            )
        order = torch.argsort(at, stable=True)
        sides.append(Side(rows[order], order, fold[at[order]]))
    return Pair(*sides)


def least_rows(folds: int) -> int:
    """The fewest rows of a set that so many folds can bear, if all differ."""
    return folds * _LEAST_A_FOLD


@dataclass(frozen=True)
class Scaling:
    """What rows go through before they enter a network: ``(rows - centre) / scale``.

    Args:
        centre: ``[d]`` float64, the mean of all rows.
        scale: ``[d]`` or ``[1]`` float64.
    """

    centre: Tensor
    scale: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """``[..., d]`` rows, scaled, float64."""
        # In place: room made anew for each step costs more than the arithmetic.
        return rows.to(torch.float64, copy=True).sub_(self.centre).div_(self.scale)

    @classmethod
    def by_feature(cls, pair: Pair) -> Scaling:
        """Divides each feature by its standard deviation over both sets."""
        centre, variance = _moments(pair)
        return cls(centre, torch.where(variance > 0, variance, 1.0).sqrt())

    @classmethod
    def common(cls, pair: Pair) -> Scaling:
        """Divides all features by one number, the root of their mean variance: distances keep their ratios."""
        centre, variance = _moments(pair)
        variance = variance.mean(0, keepdim=True)
        return cls(centre, torch.where(variance > 0, variance, 1.0).sqrt())


def _moments(pair: Pair) -> tuple[Tensor, Tensor]:
    """Mean and variance of each feature over both sets, ``[d]`` float64.

    Raises:
        NumericalError: if a variance overflows.
    """
    n = sum(len(side.rows) for side in pair)
    parts = [part for side in pair for part in torch.split(side.rows, _BLOCK)]
    centre = torch.stack([part.double().sum(0) for part in parts]).sum(0) / n
    variance = torch.stack([(part.double() - centre).square().sum(0) for part in parts]).sum(0) / n
    if not bool(variance.isfinite().all()):
        raise NumericalError(
            f"features of up to {max(float(part.abs().max()) for part in parts):.2g} are too large to be squared; "
            "check the extractor"
        )
    return centre, variance


def outputs(layers: Layers, rows: Tensor) -> Tensor:
    """What each of k networks makes of its rows, ``[k, b, d]`` to ``[k, b]``.

    Between layers stands the ELU (Clevert et al. 2015, arXiv:1511.07289), which is smooth enough for penalties
    on gradients, and never steeper than 1.
    """
    for weight, bias in layers[:-1]:
        rows = F.elu(torch.baddbmm(bias, rows, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, rows, weight).squeeze(2)


@dataclass(frozen=True)
class Fit:
    """Trained networks, one a fold, and what they were trained on."""

    layers: Layers
    scaling: Scaling
    pair: Pair

    @property
    def folds(self) -> int:
        """Number of networks."""
        return len(self.layers[0][0])

    def network(self, fold: int) -> Layers:
        """The network of a fold, as a stack of one."""
        return [(weight[fold : fold + 1], bias[fold : fold + 1]) for weight, bias in self.layers]

    def held_out(self, side: Side, *, lag: int = 0) -> Tensor:
        """What the network that never saw a row makes of it, ``[n]`` float64 in the order of ``side.rows``.

        Args:
            side: one of the pair.
            lag: 1 asks the network which the row told when to stop, instead of the one that never saw it.
        """
        values = self.scaling.centre.new_empty(len(side.rows))
        for fold in range(self.folds):
            asked = (side.fold - lag) % self.folds == fold
            for places in torch.split(asked.nonzero().flatten(), _BLOCK):
                values[places] = outputs(self.network(fold), self.scaling(side.rows[places])[None])[0]
        return values


def cross_fit(pair: Pair, scaling: Scaling, learner: Learner, training: Training) -> Fit:
    """Train a network for each fold, whatever gradient mode the caller is in.

    Besides the rows themselves, memory is ``2 * folds * 1000 * d`` numbers for those that say when to stop.
    """
    draws = torch.Generator().manual_seed(training.seed)
    with torch.inference_mode(False), torch.enable_grad():
        layers = _initial(training, len(scaling.centre), draws, scaling.centre.device)
        layers = _Trainer(pair, scaling, learner, training, draws).train(layers)
        return Fit(learner.constrained(layers), scaling, pair)


def _initial(training: Training, dim: int, draws: torch.Generator, device: torch.device) -> Layers:
    """Uniform weights of variance 1 / inputs."""
    sizes = [dim, *[training.width] * _HIDDEN_LAYERS, 1]
    layers = []
    for at in range(_HIDDEN_LAYERS + 1):
        before, after = sizes[at : at + 2]
        uniform = torch.rand(training.folds, before + 1, after, generator=draws, dtype=torch.float64)
        # The last layer starts small: before anything is learned, all rows are nearly alike.
        size = math.sqrt(3 / before) * (1.0 if at < _HIDDEN_LAYERS else _FIRST_OUTPUT)
        drawn = ((2 * uniform - 1) * size).to(device)
        layers.append((drawn[:, 1:].contiguous(), drawn[:, :1].contiguous()))
    return layers


class _Rows:
    """The rows of a set that each network may look at: those to learn from, or those to judge it by."""

    def __init__(self, side: Side, scaling: Scaling, folds: int, *, judging: bool) -> None:
        self._side, self._scaling = side, scaling
        lag = (side.fold[None] - torch.arange(folds, device=side.fold.device)[:, None]) % folds
        allowed = lag == 1 if judging else lag > 1
        self.counts = allowed.sum(1).cpu()
        # Each network's own places come first.
        self._places = torch.argsort((~allowed).byte(), dim=1, stable=True)[:, : int(self.counts.max())]

    def first(self, size: int) -> Tensor:
        """As many rows for each network, scaled, ``[k, size, d]``. By content, so they are as good as random."""
        return self._scaling(self._side.rows[self._places[:, :size]])

    def batch(self, size: int, draws: torch.Generator) -> Tensor:
        """Random rows for each network, with replacement, scaled, ``[k, size, d]``."""
        drawn = torch.rand(len(self.counts), size, generator=draws, dtype=torch.float64)
        drawn = moved((drawn * self.counts[:, None]).long(), self._places.device)
        return self._scaling(self._side.rows[self._places.gather(1, drawn)])


class _Trainer:
    """Raises the objective of all networks at once."""

    def __init__(
        self, pair: Pair, scaling: Scaling, learner: Learner, training: Training, draws: torch.Generator
    ) -> None:
        self._learner, self._steps, self._draws = learner, training.steps, draws
        self._learning, judging = (
            [_Rows(side, scaling, training.folds, judging=judging) for side in pair]
            for judging in (False, True)
        )
        self._batch = min(_BATCH, *(int(rows.counts.max()) for rows in self._learning))
        judges = min(_JUDGES, *(int(rows.counts.min()) for rows in judging))
        self._judges = [rows.first(judges) for rows in judging]

    def train(self, layers: Layers) -> Layers:
        """Of each network the state that the rows to judge it by liked best."""
        trained = [tensor.requires_grad_() for layer in layers for tensor in layer]
        optimiser = torch.optim.AdamW(trained, lr=_RATE, betas=_MOMENTA, weight_decay=self._learner.decay)
        averages = [tensor.detach().clone() for tensor in trained]
        best = averages
        best_value = trained[0].new_full((len(trained[0]),), -math.inf)
        best_step, check = 0, _FIRST_CHECK
        for step in range(1, self._steps + 1):
            batch = [rows.batch(self._batch, self._draws) for rows in self._learning]
            first = self._learner.first if step <= _FIRST_STEPS else None
            loss = -self._value(layers, batch, first).sum()
            for tensor, slope in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                tensor.grad = slope
            optimiser.step()
            with torch.no_grad():
                self._learner.project(layers)
                for average, tensor in zip(averages, trained, strict=True):
                    # At first the average is over all steps so far.
                    average.lerp_(tensor, max(_AVERAGING, 1 / step))
            if step < min(check, self._steps):
                continue
            check = math.ceil(check * _CHECK_GROWTH)
            value = self._value(_pairs(averages), self._judges).detach()
            better = value > best_value
            if bool(better.any()):
                best_step, best_value = step, torch.where(better, value, best_value)
                best = [torch.where(better[:, None, None], a, b) for a, b in zip(averages, best, strict=True)]
            if step > max(_LEAST_STEPS, _PATIENCE * best_step):
                break
        return _pairs(best)

    def _value(self, layers: Layers, rows: list[Tensor], objective: Objective | None = None) -> Tensor:
        """The objective of each network, ``[k]``, or another one."""
        mixing = torch.rand(*rows[0].shape[:2], 1, generator=self._draws, dtype=torch.float64)
        used = self._learner.constrained(layers)
        generated, reference = rows
        return (objective or self._learner.objective)(
            lambda each: outputs(used, each), generated, reference, moved(mixing, generated.device)
        )


def _pairs(tensors: list[Tensor]) -> Layers:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


class Difference(NamedTuple):
    """The mean of held-out terms over one set less that over the other, averaged over folds.

    Each fold is compared with itself, so that it does not matter where a network has its zero.

    Args:
        value: the difference.
        error: its standard error, the networks taken as given.
        contributions: by role, how much each row raises it, ``[n]`` float64 in the caller's order.
        heaviest: the greatest part of the variance that comes from a single row.
    """

    value: float
    error: float
    contributions: dict[str, Tensor]
    heaviest: float

    @classmethod
    def of(cls, pair: Pair, over_generated: Tensor, over_reference: Tensor) -> Difference:
        """The reference mean less the generated one, of terms in the order of the rows of each side.

        Raises:
            NumericalError: if it is not finite.
        """
        contributions, value, variance, largest = {}, 0.0, 0.0, 0.0
        signed = (-over_generated, over_reference)
        for role, side, terms in zip(Pair._fields, pair, signed, strict=True):
            folds, parts = int(side.fold.max()) + 1, torch.empty_like(terms)
            for fold in range(folds):
                inside = side.fold == fold
                share, mean = terms[inside] / folds, float(terms[inside].mean()) / folds
                n = len(share)
                parts[inside] = (share - mean) / n
                value += mean
                squares = parts[inside].square() * n / (n - 1)
                variance, largest = variance + float(squares.sum()), max(largest, float(squares.max()))
            contributions[role] = side.in_order(parts)
        if not math.isfinite(value) or not math.isfinite(variance):
            raise NumericalError(
                "the networks came to no finite value; take fewer steps, or look for features of very unlike size"
            )
        return cls(value, math.sqrt(variance), contributions, largest / variance if variance > 0 else 0.0)


def negative(bound: Difference) -> tuple[str, ...]:
    """A warning, where a lower bound on what cannot be negative is."""
    if bound.value >= 0:
        return ()
    return (
        f"the bound is negative, {bound.value:.3g} +- {bound.error:.1g}: what the networks learned does not hold for "
        "images that they have not seen. The truth is 0 or more; take more images.",
    )
