"""The networks of the autoencoders: what reads an observation, and what a latent is decoded by.

Observations are pixels in [0, 1] or standardised vectors, as :mod:`gen_eval.zoo.likelihoods` takes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.likelihoods import find_likelihood
from gen_eval.zoo.nets.posteriors import PosteriorFlow
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import to_batch
from gen_eval.zoo.task import Kind

_NARROW = 16  # channels of the code between convolutions and the layers without places


@dataclass(frozen=True)
class Autoencoder:
    """What the networks of an autoencoder are made of, and how they are trained.

    Args:
        latent: components of the latent z, standard normal.
        width: channels of the convolutions at a quarter of the side, or units of hidden layers on vectors.
        layers: hidden layers on vectors; 0 makes both networks linear. Images take convolutions.
        pixels: p(x | z) of images, a row of :data:`~gen_eval.zoo.likelihoods.LIKELIHOODS`; vectors take the Gaussian.
        output: what a sample is: ``"mean"`` of p(x | z) or ``"draw"`` from it; by default the mean of images, which
            is what the field shows, and a draw of vectors, which follow the density that ``log_prob`` tells.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UnknownName: if there is no such likelihood.
        UsageError: if an argument makes no sense.
    """

    latent: int = 16
    width: int = 64
    layers: int = 2
    pixels: str = "continuous-bernoulli"
    output: str | None = None
    rate: float = 1e-3
    batch: int = 64
    steps: int = 2000

    def __post_init__(self) -> None:
        find_likelihood(self.pixels)
        if self.output not in (None, "mean", "draw"):
            raise UsageError(f"a sample is the 'mean' of p(x | z) or a 'draw', found output={self.output!r}")
        require_whole(self, latent=1, width=2, layers=0, batch=1, steps=1)
        require_positive(self, "rate")

    def _require(self, name: str, least: int) -> None:
        require_whole(self, **{name: least})


class Reader(nn.Module):
    """From an observation and further numbers to as many as are asked for: an encoder, or a discriminator of pairs.

    Args:
        kind: of the observations.
        beside: further numbers of each observation: noise, a latent, a class; 0 for none.
        outputs: numbers that it gives.
        made_of: width and layers.
    """

    def __init__(self, kind: Kind, beside: int, outputs: int, made_of: Autoencoder) -> None:
        super().__init__()
        width, layers = made_of.width, made_of.layers
        self.trunk: nn.Module = nn.Identity()
        features = math.prod(kind.shape)
        if kind.images:
            channels, height, across = kind.shape
            self.trunk = nn.Sequential(
                nn.Conv2d(channels, width // 2, 4, 2, 1),
                nn.SiLU(),
                nn.Conv2d(width // 2, width, 4, 2, 1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, 1, 1),
                nn.SiLU(),
                nn.Conv2d(width, _NARROW, 1),
                nn.SiLU(),
                nn.Flatten(),
            )
            features, width, layers = _NARROW * height * across // 16, 2 * width, 1
        self.head = mlp(features + beside, width, layers, outputs)
        self._images = kind.images

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """``[b, *shape]``, and rows ``[b, k]`` that together hold ``beside`` numbers, to ``[b, outputs]``."""
        features = self.trunk(2 * x - 1 if self._images else x)
        found: Tensor = self.head(torch.cat([features, *beside], 1))
        return found


class Encoder(Reader):
    """q(z | x), and q(z | x, label) where it knows classes: independent Gaussians, which a flow may improve.

    Args:
        kind: of the observations.
        classes: how many it is told of; 0 for none.
        made_of: all else.
        flow: what moves draws of the Gaussians; by default nothing does.
        context: numbers that tell the flow of x.
    """

    def __init__(
        self,
        kind: Kind,
        classes: int,
        made_of: Autoencoder,
        flow: PosteriorFlow | None = None,
        context: int = 0,
    ) -> None:
        super().__init__(kind, classes, 2 * made_of.latent + context, made_of)
        self.classes, self.flow = classes, flow
        self._sizes = (made_of.latent, made_of.latent, context)

    def posterior(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation, ``[b, latent]`` each, of observations ``[b, *shape]``."""
        mean, log_sd, _ = self.told(x, labels)
        return mean, log_sd

    def told(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The same, before a flow, and the context of the flow, ``[b, context]``."""
        mean, log_sd, context = self(x, *one_hot(labels, self.classes, x)).split(self._sizes, 1)
        return mean, log_sd, nn.functional.silu(context)


class Decoder(nn.Module):
    """p(x | z), and p(x | z, label) where it knows classes; a :class:`~gen_eval.zoo.trained.GeneratorNet`.

    Args:
        kind: of what it makes.
        classes: how many it is told of; 0 for none.
        made_of: all else.

    Raises:
        UsageError: if the sides of images are not divisible by 4.
    """

    def __init__(self, kind: Kind, classes: int, made_of: Autoencoder) -> None:
        super().__init__()
        if kind.images and (kind.shape[1] % 4 or kind.shape[2] % 4):
            raise UsageError(
                f"the convolutions double a side twice: sides are divisible by 4, found {kind.shape}"
            )
        self.likelihood = find_likelihood(made_of.pixels if kind.images else "gaussian")()
        drawn = made_of.output == "draw" or (made_of.output is None and not kind.images)
        self.latent_dim, self.classes = made_of.latent, classes
        self.noise_dim = math.prod(kind.shape) if drawn else 0
        self._kind = kind
        self.body = _body(kind, made_of.latent + classes, made_of)

    def outputs(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """What p(x | z) is made of, ``[b, *shape]``."""
        found: Tensor = self.body(torch.cat([z, *one_hot(labels, self.classes, z)], 1))
        return found.view(-1, *self._kind.shape)

    def log_prob(self, x: Tensor, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x | z) of observations ``[b, *shape]``, ``[b]`` in nats."""
        return self.likelihood.log_prob(x, self.outputs(z, labels))

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """The mean of p(x | z), or a draw from it, scaled as batches are."""
        outputs = self.outputs(z, labels)
        likelihood = self.likelihood
        x = likelihood.mean(outputs) if noise is None else likelihood.draw(outputs, noise.view_as(outputs))
        return to_batch(x) if self._kind.images else x


def _body(kind: Kind, inputs: int, made_of: Autoencoder) -> nn.Module:
    if not kind.images:
        return mlp(inputs, made_of.width, made_of.layers, math.prod(kind.shape))
    (channels, height, across), width = kind.shape, made_of.width
    quarter = (_NARROW, height // 4, across // 4)
    return nn.Sequential(
        mlp(inputs, 2 * width, 1, math.prod(quarter)),
        nn.SiLU(),
        nn.Unflatten(1, quarter),
        nn.Conv2d(_NARROW, width, 1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, 1, 1),
        nn.SiLU(),
        nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
        nn.SiLU(),
        nn.ConvTranspose2d(width // 2, channels, 4, 2, 1),
    )


def mlp(inputs: int, width: int, layers: int, outputs: int) -> nn.Sequential:
    """Linear layers with SiLU between them, ``layers`` of them hidden."""
    sizes = [inputs, *[width] * layers]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> list[Tensor]:
    """Labels ``[b]`` as rows ``[b, classes]`` of the type of others; nothing where there are no classes.

    They are scaled to a mean square of 1, that of a latent: else the networks tell classes by the latent instead.
    """
    if not classes:
        return []
    if labels is None:
        raise UsageError(f"a model of {classes} classes needs the labels of its samples")
    return [math.sqrt(classes) * nn.functional.one_hot(labels, classes).to(like)]
