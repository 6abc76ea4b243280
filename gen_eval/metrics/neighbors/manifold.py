"""Precision, recall, density, coverage, realism and rarity: what balls around the images of a set hold.

Around each image of a set stands a ball that reaches to its k-th nearest neighbour in that set. Their union
stands for the manifold of the set (Kynkäänniemi et al. 2019, arXiv:1904.06991). The radius belongs to the centre of
the ball, never to the image that is asked about.

One pass over the distances serves all of these: :func:`survey` makes it, and a :class:`Manifold` says what it saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics.arguments import require_whole
from gen_eval.metrics.neighbors.ball_counts import Balls, Membership, count
from gen_eval.metrics.neighbors.errors import standard_errors
from gen_eval.metrics.neighbors.sampled import SampledManifold, least_sample
from gen_eval.metrics.score import Score, harmonic_mean


@dataclass(frozen=True)
class Manifold:
    """What the balls of two sets hold of each other.

    Args:
        balls: which balls these are.
        of_generated: generated images in reference balls.
        of_reference: reference images in generated balls.
        nearness: ``[n]`` float64, for each generated image the largest radius over distance, where asked for.
    """

    balls: Balls
    of_generated: Membership
    of_reference: Membership
    nearness: Tensor | None

    @cached_property
    def errors(self) -> dict[str, float]:
        """Standard errors of precision, recall, density and coverage; empty where a set is too small."""
        return standard_errors(self.balls.k, self.of_generated, self.of_reference)

    def precision_recall(self) -> Score:
        """See :func:`precision_recall`."""
        values = self._values("precision", "recall")
        f1 = harmonic_mean(values["precision"], values["recall"])
        held = {"generated": self.of_generated.held, "reference": self.of_reference.held}
        per_image = {role: (count > 0).double() for role, count in held.items()}
        return Score({**values, "f1": f1}, self._errors(values), per_image=per_image)

    def density_coverage(self) -> Score:
        """See :func:`density_coverage`."""
        values = self._values("density", "coverage")
        per_image = {
            "generated": self.of_generated.held.double() / self.balls.k,
            "reference": (self.of_generated.hits > 0).double(),
        }
        return Score(values, self._errors(values), per_image=per_image)

    def prdc(self) -> Score:
        """See :func:`prdc`."""
        values = self._values("precision", "recall", "density", "coverage")
        return Score(values, self._errors(values))

    def realism(self) -> Score:
        """See :func:`realism`."""
        if self.nearness is None:
            raise UsageError("this survey was made without realism; make it with realism=True")
        copies = self.nearness.isinf()
        values = {
            "realism": float(self.nearness[~copies].mean()),
            "share_above_1": float((self.nearness > 1).double().mean()),
        }
        warnings = (
            (
                f"{int(copies.sum())} of {len(copies)} generated images are exact copies of reference images; "
                "their realism is infinite and not in the mean",
            )
            if bool(copies.any())
            else ()
        )
        return Score(values, per_image={"generated": self.nearness}, warnings=warnings)

    def rarity(self) -> Score:
        """See :func:`rarity`."""
        radius = self.of_generated.smallest
        inside = radius.isfinite()
        values = {"rarity": float(radius[inside].mean()), "inside": float(inside.double().mean())}
        errors = {"inside": self.errors["precision"]} if self.errors else {}
        rarity_of = torch.where(inside, radius, math.nan)
        return Score(values, errors, per_image={"generated": rarity_of})

    def _values(self, *names: str) -> dict[str, float]:
        every = {
            "precision": (self.of_generated.held > 0).double().mean(),
            "recall": (self.of_reference.held > 0).double().mean(),
            "density": self.of_generated.held.double().mean() / self.balls.k,
            "coverage": (self.of_generated.hits > 0).double().mean(),
        }
        return {name: float(every[name]) for name in names}

    def _errors(self, values: dict[str, float]) -> dict[str, float]:
        return {name: self.errors[name] for name in values if name in self.errors}


# --- Metrics


def precision_recall(
    generated: Tensor,
    reference: Tensor,
    *,
    k: int = 3,
    inclusive: bool = True,
    feature_dtype: str = "float32",
    sample: int | None = None,
    seed: int = 2020,
    engine: str = "auto",
) -> Score:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Precision is the share of generated images inside a ball of the reference, recall the share of reference
    images inside a ball of the generated set. Both depend on n: compare at equal n only. A few far outliers
    among the generated images have balls large enough to lift recall to 1.

    The standard errors count the sampling of both sets. They are wide rather than short near 0 and 1. Intervals of
    1.96 of them cover 92 to 98 times in a hundred, but in one or two dimensions at larger k, where a handful of
    balls at the edge decides, down to 88.

    Args:
        generated: ``[n, d]`` features.
        reference: ``[m, d]`` features.
        k: the neighbour that radii go to.
        inclusive: whether the surface belongs to a ball (``<=``: the paper, ADM, StyleGAN, torch-fidelity) or not
            (``<``: prdc, fld).
        feature_dtype: see :func:`survey`.
        sample: the most images of each set that are asked about, drawn at random, in time of ``sample * (n + m)``
            where all take ``(n + m)²``; ``None`` for all. Each is asked about all balls of the other set, so the
            values are estimates without bias of those of all images; the standard errors count the draw.
        seed: of that draw, which does not depend on the order of the images.
        engine: see :func:`survey`.

    Returns:
        ``precision``, ``recall`` and their harmonic mean ``f1``; of each image 1 if it is inside, else 0, and NaN if
        it was not asked about.

    Raises:
        UsageError: if the features do not compare, k is not positive, ``sample`` is less than ``2 k + 2``, which
            tell no standard error, or the seed is negative.
        TooFewImages: if a set has no more than k images.
        NumericalError: if a feature is NaN or infinite.
        UnknownName: if the engine or the dtype is unknown.
    """
    balls = Balls(k, inclusive)
    return _one(generated, reference, balls, feature_dtype, engine, sample, seed).precision_recall()


def density_coverage(
    generated: Tensor,
    reference: Tensor,
    *,
    k: int = 5,
    inclusive: bool = False,
    feature_dtype: str = "float32",
    sample: int | None = None,
    seed: int = 2020,
    engine: str = "auto",
) -> Score:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797).

    Density is the mean number of reference balls that hold a generated image, over k; coverage the share of
    reference balls that hold one. With ``sample``, both are of as many balls, drawn at random, and all generated
    images. Where density is far above 1, because the generated images crowd inside a few balls, its standard error is
    about a tenth too short.

    Arguments, defaults aside, and errors are those of :func:`precision_recall`.

    Returns:
        ``density`` and ``coverage``; of each generated image its density, of each reference image 1 if covered. With
        ``sample`` nothing is said of single generated images.
    """
    balls = Balls(k, inclusive)
    return _one(generated, reference, balls, feature_dtype, engine, sample, seed).density_coverage()


def prdc(
    generated: Tensor,
    reference: Tensor,
    *,
    k: int = 5,
    inclusive: bool = False,
    feature_dtype: str = "float32",
    sample: int | None = None,
    seed: int = 2020,
    engine: str = "auto",
) -> Score:
    """Precision, recall, density and coverage of the same balls: :func:`precision_recall`, :func:`density_coverage`."""
    return _one(generated, reference, Balls(k, inclusive), feature_dtype, engine, sample, seed).prdc()


def realism(generated: Tensor, reference: Tensor, *, k: int = 3, engine: str = "auto") -> Score:
    """How near each generated image is to the reference (Kynkäänniemi et al. 2019, section 5).

    The largest, over reference balls, of radius over distance to the centre; balls larger than the median are
    left out. Above 1 the image is inside a ball. Arguments and errors are those of :func:`precision_recall`.

    Returns:
        ``realism``, the mean over images that are no exact copies, and ``share_above_1``; realism of each image.
    """
    return survey(generated, reference, [Balls(k)], engine=engine, realism=True)[0].realism()


def rarity(
    generated: Tensor, reference: Tensor, *, k: int = 3, inclusive: bool = True, engine: str = "auto"
) -> Score:
    """How rare each generated image is (Han et al. 2022, arXiv:2206.08549).

    The radius of the smallest reference ball that holds it, in the units of the features; NaN outside all balls.
    Arguments and errors are those of :func:`precision_recall`.

    Returns:
        ``rarity``, the mean over the images inside (NaN if there are none), and their share, ``inside``; the rarity
        of each image.
    """
    return survey(generated, reference, [Balls(k, inclusive)], engine=engine)[0].rarity()


def _one(
    generated: Tensor,
    reference: Tensor,
    balls: Balls,
    feature_dtype: str,
    engine: str,
    sample: int | None,
    seed: int,
) -> Manifold | SampledManifold:
    """One kind of balls, asked about a part of each set where that is asked for and is not all of both."""
    if sample is not None:
        require_whole("sample", sample, least_sample(balls.k))
        require_whole("seed", seed, 0)
        if sample < max(len(generated), len(reference)):
            return SampledManifold(
                generated,
                reference,
                balls,
                sample=sample,
                seed=seed,
                feature_dtype=feature_dtype,
                engine=engine,
            )
    return survey(generated, reference, [balls], feature_dtype=feature_dtype, engine=engine)[0]


# --- The pass


def survey(
    generated: Tensor,
    reference: Tensor,
    balls: Sequence[Balls],
    *,
    feature_dtype: str = "float32",
    engine: str = "auto",
    realism: bool = False,
) -> list[Manifold]:
    """What balls of several kinds hold, from one pass over the distances.

    Args:
        generated: ``[n, d]`` features, float32 or float64.
        reference: ``[m, d]`` features.
        balls: which balls to draw.
        feature_dtype: ``float32`` decides by the exact distances of the features as they are. ``float16`` rounds
            features to half precision and each distance once, as StyleGAN stores them; ``float16-squared``
            rounds squared distances instead, as ADM does, and like ADM falls back to ``float32`` where they
            overflow. What the half-precision products of those tools round in between depends on the
            hardware and is not imitated.
        engine: ``blocks``, ``faiss``, or ``auto`` for the faster. The answer is the same.
        realism: whether to ask for the realism of the first kind of balls as well; that always goes by blocks.

    Raises:
        As :func:`precision_recall`.
    """
    if not balls:
        raise UsageError("a survey needs at least one kind of balls")
    counts = count(generated, reference, balls, feature_dtype, engine, realism)
    return [Manifold(kind, *seen) for kind, seen in zip(balls, counts, strict=True)]
