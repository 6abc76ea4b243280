"""The table of models: each a row of data, an architecture, an objective and penalties, and how long they train.

Widths and steps are such that a model takes one or two minutes of one CPU core on 28 x 28 images.
"""

from __future__ import annotations

from typing import Any

from gen_eval.errors import UnknownName
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.task import Model
from gen_eval.zoo.variational import Variational

# Recipes by family, to rebuild one from the header of a checkpoint.
RECIPES: dict[str, type[Any]] = {
    recipe.family: recipe for recipe in (Adversarial, Variational, AdversarialVariational)
}

MODELS: dict[str, Model] = {
    row.name: row
    for row in (
        Model(
            "gan",
            "the first GAN, fully connected, non-saturating loss",
            Adversarial(net="mlp", width=128),
            "Goodfellow et al. 2014, arXiv:1406.2661",
        ),
        Model(
            "sngan",
            "spectral normalisation in the discriminator, hinge loss",
            Adversarial(spectral="discriminator", objective="hinge"),
            "Miyato et al. 2018, arXiv:1802.05957",
        ),
        Model(
            "progan",
            "grows from 7 to 28 pixels, fading in; equalised learning rate",
            Adversarial(
                net="progressive",
                norm="none",
                r1=0.5,
                r1_every=16,
                rate_generator=3e-3,
                rate_discriminator=3e-3,
                betas=(0.0, 0.99),
                batch=32,
                stage_steps=250,
                steps=2000,
            ),
            "Karras et al. 2018, arXiv:1710.10196",
        ),
        Model(
            "stylegan",
            "a mapping to styles, modulation, noise, mixing; truncation in w",
            Adversarial(
                net="style",
                norm="none",
                r1=0.1,
                r1_every=16,
                mixing=0.5,
                rate_generator=4e-3,
                rate_discriminator=4e-3,
                betas=(0.0, 0.99),
                batch=32,
                steps=2500,
                truncation="w",
            ),
            "Karras et al. 2019, arXiv:1812.04948",
        ),
        Model(
            "vae",
            "variational autoencoder; cross-entropy of grey levels, so no likelihood of images",
            Variational(pixels="bernoulli", steps=2500),
            "Kingma and Welling 2014, arXiv:1312.6114",
        ),
        Model(
            "cvae",
            "variational autoencoder told the class",
            Variational(pixels="bernoulli", conditional=True, latent=8, steps=2500),
            "Sohn, Lee and Yan 2015, NeurIPS 28",
        ),
        Model(
            "vae-density",
            "variational autoencoder with a likelihood of pixels; its samples are worse for it",
            Variational(steps=2500),
            "Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845",
        ),
        Model(
            "avb",
            "adversarial variational Bayes: an implicit posterior by the density-ratio trick",
            AdversarialVariational(pixels="bernoulli", steps=1500),
            "Mescheder, Nowozin and Geiger 2017, arXiv:1701.04722",
        ),
    )
}


def find_model(name: str) -> Model:
    """The row of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]
