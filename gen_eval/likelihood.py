"""Likelihoods of models that have one: exact, lower bound and unbiased, which are never mixed.

>>> class Even:
...     bound = "exact"
...     def log_prob(self, x):
...         return torch.zeros(len(x))
>>> found = evaluate_likelihood(Even(), torch.zeros(5, 8, 8, dtype=torch.uint8))
>>> found.values["bits_per_dim"], found.terms.dims, found.terms.dequantization
(8.0, 64, 'uniform')
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gen_eval.dequantization import (
    DEQUANTIZATIONS,
    UNSCALED,
    Batch,
    Binary,
    Uniform,
    batches_of_images,
    batches_of_vectors,
    levels,
)
from gen_eval.errors import IncomparableError, UnknownName, UsageError
from gen_eval.images import Images
from gen_eval.images.protocol import Pixels
from gen_eval.metrics.likelihood import bits_per_dim, iwae, nll, on_levels, paired
from gen_eval.metrics.score import Score
from gen_eval.progress import Progress, silent
from gen_eval.results import SetInfo
from gen_eval.sources import Vectors, open_source

CITE = "Theis et al. 2016, arXiv:1511.01844"

# What a model's number is of the x that it is given.
KINDS = {
    "exact": "log p(x) itself",
    "lower": "a lower bound of log p(x), in expectation: ELBO, IWAE, annealed importance sampling",
    "unbiased": "an estimate of log p(x), right in expectation: Hutchinson's trace",
}


class Density(Protocol):
    """A model with a likelihood.

    It may also have a ``name``; ``draws``, the K that its bound is made of; ``dequantization``, the row of
    :data:`DEQUANTIZATIONS` that it takes, as a model of levels does; and ``density_evaluations``, how often its network
    ran for the last call, where that is as a solver chose.

    Attributes:
        bound: a row of :data:`KINDS`.
    """

    bound: str

    def log_prob(self, x: Tensor, /) -> Tensor:
        """``[b, channels, h, w]``, or ``[b, d]`` for vectors, to ``[b]`` in nats."""


@dataclass(frozen=True)
class Terms:
    """What a likelihood was measured on, besides the images. Those that differ do not compare.

    Args:
        kind: a row of :data:`KINDS`.
        dims: dimensions of an image: height * width * channels.
        dequantization: a row of :data:`DEQUANTIZATIONS`.
        draws: the K of a lower bound.
        scale: levels to a unit of the space that the density is over: 256 where pixels were scaled to [0, 1], 1 where
            x is levels or bits. Numbers are brought to a scale of 1, so this may differ.

    Raises:
        UnknownName: if there is no such kind or dequantisation.
        UsageError: if they contradict one another.
    """

    kind: str
    dims: int
    dequantization: str
    draws: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of likelihood", self.kind, KINDS)
        if self.dequantization not in DEQUANTIZATIONS:
            raise UnknownName("dequantization", self.dequantization, DEQUANTIZATIONS)
        if self.draws < 1 or (self.draws > 1 and self.kind != "lower"):
            raise UsageError(
                f"{self.draws} draws an image do not make an '{self.kind}' likelihood: several weights average to an "
                "estimate whose logarithm is a lower bound, kind 'lower'"
            )
        if self.dequantization in UNSCALED and self.scale != 1:
            raise UsageError(
                f"a scale of {self.scale:g} goes with dequantisation: without, x is levels, bits or vectors, of scale 1"
            )

    def differences(self, other: Terms) -> list[str]:
        """One line for each term that differs and matters."""
        names = ("kind", "dims", "dequantization", "draws")
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f"{name}: {left} against {right}" for name, left, right in pairs if left != right]


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds images, and the terms it was measured on.

    Args:
        model: what it is called.
        terms: what the numbers are of.
        data: which images.
        values: ``nll`` in nats per image and ``bits_per_dim``; lower is better. Densities are over pixels whose levels
            are 1 apart. Of log-weights also ``effective_draws`` and ``error_of_draws``, as
            :func:`~gen_eval.metrics.likelihood.iwae` says; along differential equations ``evaluations`` of the
            network for a batch.
        errors: the standard errors of both over images, draws included.
        per_image: the log-likelihood of each image, ``[n]`` float64 in nats.
        bounds: of log-weights, by number of draws: the ``nll`` that fewer draws give, and its standard error.
        warnings: reasons to read the values with care.
    """

    model: str
    terms: Terms
    data: SetInfo
    values: Mapping[str, float]
    errors: Mapping[str, float]
    per_image: Tensor = field(repr=False, compare=False)
    bounds: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        log_probs: Tensor,
        terms: Terms,
        data: SetInfo,
        *,
        model: str = "model",
        nested: Sequence[int] = (),
    ) -> Likelihood:
        """From the numbers of a model.

        Args:
            log_probs: ``[n]`` nats, or log-weights ``[n, K]``, which are averaged to a bound of K draws.
            terms: what they are of; the K of log-weights is their own.
            data: which images.
            model: what to call it.
            nested: numbers of draws to give the bound of as well, of log-weights.

        Raises:
            UsageError: if they are of another shape or contradict the terms.
            TooFewImages: if there is one image.
            NumericalError: if a log-likelihood is NaN or infinite.
        """
        weighted = Score({})
        numbers = on_levels(log_probs.double(), terms.dims, terms.scale)
        if log_probs.ndim == 2:
            if terms.kind != "lower":
                raise UsageError(
                    f"log-weights [n, K] give a lower bound, kind 'lower', not '{terms.kind}'; exact and unbiased "
                    "log-likelihoods are [n], one an image"
                )
            if terms.draws not in (1, log_probs.shape[1]):
                raise UsageError(
                    f"log-weights [n, K] tell their own K, {log_probs.shape[1]}, found draws={terms.draws}"
                )
            terms = replace(terms, draws=log_probs.shape[1])
            weighted = iwae(numbers, nested=nested)
            per_image = weighted.per_image["heldout"]
        elif nested:
            raise UsageError(
                f"bounds of {list(nested)} draws need log-weights [n, K], found {list(log_probs.shape)}"
            )
        else:
            per_image = numbers
        scores = (nll(per_image), bits_per_dim(per_image, dims=terms.dims))
        details = {name: value for name, value in weighted.values.items() if name.endswith("draws")}
        warnings = list(weighted.warnings)
        if terms.dequantization != "none" and scores[1].values["bits_per_dim"] < 0:
            warnings.append(
                "fewer than 0 bits per dimension: under dequantisation they bound the log-probability of levels, which "
                "is at most 0, so the numbers or their scale are wrong"
            )
        return cls(
            model,
            terms,
            data,
            {name: value for score in scores for name, value in score.values.items()} | details,
            {name: error for score in scores for name, error in score.errors.items()},
            per_image,
            {k: (-weighted.values[f"iwae_{k}"], weighted.errors[f"iwae_{k}"]) for k in nested},
            warnings,
        )

    @property
    def value(self) -> float:
        """The negative log-likelihood, in nats per image."""
        return self.values["nll"]

    @property
    def error(self) -> float:
        """Its standard error."""
        return self.errors["nll"]

    def to_json(self) -> dict[str, Any]:
        """Everything but the numbers of single images, as plain data."""
        return {
            "measure": "likelihood",
            "model": self.model,
            "value": self.value,
            "standard_error": self.error,
            "values": dict(self.values),
            "errors": dict(self.errors),
            "better": {"nll": "lower", "bits_per_dim": "lower"},
            "bounds": {str(k): {"nll": bound, "error": error} for k, (bound, error) in self.bounds.items()},
            **vars(self.terms),
            "data": dict(vars(self.data)),
            "warnings": list(self.warnings),
            "cite": CITE,
        }

    def json_line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json(), allow_nan=False)


def require_comparable_likelihoods(likelihoods: Sequence[Likelihood]) -> None:
    """Refuse to set likelihoods side by side that were measured on different terms or images.

    Raises:
        IncomparableError: names each term that differs.
    """
    for other in likelihoods[1:]:
        first = likelihoods[0]
        lines = first.terms.differences(other.terms)
        if first.data.n != other.data.n:
            lines.append(f"images: {first.data.n} against {other.data.n}")
        elif not (first.data.claimed or other.data.claimed) and first.data.digest != other.data.digest:
            lines.append(f"images: {first.data.digest[:16]} against {other.data.digest[:16]}")
        if lines:
            raise IncomparableError(
                f"the likelihoods of {first.model} and {other.model} are not comparable:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nMeasure both on the same terms."
            )


def compare_likelihoods(first: Likelihood, second: Likelihood) -> Score:
    """By how much one model's negative log-likelihood exceeds another's, over the same images.

    Args:
        first: the one.
        second: the other.

    Returns:
        ``nll`` and ``bits_per_dim``, first less second, so that below 0 the first is the better one, with the standard
        errors of the paired differences; and the two-sided ``p_value`` of Student's paired test.

    Raises:
        IncomparableError: if their terms or images differ.
    """
    require_comparable_likelihoods([first, second])
    score = paired(-first.per_image, -second.per_image)
    bits = first.terms.dims * math.log(2)
    value, error = score.values["difference"], score.errors["difference"]
    warnings: tuple[str, ...] = ()
    if first.terms.kind == "lower":
        warnings = (
            "a difference of lower bounds: it is one of likelihoods only where both are equally tight",
        )
    return Score(
        {"nll": value, "bits_per_dim": value / bits, "p_value": score.values["p_value"]},
        {"nll": error, "bits_per_dim": error / bits},
        {"nll": 0.0, "bits_per_dim": 0.0},
        per_image=score.per_image,
        warnings=warnings,
    )


def evaluate_likelihood(
    model: Density,
    images: Any,
    *,
    dequantization: str | None = None,
    interval: tuple[float, float] = (0.0, 1.0),
    channels: int | None = None,
    seed: int = 0,
    name: str | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    offline: bool | None = None,
    progress: Progress = silent,
) -> Likelihood:
    """How likely a model finds images that it has not seen.

    Under ``uniform`` dequantisation the model is given float32 pixels with the noise of image i drawn from ``seed`` and
    i alone, so that two models see the same; under ``binary`` float32 zeros and ones, drawn likewise; else images as
    int64 levels 0 .. 255, and its numbers are taken for those of levels. Vectors are given as they are. Variational: Ho
    et al. 2019, arXiv:1902.00275.

    Args:
        model: has ``log_prob`` and says in ``bound`` what that is.
        images: all that :func:`gen_eval.images.open_images` takes, of one size; or floating point vectors ``[n, d]``.
        dequantization: a row of :data:`DEQUANTIZATIONS`; by default what the model takes, else ``uniform`` for images
            and ``none`` for vectors.
        interval: where ``uniform`` puts pixels: the lower edge of level 0 and the upper edge of level 255.
        channels: 1 or 3; by default 1 if the first image is gray, whatever it is stored as.
        seed: of the noise or bits.
        name: of the model; by default its own ``name``, or its class.
        batch_size: images in a call of ``log_prob``.
        device: where it is called.
        offline: never fetch a dataset; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.
        progress: told of a dataset's bytes as they arrive, and of images as they are done.

    Raises:
        UsageError: if arguments make no sense, or the model has no likelihood or does not return one number an image.
        ImagesError: if images are of several sizes, or cannot be read.
        TooFewImages: if there is one image.
        NumericalError: if a log-likelihood is NaN or infinite.
    """
    if channels not in (None, 1, 3) or batch_size < 1:
        raise UsageError(
            f"expected channels of 1 or 3 and a batch_size from 1 on, found {channels} and {batch_size}"
        )
    source = open_source(images, offline=offline, progress=progress)
    if not isinstance(source, (Images, Vectors)):
        raise UsageError("a likelihood is one of images or vectors; these are statistics, which hold neither")
    called = name or str(getattr(model, "name", type(model).__name__))
    if not (hasattr(model, "log_prob") and hasattr(model, "bound")):
        raise UsageError(
            f"{called} has no likelihood: expected a model with log_prob(x), in nats, and with bound, one of "
            f"{', '.join(KINDS)}"
        )
    usual = "none" if isinstance(source, Vectors) else getattr(model, "dequantization", "uniform")
    rule = dequantization or usual
    noise = Uniform(interval, seed)
    scale = noise.scale if rule == "uniform" else 1.0
    if (rule == "binary") != (usual == "binary"):
        raise UsageError(
            f"{called} takes '{usual}', found '{rule}': the probability of binary images is told by models of those "
            "alone, whose dequantization says 'binary'"
        )
    terms = Terms(model.bound, 1, rule, getattr(model, "draws", 1), scale)  # dims are known after the pass
    if isinstance(source, Images):
        fill: dict[str, Callable[[Pixels, int], Tensor]] = {"uniform": noise, "binary": Binary(seed)}
        batches = batches_of_images(source, fill.get(rule, levels), channels, batch_size)
    elif rule == "none":
        batches = batches_of_vectors(source, batch_size)
    else:
        raise UsageError(
            f"vectors have no levels to fill between: '{rule}' is for images, vectors take 'none'"
        )
    asked: list[int] = []

    def log_prob(x: Tensor) -> Tensor:
        found = _log_probs(model, called, x.to(device))
        asked.append(getattr(model, "density_evaluations", 0))
        return found

    log_probs, dims, data = _pass(log_prob, batches, source.name, len(source), progress)
    found = Likelihood.of(log_probs, replace(terms, dims=dims), data, model=called)
    if not any(asked):
        return found
    return replace(found, values={**found.values, "evaluations": sum(asked) / len(asked)})


def _pass(
    log_prob: Callable[[Tensor], Tensor], batches: Iterator[Batch], name: str, n: int, progress: Progress
) -> tuple[Tensor, int, SetInfo]:
    """The numbers of all images, the dimensions of one, and which images they were."""
    digest, notes, numbers, dims = hashlib.sha256(), Counter[str](), torch.empty(n, dtype=torch.float64), 1
    done = 0
    progress(name, 0, n, "image")
    for batch in batches:
        numbers[done : done + len(batch.x)] = log_prob(batch.x)
        digest.update(batch.content)
        notes += batch.notes
        dims = batch.x[0].numel()
        done += len(batch.x)
        progress(name, done, n, "image")
    return numbers, dims, SetInfo(name, digest.hexdigest(), n, notes=dict(notes))


def _log_probs(model: Density, name: str, x: Tensor) -> Tensor:
    with torch.no_grad():
        found = model.log_prob(x)
    if not isinstance(found, Tensor) or found.shape != x.shape[:1] or not found.is_floating_point():
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"log_prob of {name} gave {shape} for {list(x.shape)}; expected a floating point tensor [{len(x)}], one "
            "number an image in nats, summed over its pixels"
        )
    return found
