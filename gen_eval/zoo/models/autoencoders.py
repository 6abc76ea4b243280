"""The autoencoders: what they say of pixels, and what shape their posterior has."""

from __future__ import annotations

from gen_eval.zoo.adversarial_variational import AdversarialVariational
from gen_eval.zoo.flow_posteriors import FlowVariational
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
        "vae-binary",
        "variational autoencoder of binary images, the one that those with a flow for a posterior are measured against",
        Variational(pixels="binary", draws=1, steps=2500),
        "Kingma and Welling 2014, arXiv:1312.6114",
    ),
    Model(
        "vae-iaf",
        "the same, its posterior improved by inverse autoregressive steps",
        FlowVariational(posterior="iaf", pixels="binary", draws=1, steps=2500),
        "Kingma et al. 2016, arXiv:1606.04934",
    ),
    Model(
        "vae-sylvester",
        "the same, its posterior improved by Sylvester steps in axes that x turns",
        FlowVariational(posterior="sylvester", pixels="binary", draws=1, steps=2500),
        "van den Berg et al. 2018, arXiv:1803.05649",
    ),
    Model(
        "vae-cnf",
        "the same, its posterior improved by a continuous flow that x tells",
        FlowVariational(posterior="cnf", depth=2, pixels="binary", draws=1, steps=2500),
        "Grathwohl et al. 2019, arXiv:1810.01367",
    ),
    Model(
        "avb",
        "adversarial variational Bayes: an implicit posterior by the density-ratio trick",
        AdversarialVariational(pixels="bernoulli", steps=1500),
        "Mescheder, Nowozin and Geiger 2017, arXiv:1701.04722",
    ),
)
