"""``geneval stats merge``, ``compact``, ``show`` and ``convert``: what can be done with files of statistics."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gen_eval.errors import UnknownName, UsageError

from .options import measures_option, terms_options

if TYPE_CHECKING:
    from gen_eval.spec import Spec
    from gen_eval.summary import Summary

_OUT = click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write."
)
_OURS = "gen_eval"
# Options of `convert`: what is claimed of statistics that become ours, and of files for other tools.
_CLAIMS = ("measures", "protocol", "weights", "precision", "device")
_OF_FILES = ("only", "images", "other_terms")
_READ = 64  # images that are read at a time


class _Statistics(click.ParamType):  # type: ignore[type-arg]
    """A file of statistics, or that of a well-known set by its name."""

    name = "statistics"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; of a dataset, where its statistics lie on this machine."""
        from gen_eval import datasets, references

        if not (key := datasets.named(value)):
            if datasets.may_be_meant(value):
                raise UnknownName("statistics file or dataset", value, datasets.DATASETS)
            return Path(value)
        ships = references.named(value)
        if not ships:
            known = ", ".join(row.name for row in references.shipped())
            raise UsageError(
                f"no statistics of {':'.join(key)} ship, as those of {known} do: measure it, with `geneval stats "
                f"{value} -o FILE.safetensors`"
            )
        if len(ships) > 1:
            files = ", ".join(str(row.path) for row in ships)
            raise UsageError(f"several statistics of {value} ship: name the file of one, of {files}")
        return ships[0].path


_STATISTICS = _Statistics()
# What is written under a name that ends so, where nobody says.
_BY_EXTENSION = {
    ".safetensors": _OURS,
    ".npz": "pytorch-fid",
    ".pt": "torch-fidelity",
    ".pkl": "edm2",
}


@click.command()
@click.argument("files", nargs=-1, required=True, type=_STATISTICS, metavar="FILE FILE...")
@_OUT
def merge(files: tuple[Path, ...], out: Path) -> None:
    """Join statistics into those of all images together.

    Parts that `geneval stats --part` measured give what one pass over the set gives, in whatever order they are
    named. Sets of their own are laid one after the other.
    """
    from gen_eval import merging, store

    store.require_name(out)
    _require_another(out, *files)
    for file in files:
        _require_ours(file)
    merged = merging.merge([store.load(file) for file in files], names=list(map(str, files)))
    store.save(merged, out)
    click.echo(f"{out}  {_count(merged)}  sha256 {merged.digest[:12]}")


@click.command()
@click.argument("file", metavar="IN", type=_STATISTICS)
@_OUT
@click.option("--rows", type=click.IntRange(0), help="The most feature rows to keep; by default all.")
def compact(file: Path, out: Path, rows: int | None) -> None:
    """Write the statistics in IN in less space, rounded, to be kept or sent.

    IN is a file of ours, or a name whose statistics ship, such as cifar10:train. The covariance keeps 16 bits of each
    number of its factor, and feature rows half precision. The Fréchet distance d from IN to what is left is printed: a
    distance D to another set moves by no more than 2 sqrt(d D) + d.
    """
    from gen_eval import compact, store

    store.require_name(out)
    _require_ours(file)
    _require_another(out, file)
    summary = store.load(file).cut(rows)
    store.save(summary, out, rounded=True)
    sizes = " of ".join(f"{path.stat().st_size / 1e6:.1f}" for path in (out, file))
    lost = max(compact.loss(features) for features in summary.features.values())
    click.echo(f"{out}  {_count(summary)}  {sizes} MB  {lost:.1e} of Fréchet distance lost")


@click.command()
@click.argument("file", metavar="FILE", type=_STATISTICS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(file: Path, as_json: bool) -> None:
    """Tell what a statistics file holds, ours or that of another tool.

    FILE may be a name whose statistics ship, such as cifar10:train.
    """
    from gen_eval import store

    described = store.describe(file)
    if as_json:
        click.echo(json.dumps(described))
        return
    for label, line in _lines(described):
        click.echo(f"{label:11}{line}")


@click.command()
@click.argument("file", metavar="IN", type=_STATISTICS)
@_OUT
@click.option(
    "--to", "form", metavar="FORMAT", help="Format to write; by default as the name ends. `gen_eval` is ours."
)
@click.option("--n", type=click.IntRange(2), help="Images behind the statistics, where IN does not say.")
@click.option(
    "--features",
    "only",
    metavar="'NETWORK TAP'",
    help="Of several features, those to write; `show` names them.",
)
@click.option(
    "--images", metavar="SET", help="Images to put beside the statistics, as the format adm has them."
)
@click.option(
    "--other-terms",
    is_flag=True,
    help="Write statistics of ours even for a tool that measures on other terms, with a warning.",
)
@measures_option(
    "A measure that another tool's statistics are claimed to serve, when they become ours.", "fid"
)
@terms_options
def convert(
    file: Path,
    out: Path,
    form: str | None,
    n: int | None,
    only: str | None,
    images: str | None,
    other_terms: bool,
    **claim: Any,
) -> None:
    """Write the statistics in IN for another tool, or those of another tool as ours.

    IN is a file, or a name whose statistics ship, such as cifar10:train.

    Files of other tools say nothing of their terms. Ours are written for a tool that measures on the same terms: for
    pytorch-fid those of `geneval stats --protocol pytorch-fid`. Those that become ours are marked as claimed:
    --protocol and --measure say what you claim of them.
    """
    from gen_eval import exporting, foreign, sealed, store

    from .console import warn

    form = form or _form_of(out)
    ours = file.suffix == sealed.EXTENSION
    _require_another(out, file)
    _require_meaning(ours, form == _OURS)
    if form == _OURS:
        if ours:
            raise UsageError(f"{file} is ours already: copy it, or name another format with --to")
        store.require_name(out)
        summary = _claimed(file, n, **claim)
        store.save(summary, out)
        click.echo(f"{out}  {_count(summary)}  {claim['protocol']} (claimed)  sha256 {summary.digest[:12]}")
        return
    foreign.require_name(out, form)
    pixels = _read_images(images, claim["offline"]) if images else None
    if ours:
        summary = store.load(file)
        written = exporting.export(summary, out, form, only=only, images=pixels, other_terms=other_terms)
        if other_terms and (lines := exporting.differences(written, form)):
            warn(f"{out} cannot say that it was not measured as {form} measures: {'; '.join(lines)}")
        count, told = _count(summary), [_terms(spec, tap) for spec, tap in written]
    else:
        held = foreign.choose([each.counted(n) for each in foreign.read(file).held], only)
        foreign.write(out, form, held, pixels)
        warn(f"{file} does not say what it was measured with, nor whether that is as {form} measures")
        count, told = _spell_count(held[0].features.n), [str(each) for each in held]
    click.echo("  ".join((str(out), form, count, "; ".join(told))))


def _require_another(out: Path, *files: Path) -> None:
    if any(out.exists() and file.exists() and out.samefile(file) for file in files):
        raise UsageError(f"{out} is what is read, and could not be had back: name another file with -o")


def _require_meaning(from_ours: bool, to_ours: bool) -> None:
    """Refuse options of :func:`convert` that would say nothing of statistics that go this way.

    Raises:
        click.UsageError: names them.
    """
    names: tuple[str, ...]
    if to_ours:
        names, why = _OF_FILES, "where statistics become ours"
    elif from_ours:
        names, why = ("n", *_CLAIMS), "of statistics of ours, which say what they are of"
    else:
        names, why = ("other_terms", *_CLAIMS), "where statistics of one tool become another's"
    context = click.get_current_context()
    given = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)} would say nothing {why}: leave it out", context)


def _require_ours(file: Path) -> None:
    from gen_eval import sealed

    if file.suffix != sealed.EXTENSION:
        raise UsageError(f"{file} is no statistics file of ours: make one of it with `geneval stats convert`")


def _form_of(out: Path) -> str:
    if out.suffix.lower() not in _BY_EXTENSION:
        raise UsageError(
            f"{out.name} tells no format: expected a name that ends in {', '.join(_BY_EXTENSION)}"
        )
    return _BY_EXTENSION[out.suffix.lower()]


def _claimed(
    file: Path,
    n: int | None,
    measures: tuple[str, ...],
    protocol: str,
    device: str | None,
    **options: Any,
) -> Summary:
    """Another tool's statistics on the terms of a protocol, whose networks tell their names and weights."""
    from gen_eval import foreign
    from gen_eval.planning import Plan, find_measures, load_extractors, pick_device
    from gen_eval.protocols import find_protocol
    from gen_eval.sources import settle
    from gen_eval.summary import Summary

    from .console import progress_bar

    if not foreign.is_foreign(file):
        foreign.read(file)  # refuses it, with the reason
    terms = find_protocol(protocol)
    wanted = find_measures(measures, terms)
    with progress_bar() as progress:
        chosen = pick_device(device)
        extractors = load_extractors(wanted, terms, device=chosen, progress=progress, **options)
    summary = settle(file, Plan(wanted, extractors, terms).requests("generated"), n=n)
    assert isinstance(summary, Summary)  # of a path it is
    return summary


def _read_images(source: str, offline: bool | None) -> Any:
    import numpy as np

    from gen_eval.errors import CorruptImages
    from gen_eval.images import Decoded
    from gen_eval.sources import open_as_images

    from .console import progress_bar

    stacked, broken = None, []
    with progress_bar() as progress:
        images = open_as_images(source, offline=offline, progress=progress)
        everything = range(len(images))
        blocks = (images.read(everything[start : start + _READ]) for start in everything[::_READ])
        for index, read in enumerate(itertools.chain.from_iterable(blocks)):
            if not isinstance(read, Decoded):
                broken.append((read.label, read.reason))
                continue
            if stacked is None:  # room for all: images stacked in the end would be there twice
                stacked = np.empty((len(images), *read.pixels.shape), np.uint8)
            if read.pixels.shape != stacked.shape[1:]:
                raise UsageError(f"the images of {source} differ in size, and this format stacks them")
            stacked[index] = read.pixels
    if broken:
        raise CorruptImages(source, broken)
    return stacked


def _count(summary: Summary) -> str:
    count = _spell_count(next(iter(summary.features.values())).n)
    return f"{count} ({summary.part})" if summary.part else count


def _spell_count(n: int | None) -> str:
    return "unknown n" if n is None else f"{n:,} images"


def _terms(spec: Spec, tap: str) -> str:
    return f"{spec.name} {tap}, {spec.resize}, {spec.normalize}, {spec.precision}"


def _lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    """What :func:`gen_eval.store.describe` tells, for people."""
    lines = [("file", f"{described['file']}, {described['format']}")]
    if described.get("name"):
        lines.append(("images", f"{described['name']}, content {described['digest'][:12]}"))
    else:
        lines.append(("content", described["digest"][:12]))
    if part := described.get("part"):
        lines.append(("part", f"images {part['first'] + 1:,} to {part['stop']:,} of {part['total']:,}"))
    for each in described["features"]:
        lines += _feature_lines(each)
    if described.get("images"):
        lines.append(("beside", f"{described['images']:,} images, which images:{described['file']} takes"))
    lines += [("skipped", f"{label}: {reason}") for label, reason in described.get("skipped", ())]
    lines += [("note", f"{count:,}: {note}") for note, count in described.get("notes", {}).items()]
    if made_with := described.get("made_with"):
        lines.append(("made with", ", ".join(f"{what} {version}" for what, version in made_with.items())))
    terms = (
        "claimed, since files of other tools do not record them" if described["claimed"] else "as measured"
    )
    return [*lines, ("terms", terms)]


def _feature_lines(each: dict[str, Any]) -> list[tuple[str, str]]:
    network = (
        f"{each['network']} {each['tap']}" if each["network"] else "of a network that the file does not name"
    )
    lines = [("features", network + (f" ({each['where']})" if "where" in each else ""))]
    if spec := each.get("spec"):
        resize = _resize(spec["resize"])
        lines[0] = ("features", f"{network}, weights {spec['weights']}, terms {spec['digest']}")
        lines.append(("", f"{resize}, {spec['normalize']}, {spec['precision']}"))
    trace = "unknown" if each["trace"] is None else f"{each['trace']:.6g}"
    lines.append(("", f"{_spell_count(each['n'])}, {each['rows']:,} rows of {each['dim']:,} dimensions"))
    lines.append(("", f"norm of the mean {each['mean_norm']:.6g}, trace of the covariance {trace}"))
    return lines


def _resize(terms: dict[str, Any]) -> str:
    from gen_eval.spec import Resize

    return str(Resize(**terms))
