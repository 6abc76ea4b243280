"""Models trained on a ring of eight Gaussians, where it is known which samples are good and of which class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from gen_eval.validation.check import Check, Known, at_least, at_most, near
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.data import open_data
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

_RING = Mixture.ring()
_N = 4000


def _on_ring(model: Model, steps: int) -> Sampler:
    return train(model, open_data(_RING, n=20_000), steps=steps, device="cpu").sampler()


# --- Modes. The rows of MODELS are made for images; these are the same games with networks for the plane.

_PLANE: dict[str, Any] = {
    **{"net": "mlp", "norm": "none", "latent": 8, "layers": 2, "batch": 256},
    **{"rate_generator": 1e-3, "rate_discriminator": 1e-3},
}
_CRITIC: dict[str, Any] = {"objective": "wasserstein", "critic_steps": 4, "betas": (0.0, 0.9)}
_GAMES: Mapping[str, tuple[Adversarial, int]] = {
    "saturating": (Adversarial(**_PLANE, objective="saturating", betas=(0.5, 0.99)), 2000),
    "non-saturating": (Adversarial(**_PLANE, betas=(0.5, 0.99)), 2000),
    "R1": (Adversarial(**_PLANE, r1=0.1, betas=(0.5, 0.99)), 2000),
    "gradient penalty": (Adversarial(**_PLANE, **_CRITIC, gradient_penalty=1.0), 1000),
    "clipping": (Adversarial(**_PLANE, **_CRITIC, clip=0.05), 1000),
}


def _modes() -> Sequence[float]:
    """Modes covered and share of high quality of all games but the last; what that falls short of the one before."""
    found = [
        _RING.modes_covered(_on_ring(Model(name, "", recipe, ""), steps).sample(_N, seed=0))
        for name, (recipe, steps) in _GAMES.items()
    ]
    numbers = [number for each in found[:-1] for number in (float(each.covered), each.high_quality)]
    return [*numbers, found[-1].high_quality - found[-2].high_quality]


def _modes_known() -> tuple[Known, ...]:
    games = list(_GAMES)[:-1]
    pairs = [(near(8.0, 0.0, f"modes, {game}"), at_least(0.75, f"high quality, {game}")) for game in games]
    return (*(known for pair in pairs for known in pair), at_most(0.0, "clipping less penalty"))


# --- Labels

_CONDITIONAL = [
    model
    for model in MODELS.values()
    # Domains of a coupled net are no classes, and attention needs pixels.
    if getattr(model.recipe, "conditional", False)
    and getattr(model.recipe, "net", "") != "coupled"
    and not getattr(model.recipe, "attention", False)
]


def _label_accuracy(model: Model) -> float:
    """The share of samples that Bayes' rule finds to be of the class asked for.

    Without batch normalisation in a discriminator: batches of fakes have statistics of their own, by which AC-GAN's
    classifier can settle with the labels of neighbouring modes exchanged.
    """
    recipe: Any = model.recipe
    if getattr(recipe, "discriminator_norm", "none") != "none":
        model = replace(model, recipe=replace(recipe, discriminator_norm="none"))
    sampler = _on_ring(model, 1500)
    labels = sampler.labels_of(torch.arange(_N))
    assert labels is not None  # it knows classes
    return float(torch.eq(_RING.classify(sampler.sample(_N, seed=0)).argmax(1), labels).double().mean())


PLANAR = (
    Check(
        "gans-on-a-ring",
        "Small GANs find all eight modes; a clipped critic's samples are worse than a penalised one's.",
        ("gan", "wgan", "wgan-gp", "ring8"),
        "standard",
        _modes_known(),
        _modes,
        "measured; Srivastava et al. 2017, arXiv:1705.07761, for the numbers",
    ),
    *(
        Check(
            f"labels-on-a-ring-{model.name}",
            "A conditional model makes the classes that it is asked for.",
            (model.name, "ring8"),
            "standard",
            (at_least(0.9, "label accuracy"),),
            lambda model=model: _label_accuracy(model),  # type: ignore[misc]
            "by Bayes' rule",
        )
        for model in _CONDITIONAL
    ),
)
