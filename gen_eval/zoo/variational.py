"""Variational autoencoders, plain and conditional, and the bounds of their likelihood.

Kingma and Welling 2014, arXiv:1312.6114; Sohn, Lee and Yan 2015 (conditional); Burda, Grosse and Salakhutdinov 2016,
arXiv:1509.00519 (importance-weighted bound).

Where a flow moves draws of the encoder's Gaussian, z_0 to z, log q(z | x) is log q_0(z_0 | x) - log |det dz/dz_0|, and
nothing else changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.metrics.likelihood import log_mean_exp
from gen_eval.precision import full_precision
from gen_eval.zoo.nets.autoencoder import Autoencoder, Decoder, Encoder
from gen_eval.zoo.observations import (
    TrainedDensity,
    normal_of_content,
    observed,
    standard_normal,
    to_probe,
)
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind, Loss, Player, Task
from gen_eval.zoo.trained import RESAMPLED, Trained

ENCODER, DECODER = "encoder", "decoder"
# The one standard deviation of a Gaussian likelihood has far to go, and no other parameter waits for it.
_RATE_OF_SD = 10.0
_AT_ONCE = 1024  # observations decoded together, to bound memory


def log_normal(z: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """The log-density of independent Gaussians, ``[b, d]`` each, to ``[b]`` in nats."""
    standard = (z - mean) * torch.exp(-log_sd)
    return (-standard.square() / 2 - log_sd - math.log(2 * math.pi) / 2).sum(1)


def kl_to_prior(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd²) || N(0, 1)), ``[b, d]`` each, to ``[b]`` in nats; Kingma and Welling, appendix B."""
    return ((2 * log_sd).exp() + mean.square() - 1 - 2 * log_sd).sum(1) / 2


def elbo(log_likelihood: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """The evidence lower bound E_q log p(x | z) - KL(q(z | x) || p(z)), ``[b]`` in nats.

    Args:
        log_likelihood: ``[b]``, log p(x | z) of a z drawn from q, or its mean over several.
        mean: of q(z | x), ``[b, d]``.
        log_sd: of q(z | x), ``[b, d]``.
    """
    return log_likelihood - kl_to_prior(mean, log_sd)


def gain_of_flow(start: Tensor, z: Tensor, log_det: Tensor) -> Tensor:
    """What a flow from ``start`` to z, ``[b, d]`` each, adds to log p(z) - log q(z | x), ``[b]``; 0 of the identity.

    The rest is what the Gaussian of the start has, so that the ELBO keeps its KL in closed form.
    """
    origin = torch.zeros_like(z)
    return log_normal(z, origin, origin) - log_normal(start, origin, origin) + log_det


def log_weight(
    decoder: Decoder, log_posterior: Tensor, x: Tensor, z: Tensor, labels: Tensor | None = None
) -> Tensor:
    """log p(x | z) + log p(z) - log q(z | x), ``[b]``: its mean over q is the ELBO, that of its exponential p(x)."""
    origin = torch.zeros_like(z)
    return decoder.log_prob(x, z, labels) + log_normal(z, origin, origin) - log_posterior


@dataclass(frozen=True)
class Variational(Autoencoder):
    """A variational autoencoder, conditional or not: ELBO by one draw of z, its KL in closed form.

    Args:
        conditional: whether both networks are told the class; the data must have labels. Else labels are not used.
        draws: the K of the bound that ``log_prob`` is; 1 is the ELBO.
    """

    family: ClassVar[str] = "variational"
    conditional: bool = False
    draws: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("draws", 1)

    def encoder(self, kind: Kind, classes: int) -> Encoder:
        """A fresh q(z | x), of so many classes; weights are drawn from torch's global state."""
        return Encoder(kind, classes, self)

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`."""
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; a :class:`LatentDensity`, if the likelihood is a density."""
        decoder: Decoder = modules[DECODER]  # type: ignore[assignment]
        classes = kind.classes if self.conditional else ()
        if not decoder.likelihood.density:
            return Trained(name, kind, decoder, scaling, classes=classes, truncation=RESAMPLED)
        return LatentDensity(name, kind, modules, scaling, classes=classes, draws=self.draws)


class _Task:
    """Encoder and decoder, which one player moves; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (ENCODER, DECODER)

    def __init__(self, recipe: Variational, kind: Kind) -> None:
        if recipe.conditional and not kind.classes:
            raise UsageError("a conditional autoencoder learns from labelled data; this has no classes")
        classes = len(kind.classes) if recipe.conditional else 0
        self._kind = kind
        self._encoder = recipe.encoder(kind, classes)
        self._decoder = Decoder(kind, classes, recipe)
        self.modules = nn.ModuleDict({ENCODER: self._encoder, DECODER: self._decoder})
        self.players: Sequence[Player] = (autoencoding_player(self._decoder, self._loss, recipe),)

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        x = observed(batch.x, self._kind, source, binary=self._decoder.likelihood.binary)
        mean, log_sd, context = self._encoder.told(x, batch.labels)
        z, gain = mean + log_sd.exp() * standard_normal(mean, source), None
        if self._encoder.flow is not None:
            probe = to_probe(standard_normal(z, source), "rademacher") if self._encoder.flow.probed else None
            start, (z, log_det) = z, self._encoder.flow(z, context, probe)
            gain = gain_of_flow(start, z, log_det)
        bounds = elbo(self._decoder.log_prob(x, z, batch.labels), mean, log_sd)
        bound = (bounds if gain is None else bounds + gain).mean()
        return -bound, {"elbo": float(bound.detach())}


def autoencoding_player(decoder: Decoder, loss: Loss, recipe: Autoencoder) -> Player:
    """Who moves an encoder and a decoder."""
    learnt = [f"{DECODER}.likelihood.{name}" for name, _ in decoder.likelihood.named_parameters()]
    rates = dict.fromkeys(learnt, _RATE_OF_SD)
    return Player("autoencoder", loss, (ENCODER, DECODER), recipe.rate, (0.9, 0.999), rates=rates)


class LatentDensity(TrainedDensity):
    """Samples of a decoder, and a lower bound of its likelihood through the encoder.

    The bound is importance-weighted (Burda et al. 2016): the log of the mean of K weights p(x, z) / q(z | x). The
    noise that makes z is drawn by a hash of x itself, so the number of an image depends on the image alone, beyond
    rounding, and not on those beside it nor on its place among them.

    Args:
        name: what to call it.
        kind: what samples are.
        modules: encoder and decoder, in evaluation mode.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``.
        classes: what labels mean to the networks; empty if they take none.
        draws: K, of each class where labels are not given; may be set later.
    """

    bound = "lower"

    def __init__(
        self,
        name: str,
        kind: Kind,
        modules: nn.ModuleDict,
        scaling: Mapping[str, Tensor],
        *,
        classes: tuple[str, ...] = (),
        draws: int = 1,
    ) -> None:
        super().__init__(name, kind, modules[DECODER], scaling, classes=classes, truncation=RESAMPLED)
        self._encoder: Encoder = modules[ENCODER]  # type: ignore[assignment]
        self._decoder: Decoder = modules[DECODER]  # type: ignore[assignment]
        self.draws = draws
        if self._decoder.likelihood.binary:
            self.dequantization = "binary"

    def log_prob(self, x: Tensor, labels: Tensor | int | None = None) -> Tensor:
        """A lower bound of log p(x), or of log p(x | label), in expectation.

        Without labels a conditional model is the even mixture over its classes, as it is where each seed draws its
        own label: all classes' weights are averaged, ``draws`` of each.

        Args:
            x: pixels in [0, 1], ``[b, channels, height, width]``, with noise between their levels, or zeros and ones
                where the likelihood is of those; or vectors ``[b, d]``, not standardised.
            labels: the class of each, ``[b]``, or one for all.

        Returns:
            ``[b]`` float64, in nats, on the device of x.

        Raises:
            UsageError: if x is of another shape, leaves [0, 1] or is not binary where it has to be, or labels make no
                sense.
        """
        if labels is not None or not self.classes:
            return log_mean_exp(self.log_weights(x, self.draws, labels))
        of_classes = [self.log_weights(x, self.draws, label) for label in range(len(self.classes))]
        return log_mean_exp(torch.cat(of_classes, 1))

    def log_weights(self, x: Tensor, draws: int, labels: Tensor | int | None = None) -> Tensor:
        """The log-weights that the bound is made of, ``[b, draws]`` float64; the first do not depend on how many.

        Arguments and errors are those of :meth:`log_prob`; a conditional model needs labels.
        """
        if draws < 1:
            raise UsageError(f"a bound takes 1 draw or more, found {draws}")
        chosen = None if labels is None else self._labels(labels, len(x)).to(self._device)
        with torch.no_grad(), full_precision(self._device.type):
            observations, log_volume = self._observations(x)
            posterior = self._encoder.told(observations, chosen)
            size = self._decoder.latent_dim
            noise = normal_of_content(x, draws * size).view(len(x), draws, size).to(posterior[0])
            found = [
                self._weights(observations, posterior, chosen, part)
                for part in torch.split(noise, max(1, _AT_ONCE // max(1, len(x))), 1)
            ]
            return (torch.cat(found, 1).double() - log_volume).to(x.device)

    def _weights(
        self, x: Tensor, posterior: tuple[Tensor, Tensor, Tensor], labels: Tensor | None, noise: Tensor
    ) -> Tensor:
        """Log-weights ``[b, k]`` of the latents that ``noise`` ``[b, k, latent]`` makes."""
        k = noise.shape[1]
        x, mean, log_sd, context = (each.repeat_interleave(k, 0) for each in (x, *posterior))
        labels = None if labels is None else labels.repeat_interleave(k)
        z = mean + log_sd.exp() * noise.flatten(0, 1)
        log_posterior = log_normal(z, mean, log_sd)
        if self._encoder.flow is not None:
            z, log_det = self._encoder.flow(z, context)
            log_posterior = log_posterior - log_det
        return log_weight(self._decoder, log_posterior, x, z, labels).view(-1, k)
