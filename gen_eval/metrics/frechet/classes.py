"""The Fréchet distance within each class, and its mean over classes: "intra FID".

Miyato and Koyama 2018, arXiv:1802.05637. A conditional generator that confuses its classes, or makes each of
them alike, may match the pool of all images well; within the classes it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from gen_eval.errors import TooFewImages, UsageError
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian, Gaussians
from gen_eval.metrics.score import Score

_MEAN = "frechet_classes"
# Names of classes that a message lists.
_SHOWN = 5

Sizes = Mapping[str, "int | None"]


def frechet_classes(
    generated: Mapping[str, Gaussian], reference: Mapping[str, Gaussian], *, mean_dtype: str = "float64"
) -> Score:
    """The Fréchet distance of each class to the same class of the reference, and their mean.

    Classes hold different images, so their errors are independent. That of the mean, and its bias, are stated
    where those of all classes are.

    Args:
        generated: moments and rows of the generated features, by class.
        reference: those of the reference features, of the same classes.
        mean_dtype: as in :func:`gen_eval.metrics.frechet.frechet.frechet`.

    Returns:
        The mean as ``frechet_classes``, then the distance within each class under its name.

    Raises:
        UsageError: if there are no classes, or not the same on both sides.
        TooFewImages: if a class holds fewer than two images.
        NumericalError: if moments are not finite.
        UnknownName: if the dtype is unknown.
    """
    sizes = {"generated": _sizes(generated), "reference": _sizes(reference)}
    _require_two_images(sizes)
    _require_same_classes(generated, reference)
    scores = {
        name: frechet(generated[name], reference[name], mean_dtype=mean_dtype) for name in sorted(generated)
    }
    values = {name: score.values["frechet"] for name, score in scores.items()}
    errors = {name: score.errors["frechet"] for name, score in scores.items() if score.errors}
    biases = {name: score.biases["frechet"] for name, score in scores.items() if score.biases}
    count = len(scores)
    if len(errors) == count:
        errors[_MEAN] = math.hypot(*errors.values()) / count
    if len(biases) == count:
        biases[_MEAN] = math.fsum(biases.values()) / count
    return Score(
        {_MEAN: math.fsum(values.values()) / count, **values},
        errors=errors,
        biases=biases,
        warnings=_warnings(sizes, generated[next(iter(generated))].dim),
    )


def _require_same_classes(generated: Mapping[str, Gaussian], reference: Mapping[str, Gaussian]) -> None:
    if not generated and not reference:
        raise UsageError("there are no classes to measure the distance within")
    if _MEAN in generated:
        raise UsageError(f"a class may not be called '{_MEAN}', as the mean over classes is; rename it")
    missing = [
        f"the {role} set lacks {_listed(set(other) - set(own))}"
        for role, own, other in (("generated", generated, reference), ("reference", reference, generated))
        if set(other) - set(own)
    ]
    if missing:
        raise UsageError(f"both sets need the same classes; {', and '.join(missing)}")


def _sizes(sides: Mapping[str, Gaussian]) -> Sizes:
    """The number of images of each class; ``None`` where it is unknown."""
    return sides.sizes if isinstance(sides, Gaussians) else {name: side.n for name, side in sides.items()}


def _require_two_images(sizes: Mapping[str, Sizes]) -> None:
    for role, of_class in sizes.items():
        single = [name for name, n in of_class.items() if n is not None and n < 2]
        if single:
            raise TooFewImages(
                f"a covariance needs at least 2 images of each class, the {role} set has fewer of {_listed(single)}; "
                "add images or leave these classes out"
            )


def _warnings(sizes: Mapping[str, Sizes], dim: int) -> tuple[str, ...]:
    classes = list(sizes["generated"])
    small = [
        name
        for name in classes
        if any(n is not None and n <= dim for n in (of_class[name] for of_class in sizes.values()))
    ]
    if not small:
        return ()
    return (
        f"too few images: {len(small)} of {len(classes)} classes have no more images than feature dimensions, {dim}, "
        f"in one of the sets: {_listed(small)}. Their covariance is singular and their distance mostly measures n. "
        "Compare only at equal n of each class; use more images, or a metric that is unbiased at small n, such as "
        "the kernel distance (KID).",
    )


def _listed(names: Iterable[str]) -> str:
    """Names of classes in order, as many as a message can bear."""
    ordered = sorted(names)
    shown = ", ".join(f"'{name}'" for name in ordered[:_SHOWN])
    return shown if len(ordered) <= _SHOWN else f"{shown} and {len(ordered) - _SHOWN} more"
