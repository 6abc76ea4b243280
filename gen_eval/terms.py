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


def find_extractor(spec: Spec, protocol: Protocol) -> str | None:
    """What a protocol calls the network of some features; ``None`` where its tool has no such network."""
    return next((name for name in protocol.preprocessing if spec.name.startswith(name)), None)
