"""Checks against known answers: of metrics, of worlds, of the parts of models, and of models that were trained.

A check is a row of :data:`CHECKS`: numbers that are known, a function that finds them, and how far they may be apart.
``geneval validate`` runs them, and so do the tests.

>>> outcome = run(CHECKS["kantorovich-rubinstein"])
>>> outcome.passed
True
"""

from __future__ import annotations

from gen_eval.validation.autoencoders import AUTOENCODERS
from gen_eval.validation.autoregressive import AUTOREGRESSIVE
from gen_eval.validation.check import TIERS, Check, Known, Outcome, at_least, at_most, near, run, select
from gen_eval.validation.closed_forms import CLOSED_FORMS
from gen_eval.validation.combinators import COMBINATORS
from gen_eval.validation.continuous_flows import CONTINUOUS_FLOWS
from gen_eval.validation.contract import contract
from gen_eval.validation.critics import CRITICS
from gen_eval.validation.densities import DENSITIES
from gen_eval.validation.discrete_flows import DISCRETE_FLOWS
from gen_eval.validation.distributions import DISTRIBUTIONS
from gen_eval.validation.energies import ENERGIES
from gen_eval.validation.images import IMAGES
from gen_eval.validation.ising import ISING
from gen_eval.validation.langevin import LANGEVIN
from gen_eval.validation.manifolds import MANIFOLDS
from gen_eval.validation.mechanisms import MECHANISMS
from gen_eval.validation.odes import ODES
from gen_eval.validation.planar import PLANAR
from gen_eval.validation.posteriors import POSTERIOR_FLOWS
from gen_eval.validation.score_models import SCORE_MODELS
from gen_eval.validation.shipped import SHIPPED_DIGITS
from gen_eval.zoo.models import MODELS

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        *CLOSED_FORMS,
        *MANIFOLDS,
        *DISTRIBUTIONS,
        *COMBINATORS,
        *DENSITIES,
        *MECHANISMS,
        *map(contract, MODELS.values()),
        *CRITICS,
        *AUTOENCODERS,
        *POSTERIOR_FLOWS,
        *AUTOREGRESSIVE,
        *DISCRETE_FLOWS,
        *ODES,
        *CONTINUOUS_FLOWS,
        *LANGEVIN,
        *SCORE_MODELS,
        *ENERGIES,
        *ISING,
        *PLANAR,
        *IMAGES,
        *SHIPPED_DIGITS,
    )
}

__all__ = [
    "CHECKS",
    "TIERS",
    "Check",
    "Known",
    "Outcome",
    "at_least",
    "at_most",
    "contract",
    "near",
    "run",
    "select",
]
