"""The terms of features beside those of a tool, in whose files and tables they may stand where none differs."""

from __future__ import annotations

from collections.abc import Mapping

from gen_eval.extractors.inception import NAME as INCEPTION
from gen_eval.extractors.network import NORMALIZATIONS
from gen_eval.protocols import Protocol
from gen_eval.spec import Spec

# Fingerprints of the weights that tools have, by network and tap.
WEIGHTS: Mapping[tuple[str, str], str] = dict.fromkeys(
    ((INCEPTION, "pool"), (INCEPTION, "spatial")), "26c97f1670bd222c"
)
# What protocols call the networks of features, by the name in their specs; but for VGG16, which no format that is
# written is of.
_EXTRACTORS: Mapping[str, str] = {
    INCEPTION: "inception",
    "dinov2": "dinov2",
    "clip": "clip",
    "pixels": "pixels",
}


def gaps(spec: Spec, tap: str, extractor: str, protocol: Protocol) -> dict[str, tuple[str, str]]:
    """Each term in which features are not those of a protocol's tool: what was found, and what it has.

    Args:
        spec: what produced the features.
        tap: of the network.
        extractor: what the protocol calls the network.
        protocol: the tool's.
    """
    settings = protocol.preprocessing.get(extractor, {})
    normalize = settings.get("normalize", spec.normalize)
    terms = {
        "resize": (spec.resize.kernel, settings.get("resize", spec.resize.kernel)),
        "pixels": (spec.normalize, str(NORMALIZATIONS.get(normalize, normalize))),
        "weights": (spec.weights, WEIGHTS.get((spec.name, tap), spec.weights)),
        "precision": (spec.precision, "fp32"),
    }
    return {term: (found, wanted) for term, (found, wanted) in terms.items() if found != wanted}


def extractor_of(spec: Spec, protocol: Protocol) -> str | None:
    """What a protocol calls the network of some features; ``None`` where its tool has no such network."""
    name = _EXTRACTORS.get(spec.name)
    return name if name in protocol.preprocessing else None
