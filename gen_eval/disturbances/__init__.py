"""The classic ways to spoil images, each at a strength: what a measure is asked to see."""

from gen_eval.disturbances.sets import PARTS, Disturbance, Disturbed, Split, Subset, split
from gen_eval.disturbances.table import DISTURBANCES, find_disturbance

__all__ = [
    "DISTURBANCES",
    "PARTS",
    "Disturbance",
    "Disturbed",
    "Split",
    "Subset",
    "find_disturbance",
    "split",
]
