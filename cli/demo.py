"""``geneval demo``: the main job on real images and on those of trained generators, in minutes, on any machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gen_eval.errors import UsageError

from .options import device_option, offline_option
from .outputs import writing

if TYPE_CHECKING:
    from gen_eval.datasets import Dataset
    from gen_eval.images.protocol import Pixels
    from gen_eval.progress import Progress
    from gen_eval.results import Result

    Sets = Mapping[str, Mapping[str, Pixels]]  # folder: file: pixels

REFERENCE, HELD_OUT = "reference", "held-out"
_PICTURE, _STATISTICS = "demo.png", f"{REFERENCE}.safetensors"
# Standard deviation of the noise, of 255. Inception is far from blind to noise: 8 is hard to see.
NOISE = {"noise-1": 8, "noise-2": 72}
# They ship with the package, trained on the split of MNIST that the digits here are from.
GENERATORS = {
    "sngan-mnist": "a GAN",
    "biggan-mnist": "a GAN that knows classes",
    "vae-mnist": "a variational autoencoder",
}
MEANING = (
    {HELD_OUT: "other digits"}
    | {name: f"the same, noise of sd {sd}" for name, sd in NOISE.items()}
    | GENERATORS
)
_DIGITS = 5_000
_SHOWN = 10


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("geneval-demo"),
    show_default=True,
    help="Folder to write to.",
)
@click.option(
    "--n",
    type=click.IntRange(_SHOWN, _DIGITS // 3),
    default=500,
    show_default=True,
    help="Images in each set; the reference has twice as many.",
)
@offline_option
@device_option
def demo(out: Path, n: int, offline: bool | None, device: str | None) -> None:
    """Measure the FID of real digits, of the same under noise, and of three trained generators.

    Fetches the network's weights and 5,000 digits of MNIST, draws as many digits of each generator that ships
    with the package, writes folders of PNG files, measures each against the reference, and draws what it measured.
    """
    from gen_eval.datasets import load

    from .allocator import keep_freed_memory
    from .console import progress_bar

    keep_freed_memory()
    with progress_bar() as progress:
        digits = load("mnist-5k", offline=offline, progress=progress)
        sets = {**make_sets(digits, n), **make_generated(digits.classes, n)}
        require_free(out, sets)
        results = _measure(sets, out, device, offline, progress)
    picture = out / _PICTURE
    _draw(sets, results, picture)
    _show(results, n, out, picture)


def make_sets(digits: Dataset, n: int) -> Sets:
    """A reference, as many held-out digits as asked for, and those under noise.

    The digits of each class are dealt out in turn, so all sets hold as many of each (up to one) and every
    ten images are 0 to 9. The noise of image i is drawn from seed i alone, and grows by scale alone.
    """
    import numpy as np

    order = np.argsort(digits.labels, kind="stable").reshape(len(digits.classes), -1).T.ravel()

    def files(places: range, sd: float) -> dict[str, Pixels]:
        return {
            _file_name(digits.classes, place): _disturbed(digits, int(order[place]), sd) for place in places
        }

    held_out = range(2 * n, 3 * n)
    return {
        REFERENCE: files(range(2 * n), 0),
        HELD_OUT: files(held_out, 0),
        **{name: files(held_out, sd) for name, sd in NOISE.items()},
    }


def _file_name(classes: tuple[str, ...], place: int) -> str:
    rank, label = divmod(place, len(classes))
    return f"{rank:03}-digit-{classes[label]}.png"


def make_generated(classes: tuple[str, ...], n: int) -> Sets:
    """As many digits of each of :data:`GENERATORS`, from the seeds 0 on; one that takes labels makes 0 to 9 in turn."""
    import numpy as np
    import torch

    from gen_eval.zoo import open_sampler

    sets = {}
    for name in GENERATORS:
        sampler = open_sampler(name)
        labels = torch.arange(n) % len(sampler.classes) if sampler.classes else None
        gray = sampler.sample(n, seed=0, labels=labels).numpy()[:, 0]
        files = [_file_name(classes, place) if sampler.classes else f"{place:04}.png" for place in range(n)]
        sets[name] = dict(zip(files, np.repeat(gray[..., None], 3, axis=3), strict=True))
    return sets


def _disturbed(digits: Dataset, index: int, sd: float) -> Pixels:
    import numpy as np

    clean = digits.images[index]
    noise = np.random.default_rng(index).standard_normal(clean.shape)
    noisy = np.clip(np.rint(clean + sd * noise), 0, 255).astype(np.uint8)
    return np.repeat(noisy, 3, axis=2)


def require_free(out: Path, sets: Sets) -> None:
    """Refuse a folder that holds something else, which might be lost among ours, or measured along with them.

    Nothing is ever deleted.

    Raises:
        UsageError: names what is in the way.
    """
    ours = {*sets, _PICTURE, _STATISTICS}
    others = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
    if others:
        raise UsageError(
            f"{out} holds other things than this writes, such as {others[0]}: choose a folder of its own with --out"
        )
    for name, files in sets.items():
        folder = out / name
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: choose another folder with --out")
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        strange = [each for each in found if each not in files]
        if strange:
            what = "1 file" if len(strange) == 1 else f"{len(strange):,} files"
            raise UsageError(
                f"{folder} holds {what} that this run would not write, such as {strange[0]}: they would be "
                "measured along with the rest. Choose another folder with --out, or remove this one."
            )


def _write(sets: Sets, out: Path) -> None:
    from PIL import Image

    with writing(out):
        for name, files in sets.items():
            (out / name).mkdir(parents=True, exist_ok=True)
            for file, pixels in files.items():
                Image.fromarray(pixels).save(out / name / file)


def _measure(
    sets: Sets, out: Path, device: str | None, offline: bool | None, progress: Progress
) -> dict[str, Result]:
    """Each set against the reference, which is passed through the network once and kept as a file."""
    from gen_eval import store
    from gen_eval.images import open_images
    from gen_eval.metrics import find_measure
    from gen_eval.passing import Request, summarize
    from gen_eval.planning import load_extractors, pick_device
    from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
    from gen_eval.results import require_comparable
    from gen_eval.scoring import compute
    from gen_eval.summary import Summary

    measure, protocol = find_measure("fid"), find_protocol(DEFAULT_PROTOCOL)
    extractors = load_extractors(
        [measure], protocol, device=pick_device(device), offline=offline, progress=progress
    )
    extractor = extractors[measure.extractor]
    _write(sets, out)

    def measured(name: str) -> Summary:
        return summarize(open_images(out / name), [Request(extractor, (measure.tap,))], progress=progress)

    reference = measured(REFERENCE)
    store.save(reference, out / _STATISTICS)
    results = {
        name: compute(measure, extractor, {"generated": measured(name), "reference": reference}, protocol)
        for name in MEANING
    }
    require_comparable(list(results.values()))
    return results


def _draw(sets: Sets, results: Mapping[str, Result], picture: Path) -> None:
    from .pictures import Row, draw_rows

    def shown(name: str) -> Sequence[Pixels]:
        return list(sets[name].values())[:_SHOWN]

    result = results[HELD_OUT]
    rows = [Row(shown(REFERENCE), REFERENCE, note=f"{len(sets[REFERENCE]):,} digits")]
    rows += [Row(shown(name), name, f"FID {_number(results[name])}", MEANING[name]) for name in results]
    draw_rows(
        rows,
        "FID of each set to the reference, with its standard error",
        f"MNIST, {len(sets[HELD_OUT]):,} images a set; protocol {result.protocol}, {result.spec.name}. "
        "Lower is better.",
        picture,
    )


def _number(result: Result) -> str:
    return f"{result.value:.1f} ± {result.error or 0:.1f}"


def _show(results: Mapping[str, Result], n: int, out: Path, picture: Path) -> None:
    from .console import warn

    click.secho(f"{'set':14}{'':28}{'FID':>6}  ± s.e.", bold=True)
    for name, result in results.items():
        click.echo(f"{name:14}{MEANING[name]:28}{result.value:6.1f}  {result.error or 0:6.1f}")
    click.echo(f"\nBeside the images: {picture}")
    click.echo(f"Statistics of the reference, for any later FID: {out / _STATISTICS}")
    for warning in dict.fromkeys(warning for result in results.values() for warning in result.warnings):
        warn(warning)
        if warning.startswith("too few images"):
            click.echo(
                f"That is how it should be here: all sets have {n} images and meet one reference, so their "
                "FIDs compare with each other, and with no others.",
                err=True,
            )
    click.echo("What else the generators make: geneval zoo grid biggan-mnist --by-class -o grid.png")
    reference, worst = (shlex.quote(str(out / name)) for name in (_STATISTICS, "sngan-mnist"))
    click.echo(f"Next, see the images that raise it most: geneval fid {reference} {worst} --worst 16")
