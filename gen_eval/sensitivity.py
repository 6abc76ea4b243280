"""Which measure sees which disturbance, and how far it moves in its own standard errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gen_eval.direction import judged
from gen_eval.disturbances import DISTURBANCES, PARTS, Disturbance, Split, find_disturbance, split
from gen_eval.errors import ImagesError, NumericalError, TooFewImages, UsageError
from gen_eval.evaluation import Evaluation
from gen_eval.images import Images, require_unbroken
from gen_eval.labels import FOLDERS, read_labels
from gen_eval.metrics import Measure
from gen_eval.planning import find_measures
from gen_eval.progress import Progress, silent
from gen_eval.protocols import DEFAULT_PROTOCOL, find_protocol
from gen_eval.results import Result, labelled
from gen_eval.sources import known_classes, open_as_images

# Of each kind of metric one or two, all served by one pass through one network.
DEFAULT_MEASURES = ("fid", "kid", "pr", "dc", "vendi", "c2st", "authenticity", "data-copying", "fld")
SEEN = 2.0  # standard errors from which on a move is hardly chance
_MOST = 1_000  # images in a set, unless more are asked for: there are some thirty sets


@dataclass(frozen=True)
class Move:
    """One value of one measure, of a disturbed set beside the clean one.

    Args:
        disturbance: its name.
        strength: in its unit.
        measure: what was asked for, such as ``"pr"``.
        name: which of its values, such as ``"recall"``.
        better: ``"lower"``, ``"higher"``, or such as ``"near 0.5"``.
        value: of the disturbed set.
        error: its standard error, where it has one.
        clean: of the clean set.
        clean_error: its standard error.
    """

    disturbance: str
    strength: float
    measure: str
    name: str
    better: str
    value: float
    error: float | None
    clean: float
    clean_error: float | None

    @property
    def z(self) -> float | None:
        """The move in standard errors of the difference; ``None`` where the value has none.

        It is the difference that two models would show whose values come with these errors. As a test it is
        cautious: both sets are made of the same images and meet the same reference, so their difference varies less
        than those of two models do.
        """
        return self._in_errors(self.value - self.clean)

    @property
    def worse(self) -> float | None:
        """The same, positive where the measure says that the disturbed set is the worse one."""
        moved = judged(self.value, self.better)[0] - judged(self.clean, self.better)[0]
        return self._in_errors(-moved if self.better == "higher" else moved)

    def _in_errors(self, move: float) -> float | None:
        if self.error is None or self.clean_error is None:
            return None
        error = math.hypot(self.error, self.clean_error)
        if error == 0:
            return math.copysign(math.inf, move) if move else 0.0
        return move / error

    @property
    def verdict(self) -> str:
        """``"worse"`` or ``"better"`` where the move is hardly chance, or an empty text."""
        if self.worse is None or not abs(self.worse) >= SEEN:  # NaN says nothing
            return ""
        return "worse" if self.worse > 0 else "better"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**asdict(self), "z": self.z, "verdict": self.verdict}


@dataclass(frozen=True)
class Sensitivity:
    """What measures say of disturbed sets.

    Args:
        images: name of the set that all were made of.
        clean: the measures of the clean set.
        moves: by set, and by measure within it.
        left_out: why, by the name of the set that could not be made or measured.
        seed: of the disturbances.
    """

    images: str
    clean: Sequence[Result]
    moves: Sequence[Move]
    left_out: Mapping[str, str]
    seed: int

    @property
    def n(self) -> int:
        """Images in each set."""
        return max(info.n or 0 for result in self.clean for info in result.sets.values())

    @property
    def clean_values(self) -> dict[str, tuple[float, float | None]]:
        """What was measured of the clean set, in the order of the measures: values and their standard errors."""
        return {
            name: (result.values[value], result.errors.get(value))
            for name, result, value in labelled(self.clean)
        }

    @property
    def names(self) -> list[str]:
        """What the values are called, in the order of the measures."""
        return list(self.clean_values)

    @property
    def disturbances(self) -> dict[str, list[float]]:
        """The strengths that were measured, by disturbance."""
        found: dict[str, dict[float, None]] = {}
        for move in self.moves:
            found.setdefault(move.disturbance, {})[move.strength] = None
        return {name: list(strengths) for name, strengths in found.items()}

    def of(self, disturbance: str, name: str) -> list[Move]:
        """The moves of one value under one disturbance, as its strength rises."""
        return [move for move in self.moves if (move.disturbance, move.name) == (disturbance, name)]


def sensitivity(
    images: Any,
    measures: str | Measure | Sequence[str | Measure] = DEFAULT_MEASURES,
    *,
    disturbances: Sequence[str] | None = None,
    strengths: Mapping[str, Sequence[float]] | None = None,
    n: int | None = None,
    seed: int = 0,
    labels: Any = None,
    skip_corrupt: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Sensitivity:
    """Measure real images disturbed in all the classic ways, each at rising strength, against other real ones.

    The images are split once, by the hash of the index. All disturbed sets are made of the same clean part and
    measured against the same reference, so that they differ in the disturbance alone.

    Args:
        images: real ones, as :func:`gen_eval.sources.open_as_images` takes them, such as ``"cifar10:test"``.
        measures: as :class:`gen_eval.Evaluation` takes them, but for those by class.
        disturbances: names in :data:`gen_eval.disturbances.DISTURBANCES`; by default all that the images allow.
        strengths: in place of a disturbance's own, by its name.
        n: images in each set; by default a fifth of them, and at most 1,000.
        seed: of the disturbances.
        labels: the class of each image, for dropped classes, as :func:`gen_eval.labels.read_labels` takes them; by
            default those of a dataset, or the folders that the images lie in, if they lie in such.
        skip_corrupt: leave broken files out.
        progress: told of the images of all sets together.
        options: all else that :class:`gen_eval.Evaluation` takes.

    Raises:
        UnknownName: if there is no such measure or disturbance.
        UsageError: if a strength is none of its disturbance, or a measure needs classes.
        TooFewImages: if there are fewer than four times ``n``.
        NumericalError: if no disturbed set can be measured.
        FetchError: if a dataset cannot be had.
    """
    source = open_as_images(images, offline=options.get("offline"), progress=progress)
    terms = find_protocol(options.get("protocol", DEFAULT_PROTOCOL))
    by_name = {measure.name: measure for measure in find_measures(measures, terms)}
    found = list(by_name.values())
    for measure in found:
        if measure.metric.by_class:
            raise UsageError(f"{measure.name} is a measure by class, and not all sets here have all classes")
    rows = _rows(disturbances, strengths or {})
    parts = split(source, default_n(source) if n is None else n, _classes(source, rows, labels))
    sets, left_out = _make(parts, rows, seed, asked={*(disturbances or ()), *(strengths or ())})
    if not skip_corrupt:
        require_unbroken(source)
    sees_heldout = any("heldout" in measure.metric.roles for measure in found)
    before = [parts.reference, parts.clean, *([parts.heldout] if sees_heldout else [])]
    overall = _Overall(progress, source.name, (*before, *sets.values()))
    evaluation = Evaluation(
        found,
        reference=parts.reference,
        heldout=parts.heldout if sees_heldout else None,
        skip_corrupt=skip_corrupt,
        progress=overall,
        **options,
    )
    clean = evaluation.measure(parts.clean)
    overall.finish(*before)
    moves: list[Move] = []
    for (name, strength), disturbed in sets.items():
        try:
            results = evaluation.measure(disturbed)
        except NumericalError as error:  # the others are still worth their minutes
            left_out[disturbed.name] = str(error)
        else:
            moves += _moves(name, strength, results, clean)
        overall.finish(disturbed)
    if not moves:
        raise NumericalError(
            f"no disturbed set of {source.name} can be measured: {next(iter(left_out.values()))}"
        )
    return Sensitivity(source.name, clean, moves, left_out, seed)


def default_n(images: Images) -> int:
    """A fifth of the images, so that some are to spare where classes are dropped, and at most 1,000."""
    return max(1, min(_MOST, len(images) // (PARTS + 1)))


def _rows(
    names: Sequence[str] | None, strengths: Mapping[str, Sequence[float]]
) -> list[tuple[Disturbance, Sequence[float]]]:
    """The disturbances asked for, and the strengths of each, rising."""
    rows = {name: find_disturbance(name) for name in (names or DISTURBANCES)}
    for name, given in strengths.items():
        row = find_disturbance(name)
        if name not in rows:
            raise UsageError(f"strengths of {name} were given, and only {', '.join(rows)} asked for")
        for strength in given:
            row.require(strength)
    return [(row, sorted({*(strengths.get(name) or row.strengths)})) for name, row in rows.items()]


def _classes(
    source: Images, rows: Sequence[tuple[Disturbance, Sequence[float]]], labels: Any
) -> Sequence[str] | None:
    """The class of each image, where a disturbance needs it and it is known."""
    if not any(row.needs_classes for row, _ in rows):
        return None
    if labels is None:
        labels = known_classes(source)
    try:
        return read_labels(FOLDERS if labels is None else labels, source).of
    except ImagesError:
        if labels is not None:
            raise
        return None


def _make(
    parts: Split, rows: Sequence[tuple[Disturbance, Sequence[float]]], seed: int, asked: Collection[str]
) -> tuple[dict[tuple[str, float], Images], dict[str, str]]:
    """The disturbed sets, of which nothing is read yet, and why others cannot be made."""
    sets, left_out = dict[tuple[str, float], Images](), dict[str, str]()
    for row, strengths in rows:
        for strength in strengths:
            try:
                sets[row.name, strength] = row.of(parts, strength, seed)
            except (TooFewImages, UsageError) as error:
                if row.name in asked:
                    raise
                left_out[f"{row.name} {strength:g}"] = str(error)
    return sets, left_out


def _moves(
    disturbance: str, strength: float, results: Sequence[Result], clean: Sequence[Result]
) -> Iterator[Move]:
    for (name, result, value), (_, before, _) in zip(labelled(results), labelled(clean), strict=True):
        yield Move(
            disturbance,
            strength,
            result.measure,
            name,
            result.better[value],
            result.values[value],
            result.errors.get(value),
            before.values[value],
            before.errors.get(value),
        )


class _Overall:
    """One bar for the images of all sets, in the place of some thirty."""

    def __init__(self, progress: Progress, task: str, sets: Sequence[Images]) -> None:
        self._progress, self._task, self._done = progress, task, dict[str, int]()
        self._total = sum({images.name: len(images) for images in sets}.values())

    def __call__(self, task: str, done: int, total: int | None, unit: str) -> None:
        if unit != "image":  # a download
            self._progress(task, done, total, unit)
            return
        self._done[task] = done
        self._progress(self._task, sum(self._done.values()), self._total, unit)

    def finish(self, *sets: Images) -> None:
        """These are done, though their features may have been found in a cache without a word."""
        for images in sets:
            self(images.name, len(images), len(images), "image")
