"""The table of disturbances: a disturbance is a row of data that names a function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gen_eval.disturbances import pixels
from gen_eval.disturbances.sets import Disturbance, Split
from gen_eval.errors import TooFewImages, UnknownName, UsageError


def fresh(parts: Split, strength: float, seed: int) -> Sequence[int]:
    """Other images of the same set: what chance alone does."""
    return parts.spare[: len(parts.clean)]


def copies(parts: Split, percent: float, seed: int) -> Sequence[int]:
    """The clean images, so many in 100 of them replaced by images of the reference, each by another."""
    chosen = list(parts.clean.indices)
    order = np.random.default_rng(seed).permutation(len(chosen))
    for place in order[: round(percent / 100 * len(chosen))]:
        chosen[place] = parts.reference.indices[place]
    return chosen


def drop_classes(parts: Split, percent: float, seed: int) -> Sequence[int]:
    """The clean images, those of so many in 100 of the classes replaced by spare images of the other classes.

    At least one class goes and one stays. So the set keeps its size, on which the bias of most measures depends, and
    no image occurs twice.

    Raises:
        UsageError: if classes are unknown, or there is only one.
        TooFewImages: if there are too few spare images.
    """
    classes = parts.classes
    if classes is None:
        raise UsageError("drop-classes needs the class of each image: name them with --labels (labels=)")
    names = sorted(set(classes))
    if len(names) < 2:
        raise UsageError(f"drop-classes needs two classes or more, found {', '.join(names) or 'none'}")
    count = min(len(names) - 1, math.ceil(percent / 100 * len(names)))
    dropped = {names[place] for place in np.random.default_rng(seed).permutation(len(names))[:count]}
    spare = [index for index in parts.spare if classes[index] not in dropped]
    missing = sum(classes[index] in dropped for index in parts.clean.indices)
    if missing > len(spare):
        raise TooFewImages(
            f"drop-classes {percent:g} asks for {missing} spare images of the {len(names) - count} classes that are "
            f"kept, and there are {len(spare)}: use more images, or a smaller n (--n)"
        )
    fill = iter(spare)
    return [next(fill) if classes[index] in dropped else index for index in parts.clean.indices]


DISTURBANCES: dict[str, Disturbance] = {
    row.name: row
    for row in (
        Disturbance(
            "none",
            "other images of the same set: what chance alone does",
            "fresh set",
            (1,),
            most=1,
            least=1,
            choose=fresh,
        ),
        Disturbance(
            "noise", "Gaussian noise", "standard deviation, levels of 255", (8, 24, 72), pixels=pixels.noise
        ),
        Disturbance(
            "blur", "Gaussian blur", "standard deviation, pixels", (0.5, 1, 2), most=1000, pixels=pixels.blur
        ),
        Disturbance("jpeg", "JPEG compression", "100 - quality", (10, 50, 90), most=99, pixels=pixels.jpeg),
        Disturbance(
            "resize-nearest",
            "shrunk by the nearest pixel, enlarged by bicubic",
            "factor",
            (1.5, 2, 4),
            least=1,
            most=1000,
            pixels=pixels.resize_nearest,
        ),
        Disturbance(
            "resize-bilinear",
            "shrunk by bilinear without antialiasing, enlarged by bicubic",
            "factor",
            (1.5, 2, 4),
            least=1,
            most=1000,
            pixels=pixels.resize_bilinear,
        ),
        Disturbance(
            "resize-antialiased",
            "shrunk by bilinear with antialiasing, enlarged by bicubic",
            "factor",
            (1.5, 2, 4),
            least=1,
            most=1000,
            pixels=pixels.resize_antialiased,
        ),
        Disturbance(
            "rotation", "rotated about the centre", "degrees", (5, 15, 45), most=180, pixels=pixels.rotate
        ),
        Disturbance(
            "drop-classes",
            "classes left out, the set filled up with images of the others",
            "% of the classes",
            (10, 30, 50),
            most=99,
            choose=drop_classes,
            needs_classes=True,
        ),
        Disturbance(
            "copies",
            "images, drawn by chance, replaced by copies of reference images",
            "% of the images",
            (10, 50, 100),
            most=100,
            choose=copies,
        ),
        Disturbance(
            "outliers",
            "images, drawn by chance, replaced by chequers of saturated colours",
            "% of the images",
            (1, 3, 10),
            most=100,
            pixels=pixels.outlier,
        ),
    )
}


def find_disturbance(name: str) -> Disturbance:
    """The row of a name.

    Raises:
        UnknownName: if there is none, with the nearest name there is.

    >>> find_disturbance("jpeg").unit
    '100 - quality'
    """
    if name not in DISTURBANCES:
        raise UnknownName("disturbance", name, DISTURBANCES)
    return DISTURBANCES[name]
