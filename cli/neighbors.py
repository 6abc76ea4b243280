"""``--neighbors``: the generated images most suspicious of being copies, beside the training images nearest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gen_eval.evaluation import Evaluation
    from gen_eval.images import Images
    from gen_eval.images.protocol import Pixels
    from gen_eval.metrics import Measure

_SHOWN = 8  # generated images in the picture


def comparing(measures: Sequence[str], protocol: str) -> Measure:
    """The first measure that compares with the reference: its features are looked at.

    Raises:
        click.UsageError: if there is none.
    """
    from gen_eval.planning import find_measures
    from gen_eval.protocols import find_protocol

    for measure in find_measures(measures, find_protocol(protocol)):
        if "reference" in measure.metric.roles:
            return measure
    raise click.UsageError(
        f"--neighbors looks for generated images among the training images REAL, which {measures[0]} does not take"
    )


def draw_neighbors(
    evaluation: Evaluation,
    measure: Measure,
    sets: Mapping[str, str | None],
    k: int,
    out: Path,
    *,
    offline: bool | None,
) -> None:
    """Draw them, and list their names with the distances.

    Args:
        evaluation: one that has measured both sets.
        measure: one of its measures, through whose features is looked.
        sets: the ``generated`` and the ``reference`` images, which are taken for the training images.
        k: how many training images stand beside each.
        out: the picture.
        offline: never fetch a dataset.
    """
    from gen_eval.images import Images
    from gen_eval.nearest import nearest_training_images

    from .pictures import Row, draw_rows
    from .sets import open_set

    generated, training = (evaluation.features(measure, role) for role in ("generated", "reference"))
    suspects = nearest_training_images(generated, training, k=k, most=_SHOWN)
    fakes, reals = (open_set(sets, role, offline=offline) for role in ("generated", "reference"))
    assert isinstance(fakes, Images)  # as the caller has seen
    assert isinstance(reals, Images)
    rows = [
        Row(
            [*_pixels(fakes, [suspect.index]), *_pixels(reals, [index for index, _ in suspect.training])],
            fakes.label(suspect.index),
            f"{suspect.ratio:.3g}",
            captions=("generated", *(f"{distance:.4g}" for _, distance in suspect.training)),
            apart=1,
        )
        for suspect in suspects
    ]
    through = f"{measure.extractor} {measure.tap}"
    draw_rows(
        rows,
        "Generated images, and the training images nearest to them",
        f"below: distance in the features {through}; beside: the nearest over what is usual there, 0 for a copy and "
        "about 1 for a fresh image",
        out,
    )
    click.echo(f"{out} shows the generated images that are nearest to training images ({through}):", err=True)
    for suspect in suspects:
        index, distance = suspect.training[0]
        label, other = fakes.label(suspect.index), reals.label(index)
        click.echo(f"  {suspect.ratio:.4g}  {label}  {distance:.4g} from {other}", err=True)


def _pixels(images: Images, indices: Sequence[int]) -> list[Pixels]:
    from gen_eval.images import Decoded

    return [image.pixels for image in images.read(indices) if isinstance(image, Decoded)]
