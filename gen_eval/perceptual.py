"""What a perceptual distance says of a set and of a generator: how varied images are, how smooth a latent is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gen_eval import resize as resizing
from gen_eval.errors import NumericalError, TooFewImages, UnknownName, UsageError
from gen_eval.extractors.lpips import LPIPS
from gen_eval.images import Images, stream
from gen_eval.latent import INTERPOLATIONS, Generator, images_of, mapping_of, to_uint8
from gen_eval.metrics.score import Score
from gen_eval.planning import pick_device
from gen_eval.progress import Progress, silent
from gen_eval.sources import open_as_images
from gen_eval.spec import Resize

# Images [b, 3, h, w] in [0, 255], twice, to their distances [b].
Distance = Callable[[Tensor, Tensor], Tensor]

SPACES = ("z", "w")
SAMPLINGS = ("full", "end")
# What the path lengths of others are measured with: arguments of perceptual_path_length.
CONVENTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "stylegan": {"space": "w", "sampling": "end", "interpolation": "lerp", "resize": 256},
        "torch-fidelity": {
            "space": "z",
            "sampling": "end",
            "interpolation": "lerp",
            "resize": 64,
            "enlarge": True,
            "quantize": True,
        },
    }
)
# Apart from whatever else a generator draws from the seed.
_POSITIONS = 0x9E3779B9
# Of three images each is in two of three pairs, and their spread says nothing.
_FEWEST = 4


def perceptual_path_length(
    generator: Generator,
    *,
    n: int,
    seed: int = 0,
    distance: Distance | None = None,
    epsilon: float = 1e-4,
    space: str = "z",
    sampling: str = "full",
    interpolation: str | None = None,
    resize: int | None = None,
    enlarge: bool = False,
    quantize: bool = False,
    discard: tuple[float, float] | None = (1, 99),
    batch_size: int = 16,
) -> Score:
    """How far images move, by a perceptual distance, for a small step of the latent: low where a latent is smooth.

    Karras et al. 2019, arXiv:1812.04948, eq. 2: the mean of ``distance(image(t), image(t + epsilon)) / epsilon²``
    over ways from one latent to another. Path i leads from the latent of seed ``seed + 2 i`` to that of the next
    seed, so it depends on neither ``n`` nor the batch size. The numbers of others are those of
    :data:`CONVENTIONS`: ``perceptual_path_length(generator, n=50_000, **CONVENTIONS["stylegan"])``.

    Args:
        generator: see :class:`gen_eval.latent.Generator`.
        n: number of paths.
        seed: of the first latent.
        distance: of images ``[b, 3, h, w]`` in [0, 255], ``[b]``; by default LPIPS of VGG16.
        epsilon: length of the step, as a share of the way.
        space: ``"z"``, or ``"w"`` behind the generator's mapping.
        sampling: where on its way a step begins: ``"full"`` for anywhere, ``"end"`` for the start.
        interpolation: a name in :data:`gen_eval.latent.INTERPOLATIONS`; by default slerp in z and lerp in w.
        resize: side that larger images are brought to by averaging areas; ``None`` leaves them.
        enlarge: whether smaller ones are brought to it too, bilinearly.
        quantize: whether images are rounded to whole levels first, as in files. Most steps are then too small to
            be seen, and a few are seen too large.
        discard: percentiles outside of which paths are left out; ``None`` keeps all.
        batch_size: paths at a time.

    Returns:
        ``perceptual_path_length`` and the ``std`` of the paths that it is the mean of. Its standard error is that of
        a trimmed mean (Winsorised variance). ``per_image`` holds all ``n`` paths.

    Raises:
        UsageError: if an argument makes no sense, or w is asked of a generator without a mapping.
        UnknownName: if a space, sampling or interpolation is unknown.
        TooFewImages: if ``n`` is below 2.
        ImagesError: if the generator returns no images.
        NumericalError: if a pixel or distance is not finite.
    """
    interpolation = interpolation or ("slerp" if space == "z" else "lerp")
    for what, name, known in (
        ("space", space, SPACES),
        ("sampling", sampling, SAMPLINGS),
        ("interpolation", interpolation, INTERPOLATIONS),
    ):
        if name not in known:
            raise UnknownName(what, name, known)
    _require_terms(n, seed, epsilon, resize, enlarge, discard, batch_size)
    distance = distance or LPIPS.load(device=pick_device())
    lengths, whole_levels = [], False
    for start in range(0, n, batch_size):
        seeds = seed + 2 * torch.arange(start, min(start + batch_size, n))
        latents = _steps(generator, seeds, epsilon, space, sampling, interpolation)
        images = images_of(generator, latents, space)
        whole_levels = images.dtype == torch.uint8
        images = _resized(to_uint8(images).float() if quantize else images.float(), resize, enlarge)
        with torch.no_grad():
            lengths.append(distance(*images.chunk(2)).double().cpu() / epsilon**2)
    return _path_score(torch.cat(lengths), discard, coarse=whole_levels and not quantize)


def _require_terms(
    n: int,
    seed: int,
    epsilon: float,
    resize: int | None,
    enlarge: bool,
    discard: tuple[float, float] | None,
    batch_size: int,
) -> None:
    if n < 2:
        raise TooFewImages(f"a path length needs at least 2 paths, found n={n}")
    if seed < 0 or batch_size < 1 or not 0 < epsilon < 1:
        raise UsageError(
            "expected a seed of 0 or more, a batch_size of 1 or more and an epsilon between 0 and 1, found "
            f"{seed}, {batch_size} and {epsilon}"
        )
    if (resize is None and enlarge) or (resize is not None and resize < 1):
        raise UsageError(f"resize is a side in pixels, and enlarge needs one; found resize={resize}")
    if discard is not None and not 0 <= discard[0] < discard[1] <= 100:
        raise UsageError(f"discard is two rising percentiles or None, found {discard}")


def _steps(
    generator: Generator, seeds: Tensor, epsilon: float, space: str, sampling: str, interpolation: str
) -> Tensor:
    """Starts of the steps and then their ends, ``[2 b, ...]``."""
    with torch.no_grad():
        first, last = generator.latent(seeds), generator.latent(seeds + 1)
        if space == "w":
            first, last = (mapping_of(generator)(z) for z in (first, last))
        t = torch.zeros(len(seeds), dtype=torch.float64)
        if sampling == "full":
            t = torch.tensor([np.random.default_rng([_POSITIONS, seed]).random() for seed in seeds.tolist()])
        t = t.to(first.device, torch.float64)
        # Two points of float32 this near would differ by their rounding.
        ends = [INTERPOLATIONS[interpolation](first.double(), last.double(), at) for at in (t, t + epsilon)]
        return torch.cat(ends).to(first.dtype)


def _resized(images: Tensor, side: int | None, enlarge: bool) -> Tensor:
    if side is None:
        return images
    if min(images.shape[2:]) > side:
        return F.interpolate(images, (side, side), mode="area")
    if enlarge:
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    return images


def _path_score(lengths: Tensor, discard: tuple[float, float] | None, *, coarse: bool) -> Score:
    values = lengths.numpy()
    if not np.isfinite(values).all():
        raise NumericalError(f"the distance of {int((~np.isfinite(values)).sum())} steps is NaN or infinite")
    # As in the code of the paper: a percentile is one of the paths, and stays.
    lowest, highest = discard or (0, 100)
    low = np.percentile(values, lowest, method="lower")
    high = np.percentile(values, highest, method="higher")
    kept = values[(values >= low) & (values <= high)]
    spread = np.clip(values, low, high).std(ddof=1) * len(values) / len(kept)
    warning = (
        "the generator gave whole levels, which a step this small changes by none or one: have it give floating "
        "point pixels, or measure with quantize=True and compare with numbers like it alone"
    )
    return Score(
        {"perceptual_path_length": float(kept.mean()), "std": float(kept.std())},
        errors={"perceptual_path_length": float(spread / math.sqrt(len(values)))},
        biases={"perceptual_path_length": 0.0} if discard is None else {},
        per_image={"generated": lengths},
        warnings=(warning,) if coarse else (),
    )


def lpips_diversity(
    images: Any,
    *,
    pairs: int | None = None,
    seed: int = 0,
    lpips: LPIPS | None = None,
    resize: Resize | None = None,
    batch_size: int = 16,
    workers: int = 0,
    offline: bool | None = None,
    progress: Progress = silent,
) -> Score:
    """How different the images of a set look from one another: the mean LPIPS of two of them.

    As Zhu et al. 2017, arXiv:1711.11586, measure the outputs for one input. LPIPS is a squared distance of
    vectors, so the mean over all pairs is twice the total variance of the vectors: exact in two passes, without
    a pair being formed.

    Args:
        images: as :func:`gen_eval.sources.open_as_images` takes them, such as ``"mnist:test"``; of one size unless
            ``resize`` is given.
        pairs: number of random pairs, no image in two of them, at half the cost; ``None`` for all pairs.
        seed: of the random pairs.
        lpips: the distance; by default that of VGG16.
        resize: how images are brought to one size. LPIPS depends on the size: compare equal ones.
        batch_size: images that go through the network together.
        workers: decoding threads.
        offline: never fetch a dataset, or the weights of LPIPS; ``None`` asks the environment variable
            ``GEN_EVAL_OFFLINE``.
        progress: told of bytes as they arrive.

    Returns:
        ``lpips_diversity``, unbiased. Its standard error is that of independent pairs, or over all pairs the
        jackknife's. ``per_image``, over all pairs, is the mean LPIPS of each image to the others.

    Raises:
        UsageError: if images differ in size, or an argument makes no sense.
        TooFewImages: if there are fewer than 4 images, or twice the pairs.
        CorruptImages: if a file is broken.
        FetchError: if a dataset or the weights cannot be had.
    """
    opened = open_as_images(images, offline=offline, progress=progress)
    n = len(opened)
    if pairs is not None and pairs < 2:
        raise UsageError(f"expected at least 2 pairs, or None for all pairs; found {pairs}")
    needed = _FEWEST if pairs is None else 2 * pairs
    if n < needed:
        raise TooFewImages(
            f"{pairs or 'all'} pairs need at least {needed} images, {opened.name} has {n}; pairs=None makes the "
            "most of few"
        )
    lpips = lpips or LPIPS.load(device=pick_device(), offline=offline, progress=progress)

    def batches(order: Sequence[int], size: int) -> Iterator[Tensor]:
        return _batches(opened, order, resize, size, workers, lpips.device)

    if pairs is None:
        return _of_all_pairs(lpips, lambda: batches(range(n), batch_size), n)
    order = np.random.default_rng(seed).permutation(n)[: 2 * pairs].tolist()
    distances = torch.cat(
        [lpips(batch[::2], batch[1::2]) for batch in batches(order, 2 * batch_size)]
    ).double()
    return Score(
        {"lpips_diversity": float(distances.mean())},
        errors={"lpips_diversity": float(distances.std() / math.sqrt(pairs))},
        biases={"lpips_diversity": 0.0},
    )


def _of_all_pairs(lpips: LPIPS, batches: Callable[[], Iterator[Tensor]], n: int) -> Score:
    """From two passes over the images: the mean of the vectors, then the squared distances to it."""
    mean = torch.zeros((), dtype=torch.float64, device=lpips.device)
    for batch in batches():
        mean = mean + lpips.features(batch).double().sum(0) / n
    from_mean = torch.cat(
        [(lpips.features(batch).double() - mean).square().sum(1) for batch in batches()]
    ).cpu()
    # Over j other than i, |x_i - x_j|² has the mean (n r_i + sum r_j) / (n - 1), r the squares about the mean.
    to_others = (n * from_mean + from_mean.sum()) / (n - 1)
    value = to_others.mean()
    contributions = 2 / (n - 2) * (to_others - value)  # exactly what leaving the image out takes away
    return Score(
        {"lpips_diversity": float(value)},
        errors={"lpips_diversity": math.sqrt(float(contributions.square().sum()) * (n - 1) / n)},
        biases={"lpips_diversity": 0.0},
        contributions={"generated": contributions},
        per_image={"generated": to_others},
    )


def _batches(
    images: Images,
    order: Sequence[int],
    resize: Resize | None,
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """``[b, 3, h, w]`` float32 in [0, 255], on the device."""

    def prepare(pixels: np.ndarray[Any, Any]) -> Tensor:
        if resize is None:
            return torch.from_numpy(pixels)
        return resizing.prepare(pixels, resize)

    chunks = stream(
        images, order, batch_size=batch_size, workers=workers, prepare=prepare, skip_corrupt=False
    )
    size = None
    for chunk in chunks:
        if resize is not None:
            yield resizing.finish(chunk.items, resize, device)
            continue
        sizes = {tuple(pixels.shape) for pixels in chunk.items} | ({size} if size else set())
        if len(sizes) > 1:
            raise UsageError(
                f"the images of {images.name} have several sizes, among them {sorted(sizes)[:2]}: give resize=, "
                "such as Resize(256, 'pil-bicubic')"
            )
        (size,) = sizes
        yield torch.stack(chunk.items).to(device).permute(0, 3, 1, 2).float()
