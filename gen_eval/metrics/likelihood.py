"""Log-likelihoods of held-out images, and the bounds that stand in for them.

Everything is in nats per image, ``[n]``, natural logarithms. What a number is depends on where it comes from:

- exact: flows with a triangular Jacobian, autoregressive models, densities in closed form;
- a lower bound: :func:`elbo` and :func:`iwae`. Importance sampling and annealed importance sampling estimate
  p(x) without bias, so their logarithm falls short of log p(x) in expectation (Jensen): also a lower bound;
- unbiased: flows with Hutchinson's trace estimate log p(x) itself without bias.

Pixels are levels, and a density of them is infinite until noise fills the gaps between levels. With uniform noise
its expected log is a lower bound of the levels' log-probability (Theis et al. 2016, arXiv:1511.01844); with noise
that the model draws, a tighter one (Ho et al. 2019, arXiv:1902.00275).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import scipy  # each part is imported by its first use
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.score import Score

# Orders of the draws over which a bound of fewer draws is averaged.
_ORDERS = 10
# Elements of a block of log-weights, to bound memory.
_BLOCK = 2**21
# Fewer effective draws than this leave a bound to one draw; more images of that kind than the share are told of.
_FEW_DRAWS, _SHARE = 2.0, 0.05


def nll(log_probs: Tensor) -> Score:
    """The negative log-likelihood, in nats per image; lower is better.

    Args:
        log_probs: ``[n]`` log-probabilities or log-densities.

    Returns:
        ``nll``, its standard error over images, and of each image its own.

    Raises:
        UsageError: if these are no floating point ``[n]``.
        TooFewImages: if there is one image, which tells no error.
        NumericalError: if one is NaN or infinite.
    """
    return _mean_score("nll", -_sound(log_probs))


def bits_per_dim(log_probs: Tensor, *, dims: int, scale: float = 1.0) -> Score:
    """The negative log-likelihood in bits per dimension; lower is better.

    Args:
        log_probs: ``[n]`` log-probabilities or log-densities, in nats.
        dims: dimensions of an image: height * width * channels.
        scale: levels to a unit of the space that the density is over, as :func:`on_levels` takes it.

    Raises:
        UsageError: if these are no floating point ``[n]``, or ``dims`` or ``scale`` make no sense.
        TooFewImages, NumericalError: as :func:`nll`.
    """
    return _mean_score("bits_per_dim", -on_levels(_sound(log_probs), dims, scale) / (dims * math.log(2)))


def on_levels(log_probs: Tensor, dims: int, scale: float) -> Tensor:
    """Log-densities over pixels whose levels are 1 apart, so that noise between levels fills a volume of 1.

    Args:
        log_probs: of any shape, densities over a space where a unit holds ``scale`` levels.
        dims: dimensions of an image.
        scale: 256 for 256 levels on [0, 1], 128 on [-1, 1], 1 on [0, 256] and for probabilities of levels.

    Raises:
        UsageError: if ``dims`` or ``scale`` is not positive.
    """
    if dims < 1 or not 0 < scale < math.inf:
        raise UsageError(f"dims must be at least 1 and scale positive, found {dims} and {scale}")
    return log_probs - dims * math.log(scale)


def elbo(log_joint: Tensor, log_posterior: Tensor) -> Score:
    """The evidence lower bound E_q[log p(x, z) - log q(z | x)], in nats per image; higher is better.

    Kingma and Welling 2014, arXiv:1312.6114.

    Args:
        log_joint: log p(x, z), ``[n]`` or with K draws ``[n, K]``, of z drawn from q(z | x).
        log_posterior: log q(z | x) of the same draws.

    Returns:
        ``elbo``, with its standard error over images and draws; its ``error_of_draws``, the part of that which more
        draws would lower, where there are several; of each image its own. The draws do not bias it.

    Raises:
        UsageError: if the shapes differ.
        TooFewImages, NumericalError: as :func:`nll`.
    """
    if log_joint.shape != log_posterior.shape or log_joint.ndim not in (1, 2):
        raise UsageError(
            "log_joint and log_posterior must both be [n] or [n, K], "
            f"found {tuple(log_joint.shape)} and {tuple(log_posterior.shape)}"
        )
    draws = (log_joint.double() - log_posterior.double()).reshape(len(log_joint), -1)
    score = _mean_score("elbo", _sound(draws.mean(1)))
    n, k = draws.shape
    if k == 1:
        return score
    error = math.sqrt(float(draws.var(1).mean()) / (n * k))
    return Score(
        {**score.values, "error_of_draws": error}, score.errors, score.biases, per_image=score.per_image
    )


def iwae(log_weights: Tensor, *, nested: Sequence[int] = (), seed: int = 2020) -> Score:
    """The importance-weighted bound E log(mean of K weights), in nats per image; higher is better.

    Burda et al. 2016, arXiv:1509.00519. The mean of the weights estimates p(x) without bias, its logarithm is a lower
    bound of log p(x), tighter the larger K. With K = 1 it is the ELBO. Bounds of different K do not compare.

    Bounds of fewer draws come from the same ones: averages over disjoint groups of K' draws, in 10 orders that all K'
    share. They rise with K' to the last digit where each K' divides the next.

    Args:
        log_weights: ``[n, K]`` log p(x, z) - log q(z | x) of z drawn from q(z | x), or the log-weights of annealed
            importance sampling; minus infinity is a weight of zero.
        nested: numbers of draws K' < K to give the bound of as well, as ``iwae_K'``.
        seed: of the orders.

    Memory is that of the log-weights and a few blocks of them.

    Returns:
        ``iwae`` and the nested bounds with standard errors over images and draws. None is biased as an estimate of
        its own bound. ``effective_draws`` is the mean over images of (sum w)² / sum w². ``error_of_draws`` is the
        part of the error of ``iwae`` that is from draws, by the jackknife, where no image rests on one draw alone. It
        is not too small in expectation (Efron and Stein 1981): simulated, 8 % too large of 4 draws, right from 10 on.

    Raises:
        UsageError: if these are no floating point ``[n, K]``, or K' is not in 1 .. K - 1.
        TooFewImages: if there is one image.
        NumericalError: if a weight is NaN or infinite, or all weights of an image or group are zero.
    """
    _require_weights(log_weights, nested)
    n, k = log_weights.shape
    orders = _orders(k, seed)
    bounds, lesser, effective, variance = [], [], [], []
    for block in _blocks(log_weights):
        bounds.append(log_mean_exp(block))
        lesser.append(_nested(block, nested, orders))
        weights = block.softmax(1)
        effective.append(1 / weights.square().sum(1))
        variance.append(_variance_of_draws(block, weights))
    score = _mean_score("iwae", torch.cat(bounds))
    values, errors = dict(score.values), dict(score.errors)
    for size, parts in zip(nested, zip(*lesser, strict=True), strict=True):
        per_image = torch.cat(parts)
        _require_finite(per_image, f"a bound of {size} draws")
        one = _mean_score(f"iwae_{size}", per_image)
        values, errors = {**values, **one.values}, {**errors, **one.errors}
    if k > 1:
        values["effective_draws"] = float(torch.cat(effective).mean())
        error = math.sqrt(float(torch.cat(variance).mean()) / n)
        if math.isfinite(error):
            values["error_of_draws"] = error
    return Score(
        values,
        errors,
        dict.fromkeys(errors, 0.0),
        per_image=score.per_image,
        warnings=_warnings(torch.cat(effective), k),
    )


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """The logarithm of the mean weight over the last axis, ``[..., K]`` to ``[...]``."""
    mean: Tensor = log_weights.logsumexp(-1) - math.log(log_weights.shape[-1])
    return mean


def paired(first: Tensor, second: Tensor) -> Score:
    """The mean difference of two models' numbers of the same images, and whether it is one.

    Args:
        first: ``[n]``, one number an image.
        second: ``[n]``, of the same images in the same order.

    Returns:
        ``difference``, first less second, with its standard error over images, which is that of the paired
        differences; and the two-sided ``p_value`` of Student's paired test.

    Raises:
        UsageError: if they are not of one length.
        TooFewImages, NumericalError: as :func:`nll`.
    """
    if first.shape != second.shape:
        raise UsageError(
            f"numbers of the same images are as many, found {tuple(first.shape)} and {tuple(second.shape)}"
        )
    score = _mean_score("difference", _sound(first) - _sound(second))
    value, error = score.values["difference"], score.errors["difference"]
    ratio = abs(value) / error if error > 0 else math.inf if value else 0.0
    p_value = 2 * float(scipy.special.stdtr(len(first) - 1, -ratio))
    return Score({**score.values, "p_value": p_value}, score.errors, score.biases, per_image=score.per_image)


def _mean_score(name: str, per_image: Tensor) -> Score:
    """A mean over images, which are taken for independent draws."""
    if len(per_image) < 2:
        raise TooFewImages(f"a likelihood and its error need at least 2 images, found {len(per_image)}")
    error = float(per_image.std()) / math.sqrt(len(per_image))
    return Score(
        {name: float(per_image.mean())}, {name: error}, {name: 0.0}, per_image={"heldout": per_image}
    )


def _sound(log_probs: Tensor) -> Tensor:
    """The same in float64, once they are fit to be averaged."""
    if log_probs.ndim != 1 or not log_probs.is_floating_point():
        raise UsageError(
            "log-likelihoods must be floating point [n], one an image, "
            f"found shape {tuple(log_probs.shape)} in {str(log_probs.dtype).removeprefix('torch.')}"
        )
    _require_finite(log_probs, "a log-likelihood")
    return log_probs.detach().double()


def _require_finite(log_probs: Tensor, what: str) -> None:
    bad = (~log_probs.isfinite()).nonzero().flatten()
    if len(bad):
        raise NumericalError(
            f"{len(bad)} of {len(log_probs)} images have {what} of NaN or infinity (first: image {int(bad[0])}, "
            f"{float(log_probs[bad[0]])}); minus infinity means that the model rules the image out: check the range "
            "of the pixels and the dequantisation"
        )


def _require_weights(log_weights: Tensor, nested: Sequence[int]) -> None:
    if log_weights.ndim != 2 or 0 in log_weights.shape or not log_weights.is_floating_point():
        raise UsageError(
            "log-weights must be floating point [n, K], K draws an image, "
            f"found shape {tuple(log_weights.shape)} in {str(log_weights.dtype).removeprefix('torch.')}"
        )
    k = log_weights.shape[1]
    if any(not 1 <= size < k for size in nested) or len(set(nested)) < len(nested):
        raise UsageError(
            f"nested bounds are of 1 to {k - 1} of the {k} draws, each once; found {list(nested)}"
        )
    # The largest weight tells all: NaN and infinity win over numbers, and minus infinity is left where all are zero.
    _require_finite(log_weights.amax(1), "a log-weight, or the largest of them,")


def _blocks(log_weights: Tensor) -> Iterator[Tensor]:
    step = max(1, _BLOCK // log_weights.shape[1])
    for start in range(0, len(log_weights), step):
        yield log_weights[start : start + step].detach().double()


def _orders(k: int, seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.permutation(k)) for _ in range(_ORDERS)]


def _nested(log_weights: Tensor, sizes: Sequence[int], orders: Sequence[Tensor]) -> list[Tensor]:
    """For each size the mean bound over groups of as many draws, ``[b, K]`` to ``[b]``."""
    totals = [torch.zeros_like(log_weights[:, 0]) for _ in sizes]
    for order in orders if sizes else ():
        dealt = log_weights[:, order.to(log_weights.device)]
        for total, size in zip(totals, sizes, strict=True):
            groups = dealt.shape[1] // size
            total += log_mean_exp(dealt[:, : groups * size].reshape(-1, groups, size)).mean(1)
    return [total / len(orders) for total in totals]


def _variance_of_draws(log_weights: Tensor, weights: Tensor) -> Tensor:
    """The jackknife variance of the log of the mean weight, ``[b]``, from the bounds without each draw in turn."""
    k = log_weights.shape[1]
    if k == 1:
        return torch.zeros_like(weights[:, 0])
    change = torch.log1p(-weights)
    # Of the draw that holds most of the weight, 1 - w is lost to rounding: the others are added up instead.
    top = log_weights.argmax(1, keepdim=True)
    others = log_weights.scatter(1, top, -math.inf).logsumexp(1, keepdim=True)
    change = change.scatter(1, top, others - log_weights.logsumexp(1, keepdim=True))
    variance = change.var(1, correction=0) * (k - 1)
    return variance.nan_to_num(nan=math.inf)  # all but one weight are zero


def _warnings(effective: Tensor, k: int) -> tuple[str, ...]:
    few = int((effective < _FEW_DRAWS).sum())
    if k < 10 or few <= _SHARE * len(effective):
        return ()
    return (
        f"of {few} of {len(effective)} images one of the {k} draws holds most of the weight: the bound is loose there, "
        "and its error of draws not to be trusted. Use more draws or a closer proposal.",
    )
