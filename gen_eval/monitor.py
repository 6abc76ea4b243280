"""Measures of images as a training loop makes them, batch by batch, in one process or many."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval import distributed
from gen_eval.errors import ImagesError, IncomparableError, StoreError, UsageError
from gen_eval.evaluation import DEFAULT_MEASURES, Evaluation
from gen_eval.extractors import Extractor
from gen_eval.extractors.vectors import NAME as IDENTITY
from gen_eval.images import Images
from gen_eval.images.arrays import Arrays
from gen_eval.images.floats import FloatRange
from gen_eval.metrics import Measure
from gen_eval.planning import Plan, require_row_limit
from gen_eval.results import Result
from gen_eval.spec import Resize, Spec
from gen_eval.streaming import Stream, Tally
from gen_eval.summary import Summary, made_with

FORMAT = "gen_eval monitor 1"
_ROLES = ("generated", "reference")
_NAME = "the images fed"


class Monitor(Evaluation):
    """Measures of images that are fed batch by batch; what :class:`Evaluation` is for sets that lie somewhere.

    Fed the images of a set in their order, it gives what :meth:`Evaluation.measure` gives of the set. How the caller
    computes changes nothing: autocast, ``no_grad``, ``inference_mode``, the size of batches.

    Memory does not grow with the images but for feature rows. Where error bars alone need them, as of FID, 10,000 are
    kept. Measures made of rows, such as KID, precision and recall, keep every one, and memory grows by each image,
    unless ``rows`` says how many; those that cannot do without all of them keep all of them whatever it says. ``index``
    takes 8 bytes an image.

    Under torch.distributed each rank feeds its share, and every rank gets the result of them all. Image k of rank r
    counts as image ``k * world_size + r`` of the whole, as ``DistributedSampler`` deals them. Where the ranks cannot
    have equally many, that sampler repeats some: told by ``index``, repeated images are refused; without it nobody can
    tell them, and they count twice.

    Args:
        measures: as :class:`Evaluation` takes them.
        reference: the same; without it, the reference is fed too: ``update(images, real=True)``.
        value_range: what floats mean, those fed and those of a callable that is measured, ``(0, 1)`` or ``(-1, 1)``;
            undeclared floats are refused.
        rounding: how floats become 8 bits, a name in :data:`gen_eval.images.floats.ROUNDINGS`.
        distributed: whether this process is one of many; by default whether torch.distributed runs here.
        timeout: seconds that the ranks wait for one another in :meth:`compute`: raise it where one has more to do
            before, such as images of a larger share, or a checkpoint to write.
        options: as :class:`Evaluation` takes them.

    Raises:
        GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
    """

    def __init__(
        self,
        measures: str | Measure | Sequence[str | Measure] = DEFAULT_MEASURES,
        *,
        reference: Any = None,
        value_range: tuple[float, float] | None = None,
        rounding: str = "save_image",
        distributed: bool | None = None,
        timeout: float = 300.0,
        **options: Any,
    ) -> None:
        super().__init__(measures, reference=reference, **options)
        self._floats = self._opening["floats"] = FloatRange.declared(value_range, rounding)
        _require_seconds(timeout)
        self._alone, self._timeout = distributed is False, timeout
        self._plan = self._make_plan(self._sources)
        self._fed = [role for role in _ROLES if role not in self._sources and self._plan.requests(role)]
        self._streams: dict[str, Stream] = {}
        self._tallies: dict[str, Tally] = {}  # what of them is at rest
        self._require_images()
        require_row_limit(self._plan)

    def update(self, images: Tensor, *, real: bool = False, index: Tensor | None = None) -> None:
        """Take in some images, all or none: where an extractor raises, such as for want of memory, they may come again.

        Args:
            images: uint8 ``[b, 3, h, w]``, or floats in the range declared; also with 1 or 4 channels, or with channels
                last. They are measured on the device of the networks, and what lies there stays there, unless the
                protocol's resize is one of Pillow's.
            real: whether they are of the reference.
            index: int64 ``[b]``, which images of the whole set these are, from 0, where ranks share it in another way
                than by turns. It decides which rows a bounded sample holds. Each is kept, in 8 bytes, and
                :meth:`compute` refuses a set in which one came twice, to this rank or to two.

        Raises:
            ImagesError: if they are of another type, shape or range.
            UsageError: if a reference was given already, or ``index`` comes with some batches alone; or if an error
                ended a call before where images could be kept in part alone, until :meth:`reset`.
            NumericalError: if features are not finite.
        """
        role = "reference" if real else "generated"
        if role not in self._fed:
            raise UsageError(
                f"images of the {role} set were fed, and "
                + (
                    "one was given to begin with"
                    if role in self._sources
                    else "no measure asked for needs any"
                )
            )
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images)
        if not isinstance(images, Tensor):
            raise ImagesError(f"found {type(images).__name__}: expected a tensor [b, 3, h, w]")
        if images.ndim == 4 and not len(images):
            return  # the share of a rank that has none
        stream = self._stream(role)
        places = self._places(len(stream), len(images), index)
        self._forget(role)
        with _by_itself(images.device, self._device):
            stream.add(images.detach(), places, self._floats, told=index is not None)

    def compute(self) -> list[Result]:
        """A result for each measure, of all images so far; under torch.distributed, of those of all ranks.

        More may be fed afterwards. All ranks must call it, those that had no images too.

        Raises:
            DistributedError: if other ranks do not come in time.
            GenEvalError: what :meth:`Evaluation.measure` raises.
        """
        with _by_itself(self._device):
            summaries = self._whole(self._fed)
            self._summaries = {role: self._at_home(summary) for role, summary in self._summaries.items()}
            if "reference" in summaries:
                self._refer_to(summaries["reference"])
            return super().measure(summaries["generated"])

    def measure(self, generated: Any, *, n: int | None = None, seed: int = 0) -> list[Result]:
        """Measure a set that lies somewhere, as :meth:`Evaluation.measure` does, against the reference given or fed.

        Each process measures all of it, under torch.distributed too: ask one rank alone, or feed shares.
        Under torch.distributed all ranks must call it where a reference was fed that :meth:`compute` has not seen yet.

        Raises:
            DistributedError: if other ranks do not come in time.
            GenEvalError: what :meth:`Evaluation.measure` raises.
        """
        if "reference" in self._fed and "reference" not in self._sources:
            with _by_itself(self._device):
                self._refer_to(self._whole(["reference"])["reference"])
        return super().measure(generated, n=n, seed=seed)

    def reset(self, *, real: bool = False) -> None:
        """Forget the generated images; with ``real`` also those of a reference that was fed."""
        for role in ("generated", "reference") if real else ("generated",):
            self._forget(role)
            self._streams.pop(role, None)
            self._tallies.pop(role, None)

    def offload(self) -> None:
        """Leave nothing on the GPU: networks are loaded again when images come, and features moved back.

        Extractors of one's own are left where they are.
        """
        cpu = torch.device("cpu")
        with _by_itself(self._device):
            self._tallies |= {role: stream.tally().to(cpu) for role, stream in self._streams.items()}
        self._streams.clear()
        self._summaries = {role: summary.to(cpu) for role, summary in self._summaries.items()}
        if "reference" in self._fed and "reference" in self._summaries:
            self._sources["reference"] = self._summaries["reference"]
        resting: dict[str, Extractor] = {
            name: extractor if name in self._loading["own"] else Resting.of(extractor)
            for name, extractor in self._settled.extractors.items()
        }
        self._plan = replace(self._settled, extractors=resting)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def state_dict(self) -> dict[str, Any]:
        """What was fed to this process so far, to go on from: tensors and plain data.

        A reference that was given is not among it.
        """
        with _by_itself(self._device):
            return {
                "format": FORMAT,
                "terms": json.dumps(self._feeding_terms()),
                **{role: self._tally(role).state() for role in self._fed},
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, in place of what was fed here.

        Raises:
            StoreError: if it is the state of something else, or damaged; nothing is changed then.
            IncomparableError: if its images were measured on other terms; names each that differs.
        """
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        if found != FORMAT:
            raise StoreError(f"expected a state in the format '{FORMAT}', found {found!r}")
        if lacking := {"terms", *self._fed} - state.keys():
            raise StoreError(f"this state of a monitor lacks {' and '.join(sorted(lacking))}: it is damaged")
        _require_equal(self._feeding_terms(), _terms_of(state), "the state", "this monitor")
        tallies = {role: Tally.from_state(state[role], self._settled.requests(role)) for role in self._fed}
        self.reset(real=True)
        self._tallies = {role: tally for role, tally in tallies.items() if tally.n}

    @property
    def _settled(self) -> Plan:
        assert self._plan is not None  # made with the monitor
        return self._plan

    def _summarize(self, role: str, source: Images | Summary, plan: Plan) -> Summary:
        if isinstance(source, Summary):
            return self._at_home(source)
        self._wake()
        return super()._summarize(role, source, self._settled)

    def _stream(self, role: str) -> Stream:
        if role not in self._streams:
            self._wake()
            self._streams[role] = Stream(
                _NAME,
                self._settled.requests(role),
                rows=self._settled.rows(role),
                batch_size=self._observing["batch_size"],
                start=self._tallies.get(role),
            )
            self._tallies.pop(role, None)
        return self._streams[role]

    def _forget(self, role: str) -> None:
        """What :meth:`compute` made of a set that is no longer what it was."""
        self._summaries.pop(role, None)
        if role in self._fed:
            self._sources.pop(role, None)

    def _refer_to(self, reference: Summary) -> None:
        """What is measured from now on is measured against the images fed."""
        self._sources["reference"] = self._summaries["reference"] = reference
        self._of_heldout = None

    def _tally(self, role: str) -> Tally:
        if role in self._streams:
            return self._streams[role].tally()
        return self._tallies.get(role, Tally())

    def _wake(self) -> None:
        """Load the networks that :meth:`offload` gave up."""
        before = self._settled
        if any(isinstance(extractor, Resting) for extractor in before.extractors.values()):
            self._plan = self._make_plan(self._sources)
            _require_equal(_specs(self._settled), _specs(before), "what was fed", "the networks loaded anew")

    def _places(self, before: int, count: int, index: Tensor | None) -> Tensor:
        if index is None:
            world, own = (1, 0) if self._alone else (distributed.world_size(), distributed.rank())
            return torch.arange(before, before + count) * world + own
        if not isinstance(index, Tensor):
            raise UsageError(
                f"{count} images need an index, a tensor int64 [{count}], found {type(index).__name__}"
            )
        if index.dtype != torch.int64 or index.shape != (count,):
            raise UsageError(
                f"{count} images need an index int64 [{count}], found {index.dtype} {list(index.shape)}"
            )
        if bool((index < 0).any()):
            raise UsageError(f"an index counts images from 0, found {int(index.min())}")
        return index.to("cpu", copy=True)

    def _gathered(self, roles: Sequence[str]) -> dict[str, Tally]:
        """What was fed of each role, to all ranks."""
        own = {role: self._tally(role) for role in roles}
        if self._alone or distributed.world_size() == 1:
            return own
        terms = {name: term for name, term in self._feeding_terms().items() if name != "rank"}
        terms |= {"parameters": dict(self._protocol.params), "reference": self._reference_mark()}
        mine = terms, {role: tally.to(torch.device("cpu")) for role, tally in own.items()}
        meeting = "Monitor.compute()" if "generated" in roles else "Monitor.measure()"
        everyone = distributed.all_gather(mine, meeting, self._timeout)
        for rank, (others, _) in enumerate(everyone):
            _require_equal(terms, others, f"rank {rank}", f"rank {distributed.rank()}")
        return {role: reduce(Tally.__add__, (tallies[role] for _, tallies in everyone)) for role in roles}

    def _whole(self, roles: Sequence[str]) -> dict[str, Summary]:
        """The sets in some roles, as metrics take them."""
        record = made_with(self._device, self._settled.extractors.values())
        summaries = {}
        for role, tally in self._gathered(roles).items():
            if not tally.n:
                real = ", real=True" if role == "reference" else ""
                raise UsageError(
                    f"there are no {role} images to measure yet: feed them, update(images{real})"
                )
            summaries[role] = self._at_home(tally.summary(_NAME, record))
        return summaries

    def _at_home(self, summary: Summary) -> Summary:
        """The same, its features on the devices of the networks that they came from."""
        homes = {
            (extractor.spec(measure.tap), measure.tap): extractor.device
            for measure in self._measures
            for extractor in [self._settled.extractors[measure.extractor]]
        }
        features = {
            key: found.to(homes[key]) if key in homes else found for key, found in summary.features.items()
        }
        return replace(summary, features=features)

    def _feeding_terms(self) -> dict[str, Any]:
        """What must be equal where images that were fed are put together."""
        world, own = (1, 0) if self._alone else (distributed.world_size(), distributed.rank())
        return {
            "features": _specs(self._settled),
            "rows": {role: self._settled.rows(role) for role in self._fed},
            "floats": self._floats and str(self._floats),
            "rank": own,
            "world size": world,
        }

    def _reference_mark(self) -> str:
        """What tells the reference that was given from another, as far as a look at it does."""
        source = None if "reference" in self._fed else self._sources.get("reference")
        if isinstance(source, Arrays):
            return source.content(self._observing["progress"]) or ""
        if isinstance(source, Summary):
            return source.digest
        return "" if source is None or isinstance(source, Path) else f"{len(source):,} images"

    def _require_images(self) -> None:
        """Refuse measures of what is not fed here."""
        for measure in self._measures:
            if measure.extractor == IDENTITY:
                raise UsageError(f"{measure.name} takes feature vectors, and a monitor is fed images")
            labelled = [role for role in measure.metric.by_class if role in self._fed]
            if labelled:
                raise UsageError(
                    f"{measure.name} needs the classes of the {' and '.join(labelled)} images, which a monitor is not "
                    "told: use gen_eval.evaluate"
                )


@dataclass
class Resting:
    """What is left of an extractor while its network is nowhere."""

    device: torch.device
    resize: Resize
    taps: Mapping[str, int]
    specs: Mapping[str, Spec]
    backend: str | None  # that it had

    @classmethod
    def of(cls, extractor: Extractor) -> Resting:
        """Of an extractor, or of one at rest."""
        specs = {tap: extractor.spec(tap) for tap in extractor.taps}
        backend = getattr(extractor, "backend", None)
        return cls(extractor.device, extractor.resize, extractor.taps, specs, backend)

    def spec(self, tap: str) -> Spec:
        """The identity of the features."""
        return self.specs[tap]

    def __call__(self, images: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        """Nobody asks for features of a network at rest."""
        raise AssertionError("a network at rest was called")


def _require_seconds(timeout: object) -> None:
    if not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
        raise UsageError(f"timeout is a number of seconds above 0, found {timeout!r}")


def _specs(plan: Plan) -> list[str]:
    """The terms of the features that a plan reads, as text."""
    return sorted(
        {
            f"{json.dumps(plan.extractors[each.extractor].spec(each.tap).to_json(), sort_keys=True)} {each.tap}"
            for each in plan.measures
        }
    )


def _terms_of(state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        terms = json.loads(state["terms"])
    except (TypeError, ValueError):
        terms = None
    if not isinstance(terms, dict):
        raise StoreError(f"this state of a monitor is damaged: its terms are none, {state['terms']!r}")
    return terms


def _require_equal(mine: Any, theirs: Any, whose: str, other: str) -> None:
    if mine == theirs:
        return
    pairs = (
        [(name, theirs.get(name), mine[name]) for name in mine]
        if isinstance(mine, dict)
        else [("", theirs, mine)]
    )
    lines = [f"  {name}: {left} against {right}" for name, left, right in pairs if left != right]
    raise IncomparableError(
        "\n".join([f"{whose} and {other} are on different terms:", *lines, "Measure both on the same terms."])
    )


@contextmanager
def _by_itself(*devices: torch.device) -> Iterator[None]:
    """Compute as if the caller had nothing in force: no autocast, no inference mode, no gradients."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in {device.type for device in devices}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
