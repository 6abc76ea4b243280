"""Named protocols: the settings under which a number equals that of another tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gen_eval.errors import UnknownName


@dataclass(frozen=True)
class Protocol:
    """One row of :data:`PROTOCOLS`.

    Args:
        name: what users call it.
        resize: kernel that brings images to the network's input size.
        normalize: map of pixels in [0, 255] before the network.
        params: metric parameters that differ from the metric's own defaults, where the metric has them.
        meaning: one line for people.
    """

    name: str
    resize: str
    normalize: str
    meaning: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def with_params(self, params: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> Protocol:
        """The same with metric parameters of the caller's.

        Args:
            params: names and values.
            known: the parameters of the metrics that are to take them.

        Raises:
            UnknownName: if no metric has a parameter of that name.
        """
        names = {name for defaults in known for name in defaults}
        for name in params:
            if name not in names:
                raise UnknownName("parameter", name, names)
        return replace(self, params={**self.params, **params})

    def params_for(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """A metric's parameters under this protocol."""
        return {**defaults, **{name: value for name, value in self.params.items() if name in defaults}}


DEFAULT_PROTOCOL = "torch-fidelity"

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "torch-fidelity",
            "tf1-bilinear",
            "(x-128)/128",
            "torch-fidelity 0.4: the original TensorFlow graph, its resize included",
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "pytorch-fid",
            "torch-bilinear",
            "x/127.5-1",
            "pytorch-fid 0.3: half-pixel bilinear resize without antialiasing",
            {"ddof": 1, "mean_dtype": "float64"},
        ),
        Protocol(
            "clean-fid",
            "pil-bicubic",
            "(x-128)/128",
            "clean-fid 0.1 mode='clean': antialiased bicubic resize of float channels",
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "clean-fid-legacy-pytorch",
            "torch-bilinear",
            "x/127.5-1",
            "clean-fid 0.1 mode='legacy_pytorch': pytorch-fid's resize",
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "clean-fid-legacy-tensorflow",
            "tf1-bilinear",
            "(x-128)/128",
            "clean-fid 0.1 mode='legacy_tensorflow': the original TensorFlow resize",
            {"ddof": 1, "mean_dtype": "float32"},
        ),
    )
}


def find_protocol(name: str | Protocol) -> Protocol:
    """The protocol of a name; a :class:`Protocol` is returned as it is.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
    """
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
