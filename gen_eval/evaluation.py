"""Plan, summarize, compute: from images or statistics to results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gen_eval import store
from gen_eval.errors import TooFewImages, UsageError
from gen_eval.extractors import Extractor, find_extractor
from gen_eval.images import Images, open_images
from gen_eval.metrics import Measure, find_measure
from gen_eval.progress import Progress, silent
from gen_eval.protocols import DEFAULT_PROTOCOL, Protocol, find_protocol
from gen_eval.results import Result, SetInfo
from gen_eval.summary import DEFAULT_ROWS, Request, Summary, made_with, require_whole, summarize


def evaluate(
    measures: Sequence[str | Measure],
    *,
    generated: Any,
    reference: Any,
    protocol: str | Protocol = DEFAULT_PROTOCOL,
    params: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    n: int | None = None,
    seed: int = 0,
    rows: int | None = DEFAULT_ROWS,
    reference_n: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    skip_corrupt: bool = False,
    offline: bool | None = None,
    progress: Progress = silent,
) -> list[Result]:
    """Measure generated images against a reference, all measures from one pass over each set.

    Names, weights, sets and sizes are settled before the first image goes through a network.

    Args:
        measures: names such as ``"fid"`` and ``"fid-inf"``.
        generated: images, as :func:`gen_eval.images.open_images` takes them; a statistics file; a
            :class:`Summary`.
        reference: the same.
        protocol: the settings that the number is to mean, a name in :data:`gen_eval.protocols.PROTOCOLS`
            or a row of one's own.
        params: metric parameters to set over the protocol's, such as ``{"method": "sqrtm"}``.
        weights: a local weights file; by default found in the cache or fetched.
        device: such as ``"cuda"``; by default CUDA where there is one.
        n: number of images asked of a ``generated`` that is a callable.
        seed: seed of its first image.
        rows: the most feature rows kept of each set, for error bars; ``None`` keeps all.
        reference_n: number of images behind a ``{mu, sigma}`` file that does not say.
        batch_size: images that go through the network together.
        workers: decoding threads.
        skip_corrupt: leave broken files out, and say so in the result.
        offline: never touch the network; by default as the environment says.
        progress: told of images and downloaded bytes as they are done.

    Returns:
        A result for each measure, in their order.

    Raises:
        GenEvalError: see :mod:`gen_eval.errors`; the message says what to do.
    """
    if isinstance(measures, str):
        measures = [measures]
    wanted = [find_measure(measure) for measure in measures]
    if not wanted:
        raise UsageError("no measures were asked for")
    _require_range(
        rows=(rows, 0), batch_size=(batch_size, 1), workers=(workers, 0), reference_n=(reference_n, 2)
    )
    terms = find_protocol(protocol).with_params(params or {}, [measure.metric.params for measure in wanted])
    sources = {"reference": open_set(reference), "generated": open_set(generated, n=n, seed=seed)}
    extractors = load_extractors(wanted, terms, weights, pick_device(device), offline, progress)
    if any(measure.metric.all_rows for measure in wanted):
        rows = None

    requests = [
        Request(extractor, tuple({measure.tap: None for measure in wanted if measure.extractor == name}))
        for name, extractor in extractors.items()
    ]
    settled = {
        role: settle(source, requests, n=reference_n if role == "reference" else None)
        for role, source in sources.items()
    }
    _require_fit(wanted, extractors, settled, skip_corrupt)
    summaries = {
        role: source
        if isinstance(source, Summary)
        else summarize(
            source,
            requests,
            rows=rows,
            batch_size=batch_size,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )
        for role, source in settled.items()
    }
    return [compute(measure, extractors[measure.extractor], summaries, terms) for measure in wanted]


def fid(real: Any, fake: Any, **options: Any) -> Result:
    """The Fréchet Inception Distance of generated images to real ones.

    Args:
        real: the reference images, or their statistics.
        fake: the generated images, or their statistics.
        options: as :func:`evaluate` takes them.
    """
    return evaluate(["fid"], generated=fake, reference=real, **options)[0]


def compute(
    measure: Measure, extractor: Extractor, summaries: dict[str, Summary], protocol: Protocol
) -> Result:
    """One measure from summaries that were made for it.

    Raises:
        IncomparableError: if a summary was measured on other terms.
    """
    started = time.perf_counter()
    metric, spec = measure.metric, extractor.spec(measure.tap)
    features = {role: summaries[role].require(spec, measure.tap) for role in metric.roles}
    params = protocol.params_for(metric.params)
    score = metric.compute(features, **params)
    contributions = {}
    for role, contribution in score.contributions.items():
        sample = features[role].sample
        if sample is not None:
            contributions[role] = (sample.index, contribution)
    return Result(
        measure=measure.name,
        metric=metric.name,
        version=metric.version,
        better=metric.better,
        params=params,
        protocol=protocol.name,
        spec=spec,
        tap=measure.tap,
        sets={role: _info(summaries[role], features[role].n) for role in metric.roles},
        values=score.values,
        errors=score.errors,
        bias=score.bias,
        warnings=(*score.warnings, *_set_warnings(summaries)),
        cite=metric.cite,
        made_with=made_with(extractor.device),
        seconds=time.perf_counter() - started,
        contributions=contributions,
    )


def open_set(source: Any, *, n: int | None = None, seed: int = 0) -> Images | Summary | Path:
    """Images, a summary, or the path of a statistics file, whichever the source is."""
    if isinstance(source, str) and not source:
        raise UsageError("an empty path was given; for the current folder say '.'")
    if isinstance(source, Summary):
        return source
    if isinstance(source, (str, Path)) and store.is_statistics(Path(source)):
        return Path(source)
    return open_images(source, n=n, seed=seed)


def load_extractors(
    measures: Sequence[Measure],
    protocol: Protocol,
    weights: str | Path | None,
    device: torch.device,
    offline: bool | None = None,
    progress: Progress = silent,
) -> dict[str, Extractor]:
    """Each extractor that the measures look through, once, set up as the protocol says."""
    return {
        name: find_extractor(name)(
            weights=weights,
            taps=[measure.tap for measure in measures if measure.extractor == name],
            resize=protocol.resize,
            normalize=protocol.normalize,
            device=device,
            offline=offline,
            progress=progress,
        )
        for name in {measure.extractor: None for measure in measures}
    }


def settle(
    source: Images | Summary | Path, requests: Sequence[Request], *, n: int | None = None
) -> Images | Summary:
    """Statistics read and where they are needed; images, which cost a pass, as they are."""
    extractor = requests[0].extractor
    if n is not None and not (isinstance(source, Path) and source.suffix != store.EXTENSION):
        raise UsageError("reference_n is for {mu, sigma} statistics, which do not say; this reference does")
    if isinstance(source, Summary):
        return source.to(extractor.device)
    if not isinstance(source, Path):
        return source
    if source.suffix == store.EXTENSION:
        return store.load(source).to(extractor.device)
    tap = requests[0].taps[0]
    adopted = store.adopt(source, extractor.spec(tap), tap, dim=extractor.taps[tap], n=n)
    return adopted.to(extractor.device)


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU.

    Raises:
        UsageError: if CUDA is asked for and missing, or the name is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{device}': expected cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{device}' is not supported: expected cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{device}' asked for, but torch finds no CUDA here; use --device cpu")
    return chosen


def _require_range(**arguments: tuple[int | None, int]) -> None:
    for name, (value, least) in arguments.items():
        if value is not None and value < least:
            raise UsageError(f"{name} must be at least {least}, found {value}")


def _require_fit(
    measures: Sequence[Measure],
    extractors: dict[str, Extractor],
    sources: dict[str, Images | Summary],
    skip_corrupt: bool,
) -> None:
    """Refuse before the first pass what would be refused after it, or in the second."""
    for measure in measures:
        extractor = extractors[measure.extractor]
        spec, least = extractor.spec(measure.tap), measure.metric.least_n(extractor.taps[measure.tap])
        for role, source in sources.items():
            needed = least if role == "generated" else 2
            n = source.require(spec, measure.tap).n if isinstance(source, Summary) else len(source)
            if n is not None and n < needed:
                found = "1 image" if n == 1 else f"{n} images"
                raise TooFewImages(
                    f"{measure.name} needs at least {needed} {role} images; {source.name} has {found}"
                )
            if role == "generated" and measure.metric.all_rows and isinstance(source, Summary):
                sample = source.require(spec, measure.tap).sample
                if sample is None or sample.n != n:
                    raise UsageError(
                        f"{measure.name} needs every feature row of the generated images, and the statistics of "
                        f"{source.name} hold {sample.n if sample else 0} of {n or 'unknown'}: pass the images, or "
                        "make the statistics anew with more --rows"
                    )
    if not skip_corrupt:
        for source in sources.values():
            if not isinstance(source, Summary):
                require_whole(source)


def _info(summary: Summary, n: int | None) -> SetInfo:
    return SetInfo(summary.name, summary.digest, n, len(summary.skipped), summary.notes, summary.claimed)


def _set_warnings(summaries: dict[str, Summary]) -> list[str]:
    lines = []
    digests = [summary.digest for summary in summaries.values()]
    if len(set(digests)) < len(digests):
        lines.append("both sets hold the same images, to the last byte")
    for role, summary in summaries.items():
        if summary.claimed:
            lines.append(
                f"the {role} statistics are of another tool, which does not record what they were measured with: "
                "that they fit this protocol is your claim, and the error bar takes them as exact"
            )
        if summary.skipped:
            names = ", ".join(label for label, _ in summary.skipped[:3])
            more = ", ..." if len(summary.skipped) > 3 else ""
            lines.append(
                f"{len(summary.skipped)} corrupt files of {summary.name} were left out: {names}{more}"
            )
    return lines
