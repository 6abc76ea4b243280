"""The short verbs: ``geneval kid REAL FAKE`` is ``geneval evaluate REAL FAKE -m kid``.

Their parameters are named here once more, so that ``--help`` need not wait for the engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from .options import comparison_options, parse_value
from .running import run

# A parameter means the same in every metric that has it. `geneval list` shows the defaults.
PARAMETERS: Mapping[str, str] = {
    "bandwidth": "Of the kernel: a number, median, or for a mixture several multiples of the median.",
    "frequencies": "Random waves that a kernel rbf is made of, in time linear in the images; none for itself.",
    "inclusive": "Whether the surface belongs to a ball: true as in the paper, false as in prdc.",
    "k": "The neighbour that the balls reach to.",
    "kernel": "polynomial, rbf, laplace, rational-quadratic, energy or mixture.",
    "method": "auto, nuclear or cholesky; value, the fastest, and sqrtm, a slow cross-check, give no error bar.",
    "permutations": "Random divisions for a p-value; 1000 tells it to about .01.",
    "points": "Subsets that the line is drawn through.",
    "sample": "Images of each set that are asked about, drawn at random, against all of the other; none for all.",
    "seed": "Of every draw.",
    "shuffle": "Whether images are shuffled before they are split.",
    "smallest": "Images in the smallest subset.",
    "splits": "Parts that the images are split into.",
    "subset_size": "Images of each set in a subset.",
    "subsets": "How many are drawn.",
    "threshold": "Distance from which on an image is no copy.",
}

_SETS = (
    "\n\nREAL and FAKE are folders, zip or tar archives, .npz or .npy arrays, datasets by name, such as cifar10:train, "
    "or statistics: files of `geneval stats`, or those of other tools (.npz, .pt, .pkl). A .npy file of floating "
    "point [n, d] holds features, for --extractor identity."
)


class _Value(click.ParamType):  # type: ignore[type-arg]
    """Whatever a parameter may be; the engine refuses what it cannot use, and says why."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return (parse_value(value),)  # what is given may be none, and is not what is not given


def measure_command(
    verb: str,
    purpose: str,
    parameters: Sequence[str] = (),
    *,
    needs_real: bool = True,
    by_class: bool = False,
) -> click.Command:
    """The verb of a measure.

    Args:
        verb: the measure's alias.
        purpose: what it is, for ``--help``.
        parameters: those of its metric that have an option.
        needs_real: whether it compares with real images.
        by_class: whether images need labels.
    """

    def callback(extractor: str | None, fake: str, real: str | None = None, **options: Any) -> None:
        given = {name: options.pop(name) for name in parameters}
        params = {name: value[0] for name, value in given.items() if value}
        measure = f"{verb}:{extractor}" if extractor else verb
        run([measure], reference=real, generated=fake, params=params, **options)

    command = comparison_options(callback, labels=by_class, reference=needs_real)
    for name in reversed(parameters):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, type=_Value(), help=PARAMETERS[name])(command)
    command = click.option(
        "--extractor", metavar="NAME[/TAP]", help="Look through another network, such as dinov2."
    )(command)
    command = click.argument("fake")(command)
    if needs_real:
        command = click.argument("real")(command)
    return click.command(verb, help=purpose + _SETS)(command)


fid = measure_command(
    "fid", "Fréchet Inception Distance from the images FAKE to the images REAL.", ["method"]
)
fid_inf = measure_command(
    "fid-inf",
    "FID, extrapolated to infinitely many images of FAKE, with the error of the fit. FAKE must be images, or "
    "statistics that hold all their rows.",
    ["points", "smallest"],
)
sfid = measure_command("sfid", "FID of Inception's spatial features: the first 7 channels of a 17 x 17 map.")
intra_fid = measure_command(
    "intra-fid",
    "FID within each class, and its mean. Classes are the folders, or those of --labels.",
    by_class=True,
)
mifid = measure_command(
    "mifid", "FID, raised where the images FAKE lie close to the training images REAL.", ["threshold"]
)
inception_score = measure_command(
    "is",
    "Inception Score of the images FAKE, and its two factors: how sure the classifier is of each image, and how "
    "evenly the classes occur.",
    ["splits", "shuffle", "seed"],
    needs_real=False,
)
kid = measure_command(
    "kid", "Kernel Inception Distance, which is unbiased at any n.", ["subsets", "subset_size", "seed"]
)
mmd = measure_command(
    "mmd",
    "Maximum mean discrepancy of any kernel, with the p-value of a permutation test if asked for.",
    ["kernel", "bandwidth", "permutations", "frequencies", "seed"],
)
precision_recall = measure_command(
    "pr",
    "Precision and recall: how many images of FAKE lie within the manifold of REAL, and the other way round.",
    ["k", "inclusive", "sample", "seed"],
)
density_coverage = measure_command(
    "dc",
    "Density and coverage, which outliers sway less than precision and recall.",
    ["k", "inclusive", "sample", "seed"],
)
