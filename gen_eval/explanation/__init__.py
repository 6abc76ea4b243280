"""What a result means in words: its values, its terms, and the published numbers that it may be set beside."""

from __future__ import annotations

from gen_eval.explanation.explaining import Explanation, Gap, Number, Placement, explain, place
from gen_eval.explanation.meanings import MEANINGS
from gen_eval.explanation.practices import PRACTICES, Practice

__all__ = [
    "MEANINGS",
    "PRACTICES",
    "Explanation",
    "Gap",
    "Number",
    "Placement",
    "Practice",
    "explain",
    "place",
]
