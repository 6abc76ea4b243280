"""The energy-based models."""

from __future__ import annotations

from gen_eval.zoo.energies import Energy
from gen_eval.zoo.task import Model

ENERGIES = (
    Model(
        "ebm",
        "an unnormalised density by persistent contrastive divergence, sampled by Langevin dynamics",
        Energy(),
        "Du and Mordatch 2019, arXiv:1903.08689",
    ),
    Model(
        "ebm-cd",
        "the same, of vectors, by contrastive divergence: chains of training start at the data",
        Energy(starts="data", sampling_steps=200, width=128, rate=1e-3, batch=256, steps=1200),
        "Hinton 2002, Neural Computation 14:1771",
    ),
)
