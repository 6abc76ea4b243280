"""``geneval test``: whether two sets come from one distribution."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import extraction_options, feature_options, metric_options, parse_params

if TYPE_CHECKING:
    from gen_eval.two_sample import TwoSampleReport


@click.command("test")
@click.argument("real")
@click.argument("fake")
@click.option(
    "-t",
    "--test",
    "tests",
    multiple=True,
    metavar="TEST",
    help="Such as c2st or mmd; more than once for several. By default all six kinds; a wrong name lists them.",
)
@click.option("--extractor", metavar="NAME[/TAP]", help="What images are seen through; by default inception.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Probability of finding a difference where there is none, all tests together.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bonferroni", "benjamini-hochberg"]),
    default="holm",
    show_default=True,
    help="For the number of tests.",
)
@click.option(
    "--permutations",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Relabellings behind each p-value.",
)
@metric_options
@feature_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@extraction_options
def test(
    real: str,
    fake: str,
    tests: tuple[str, ...],
    settings: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Test whether the images FAKE and REAL come from one distribution.

    REAL and FAKE are what every verb takes; and .npy files of floating point [n, d], such as 2-D point clouds,
    which are tested as they are. Several tests look for several kinds of difference; their p-values are
    corrected for being several. Where none is found, `finds` says how small a difference would have been
    found with probability 0.8. `power` and `finds` are of each test by itself, at alpha / number of tests.
    """
    from gen_eval.two_sample import DEFAULT_TESTS, two_sample_test

    from .allocator import keep_freed_memory
    from .console import progress_bar

    params = parse_params(settings, seed)
    keep_freed_memory()
    with progress_bar() as progress:
        report = two_sample_test(
            real, fake, tests=tests or DEFAULT_TESTS, params=params, progress=progress, **options
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), allow_nan=False))
    else:
        _show(report)


def _show(report: TwoSampleReport) -> None:
    from rich.table import Table

    from .console import print_table, show_cautions, show_terms

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("test", "statistic", "value", "± s.e.", "p", "p adjusted", "power", "finds", ""):
        table.add_column(heading, justify="left" if heading in ("test", "statistic", "") else "right")
    for each in report.outcomes:
        result = each.result
        table.add_row(
            each.test,
            next(iter(result.values)),
            f"{result.value:.4g}",
            "none" if result.error is None else f"{result.error:.2g}",
            f"{each.p_value:.3g}",
            f"{each.adjusted:.3g}",
            f"{each.power:.2f}",
            "nothing" if each.detectable is None else f"{each.detectable:.4g}",
            "differ" if each.adjusted <= report.alpha else "",
        )
    print_table(table)
    results = [each.result for each in report.outcomes]
    show_terms(results)
    show_cautions(results)
    click.echo()
    click.secho(_verdict(report), bold=True)


def _verdict(report: TwoSampleReport) -> str:
    terms = f"level {report.alpha:g} for {len(report.outcomes)} tests, {report.correction}"
    if report.differ:
        return f"The sets differ (p = {report.p_value:.2g}; {terms}), by {', '.join(report.rejecting)}."
    return (
        f"No difference found (p = {report.p_value:.2g}; {terms}). One as large as in the column `finds` would have "
        "been found with probability 0.8; a smaller one may be there."
    )
