"""The autoencoders: what they say of pixels, and what shape their posterior has."""

from __future__ import annotations

from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.task import Model
from gen_eval.zoo.variational import Variational

AUTOENCODERS = (
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
