"""The entry point ``geneval``. Verbs are imported when they are run, so that ``--help`` answers at once."""

from __future__ import annotations

import importlib
import io
import sys

import click

from gen_eval.errors import GenEvalError, UnknownName

# verb: (module, attribute, one line of help)
VERBS = {
    "demo": ("demo", "demo", "Run the main job on real and generated digits, and draw what FID sees."),
    "evaluate": ("evaluate", "evaluate", "Any measures of two sets of images, from one pass."),
    "fid": ("measures", "fid", "Fréchet Inception Distance between two sets of images."),
    "fid-inf": ("measures", "fid_inf", "FID, extrapolated to infinitely many generated images."),
    "sfid": ("measures", "sfid", "FID of Inception's spatial features."),
    "intra-fid": ("measures", "intra_fid", "FID within each class, and its mean."),
    "mifid": ("measures", "mifid", "FID, raised where training images are copied."),
    "kid": ("measures", "kid", "Kernel Inception Distance, unbiased at any n."),
    "mmd": ("measures", "mmd", "Maximum mean discrepancy of any kernel, with a p-value."),
    "is": ("measures", "inception_score", "Inception Score of generated images, and its two factors."),
    "pr": ("measures", "precision_recall", "Precision and recall of the manifolds."),
    "dc": ("measures", "density_coverage", "Density and coverage of the manifolds."),
    "test": ("two_sample", "test", "Whether two sets come from one distribution, with p-values and power."),
    "sensitivity": (
        "sensitivity",
        "sensitivity",
        "Which measure moves how far under which disturbance of real images.",
    ),
    "truncation": (
        "truncation",
        "truncation",
        "Each metric along the truncation psi, from a set of images for each psi.",
    ),
    "likelihood": (
        "likelihood",
        "likelihood",
        "Bits per dimension from a model's log-likelihoods, and two models compared.",
    ),
    "explain": (
        "explain",
        "explain",
        "What a result means in words, and which published tables it may stand in.",
    ),
    "compare": ("compare", "compare", "Two models by their result files: differences, errors and a verdict."),
    "list": ("list", "list_", "Show the measures, metrics, extractors and sets that have a name."),
    "protocols": ("protocols", "protocols", "Show what the protocols fix, side by side, or one in words."),
    "stats": (
        "stats",
        "stats",
        "Measure a set once, for any later use as a reference; merge, compact, show, convert.",
    ),
    "zoo": ("zoo", "zoo", "Reference generators: list, train, sample and look at them."),
    "validate": ("validate", "validate", "Check metrics and models against answers that are known."),
    "bench": ("bench", "bench", "How near this machine's limit each stage is, and other tools beside ours."),
    "weights": ("weights", "weights", "List, fetch, add and verify network weights."),
}


class Verbs(click.Group):
    """A group that knows its commands by name, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module, attribute, _ = VERBS[cmd_name]
        command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say of a verb that does not exist which one was meant."""
        if not args[0].startswith("-") and args[0] not in VERBS:
            ctx.fail(str(UnknownName("command", args[0], VERBS)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing the verbs."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, _, line) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gen_eval", prog_name="geneval")
def cli() -> None:
    """Evaluate generative image models.

    Every number comes with its error bar and the terms it was measured on.
    """


def main() -> None:
    """Run the command line: 0 for success, 1 for an error, 2 for a wrong command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a result is not lost to a locale that lacks a sign
    try:
        cli(prog_name="geneval")
    except GenEvalError as error:
        click.secho("error: ", fg="red", bold=True, err=True, nl=False)
        click.echo(str(error), err=True)
        sys.exit(1)
