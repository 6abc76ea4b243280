"""Truncation curves: what each metric makes of a generator that keeps nearer and nearer to its centre.

Truncation trades diversity for quality (Brock et al. 2019, arXiv:1809.11096; Karras et al. 2019,
arXiv:1812.04948): as psi falls, precision should rise and recall fall. How a network takes it is its own affair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.evaluation import Evaluation
from gen_eval.latent import (
    Generator,
    images_of,
    mapping_of,
    mean_latent,
    to_uint8,
    truncate,
    truncated_normal,
)
from gen_eval.metrics import Measure
from gen_eval.results import Result, labelled, require_comparable

DEFAULT_PSIS = (1.0, 0.8, 0.6, 0.4, 0.2)
# From int64 seeds [b] to uint8 images [b, 3, h, w].
FromSeeds = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Point:
    """One place of a truncation curve.

    Args:
        psi: how far the generator was truncated.
        results: one of each measure.
    """

    psi: float
    results: Sequence[Result]

    @property
    def values(self) -> dict[str, tuple[float, float | None]]:
        """Each value that models are judged by, and its standard error, by the name that it is shown under."""
        return {
            label: (result.values[name], result.errors.get(name))
            for label, result, name in labelled(self.results)
        }

    def json_lines(self) -> list[str]:
        """The results as :meth:`gen_eval.results.Result.json_line` gives them, each with its psi in front."""
        return [json.dumps({"psi": self.psi, **json.loads(each.json_line())}) for each in self.results]


def truncation_curve(
    generated: Callable[[float], Any],
    *,
    reference: Any = None,
    measures: str | Measure | Sequence[str | Measure] = ("pr", "fid"),
    psis: Sequence[float] = DEFAULT_PSIS,
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Point]:
    """Measure a generator at several truncations against one reference, which is summarized once.

    Args:
        generated: from psi to a set, whatever :func:`gen_eval.evaluate` takes as ``generated``. :func:`in_w` and
            :func:`in_z` make it from a generator with a latent.
        reference: the real images or vectors.
        measures: names such as ``"pr"`` and ``"fid:dinov2"``.
        psis: the truncations, in the order wanted.
        n: number of images, where ``generated`` gives callables from seeds.
        seed: of their first images, the same at each psi.
        options: as :class:`gen_eval.evaluation.Evaluation` takes them.

    Returns:
        A point for each psi, in their order. Points of neighbouring psi share their seeds and the reference: they
        differ by less than their standard errors, which are of each by itself, would allow.

    Raises:
        UsageError: if psis are missing, equal, negative or infinite.
        IncomparableError: if the sets differ in their number of images.
        GenEvalError: whatever measuring raises.
    """
    if not psis or len(set(psis)) < len(psis) or not all(0 <= psi < math.inf for psi in psis):
        raise UsageError(f"psis are different finite numbers of 0 or more, found {list(psis)}")
    evaluation = Evaluation(measures, reference=reference, **options)
    points = [Point(psi, evaluation.measure(generated(psi), n=n, seed=seed)) for psi in psis]
    for results in zip(*(point.results for point in points), strict=True):
        require_comparable(results)
    return points


def in_w(generator: Generator, *, centre: Tensor | None = None) -> Callable[[float], FromSeeds]:
    """Truncation of StyleGAN: w moved towards its centre, by psi from 1 (not at all) to 0 (one image).

    Args:
        generator: one with a mapping.
        centre: ``[...]`` of w; by default the mean of 10,000 latents.

    Returns:
        From psi to images by seed, for :func:`truncation_curve`.

    Raises:
        UsageError: if the generator has no mapping.
    """
    mapping = mapping_of(generator)
    middle = mean_latent(generator) if centre is None else centre

    def at(psi: float) -> FromSeeds:
        def images(seeds: Tensor) -> Tensor:
            with torch.no_grad():
                w = mapping(generator.latent(seeds))
            return to_uint8(images_of(generator, truncate(w, middle, psi), "w"))

        return images

    return at


def in_z(generator: Generator) -> Callable[[float], FromSeeds]:
    """Truncation of BigGAN: normal latents without components outside of ±psi.

    Args:
        generator: one whose latents are standard normal; only their number of components is asked of it.

    Returns:
        From psi, above 0, to images by seed, for :func:`truncation_curve`.
    """
    like = generator.latent(torch.zeros(1, dtype=torch.int64))

    def at(psi: float) -> FromSeeds:
        def images(seeds: Tensor) -> Tensor:
            z = truncated_normal(seeds, like.shape[-1], psi).to(like)
            return to_uint8(images_of(generator, z))

        return images

    return at
