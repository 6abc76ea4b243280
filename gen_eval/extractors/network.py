"""What the extractors that wrap somebody's network have in common: pixels in, the features of some taps out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors.tensors import State, fingerprint
from gen_eval.precision import PRECISIONS, arithmetic
from gen_eval.spec import Resize, Spec
from gen_eval.transfer import moved

# From normalised pixels and the taps asked for to at least these taps.
Forward = Callable[[Tensor, Collection[str]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Normalize:
    """``(x / divisor - mean) / std`` of pixels x in [0, 255], channel by channel, in this order of rounding.

    >>> str(Normalize((0.5, 0.5, 0.5), (0.229, 0.224, 0.225)))
    '(x/255-0.5)/[0.229,0.224,0.225]'
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    divisor: float = 255.0

    def __str__(self) -> str:
        pixel = "x" if self.divisor == 1 else f"x/{_exact([self.divisor])}"
        if self._only_divides:
            return pixel
        return f"({pixel}-{_exact(self.mean)})/{_exact(self.std)}"

    def __call__(self, images: Tensor) -> Tensor:
        """``[b, 3, h, w]`` to the same."""
        scaled = images / self.divisor
        if self._only_divides:
            return scaled
        mean, std = (
            moved(torch.tensor(values, dtype=images.dtype), images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return scaled.sub_(mean).div_(std)

    @property
    def _only_divides(self) -> bool:
        return not any(self.mean) and set(self.std) == {1.0}


def _exact(values: Collection[float]) -> str:
    texts = [repr(value).removesuffix(".0") for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{','.join(texts)}]"


IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALIZATIONS: dict[str, Normalize] = {
    "imagenet": IMAGENET,
    **{
        str(one): one
        for one in (
            Normalize(divisor=1.0),
            Normalize(),
            Normalize((0.5,) * 3, (0.5,) * 3),
            Normalize((127.0,) * 3, (128.0,) * 3, divisor=1.0),
            Normalize((128.0,) * 3, (128.0,) * 3, divisor=1.0),
        )
    },
}


class Network:
    """Any network as an extractor.

    Args:
        name: what it is called in specs.
        forward: the network; called in inference mode and in ``precision``.
        taps: the places that features can be read at, and their dimensions.
        weights: of each tap, the fingerprint of the tensors it depends on.
        resize: how images reach the input size.
        normalize: what is done to pixels first.
        device: where the network is.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.

    Raises:
        UnknownName: if there is no such precision.
        UsageError: if the device cannot compute in it.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        *,
        taps: Mapping[str, int],
        weights: Mapping[str, str],
        resize: Resize,
        normalize: Normalize,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.name = name
        self.taps = taps
        self.resize = resize
        self.device = torch.device(device)
        self._forward = forward
        self._weights = weights
        self._normalize = normalize
        self._precision = settle_precision(precision, self.device)

    def spec(self, tap: str) -> Spec:
        """The identity of the features of a tap.

        Raises:
            UnknownName: if there is no such tap.
        """
        if tap not in self.taps:
            raise UnknownName(f"tap of {self.name}", tap, self.taps)
        return Spec(self.name, self._weights[tap], self.resize, str(self._normalize), self._precision)

    @torch.inference_mode()
    def __call__(self, images: Tensor, taps: Collection[str] = ("pool",)) -> dict[str, Tensor]:
        """Features of a batch, whatever precision settings the caller has in force.

        Args:
            images: ``[b, 3, size, size]`` float32 in [0, 255], on the extractor's device.
            taps: names in :attr:`taps`.

        Returns:
            ``{tap: [b, d] float32}``.
        """
        for tap in taps:
            self.spec(tap)
        with arithmetic(self._precision, self.device.type):
            features = self._forward(self._normalize(images), taps)
        return {tap: features[tap].float() for tap in taps}


def settle_precision(precision: str, device: torch.device) -> str:
    """The precision, if the device has it.

    Raises:
        UnknownName: if there is none of that name.
        UsageError: if the device cannot compute in it.
    """
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"precision tf32 is of CUDA devices, this is {device.type}: use fp32 or bf16 here")
    return precision


def settle_resize(resize: str | Resize | None, default: Resize) -> Resize:
    """A network's own resize, with another kernel where one is named, or another resize of the same size.

    Raises:
        UsageError: if the resize ends at another size.
    """
    if resize is None:
        return default
    if isinstance(resize, str):
        return replace(default, kernel=resize)
    if resize.size != default.size:
        raise UsageError(f"the network takes images of {default.size} pixels, not a resize to {resize.size}")
    return resize


def settle_normalize(normalize: str | Normalize | None, default: Normalize) -> Normalize:
    """The normalisation of a name, or the default.

    Raises:
        UnknownName: if there is none of that name.
    """
    if normalize is None:
        return default
    if isinstance(normalize, Normalize):
        return normalize
    if normalize not in NORMALIZATIONS:
        raise UnknownName("normalisation", normalize, NORMALIZATIONS)
    return NORMALIZATIONS[normalize]


def classifier_weights(state: State, *heads: str) -> dict[str, str]:
    """Fingerprints of the taps of a classifier: ``pool`` does not depend on its last layers, the ``heads``."""
    last = tuple(f"{head}." for head in heads)
    trunk = {name: value for name, value in state.items() if not name.startswith(last)}
    return {"pool": fingerprint(trunk), "logits": fingerprint(state)}
