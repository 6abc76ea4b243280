"""Named protocols: the settings under which a number equals that of another tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gen_eval.errors import UnknownName


@dataclass(frozen=True)
class Protocol:
    """One row of :data:`PROTOCOLS`.

    Args:
        name: what users call it.
        meaning: one line for people.
        preprocessing: by extractor, how images reach it: its ``resize`` kernel, and ``normalize``, the map of
            pixels in [0, 255]. Extractors that are not named keep their own.
        params: metric parameters that differ from the metrics' own defaults. A name means the same in every
            metric that has it; ``"METRIC.NAME"`` sets that of one metric alone.
    """

    name: str
    meaning: str
    preprocessing: Mapping[str, Mapping[str, str]]
    params: Mapping[str, Any] = field(default_factory=dict)

    def with_params(self, params: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Protocol:
        """The same with metric parameters of the caller's.

        Args:
            params: names and values.
            known: by metric, the parameters and defaults of those that are to take them.

        Raises:
            UnknownName: if no metric has a parameter of that name.
        """
        names = {name for defaults in known.values() for name in defaults}
        names |= {f"{metric}.{name}" for metric, defaults in known.items() for name in defaults}
        for name in params:
            if name not in names:
                raise UnknownName("parameter", name, names)
        # What the caller sets for all metrics goes before what the protocol sets for one.
        kept = {key: value for key, value in self.params.items() if key.split(".")[-1] not in params}
        return replace(self, params={**kept, **params})

    def params_for(self, metric: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """A metric's parameters under this protocol."""
        return {
            name: self.params.get(f"{metric}.{name}", self.params.get(name, default))
            for name, default in defaults.items()
        }


DEFAULT_PROTOCOL = "torch-fidelity"


def _inception(resize: str, normalize: str) -> dict[str, dict[str, str]]:
    # Pixels go along, so that a dry run without the network has the protocol's resize.
    return {"inception": {"resize": resize, "normalize": normalize}, "pixels": {"resize": resize}}


_TENSORFLOW = _inception("tf1-bilinear", "(x-128)/128")
_PYTORCH_FID = _inception("torch-bilinear", "x/127.5-1")
_TORCHMETRICS = _inception("torch-bilinear-antialias", "(x-128)/128")
_CLEAN = _inception("pil-bicubic", "(x-128)/128")

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "torch-fidelity",
            "torch-fidelity 0.4: the original TensorFlow graph, its resize included",
            _TENSORFLOW,
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "pytorch-fid",
            "pytorch-fid 0.3: half-pixel bilinear resize without antialiasing",
            _PYTORCH_FID,
            {"ddof": 1, "mean_dtype": "float64"},
        ),
        Protocol(
            "clean-fid",
            "clean-fid 0.1 mode='clean': antialiased bicubic resize of float channels",
            _CLEAN,
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "clean-fid-legacy-pytorch",
            "clean-fid 0.1 mode='legacy_pytorch': pytorch-fid's resize",
            _PYTORCH_FID,
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "clean-fid-legacy-tensorflow",
            "clean-fid 0.1 mode='legacy_tensorflow': the original TensorFlow resize",
            _TENSORFLOW,
            {"ddof": 1, "mean_dtype": "float32"},
        ),
        Protocol(
            "torchmetrics",
            "torchmetrics 1.9: antialiased bilinear resize",
            _TORCHMETRICS,
            {"ddof": 1, "mean_dtype": "float64"},
        ),
        Protocol(
            "adm",
            "guided-diffusion's evaluator, as its source reads: splits of 5,000, distances rounded to float16",
            _TENSORFLOW,
            {
                "ddof": 1,
                "mean_dtype": "float32",
                "shuffle": False,
                "split_size": 5000,
                "precision-recall.feature_dtype": "float16-squared",
            },
        ),
        Protocol(
            "stylegan3",
            "stylegan3's metrics, as its source reads: ddof 0, no shuffle, features rounded to float16",
            _TENSORFLOW,
            {
                "ddof": 0,
                "mean_dtype": "float64",
                "shuffle": False,
                "precision-recall.feature_dtype": "float16",
            },
        ),
        Protocol(
            "prdc",
            "prdc 0.2: k = 5 and open balls, of torch-fidelity's Inception features",
            _TENSORFLOW,
            {"mean_dtype": "float32", "k": 5, "inclusive": False},
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
