"""``geneval zoo grid``: a picture of what a generator makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_eval.errors import UsageError

from .zoo_pictures import attended, pixels_of, plane_of, require_shown
from .zoo_sampling import SEED

if TYPE_CHECKING:
    from gen_eval.zoo import Sampler
    from gen_eval.zoo.trained import Trained

    from .pictures import Row

    Ways = Mapping[str, dict[str, Any]]  # what each is called, and what the sampler is asked for
    Drawn = tuple[list[Row], str]  # and what it is, in small print

_ROWS, _COLUMNS, _SHOWN = 8, 8, 4  # of images; images whose attention is shown
_POINTS, _ABREAST = 10_000, 5  # in a picture of the plane; such pictures in a row


def _read_truncations(
    context: click.Context, option: click.Parameter, given: str | None
) -> tuple[float | None, ...] | None:
    if given is None:
        return None
    try:
        return tuple(None if each.strip() == "none" else float(each) for each in given.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{given}: expected numbers, or none, such as none,1,0.5", context, option
        ) from None


@click.command()
@click.argument("name")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The picture; its extension chooses the format.",
)
@click.option("--rows", type=click.IntRange(1, 64), help=f"Of images; {_ROWS} by default.")
@click.option("--columns", type=click.IntRange(1, 64), help=f"Of images; {_COLUMNS} by default.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the first sample.")
@click.option(
    "--truncation", type=click.FloatRange(0), help="How far to go from the mode; all the way by default."
)
@click.option(
    "--truncations",
    callback=_read_truncations,
    metavar="T,...",
    help="The same seeds at each, a row each, such as none,1,0.5.",
)
@click.option("--by-class", is_flag=True, help="The same seeds in each class, a row each.")
@click.option(
    "--interpolate",
    is_flag=True,
    help="Ways along great circles between seeds, through latents of equal length.",
)
@click.option(
    "--attention",
    is_flag=True,
    help="What points of each image attend to, of a generator with self-attention.",
)
def grid(name: str, out: Path, **options: Any) -> None:
    """Draw samples of the generator NAME: images side by side, or where 10,000 points of the plane lie.

    NAME is a world, a checkpoint that ships (`geneval zoo list` shows both) or a checkpoint file.
    """
    from gen_eval.zoo import open_sampler

    from .pictures import draw_rows, require_picture

    require_picture(out)
    asked = _Asked(**options)
    asked.require_consistent()
    sampler = open_sampler(name)
    require_shown(sampler)
    if asked.interpolate:
        rows, terms = _interpolated(_network(sampler, "--interpolate"), asked)
    elif asked.attention:
        rows = attended(_network(sampler, "--attention"), asked.rows or _SHOWN, asked.seed)
        terms = "each map has the colour of the point that looks"
    elif len(sampler.shape) == 3:
        rows, terms = _images(sampler, asked)
    else:
        rows, terms = _planes(sampler, asked)
    draw_rows(rows, name, terms, out)
    click.echo(out)


@dataclass(frozen=True)
class _Asked:
    """The options."""

    rows: int | None
    columns: int | None
    seed: int
    truncation: float | None
    truncations: tuple[float | None, ...] | None
    by_class: bool
    interpolate: bool
    attention: bool

    def require_consistent(self) -> None:
        """Refuse what does not go together, before the work is done."""
        of_several = self.truncations is not None or self.by_class
        if sum((self.truncations is not None, self.by_class, self.interpolate, self.attention)) > 1:
            raise click.UsageError(
                "--truncations, --by-class, --interpolate and --attention are different pictures: choose one"
            )
        if self.truncation is not None and (
            self.truncations is not None or self.interpolate or self.attention
        ):
            raise click.UsageError("--truncation goes with --by-class, and with none of the other pictures")
        if self.rows and of_several:
            raise click.UsageError("--rows is not for --truncations and --by-class, which have a row each")
        if self.columns and self.attention:
            raise click.UsageError("--columns is not for --attention, whose columns are the points that look")

    def ways(self, sampler: Sampler) -> Ways:
        """What the sampler is asked for, by what it is called; one without a name by default."""
        if self.truncations is not None:
            return {
                "not truncated" if each is None else f"{each:g}": {"truncation": each}
                for each in self.truncations
            }
        how = {"truncation": self.truncation}
        if not self.by_class:
            return {"": how}
        if not sampler.classes:
            raise UsageError(f"{sampler.name} knows no classes, so there are none to draw by")
        return {each: {"labels": label, **how} for label, each in enumerate(sampler.classes)}

    def terms(self, sampler: Sampler) -> str:
        """What was drawn."""
        truncated = f", truncated at {self.truncation:g}" if self.truncation is not None else ""
        meaning = f"; {sampler.truncation}" if truncated or self.truncations else ""
        return f"seeds from {self.seed} on{truncated}{meaning}"


def _images(sampler: Sampler, asked: _Asked) -> Drawn:
    """Rows of the same seeds, one for each of several ways; rows of further seeds of one."""
    from .pictures import Row

    ways, columns = asked.ways(sampler), asked.columns or _COLUMNS
    rows = 1 if "" not in ways else asked.rows or _ROWS
    drawn = []
    for title, how in ways.items():
        images = pixels_of(sampler.sample(rows * columns, seed=asked.seed, **how))
        drawn += [Row(images[start : start + columns], title) for start in range(0, len(images), columns)]
    return drawn, asked.terms(sampler)


def _planes(sampler: Sampler, asked: _Asked) -> Drawn:
    """A panel for each way, all of the same extent."""
    from .pictures import Row, extent_of

    if asked.rows or asked.columns:
        raise click.UsageError(
            f"--rows and --columns are of images; {sampler.name} makes points of the plane"
        )
    extent = extent_of(sampler.sample(_POINTS, seed=asked.seed).double().numpy())
    panels = [
        (title, plane_of(sampler.sample(_POINTS, seed=asked.seed, **how), extent))
        for title, how in asked.ways(sampler).items()
    ]
    rows = [panels[start : start + _ABREAST] for start in range(0, len(panels), _ABREAST)]
    (left, right), (bottom, top) = extent
    within = f"x from {left:.3g} to {right:.3g}, y from {bottom:.3g} to {top:.3g}"
    return [
        Row([pixels for _, pixels in row], "", captions=[title for title, _ in row]) for row in rows
    ], f"{_POINTS:,} {asked.terms(sampler)}; {within}"


def _network(sampler: Sampler, option: str) -> Trained:
    from gen_eval.zoo.trained import Trained

    if not isinstance(sampler, Trained) or not sampler.kind.images:
        raise UsageError(f"{option} is for networks that make images of latents, which {sampler.name} is not")
    return sampler


def _interpolated(sampler: Trained, asked: _Asked) -> Drawn:
    """From each seed to the next; of a generator with classes, in the first of them."""
    import torch

    from gen_eval.latent import images_of, lerp, slerp, to_uint8

    from .pictures import Row

    first, count, columns = asked.seed, asked.rows or _ROWS, asked.columns or _COLUMNS
    latents = sampler.latent(torch.arange(first, first + count + 1))
    generator = sampler.of_class(0) if sampler.classes else sampler
    share = torch.linspace(0, 1, columns)
    rows = []
    for seed, a, b in zip(range(first, first + count), latents[:-1], latents[1:], strict=True):
        way = slerp(a.expand(columns, -1), b.expand(columns, -1), share)
        length = lerp(a.norm().expand(columns), b.norm().expand(columns), share)
        images = to_uint8(images_of(generator, way * length[:, None]))
        rows.append(Row(pixels_of(images), f"seeds {seed} to {seed + 1}"))
    return rows, f"great circles between latents{', class ' + sampler.classes[0] if sampler.classes else ''}"
