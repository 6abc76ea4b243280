"""Precision, recall, density and coverage of large sets from some of their images, against all of the other set.

Precision and recall ask of a random part of each set whether it lies in any ball of the whole other set; density and
coverage ask a random part of the reference balls what they hold of all generated images. Each answer is the one that
:func:`.manifold.survey` gives, radii among the whole set included, so the mean over the part is an estimate without
bias of the value of all, and its own draw is one more term of the standard error: ``s² / q (1 - q / n)`` of q
drawn without replacement from n (Cochran 1977, Sampling Techniques, section 2.5).

The other terms, by the draw of the sets themselves, are seen on a pilot: parts of both sets, in their proportion, and
the balls among those. Variances of means over images fall as 1/n. That of a union of balls falls as 1/n in the end,
where the balls are small beside what the density varies over, and more slowly before: between 125 and 2,000 images
powers of .4 to 1.6 were seen, most of .7 to 1.1. They are scaled down by the power of 3/4. Where sets are many times as
large as the sample that hardly matters, for its own draw is most of the error; in between it makes the error up to a
twentieth too long, where the power of 1 would make it as much too short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from gen_eval.metrics.neighbors.ball_counts import Balls, count, limits_of, stored
from gen_eval.metrics.neighbors.distances import Rows, within
from gen_eval.metrics.neighbors.errors import Variances, padded
from gen_eval.metrics.neighbors.inside import inside
from gen_eval.metrics.neighbors.radii import Radii
from gen_eval.metrics.neighbors.search import near, require_neighbour
from gen_eval.metrics.score import Score, harmonic_mean

_POWER = 0.75  # of the number of images, that what the draw of the balls does falls with


@dataclass(frozen=True)
class Part:
    """What a random part of a set says of it.

    Args:
        drawn: ``[q]`` int64, which images, in random order.
        n: number of images in all.
    """

    drawn: Tensor
    n: int

    @property
    def q(self) -> int:
        """Number of images in the part."""
        return len(self.drawn)

    @property
    def left(self) -> float:
        """The share that was not drawn."""
        return 1 - self.q / self.n

    def spread_out(self, numbers: Tensor) -> Tensor:
        """Numbers of the part's images at their places in the set, ``[n]`` float64; NaN for those not drawn."""
        every = torch.full((self.n,), math.nan, dtype=torch.float64, device=numbers.device)
        every[self.drawn] = numbers.double()
        return every


class SampledManifold:
    """What balls of two sets hold of each other, by parts of them; what is not asked for is not computed.

    Args:
        generated: ``[n, d]`` features.
        reference: ``[m, d]`` features.
        balls: which balls.
        sample: the most images of a set that are asked about, :func:`least_sample` or more.
        seed: of the draws, 0 or more.
        feature_dtype: as in :func:`.manifold.survey`.
        engine: as there, for what it serves.

    Raises:
        UsageError: if the features do not compare.
        TooFewImages: if a set has no more than k images.
        NumericalError: if a feature is NaN or infinite.
        UnknownName: if the dtype or the engine is unknown.
    """

    def __init__(
        self,
        generated: Tensor,
        reference: Tensor,
        balls: Balls,
        *,
        sample: int,
        seed: int = 2020,
        feature_dtype: str = "float32",
        engine: str = "auto",
    ) -> None:
        self.balls, self._engine, self._dtype = balls, engine, feature_dtype
        self._features = (generated, reference)
        self._sets, self._rounding = stored(generated, reference, feature_dtype)
        for rows in self._sets:
            require_neighbour(balls.k, rows)
        self.generated, self.reference = (
            Part(_draw(rows, sample, [seed, side]), rows.n) for side, rows in enumerate(self._sets)
        )

    @cached_property
    def of_generated(self) -> Tensor:
        """Whether each drawn generated image lies in a reference ball, ``[q]`` bool."""
        return self._inside(self._sets[0], self.generated, self._sets[1], self._reference_radii)

    @cached_property
    def of_reference(self) -> Tensor:
        """Whether each drawn reference image lies in a generated ball, ``[q]`` bool."""
        generated = self._sets[0]
        return self._inside(self._sets[1], self.reference, generated, self._radii(generated))

    @cached_property
    def hits(self) -> Tensor:
        """How many generated images each drawn reference ball holds, ``[q]`` int64."""
        generated, drawn = self._sets[0], self.reference.drawn
        radii, centres = self._reference_radii, self._sets[1].take(drawn)
        radii.settle(drawn)
        limits = radii.limit[drawn]
        hits = torch.zeros_like(drawn)
        for found in near(generated, centres, None, limits, engine=self._engine):
            pairs = found.by_column
            ball = pairs.column[within(generated, centres, pairs, limits[pairs.column])]
            hits.scatter_add_(0, ball, torch.ones_like(ball))
        return hits

    @cached_property
    def _reference_radii(self) -> Radii:
        return self._radii(self._sets[1])

    def _radii(self, rows: Rows) -> Radii:
        limits = partial(limits_of, scale=rows.scale, inclusive=self.balls.inclusive, rounding=self._rounding)
        return Radii(rows, self.balls.k, limits, first=max(self.generated.q, self.reference.q))

    def _inside(self, queries: Rows, part: Part, centres: Rows, radii: Radii) -> Tensor:
        return inside(queries.take(part.drawn), centres, radii)

    @property
    def _parts(self) -> tuple[Part, Part]:
        return self.generated, self.reference

    # --- Values

    def value(self, name: str) -> float:
        """One of ``precision``, ``recall``, ``density`` and ``coverage``."""
        if name == "density":
            return self._density_of_hit * float(self.hits.double().mean())
        return float(self._held(name).double().mean())

    def _held(self, name: str) -> Tensor:
        """The answers that a share is the mean of, ``[q]`` bool."""
        if name == "coverage":
            return self.hits > 0
        return self.of_generated if name == "precision" else self.of_reference

    @property
    def _density_of_hit(self) -> float:
        """What a hit of each ball would add to the density."""
        return self.reference.n / (self.generated.n * self.balls.k)

    def draw_variance(self, name: str) -> float:
        """The variance of a value about that of all images, which is what the draw of the parts does."""
        part = self.generated if name == "precision" else self.reference
        if name != "density":
            share = self.value(name)
            return part.left * padded(share, share * (1 - share) / part.q, part.q)
        # As a share near 0 is held away from it, so is the density that comes of few balls.
        covered = self.value("coverage")
        plain = covered * (1 - covered) / part.q
        each = float(self.hits[self.hits > 0].double().mean()) if covered else 1.0
        own = float(self.hits.double().var()) / part.q + each**2 * (padded(covered, plain, part.q) - plain)
        return part.left * self._density_of_hit**2 * own

    def variance(self, name: str) -> float | None:
        """The variance of a value about its expectation over draws of both sets, and of the parts.

        Returns:
            ``None`` if half of a set has no k-th neighbours.
        """
        if self._pilot is None:
            return None
        sizes = [size / part.n for size, part in zip(self._pilot_sizes, self._parts, strict=True)]
        generated, reference = (math.pow(share, _POWER) for share in sizes)
        if name == "density":
            own = self._pilot.density_queries * sizes[0] + self._pilot.density_balls * reference
            return own + self.draw_variance(name)
        share, part = self.value(name), self.generated if name == "precision" else self.reference
        drawn = share * (1 - share) / part.q
        plain = {
            "precision": drawn + self._pilot.precision * reference,
            "recall": drawn + self._pilot.recall * generated,
            "coverage": drawn * part.left + self._pilot.coverage * reference,
        }[name]
        return padded(share, plain, part.q)

    @cached_property
    def _pilot(self) -> Variances | None:
        """What the draw of sets of the size of the pilot does."""
        drawn = [part.drawn[:size] for part, size in zip(self._parts, self._pilot_sizes, strict=True)]
        generated, reference = (rows[some] for rows, some in zip(self._features, drawn, strict=True))
        (seen,) = count(generated, reference, [self.balls], self._dtype, self._engine, realism=False)
        return Variances.of(self.balls.k, seen.of_generated, seen.of_reference)

    @property
    def _pilot_sizes(self) -> tuple[int, int]:
        """Of drawn images, in the proportion of the sets, for coverage depends on it."""
        n, m = self.generated.n, self.reference.n
        share, least = max(self.generated.q, self.reference.q) / max(n, m), least_sample(self.balls.k)
        return min(self.generated.q, max(round(share * n), least)), min(
            self.reference.q, max(round(share * m), least)
        )

    # --- Scores

    def precision_recall(self) -> Score:
        """See :func:`.manifold.precision_recall`."""
        score = self._score("precision", "recall")
        precision, recall = score.values.values()
        return replace(
            score,
            values={**score.values, "f1": harmonic_mean(precision, recall)},
            per_image={
                "generated": self.generated.spread_out(self.of_generated),
                "reference": self.reference.spread_out(self.of_reference),
            },
        )

    def density_coverage(self) -> Score:
        """See :func:`.manifold.density_coverage`."""
        covered = self.reference.spread_out(self.hits > 0)
        return replace(self._score("density", "coverage"), per_image={"reference": covered})

    def prdc(self) -> Score:
        """See :func:`.manifold.prdc`."""
        return self._score("precision", "recall", "density", "coverage")

    def _score(self, *names: str) -> Score:
        parts = [("reference", self.reference)]
        if "precision" in names:
            parts.insert(0, ("generated", self.generated))
        asked = " and ".join(
            f"{part.q:,} of the {part.n:,} {role} images" for role, part in parts if part.left
        )
        variances = {name: self.variance(name) for name in names}
        warning = (
            f"a random draw was asked about, {asked}: the values estimate those of all images, and the standard "
            "errors count the draw"
        )
        return Score(
            {name: self.value(name) for name in names},
            {name: math.sqrt(variance) for name, variance in variances.items() if variance is not None},
            warnings=(warning,) if asked else (),
        )


def least_sample(k: int) -> int:
    """The fewest images of a set of which each half has k-th neighbours."""
    return 2 * k + 2


def _draw(rows: Rows, sample: int, seed: list[int]) -> Tensor:
    """Some of the rows in random order, whatever order they come in."""
    drawn = np.random.default_rng(seed).choice(rows.n, min(sample, rows.n), replace=False)
    return rows.order()[torch.from_numpy(drawn).to(rows.given.device)]
