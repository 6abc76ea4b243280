"""The Inception Score: how sure a classifier is of each image, and how many classes it sees in all of them.

Salimans et al. 2016, arXiv:1606.03498. With p_i the posterior of image i over the classes, q their mean
and H the entropy in nats,

    IS = exp(mean KL(p_i | q)) = exp(H(q)) * exp(-mean H(p_i)) = diversity * sharpness,

the number of classes seen in all images, over the number that a single image is torn between. The score is
the mean of that over splits of the set. H(q) of few images falls short of that of many, so scores of splits
of different size do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.score import Score
from gen_eval.stats import non_finite

# Degrees of freedom of the variance between splits: the standard error is uncertain by 1 / sqrt(2 * 180), 5 %.
_DEGREES = 180
# Elements of a block of posteriors, to bound memory.
_BLOCK = 2**21


def inception_score(
    logits: Tensor,
    *,
    splits: int = 10,
    split_size: int | None = None,
    shuffle: bool = True,
    seed: int = 2020,
) -> Score:
    """The Inception Score with its standard error, its bias and its two factors.

    The defaults give the numbers of torch-fidelity. StyleGAN does not shuffle; ADM does not either, and
    takes splits of 5,000 images.

    The standard error of the mean over splits is that about its own expectation, from the spread between
    splits that the images are dealt into again and again: that of first order is a quarter too short where
    splits hold fewer images than there are classes. The other errors, that of a single split and all biases are
    by the jackknife. Its errors are not too short in expectation (Efron and Stein 1981), but up to 1.6 times too
    wide where first order vanishes: of the diversity where all classes are equally frequent, of the others
    where all images are equally sure as well.

    Args:
        logits: ``[n, classes]`` in image order; log-probabilities serve as well.
        splits: number of splits, of one size to within an image.
        split_size: the images of each split instead; the last takes what is left.
        shuffle: whether the images are shuffled before they are split.
        seed: of the shuffle, and of the deals that the standard error is made from.

    Returns:
        ``inception_score``, the mean over splits, and ``std``, their standard deviation (ddof 0). Of the set
        undivided, ``whole`` = ``diversity`` * ``sharpness`` and its logarithm ``kl``, the information in nats
        that an image gives of its class; per image, its part in that. Biases are stated of the values that rest on
        no fewer images than there are classes, and are right to about a tenth from twice as many on. With fewer
        only the least that a bias can be is known; the warning gives it.

    Raises:
        TooFewImages: if a split holds fewer than two images, and so scores 1 whatever it shows.
        NumericalError: if a logit is NaN or infinite.
        UsageError: if the logits are no matrix, or the number or size of the splits makes no sense.
    """
    _require_sound(logits)
    sizes = _split_sizes(len(logits), splits, split_size)
    random = np.random.RandomState(seed)
    order = torch.from_numpy(random.permutation(len(logits))) if shuffle else torch.arange(len(logits))
    posteriors = _Posteriors(logits, order.to(logits.device))

    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(logits.device)
    by_split = _Groups.of(posteriors, labels[None], len(sizes))
    undivided = by_split.merged()
    score = _jackknife_of_splits(posteriors, by_split, labels)
    details = _jackknives_of_details(posteriors, undivided)
    variance = score.variance
    if len(sizes) > 1:
        variance = _variance_between_splits(posteriors, sizes, random)

    biases = {}
    if min(sizes) >= logits.shape[1]:
        biases["inception_score"] = score.bias
    if len(logits) >= logits.shape[1]:
        biases |= {name: detail.bias for name, detail in details.items()}
    return Score(
        {
            "inception_score": score.value,
            "std": float(by_split.scores.std(correction=0)),
            **{name: detail.value for name, detail in details.items()},
        },
        errors={
            "inception_score": math.sqrt(variance),
            **{name: math.sqrt(detail.variance) for name, detail in details.items()},
        },
        biases=biases,
        contributions={"generated": posteriors.in_image_order(score.contributions)},
        per_image={"generated": posteriors.in_image_order(_divergences(posteriors, undivided))},
        warnings=_warnings(min(sizes), logits.shape[1], score.bias),
    )


@dataclass(frozen=True)
class _Posteriors:
    """The classifier's posteriors in the order of the splits, made from the logits a block at a time."""

    logits: Tensor
    order: Tensor

    def blocks(self, width: int = 1) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """A part of the images, their posteriors ``[b, classes]`` and entropies ``[b]``, float64.

        ``width`` is that of the caller's own arrays over the images of a block.
        """
        step = max(1, _BLOCK // max(width, self.logits.shape[1]))
        for start in range(0, len(self.order), step):
            part = slice(start, start + step)
            posterior = self.logits[self.order[part]].double().softmax(1)
            yield part, posterior, _entropy(posterior)

    def in_image_order(self, values: Tensor) -> Tensor:
        """Values of each image, ``[n]``, from the order of the splits to that of the logits."""
        back = torch.empty_like(values)
        back[self.order] = values
        return back


@dataclass(frozen=True)
class _Groups:
    """Groups of images.

    Args:
        sizes: ``[g]`` float64.
        posteriors: ``[g, classes]``, the mean posterior of each.
        entropies: ``[g]``, the mean entropy of the posteriors of each.
    """

    sizes: Tensor
    posteriors: Tensor
    entropies: Tensor

    @classmethod
    def of(cls, posteriors: _Posteriors, labels: Tensor, count: int) -> _Groups:
        """The groups of ``[divisions, n]`` labels, each of several divisions of the images into groups.

        Labels are below ``count``, or ``count`` for an image in no group.
        """
        sums = torch.zeros(
            count, posteriors.logits.shape[1], dtype=torch.float64, device=posteriors.logits.device
        )
        sizes, entropies = sums.new_zeros(2, count)
        for part, posterior, entropy in posteriors.blocks(count):
            member = posterior.new_zeros(count + 1, len(posterior)).scatter_(0, labels[:, part], 1)[:count]
            sizes += member.sum(1)
            entropies += linalg.product(member, entropy)
            sums += linalg.product(member, posterior)
        return cls(sizes, sums / sizes[:, None], entropies / sizes)

    def merged(self) -> _Groups:
        """All of them as one group."""
        shares = self.sizes / self.sizes.sum()
        return _Groups(
            self.sizes.sum()[None], (shares @ self.posteriors)[None], (shares @ self.entropies)[None]
        )

    @property
    def scores(self) -> Tensor:
        """The Inception Score of each group, ``[g]``."""
        return (_entropy(self.posteriors) - self.entropies).exp()

    def without_each(self, posteriors: _Posteriors, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of each image's group without that image: entropy of the mean posterior, and mean entropy, ``[n]``."""
        of_mean, mean_of = self.entropies.new_empty(2, len(labels))
        for part, posterior, entropy in posteriors.blocks():
            own = labels[part]
            size = self.sizes[own]
            rest = (size[:, None] * self.posteriors[own] - posterior) / (size - 1)[:, None]
            of_mean[part] = _entropy(rest.clamp_min_(0))
            mean_of[part] = (size * self.entropies[own] - entropy) / (size - 1)
        return of_mean, mean_of


@dataclass(frozen=True)
class _Jackknife:
    """A value, and what its values without each image in turn tell of it."""

    value: float
    variance: float
    bias: float
    contributions: Tensor  # of each image to the value, to first order, ``[n]``

    @classmethod
    def of(cls, value: Tensor, without: Tensor) -> _Jackknife:
        contributions = without.mean() - without
        others = len(without) - 1
        variance = float(contributions.square().sum()) * others / len(without)
        return cls(float(value), variance, others * float(without.mean() - value), contributions)


def _jackknife_of_splits(posteriors: _Posteriors, by_split: _Groups, labels: Tensor) -> _Jackknife:
    """That of the mean over splits, which are independent of one another."""
    of_mean, mean_of = by_split.without_each(posteriors, labels)
    without = torch.split((of_mean - mean_of).exp(), by_split.sizes.long().tolist())
    parts = [_Jackknife.of(score, values) for score, values in zip(by_split.scores, without, strict=True)]
    return _Jackknife(
        sum(part.value for part in parts) / len(parts),
        sum(part.variance for part in parts) / len(parts) ** 2,
        sum(part.bias for part in parts) / len(parts),
        torch.cat([part.contributions for part in parts]) / len(parts),
    )


def _jackknives_of_details(posteriors: _Posteriors, undivided: _Groups) -> dict[str, _Jackknife]:
    """Those of the set as one group, and of the two factors of its score."""
    every = torch.zeros(len(posteriors.order), dtype=torch.long, device=posteriors.order.device)
    whole = _entropy(undivided.posteriors)[0], undivided.entropies[0]
    without = undivided.without_each(posteriors, every)
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "whole": lambda of_mean, mean_of: (of_mean - mean_of).exp(),
        "kl": lambda of_mean, mean_of: of_mean - mean_of,
        "diversity": lambda of_mean, mean_of: of_mean.exp(),
        "sharpness": lambda of_mean, mean_of: (-mean_of).exp(),
    }
    return {name: _Jackknife.of(value(*whole), value(*without)) for name, value in functions.items()}


def _variance_between_splits(
    posteriors: _Posteriors, sizes: Sequence[int], random: np.random.RandomState
) -> float:
    """The variance of the mean over splits, from how much splits of one deal of the images differ.

    Splits of a deal share no image, so their variance is unbiased at any size; many deals make it steady.
    """
    n, count = sum(sizes), len(sizes)
    size = sorted(sizes)[(count - 1) // 2]  # two splits are no smaller, so n images make two of it at least
    hands = n // size
    deals = math.ceil(_DEGREES / (hands - 1))
    seats = np.minimum(np.arange(n) // size, hands)  # those past the last hand are left out
    labels = np.stack(
        [
            np.where(seats < hands, seats + deal * hands, deals * hands)[random.permutation(n)]
            for deal in range(deals)
        ]
    )
    dealt = _Groups.of(posteriors, torch.from_numpy(labels).to(posteriors.order.device), deals * hands)
    of_one = float(dealt.scores.view(deals, hands).var(1).mean())
    return of_one * sum(size / own for own in sizes) / count**2


def _divergences(posteriors: _Posteriors, undivided: _Groups) -> Tensor:
    """``KL(p_i | q)`` of each image, ``[n]``."""
    log_mean = undivided.posteriors[0].clamp_min(torch.finfo(torch.float64).tiny).log()
    found = log_mean.new_empty(len(posteriors.order))
    for part, posterior, entropy in posteriors.blocks():
        found[part] = -entropy - linalg.product(posterior, log_mean)
    return found


def _entropy(posterior: Tensor) -> Tensor:
    """In nats, over the last dimension, in a third of the time that ``torch.special.entr`` takes on a CPU."""
    logs = posterior.clamp_min(torch.finfo(posterior.dtype).tiny).log_()
    return -logs.mul_(posterior).sum(-1)


def _split_sizes(n: int, splits: int, split_size: int | None) -> list[int]:
    if splits < 1 or (split_size is not None and split_size < 2):
        raise UsageError(
            f"expected at least 1 split, of at least 2 images; found splits={splits}, split_size={split_size}"
        )
    if split_size is None:
        sizes = [(i + 1) * n // splits - i * n // splits for i in range(splits)]
    else:
        sizes = [min(split_size, n - start) for start in range(0, n, split_size)]
    if min(sizes) < 2:
        raise TooFewImages(
            f"each split needs at least 2 images, {n} images in {len(sizes)} splits leave one with {min(sizes)}; "
            "use more images or fewer splits"
        )
    return sizes


def _require_sound(logits: Tensor) -> None:
    if logits.ndim != 2 or 0 in logits.shape:
        raise UsageError(f"logits must be [n, classes] with n > 0, found shape {tuple(logits.shape)}")
    if not all(
        bool(part.isfinite().all()) for part in torch.split(logits, max(1, _BLOCK // logits.shape[1]))
    ):
        raise NumericalError(non_finite(logits))


def _warnings(size: int, classes: int, bias: float) -> tuple[str, ...]:
    if size >= classes:
        return ()
    return (
        f"too few images: splits of {size} for {classes} classes, and the score grows with the split; it falls "
        f"short of that of infinitely many images by {-bias:.3g} at least. Compare only at equal n and splits, and use "
        "more images.",
    )
