"""Distances that a generator cannot lower by repeating its training set.

MiFID, the memorization-informed Fréchet distance of Bai et al. 2021, arXiv:2106.03062: the Fréchet distance,
divided by how far the generated images are from the nearest training image where that is suspiciously near.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.metrics import linalg
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.metrics.score import Score
from gen_eval.parallel import in_parallel

# Keeps the division from zero; the value of the Kaggle competition that the paper reports on.
_EPSILON = 1e-14
# A Fréchet distance below this part of the total variance is rounding: equal sets are no distance apart.
_ROUNDING = 1e-10
# Rows of either set that are compared at a time, to bound memory.
_BLOCK = 1024


def mifid(
    generated: Gaussian, reference: Gaussian, *, mean_dtype: str = "float64", threshold: float = 0.1
) -> Score:
    """The Fréchet distance over the memorization distance, if the latter is below a threshold.

    The memorization distance is the mean over generated images of :func:`nearest_cosine_distances` to the
    training images. At the threshold and above nothing is divided. The standard error counts the sampling of
    the generated images in both distances, which share them, and that of the reference images in the Fréchet
    distance; for the memorization distance the training images are what they are.

    torchmetrics takes the mean over training images of the distance to the nearest generated one instead,
    which is this function with its arguments exchanged.

    Args:
        generated: moments and all rows of the generated features.
        reference: moments and all rows of the features of the training images.
        mean_dtype: as in :func:`gen_eval.metrics.frechet.frechet.frechet`.
        threshold: memorization distance from which on it does not matter, in (0, 1].

    Returns:
        ``mifid``, and the two distances it is made of as ``frechet`` and ``memorization_distance``; of each
        generated image its own distance to the nearest training image.

    Raises:
        TooFewImages: if a set holds fewer than two images.
        NumericalError: if the moments are not finite.
        UnknownName: if the dtype is unknown.
        UsageError: if rows are missing, the dimensions differ or the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold of the memorization distance must be in (0, 1], found {threshold}")
    plain = frechet(generated, reference, mean_dtype=mean_dtype)
    distances = nearest_cosine_distances(_all_rows("generated", generated), _all_rows("reference", reference))
    distance = float(distances.mean())
    deviations = (distances - distance) / len(distances)
    error = math.sqrt(_covariance(deviations, deviations))
    rounding = _ROUNDING * (generated.variance + reference.variance)
    value = plain.values["frechet"] if plain.values["frechet"] > rounding else 0.0

    # What a unit of the Fréchet distance, and one of the memorization distance, add to the quotient.
    factor, slope = 1.0, 0.0
    if distance < threshold:
        factor = 1 / (distance + _EPSILON)
        slope = -value * factor**2
    contributions = {role: factor * part for role, part in plain.contributions.items()}
    contributions["generated"] = contributions["generated"] + slope * deviations
    biases = {"memorization_distance": 0.0}
    # A quotient by what may be 0, rounding apart, has no expansion.
    if plain.bias is not None and distance > max(2 * error, _ROUNDING):
        shared = _covariance(plain.contributions["generated"], deviations)
        curvature = -factor * (factor * shared + slope * error**2) if slope else 0.0
        biases |= {"mifid": factor * plain.bias + curvature, "frechet": plain.bias}
    return Score(
        {"mifid": factor * value, "frechet": value, "memorization_distance": distance},
        errors={
            "mifid": math.sqrt(sum(_covariance(part, part) for part in contributions.values())),
            "frechet": plain.errors["frechet"],
            "memorization_distance": error,
        },
        biases=biases,
        contributions=contributions,
        per_image={"generated": distances},
        warnings=(*plain.warnings, *_near(distance, error, threshold)),
    )


def nearest_cosine_distances(rows: Tensor, others: Tensor) -> Tensor:
    """``1 - |cos|`` of each row to that of the others where it is least, ``[n]`` float64.

    The nearest is searched for in float32 and its distance measured in float64. A row of zeros has no
    direction, and is at distance 1 from all.

    Args:
        rows: ``[n, d]``.
        others: ``[m, d]``.
    """
    nearest, device = _nearest(rows, others), rows.device

    def measure(at: Tensor) -> Tensor:
        return (1 - (_units(rows[at]) * _units(others[nearest[at]])).sum(1).abs()).clamp_min(0)

    parts = torch.split(torch.arange(len(rows), device=device), _BLOCK)
    return torch.cat(list(in_parallel(measure, parts, device)))


def _nearest(rows: Tensor, others: Tensor) -> Tensor:
    """Which of the others is nearest to each row, ``[n]``."""
    blocks = [_units(block).float() for block in torch.split(rows, _BLOCK)]

    def nearest_of(part: Tensor) -> tuple[Tensor, Tensor]:
        columns = _units(part).float().T
        found = [linalg.product(block, columns).abs_().max(1) for block in blocks]
        return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])

    largest = torch.full((len(rows),), -1.0, device=rows.device)
    nearest = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    parts = in_parallel(nearest_of, torch.split(others, _BLOCK), rows.device)
    for at, (cosines, index) in enumerate(parts):
        better = cosines > largest
        largest = torch.where(better, cosines, largest)
        nearest = torch.where(better, index + at * _BLOCK, nearest)
    return nearest


def _units(rows: Tensor) -> Tensor:
    """Rows of length one, float64."""
    rows = rows.double()
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / lengths.clamp_min(torch.finfo(rows.dtype).tiny)


def _covariance(a: Tensor, b: Tensor) -> float:
    """That of two statistics of one set, from the contributions of its images to each, ``[n]``."""
    return float(a @ b) * len(a) / (len(a) - 1)


def _all_rows(role: str, side: Gaussian) -> Tensor:
    if side.rows is None or len(side.rows) != side.n:
        raise UsageError(
            f"the memorization distance needs every {role} feature row, not a part of them or moments alone"
        )
    return side.rows


def _near(distance: float, error: float, threshold: float) -> tuple[str, ...]:
    if abs(distance - threshold) > 2 * error:
        return ()
    return (
        f"the memorization distance, {distance:.3g} +- {error:.1g}, is at the threshold of {threshold:g}: whether the "
        "Fréchet distance is divided by it, a tenfold matter, is up to chance. Compare the two distances instead.",
    )
