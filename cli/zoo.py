"""``geneval zoo``: reference generators, to list, train, sample, look at and ask for likelihoods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gen_eval.errors import UsageError

from .zoo_grid import grid
from .zoo_likelihood import likelihood
from .zoo_sampling import sample
from .zoo_training import describe, train

if TYPE_CHECKING:
    from gen_eval.zoo import Sampler
    from gen_eval.zoo.task import Recipe

_CLASSES = ("0", "1")


@click.group()
def zoo() -> None:
    """Reference generators with known answers: list, train, sample and look at them."""


zoo.add_command(train)
zoo.add_command(sample)
zoo.add_command(grid)
zoo.add_command(likelihood)


@zoo.command("list")
def list_() -> None:
    """Show the worlds, the models that can be trained, and the trained checkpoints that ship."""
    from gen_eval.zoo import CHECKPOINTS, MODELS, WORLDS, load_checkpoint

    click.secho("worlds", bold=True, nl=False)
    click.echo("       (distributions whose answers are known: sample them, train on them)")
    for name, make in WORLDS.items():
        world = make()
        known = [what for what, has in (("density", "log_prob"), ("score", "score")) if hasattr(world, has)]
        exact = f"; exact {' and '.join(known)}" if known else ""
        click.echo(f"  {name:26}vectors of {world.shape[0]}{exact}{_knobs(world)}")
    click.secho("models", bold=True, nl=False)
    click.echo("       (geneval zoo train MODEL --data DATA -o FILE)")
    for name, model in MODELS.items():
        click.echo(f"  {name:26}{model.about}; {model.cite}")
        click.echo(f"  {'':26}learns {_data_of(model.recipe)}; {model.recipe.steps:,} steps by default")
    click.secho("checkpoints", bold=True, nl=False)
    click.echo("  (trained, and shipped: geneval zoo sample NAME -n 1000 -o DIR)")
    for name, path in CHECKPOINTS.items():
        checkpoint = load_checkpoint(path)
        click.echo(f"  {name:26}{describe(checkpoint, path)}{_knobs(checkpoint.sampler())}")
        if checkpoint.scores:
            scores = ", ".join(f"{score} {value:.4g}" for score, value in checkpoint.scores.items())
            click.echo(f"  {'':26}{scores}")


def _knobs(sampler: Sampler) -> str:
    """What may be asked of a generator besides samples."""
    classes = f"; {len(sampler.classes)} classes" if sampler.classes else ""
    return classes + (f"; truncation: {sampler.truncation}" if sampler.truncation else "")


def _data_of(recipe: Recipe) -> str:
    """What a recipe can be trained on, as its networks tell, and what its likelihood is of each."""
    import torch

    from gen_eval.zoo.checkpoint import kept_modules
    from gen_eval.zoo.task import Kind

    found = []
    for what, shape in (("images", (1, 28, 28)), ("vectors", (2,))):
        scaling = {"mean": torch.zeros(shape), "sd": torch.ones(shape)}
        for labels, classes in (("", ()), (" with labels", _CLASSES)):
            kind = Kind(shape, classes)
            try:
                with torch.random.fork_rng(devices=[]):
                    kept = kept_modules(recipe.task(kind))
            except UsageError:
                continue
            bound = getattr(recipe.sampler("", kind, kept.eval(), scaling), "bound", None)
            found.append(what + labels + (f" (likelihood: {bound})" if bound else ""))
            break
    return " or ".join(found)
