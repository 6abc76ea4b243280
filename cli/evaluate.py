"""``geneval evaluate``: any measures, from one pass over the images."""

from __future__ import annotations

from typing import Any

import click

from .options import comparison_options, measures_option, metric_options, parse_params
from .running import run


@click.command()
@click.argument("real")
@click.argument("fake")
@measures_option(
    "Such as fid, kid, pr, is:efficientnet-lite0 or fd:dinov2; more than once for several. "
    "`geneval list` shows them. By default fid, kid, pr and dc."
)
@metric_options
@comparison_options
def evaluate(
    real: str,
    fake: str,
    measures: tuple[str, ...],
    settings: tuple[str, ...],
    seed: int | None,
    **options: Any,
) -> None:
    """Measure the images FAKE against the images REAL, each image once through each network.

    REAL and FAKE are folders, zip or tar archives, .npz or .npy arrays, datasets by name, such as cifar10:train, or
    statistics: files of `geneval stats`, or those of other tools (.npz, .pt, .pkl). Features of your own are a .npy
    file of floating point [n, d], for measures through `identity`.
    """
    from gen_eval.evaluation import DEFAULT_MEASURES

    params = parse_params(settings, seed)
    run(measures or DEFAULT_MEASURES, reference=real, generated=fake, params=params, **options)
