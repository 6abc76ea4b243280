"""Adversarial variational Bayes: an encoder that is any function of x and noise, and whose density nobody can tell.

Mescheder, Nowozin and Geiger 2017, arXiv:1701.04722. A discriminator T(x, z) learns to tell pairs of x and z from
q(z | x), its label 1, from pairs with z from the prior. At its best T = log q(z | x) - log p(z), which stands in for
the two densities in the ELBO: E_q [log p(x | z) - T(x, z)] (their section 3). So it is -T that is the log of the ratio
p(z) / q(z | x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gen_eval.zoo.nets.autoencoder import Autoencoder, Decoder, Reader
from gen_eval.zoo.numbers import require_positive
from gen_eval.zoo.observations import observed, standard_normal
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind, Player, Task
from gen_eval.zoo.trained import RESAMPLED, Trained
from gen_eval.zoo.variational import DECODER, ENCODER, autoencoding_player

DISCRIMINATOR = "discriminator"


def discriminator_loss(on_posterior: Tensor, on_prior: Tensor) -> Tensor:
    """The log loss of T as the logit that z is from q(z | x): -E_q log σ(T) - E_p log(1 - σ(T)); of ``[b]`` each."""
    return softplus(-on_posterior).mean() + softplus(on_prior).mean()


def adversarial_elbo(log_likelihood: Tensor, on_posterior: Tensor) -> Tensor:
    """What stands for the ELBO, ``[b]`` in nats: a bound only as far as T is the log-ratio, which it never is."""
    return log_likelihood - on_posterior


@dataclass(frozen=True)
class AdversarialVariational(Autoencoder):
    """An autoencoder with an implicit posterior. It has no ``log_prob``: what T estimates is not a bound.

    Args:
        noise: standard normal numbers that the encoder is given besides x.
        turns: updates of the discriminator in a step.
        discriminator_rate: its learning rate.
    """

    family: ClassVar[str] = "adversarial-variational"
    noise: int = 16
    turns: int = 1
    discriminator_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "discriminator_rate")
        self._require("noise", 1)
        self._require("turns", 1)

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        return Trained(name, kind, modules[DECODER], scaling, truncation=RESAMPLED)


class _Task:
    """Encoder and decoder against the discriminator; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (DECODER,)

    def __init__(self, recipe: AdversarialVariational, kind: Kind) -> None:
        self._kind, self._noise = kind, recipe.noise
        self._decoder = Decoder(kind, 0, recipe)
        self._encoder = Reader(kind, recipe.noise, recipe.latent, recipe)
        self._discriminator = Reader(kind, recipe.latent, 1, recipe)
        self.modules = nn.ModuleDict(
            {ENCODER: self._encoder, DECODER: self._decoder, DISCRIMINATOR: self._discriminator}
        )
        self.players: Sequence[Player] = (
            Player(
                *(DISCRIMINATOR, self._discrimination, (DISCRIMINATOR,), recipe.discriminator_rate),
                betas=(0.5, 0.999),
                turns=recipe.turns,
            ),
            autoencoding_player(self._decoder, self._reconstruction, recipe),
        )

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _discrimination(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        x = self._observed(batch, source)
        with torch.no_grad():
            z = self._encoded(x, source)
        loss = discriminator_loss(self._judged(x, z), self._judged(x, standard_normal(z, source)))
        return loss, {}

    def _reconstruction(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        x = self._observed(batch, source)
        z = self._encoded(x, source)
        bound = adversarial_elbo(self._decoder.log_prob(x, z), self._judged(x, z)).mean()
        return -bound, {"estimated elbo": float(bound.detach())}

    def _observed(self, batch: Batch, source: torch.Generator) -> Tensor:
        return observed(batch.x, self._kind, source, binary=self._decoder.likelihood.binary)

    def _encoded(self, x: Tensor, source: torch.Generator) -> Tensor:
        """A draw from q(z | x), ``[b, latent]``."""
        noise = torch.randn((len(x), self._noise), generator=source).to(x)
        z: Tensor = self._encoder(x, noise)
        return z

    def _judged(self, x: Tensor, z: Tensor) -> Tensor:
        logits: Tensor = self._discriminator(x, z)
        return logits[:, 0]
