"""The GANs: each a row of data, an architecture, an objective and penalties, and how long they train."""

from __future__ import annotations

from typing import Any

from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.task import Model

# What spectral normalisation trains with in a minute: a critic of slope 4 at most, and high rates.
_SPECTRAL: dict[str, Any] = {
    "spectral": "discriminator",
    "gain": 4.0,
    "rate_generator": 1e-3,
    "rate_discriminator": 1e-3,
    "betas": (0.0, 0.99),
}

GANS = (
    Model(
        "gan",
        "the first GAN: fully connected, non-saturating loss",
        Adversarial(
            net="mlp",
            width=128,
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.5, 0.99),
            steps=5000,
        ),
        "Goodfellow et al. 2014, arXiv:1406.2661",
    ),
    Model(
        "gan-saturating",
        "the same, with the loss of the minimax game",
        Adversarial(
            net="mlp",
            width=128,
            objective="saturating",
            rate_generator=5e-4,
            rate_discriminator=5e-4,
            betas=(0.5, 0.99),
            steps=5000,
        ),
        "Goodfellow et al. 2014, arXiv:1406.2661",
    ),
    Model(
        "dcgan",
        "convolutions and batch normalisation",
        Adversarial(
            discriminator_norm="batch",
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.5, 0.99),
            steps=1500,
        ),
        "Radford et al. 2016, arXiv:1511.06434",
    ),
    Model(
        "cogan",
        "two domains, images and their negatives, learnt without pairs",
        Adversarial(
            net="coupled",
            discriminator_norm="batch",
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.5, 0.99),
            steps=1200,
        ),
        "Liu and Tuzel 2016, arXiv:1606.07536",
    ),
    Model(
        "wgan",
        "Wasserstein distance by a critic of clipped weights",
        Adversarial(
            objective="wasserstein",
            clip=0.02,
            critic_steps=3,
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.0, 0.9),
            steps=800,
        ),
        "Arjovsky et al. 2017, arXiv:1701.07875",
    ),
    Model(
        "wgan-gp",
        "Wasserstein distance by a critic with a penalty on its slopes",
        Adversarial(
            objective="wasserstein",
            gradient_penalty=10.0,
            critic_steps=3,
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.0, 0.9),
            steps=600,
        ),
        "Gulrajani et al. 2017, arXiv:1704.00028",
    ),
    Model(
        "sngan",
        "spectral normalisation of the discriminator, hinge loss",
        Adversarial(objective="hinge", **_SPECTRAL, steps=1500),
        "Miyato et al. 2018, arXiv:1802.05957",
    ),
    *(
        Model(
            f"f-gan-{name}",
            f"f-GAN of {divergence}",
            Adversarial(objective=objective, **_SPECTRAL | {"gain": 2.0}, steps=1000),
            "Nowozin et al. 2016, arXiv:1606.00709",
        )
        for name, divergence, objective in (
            ("kl", "the KL divergence", "f-gan:kl"),
            ("reverse-kl", "the reverse KL divergence, the minimax game", "f-gan-minimax:reverse-kl"),
            ("pearson", "Pearson's chi-squared divergence", "f-gan:pearson"),
            ("hellinger", "the squared Hellinger distance", "f-gan:squared-hellinger"),
            ("tv", "total variation", "f-gan:total-variation"),
            ("js", "the Jensen-Shannon divergence", "f-gan:js"),
        )
    ),
    Model(
        "ac-gan",
        "classes, by an auxiliary classifier",
        Adversarial(
            head="auxiliary",
            auxiliary=0.2,
            discriminator_norm="batch",
            rate_generator=1e-3,
            rate_discriminator=1e-3,
            betas=(0.5, 0.99),
            steps=1500,
        ),
        "Odena et al. 2017, arXiv:1610.09585",
    ),
    Model(
        "sngan-projection",
        "classes, by a discriminator that projects on them and conditional batch normalisation",
        Adversarial(head="projection", norm="conditional", objective="hinge", **_SPECTRAL, steps=1200),
        "Miyato and Koyama 2018, arXiv:1802.05637",
    ),
    Model(
        "sagan",
        "self-attention, spectral normalisation of both networks, two learning rates",
        Adversarial(
            attention=True,
            objective="hinge",
            **_SPECTRAL | {"spectral": "both", "rate_discriminator": 2e-3},
            steps=800,
        ),
        "Zhang et al. 2019, arXiv:1805.08318",
    ),
    Model(
        "biggan",
        "classes by a shared embedding, skip-z, attention, orthogonal regularisation, truncation",
        Adversarial(
            head="projection",
            norm="conditional",
            attention=True,
            shared_embedding=True,
            skip_z=True,
            objective="hinge",
            orthogonal=1e-4,
            **_SPECTRAL | {"spectral": "both"},
            steps=800,
        ),
        "Brock et al. 2019, arXiv:1809.11096",
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
)
