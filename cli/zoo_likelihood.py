"""``geneval zoo likelihood``: how likely generators find images that they have not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gen_eval.errors import UsageError

from .likelihood import report
from .options import device_option, offline_option
from .zoo_sampling import SEED
from .zoo_training import open_training_data

if TYPE_CHECKING:
    from gen_eval.zoo import Sampler


@click.command("likelihood")
@click.argument("source", metavar="DATA")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "-n", "--n", type=click.IntRange(2), help="Only the first so many; of a world 10,000 by default."
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Of the noise between levels, or of bits."
)
@click.option("--draws", type=click.IntRange(1), help="K of a lower bound; by default the generator's own.")
@click.option(
    "--solver",
    help="Of densities along a differential equation, such as dopri5:1e-3 or rk4:20; by default the generator's own.",
)
@device_option
@click.option("--skip-corrupt", is_flag=True, help="Leave image files that do not decode out.")
@offline_option
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a generator and difference on standard output."
)
def likelihood(
    source: str,
    names: tuple[str, ...],
    n: int | None,
    seed: int,
    draws: int | None,
    solver: str | None,
    device: str | None,
    skip_corrupt: bool,
    offline: bool | None,
    as_json: bool,
) -> None:
    """Bits per dimension of held-out DATA under the generators NAME, with standard errors.

    Models of binary images tell -ELBO in nats of DATA as bits, drawn with the probability of the gray level.

    DATA is what `zoo train` takes, such as mnist:test or a folder; NAME is a world, a checkpoint that ships or a
    checkpoint file. Of several, which must be of one kind (exact, lower or unbiased), and of binary images all or none,
    each is compared with the first.
    """
    from gen_eval.likelihood import evaluate_likelihood
    from gen_eval.planning import pick_device
    from gen_eval.zoo import WORLDS, open_sampler

    from .console import progress_bar

    place = pick_device(device)
    samplers: list[Any] = [_with_density(open_sampler(name, place), draws, solver) for name in names]
    with progress_bar() as progress:
        of_a_world = n if source in WORLDS else None
        data = open_training_data(source, None, of_a_world, skip_corrupt, offline, progress, first=0)
        images = data.x[:n].permute(0, 2, 3, 1).numpy() if data.kind.images else data.x[:n].numpy()
        likelihoods = [
            evaluate_likelihood(sampler, images, seed=seed, name=name, device=place, progress=progress)
            for name, sampler in zip(names, samplers, strict=True)
        ]
    report(likelihoods, as_json)


def _with_density(sampler: Sampler, draws: int | None, solver: str | None) -> Sampler:
    """A generator that has a likelihood, set to so many draws and to a solver.

    Raises:
        UsageError: if it has none, or none that takes draws or a solver.
    """
    from gen_eval.zoo.ode import Solver

    if not hasattr(sampler, "log_prob"):
        raise UsageError(
            f"{sampler.name} has no likelihood: `geneval zoo list` shows the models that have one"
        )
    if draws is not None:
        if not hasattr(sampler, "draws"):
            raise UsageError(f"--draws is for lower bounds; the likelihood of {sampler.name} takes none")
        sampler.draws = draws
    if solver is not None:
        if getattr(sampler, "solver", None) is None:
            raise UsageError(
                f"--solver is for densities along differential equations; that of {sampler.name} takes none"
            )
        sampler.solver = Solver.of(solver)  # type: ignore[attr-defined]
    return sampler
