"""The table of models: each a row of data, whose recipe says how it is built and how long it trains.

Widths and steps are such that a model takes one or two minutes of one CPU core on 28 x 28 images.
"""

from __future__ import annotations

from typing import Any

from gen_eval.errors import UnknownName
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.autoregressive import Autoregressive
from gen_eval.zoo.autoregressive_flows import AutoregressiveFlow
from gen_eval.zoo.continuous import ContinuousFlow
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.denoising import Denoising
from gen_eval.zoo.energies import Energy
from gen_eval.zoo.flow_posteriors import FlowVariational
from gen_eval.zoo.models.autoencoders import AUTOENCODERS
from gen_eval.zoo.models.autoregressive import AUTOREGRESSIVE
from gen_eval.zoo.models.energies import ENERGIES
from gen_eval.zoo.models.flows import FLOWS
from gen_eval.zoo.models.gans import GANS
from gen_eval.zoo.models.scores import SCORES
from gen_eval.zoo.scores import ScoreMatching
from gen_eval.zoo.task import Model
from gen_eval.zoo.variational import Variational

# Recipes by family, to rebuild one from the header of a checkpoint.
RECIPES: dict[str, type[Any]] = {
    recipe.family: recipe
    for recipe in (
        Adversarial,
        Variational,
        FlowVariational,
        AdversarialVariational,
        CouplingFlow,
        AutoregressiveFlow,
        Autoregressive,
        ContinuousFlow,
        ScoreMatching,
        Denoising,
        Energy,
    )
}

MODELS: dict[str, Model] = {
    row.name: row for row in (*GANS, *AUTOENCODERS, *AUTOREGRESSIVE, *FLOWS, *SCORES, *ENERGIES)
}


def find_model(name: str) -> Model:
    """The row of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]
