"""The Inception network of FID: TensorFlow's graph of 2015-12-05, in plain torch modules.

Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", with the three
departures of the published graph: average pooling leaves the padding out of its count, the last block
pools by maximum, and the classifier has 1008 outputs. The network is held in a form that is faster and
equal to rounding: batch norm is folded into the convolutions, and 1x1 convolutions that read the same
input are one, but where :mod:`.onednn` computes them. An average pooling followed by a 1x1 convolution is
the same as the convolution followed by the pooling, so pool branches join them.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gen_eval.errors import UnknownName, WeightsError
from gen_eval.extractors.backends import TORCH, Exported, describe, settle_backend
from gen_eval.extractors.inception_net import InceptionNet
from gen_eval.extractors.inception_weights import (
    HEAD,
    WEIGHTS,
    WEIGHTS_WITH_HEAD,
    fingerprint,
    read_weights,
)
from gen_eval.extractors.network import Forward, settle_precision
from gen_eval.extractors.onednn import is_usable
from gen_eval.extractors.tensors import State
from gen_eval.fetch import fetch
from gen_eval.parallel import in_parallel
from gen_eval.precision import arithmetic
from gen_eval.progress import Progress, silent
from gen_eval.spec import Resize, Spec

NAME = "inception-2015-12-05"
INPUT_SIZE = 299
TAPS: Mapping[str, int] = {
    "pool": 2048,
    "spatial": 2023,
    "logits": 1008,
    "logits_unbiased": 1008,
    **{str(dim): dim for dim in (64, 192, 768)},  # means over the image halfway, as torch-fidelity calls them
}
_HEAD_TAPS = ("logits", "logits_unbiased")

_FEWEST = 4  # images for each core of a CPU, where each has some of its own
# Pixels in [0, 255] become x * scale + shift.
PIXEL_MAPS: Mapping[str, tuple[float, float]] = {
    "(x-128)/128": (1 / 128, -1.0),  # TensorFlow's graph
    "x/127.5-1": (1 / 127.5, -1.0),  # pytorch-fid
}


class Inception:
    """The FID Inception as an extractor.

    Args:
        state: tensors as read by :func:`gen_eval.extractors.inception_weights.read_weights`.
        resize: name of the kernel that brings images to 299 pixels.
        normalize: a key of :data:`PIXEL_MAPS`.
        device: where the network runs.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.
        backend: what runs the network, a name in :data:`gen_eval.extractors.backends.BACKENDS`. In fp32 it is no term
            of the features, which are the same to rounding.

    Attributes:
        backend: its name and version.
        by_core: whether each core of a CPU has images of its own.

    Raises:
        UnknownName: if the normalisation, the precision or the backend is unknown.
        UsageError: if the backend is not installed, or cannot run on the device or in the precision.
        WeightsError: if tensors are missing, have other shapes or hold NaN or infinity.
    """

    def __init__(
        self,
        state: State,
        *,
        resize: str = "tf1-bilinear",
        normalize: str = "(x-128)/128",
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        backend: str = TORCH,
    ) -> None:
        # A ReLU may make 0 of NaN, and features would be finite.
        if broken := [name for name, values in state.items() if not bool(values.isfinite().all())]:
            raise WeightsError(
                f"the weights hold NaN or infinity in {broken[0]}: they are damaged, get them anew"
            )
        if normalize not in PIXEL_MAPS:
            raise UnknownName("normalisation", normalize, PIXEL_MAPS)
        self.device = torch.device(device)
        self._precision = settle_precision(precision, self.device)
        library = settle_backend(backend, self.device, precision)
        self.backend = describe(backend)
        # Equal to rounding in fp32 alone: where rounding is coarse, each library's is a term of its own.
        alike = library is None or self._precision == "fp32"
        # That of weights and images; a library converts its own.
        self._dtype = torch.bfloat16 if self._precision == "bf16" and library is None else torch.float32
        self._rounding = self._precision if alike else f"{self._precision} by {backend}"
        self.resize = Resize(INPUT_SIZE, resize)
        has_head = HEAD in state
        self.taps: Mapping[str, int] = {
            tap: dim for tap, dim in TAPS.items() if has_head or tap not in _HEAD_TAPS
        }
        self._normalize = normalize
        trunk = fingerprint(state, head=False)
        whole = fingerprint(state, head=True) if has_head else trunk
        self._weights = {tap: whole if tap in _HEAD_TAPS else trunk for tap in self.taps}
        net = InceptionNet(state).eval().requires_grad_(False)
        net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Forward = Exported(net, INPUT_SIZE, library, precision) if library else net
        self.by_core = library is None and self.device.type == "cpu"
        if library is None:
            net.to(self._dtype)
            if self.device.type == "cpu" and is_usable(self._dtype):
                net.fuse()

    @classmethod
    def load(
        cls,
        *,
        weights: str | Path | None = None,
        taps: Collection[str] = ("pool",),
        resize: str = "tf1-bilinear",
        normalize: str = "(x-128)/128",
        device: torch.device | str = "cpu",
        offline: bool | None = None,
        progress: Progress = silent,
        precision: str = "fp32",
        backend: str = TORCH,
    ) -> Inception:
        """The Inception of FID, 2015-12-05, with taps pool, spatial, logits, logits_unbiased, 64, 192 and 768.

        Args:
            weights: a local file; by default the file is found in the cache or fetched.
            taps: the taps that will be asked for; they decide whether the classifier head is needed.
            resize: name of the kernel that brings images to 299 pixels.
            normalize: a key of :data:`PIXEL_MAPS`.
            device: where the network runs.
            offline: never touch the network; by default as the environment says.
            progress: told how a download stands.
            precision: a name in :data:`gen_eval.precision.PRECISIONS`.
            backend: what runs the network, a name in :data:`gen_eval.extractors.backends.BACKENDS`.

        Raises:
            UnknownName: if there is no such backend.
            UsageError: if the backend is not installed, or cannot run on the device or in the precision.
            FetchError: if the weights can be had from nowhere.
            WeightsError: if the file is not this network, or lacks the head that a tap needs.
        """
        settle_backend(backend, torch.device(device), precision)  # before anything is fetched in vain
        if weights is None:
            asset = WEIGHTS_WITH_HEAD if set(taps) & set(_HEAD_TAPS) else WEIGHTS
            weights = fetch(asset, offline=offline, progress=progress)
        extractor = cls(
            read_weights(Path(weights)),
            resize=resize,
            normalize=normalize,
            device=device,
            precision=precision,
            backend=backend,
        )
        for tap in taps:
            extractor.spec(tap)
        return extractor

    def spec(self, tap: str) -> Spec:
        """What the features of a tap are. The same trunk from two files is the same spec.

        Raises:
            UnknownName: if there is no such tap.
            WeightsError: if the tap needs the classifier head and the weights have none.
        """
        if tap not in TAPS:
            raise UnknownName("Inception tap", tap, TAPS)
        if tap not in self.taps:
            raise WeightsError(
                f"these weights hold the trunk without the 1008-way classifier, and '{tap}' needs it. A file with "
                f"the head: {WEIGHTS_WITH_HEAD.sources[0]}; name it with --weights FILE or put it in the cache "
                "with `geneval weights add FILE`."
            )
        return Spec(NAME, self._weights[tap], self.resize, self._normalize, self._rounding)

    @torch.inference_mode()
    def __call__(self, images: Tensor, taps: Collection[str] = ("pool",)) -> dict[str, Tensor]:
        """Features of a batch, whatever precision settings the caller has in force.

        Args:
            images: ``[b, 3, 299, 299]`` float32 in [0, 255], on the extractor's device.
            taps: names in :attr:`taps`.

        Returns:
            ``{tap: [b, d] float32}``.
        """
        for tap in taps:
            self.spec(tap)
        lanes = self._lanes(images)
        if len(lanes) == 1:
            return self._features(images, taps)
        # What all threads share is switched out here, so that those below find it as it is to be.
        with arithmetic(self._precision, self.device.type):
            work = functools.partial(self._features, taps=taps)
            parts = list(in_parallel(work, lanes, self.device))
        return {tap: torch.cat([part[tap] for part in parts]) for tap in parts[0]}

    def _lanes(self, images: Tensor) -> Sequence[Tensor]:
        """The batch in parts that have a core of the CPU each, where they can be equal and not small.

        Cores that share each convolution wait for one another: on two with nothing else to do a pass takes 3 % more
        time so in fp32, and 7 % in bf16 (``benchmarks/levers.py``), and where others want these cores too far more.
        """
        cores = torch.get_num_threads() if self.by_core else 1
        fit = len(images) % cores == 0 and len(images) >= _FEWEST * cores
        return images.chunk(cores) if fit else [images]

    @torch.inference_mode()
    def _features(self, images: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        scale, shift = PIXEL_MAPS[self._normalize]
        with arithmetic(self._precision, self.device.type):
            x = (images.contiguous(memory_format=torch.channels_last) * scale).add_(shift)
            features = self._forward(x.to(self._dtype), taps)
        return {tap: values.float() for tap, values in features.items()}
