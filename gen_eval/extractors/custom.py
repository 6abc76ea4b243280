"""Anything that turns images into vectors, as an extractor."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors.network import Network, Normalize, settle_normalize
from gen_eval.extractors.tensors import fingerprint
from gen_eval.precision import arithmetic
from gen_eval.spec import Resize

# Begins the weights of a network whose code has no version: its features are never taken from a cache.
UNKNOWN = "unknown"


class Custom(Network):
    """A module or any callable as an extractor.

    A module is copied: what is done to the original afterwards, training included, changes nothing here.

    Args:
        net: from ``[b, 3, size, size]`` float32, normalised, to ``[b, d]`` or to several such by tap.
        size: side of the images that it takes, in pixels.
        name: what to call it in specs; by default that of its class or function.
        version: of its code, which cannot be seen from here. The same name, version and tensors are then the same
            network, in a cache and in another process too. Without a version, features compare with those of this
            very object alone.
        resize: kernel that brings images to ``size``, or a whole :class:`gen_eval.spec.Resize`.
        normalize: a name in :data:`gen_eval.extractors.network.NORMALIZATIONS`, or one of one's own.
        device: where it is to run; a callable that is no module must see to that itself.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.

    Raises:
        UsageError: if what it returns is no ``[b, d]`` of floats.

    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> Custom(net, size=32, name="mean colour").taps
    {'pool': 3}
    """

    def __init__(
        self,
        net: Callable[[Tensor], Any],
        *,
        size: int,
        name: str | None = None,
        version: str | None = None,
        resize: str | Resize = "pil-bicubic",
        normalize: str | Normalize = "x/255",
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self._net, weights = net, version or f"{UNKNOWN} {secrets.token_hex(8)}"
        if isinstance(net, nn.Module):
            self._net = _frozen(net, torch.device(device))
            weights += f" {fingerprint(self._net.state_dict())}"
        super().__init__(
            name or str(getattr(net, "__name__", type(net).__name__)),
            self._checked,
            taps={},
            weights={},
            resize=Resize(size, resize) if isinstance(resize, str) else resize,
            normalize=settle_normalize(normalize, Normalize()),
            device=device,
            precision=precision,
        )
        if self.resize.size != size:
            raise UsageError(
                f"{self.name} takes images of {size} pixels, the resize ends at {self.resize.size}"
            )
        self.taps = self._probe(size)
        self._weights = dict.fromkeys(self.taps, weights)

    @torch.inference_mode()
    def _probe(self, size: int) -> dict[str, int]:
        # Two images, so that what mixes up the batch with another dimension shows.
        images = torch.zeros((2, 3, size, size), device=self.device)
        with arithmetic(self._precision, self.device.type):
            features = self._checked(self._normalize(images), ())
        return {tap: values.shape[1] for tap, values in features.items()}

    def _checked(self, x: Tensor, taps: Collection[str]) -> Mapping[str, Tensor]:
        found = self._net(x)
        features = found if isinstance(found, Mapping) else {"pool": found}
        if not features:
            raise UsageError(f"{self.name} returns no features: an empty mapping")
        for tap, values in features.items():
            what = type(values).__name__
            if isinstance(values, Tensor):
                what = f"{str(values.dtype).removeprefix('torch.')} of shape {list(values.shape)}"
                if values.ndim == 2 and len(values) == len(x) and values.is_floating_point():
                    continue
            raise UsageError(
                f"{self.name} returns {what} at tap '{tap}' for {len(x)} images: expected floats of shape "
                f"[{len(x)}, d]. Flatten or pool them in the callable."
            )
        for tap in taps:
            if tap not in features:
                raise UnknownName(f"tap of {self.name}", tap, features)
        return features


def _frozen(net: nn.Module, device: torch.device) -> nn.Module:
    try:
        copied = copy.deepcopy(net)
    except RuntimeError as error:
        raise UsageError(
            f"{type(net).__name__} cannot be copied ({error}): pass a function that calls it, after .eval()"
        ) from error
    return copied.to(device).eval().requires_grad_(False)
