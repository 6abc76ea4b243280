"""Recipes of numbers that make no sense are refused when they are made."""

from __future__ import annotations

import math

import pytest

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.autoencoder import Autoencoder
from gen_eval.zoo.variational import Variational

NONE = {"latent": 0, "width": 0, "layers": -1}
BROKEN = [
    (kind, name, value)
    for kind, fields in {
        Architecture: {
            **NONE,
            "embedding": 0,
            "mapping_layers": 0,
            "mapping_rate": math.inf,
            "mixing": math.nan,
        },
        Autoencoder: {**NONE, "batch": 0, "steps": -1},
        Variational: {"draws": 0, "latent": 2.5},
    }.items()
    for name, value in fields.items()
]
BROKEN += [(Architecture, "gain", value) for value in (0.0, -1.0, math.inf, math.nan)]
BROKEN += [(Autoencoder, "rate", value) for value in (0.0, -1.0, math.inf, math.nan)]
BROKEN += [(Architecture, "width", math.inf), (Architecture, "layers", 0)]


@pytest.mark.parametrize(("kind", "name", "value"), BROKEN)
def test_numbers_that_make_no_sense_are_refused_by_name(kind, name, value):
    with pytest.raises(UsageError, match=f"{name.replace('_layers', ' layer')}.* found"):
        kind(**{name: value})


def test_the_least_that_makes_sense_is_taken():
    Architecture(latent=1, width=1, layers=1, embedding=1, mapping_layers=1, gain=1e-9, mixing=0.0)
    Autoencoder(latent=1, width=2, layers=0, batch=1, steps=1, rate=1e-9)
