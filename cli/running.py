"""From a verb's options to printed results."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .sets import open_set

if TYPE_CHECKING:
    from gen_eval.evaluation import Evaluation
    from gen_eval.progress import Progress
    from gen_eval.results import Result

EVERY_ROW = 2**62  # so that every image has its contribution
_WITHOUT_WORST = (
    "{} does not tell what each image counts for, which --worst goes by: put a measure that does first, such as fid, "
    "kid-full or is"
)


def run(
    measures: Sequence[str],
    *,
    reference: str | None,
    generated: str,
    as_json: bool,
    per_image: Path | None,
    worst: int | None,
    worst_out: Path | None,
    neighbors: int | None = None,
    neighbors_out: Path | None = None,
    **options: Any,
) -> None:
    """Measure, and print the results.

    Args:
        measures: their names.
        reference: the real images, where a measure needs them.
        generated: the generated ones.
        as_json: whether to print JSON lines in place of the table.
        per_image: the file to write what is known of single images to.
        worst: how many of the generated images that count most against the first measure to draw.
        worst_out: the picture of them; by default one that overwrites nothing.
        neighbors: how many training images to draw beside each generated image that looks like a copy.
        neighbors_out: the picture of them; by default one that overwrites nothing.
        options: as :class:`gen_eval.evaluation.Evaluation` takes them.
    """
    from gen_eval.evaluation import Evaluation

    from .allocator import keep_freed_memory
    from .console import progress_bar, show_results
    from .neighbors import comparing, draw_neighbors
    from .outputs import require_file, writing

    if per_image:
        require_file(per_image)
    for what, count, out in (("worst", worst, worst_out), ("neighbors", neighbors, neighbors_out)):
        if out and not count:
            raise click.UsageError(f"--{what}-out says where --{what} K draws: give --{what} too")
    sets = {"generated": generated, "reference": reference, "heldout": options["heldout"]}
    seen_through = comparing(measures, options["protocol"]) if neighbors else None
    offline = options["offline"]
    if (worst or neighbors) and options["rows"] is None:
        options["rows"] = EVERY_ROW if neighbors else {"generated": EVERY_ROW}
    keep_freed_memory()
    with progress_bar() as progress:
        opening = {"offline": offline, "progress": progress}
        if worst:
            worst_out = _picture("--worst", worst_out, sets, "generated", **opening)
        if neighbors:
            neighbors_out = _picture("--neighbors", neighbors_out, sets, "generated", "reference", **opening)
        evaluation = Evaluation(measures, reference=reference, progress=progress, **options)
        _require_told(evaluation, measures, worst=bool(worst), per_image=bool(per_image))
        results = evaluation.measure(generated)
    show_results(results, as_json)
    if per_image:
        with writing(per_image):
            _write_per_image(results, sets, per_image, offline)
    if worst and worst_out:
        _draw_worst(results[0], sets, worst, worst_out, offline)
    if neighbors and neighbors_out and seen_through:
        draw_neighbors(evaluation, seen_through, sets, neighbors, neighbors_out, offline=offline)


def _require_told(evaluation: Evaluation, measures: Sequence[str], *, worst: bool, per_image: bool) -> None:
    """Refuse before the work to show what measures do not tell of single images."""
    if not (worst or per_image):
        return
    scores = evaluation.rehearse()
    if worst and scores[0] and "generated" not in scores[0].contributions:
        raise click.UsageError(_WITHOUT_WORST.format(measures[0]))
    if per_image and all(score and not (score.contributions or score.per_image) for score in scores):
        raise click.UsageError(
            f"--per-image writes what measures tell of single images, and {' and '.join(measures)} tell nothing of "
            "them: add one that does, such as -m fid, -m pr or -m realism"
        )


def _write_per_image(
    results: Sequence[Result], sets: Mapping[str, str | None], path: Path, offline: bool | None
) -> None:
    """One line an image and measure: what the metric says of it, or else what it adds to the value."""

    def name(role: str) -> Any:
        source = open_set(sets, role, offline=offline)
        return getattr(source, "label", lambda index: f"#{index}")  # statistics do not name their images

    labels = {role: name(role) for role in sets if sets[role]}
    left_out: dict[str, str] = {}
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(["set", "image", "measure", "is", "number"])
        for result in results:
            for what, numbers in (("score", result.per_image), ("contribution", result.contributions)):
                for role, (index, number) in numbers.items():
                    n = result.sets[role].n
                    if n is not None and len(index) < n:
                        left_out[role] = f"{len(index):,} of the {n:,} {role} images are known one by one"
                    for at, value in zip(index.tolist(), number.tolist(), strict=True):
                        write([role, labels[role](at), result.measure, what, repr(value)])
    for each in left_out.values():
        click.echo(f"note: {each}; --rows keeps more", err=True)


def _picture(
    option: str,
    out: Path | None,
    sets: Mapping[str, str | None],
    *roles: str,
    offline: bool | None,
    progress: Progress,
) -> Path:
    """Where to draw images of some sets; refuses before the work what cannot be drawn."""
    from gen_eval.images import Images
    from gen_eval.references import DatasetImages

    from .pictures import free_name, require_picture

    out = out or free_name(Path(option.strip("-")).with_suffix(".png"))
    require_picture(out)
    for role in roles:
        opened = open_set(sets, role, offline=offline, progress=progress)
        if not isinstance(opened, Images):
            raise click.UsageError(f"{option} draws images, and {sets[role]} holds their features only")
        if isinstance(opened, DatasetImages):
            opened.check(progress)  # whose features may be at hand where its images are not
    return out


def _draw_worst(
    result: Result, sets: Mapping[str, str | None], k: int, out: Path, offline: bool | None
) -> None:
    from gen_eval.images import Decoded, Images

    from .pictures import draw_grid

    worst = result.worst(k)
    if not worst:
        raise click.UsageError(_WITHOUT_WORST.format(result.measure))
    images = open_set(sets, "generated", offline=offline)
    assert isinstance(images, Images)  # _picture has seen to it
    read = images.read([index for index, _ in worst])
    pixels = [image.pixels for image in read if isinstance(image, Decoded)]
    draw_grid(pixels, [f"{contribution:+.3g}" for _, contribution in worst], out)
    click.echo(f"{out} shows the images that raise {result.measure} most:", err=True)
    for index, contribution in worst:
        click.echo(f"  {contribution:+.4g}  {images.label(index)}", err=True)
