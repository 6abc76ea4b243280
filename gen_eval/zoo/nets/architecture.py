"""What the two networks of a GAN are made of, as plain data, and what every net answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.task import Kind

NORMS = ("batch", "conditional", "none")
DISCRIMINATOR_NORMS = ("batch", "none")
SPECTRAL = ("none", "discriminator", "both")
HEADS = ("none", "auxiliary", "projection")


@dataclass(frozen=True)
class Architecture:
    """Both networks of a GAN.

    Args:
        net: a row of :data:`gen_eval.zoo.nets.NETS`.
        latent: components of the generator's latent.
        width: channels of the coarsest feature maps, which are the widest; half as many at each doubling of the side.
            Hidden layers of ``"mlp"`` have twice as many units.
        layers: hidden layers of ``"mlp"``.
        norm: of the generator: ``"batch"``, ``"conditional"`` (batch normalisation with a gain and a bias by class) or
            ``"none"``.
        discriminator_norm: ``"batch"`` (not on the first layer) or ``"none"``.
        spectral: whose weights are spectrally normalised: ``"none"``, ``"discriminator"`` or ``"both"``.
        gain: the Lipschitz constant of a spectrally normalised critic of vectors: it multiplies its value. A slope of 1
            is too little to tell the modes of a mixture apart by hinge loss; a convolution's slope is above 1 anyway,
            so critics of images have none.
        attention: a self-attention block in both networks, where maps have half the side of images.
        head: of the discriminator: ``"none"``, ``"auxiliary"`` (a classifier besides) or ``"projection"``.
        embedding: components of a class embedding of the generator.
        shared_embedding: conditional normalisation is linear in one embedding that all layers share.
        skip_z: the latent is split, and each block's normalisation depends on a chunk of it.
        mapping_layers: of the mapping of ``"style"``.
        mapping_rate: factor of the learning rate in the mapping.
        mixing: share of the samples in training whose layers get the styles of two latents.

    Raises:
        UsageError: if a number makes no sense.
    """

    net: str = "dcgan"
    latent: int = 64
    width: int = 64
    layers: int = 3
    norm: str = "batch"
    discriminator_norm: str = "none"
    spectral: str = "none"
    gain: float = 1.0
    attention: bool = False
    head: str = "none"
    embedding: int = 32
    shared_embedding: bool = False
    skip_z: bool = False
    mapping_layers: int = 4
    mapping_rate: float = 0.01
    mixing: float = 0.9

    def __post_init__(self) -> None:
        require_whole(self, latent=1, width=1, layers=1, embedding=1)
        require_positive(self, "gain")
        if not 0 <= self.mixing <= 1 or self.mapping_layers < 1 or not 0 < self.mapping_rate < math.inf:
            raise UsageError(
                "expected a mixing of 0 to 1, 1 mapping layer or more and a mapping_rate above 0, found "
                f"{self.mixing}, {self.mapping_layers} and {self.mapping_rate}"
            )

    @property
    def learns_classes(self) -> bool:
        """Whether the networks learn the classes of the data."""
        return self.norm == "conditional" or self.head != "none"

    @property
    def conditional(self) -> bool:
        """Whether the generator takes labels: classes, or the domains of ``"coupled"``."""
        return self.learns_classes or self.net == "coupled"


class Verdict(NamedTuple):
    """What a discriminator says.

    Args:
        real: ``[b]`` logit that a sample is real, or a critic's value.
        classes: ``[b, k]`` logits of an auxiliary classifier.
    """

    real: Tensor
    classes: Tensor | None


class Net(NamedTuple):
    """A row of :data:`gen_eval.zoo.nets.NETS`.

    Args:
        generator: makes a :class:`gen_eval.zoo.trained.GeneratorNet`. Weights are drawn from torch's global state.
        discriminator: makes a module from samples and labels to a :class:`Verdict`.
        images: whether it makes images.
        vectors: whether it makes vectors.
    """

    generator: Callable[[Kind, Architecture], nn.Module]
    discriminator: Callable[[Kind, Architecture], nn.Module]
    images: bool
    vectors: bool


def require(kind: Kind, architecture: Architecture) -> None:
    """See that an architecture makes sense for a kind of data.

    Raises:
        UnknownName: of a word that is none of those known.
        UsageError: if images have other sides than multiples of 4, or other than 1 or 3 channels; if labels are asked
            for and the data has none; if two fields exclude each other.
    """
    for field, known in (
        ("norm", NORMS),
        ("discriminator_norm", DISCRIMINATOR_NORMS),
        ("spectral", SPECTRAL),
        ("head", HEADS),
    ):
        if getattr(architecture, field) not in known:
            raise UnknownName(field, getattr(architecture, field), known)
    if kind.images and (kind.shape[0] not in (1, 3) or kind.shape[1] % 4 or kind.shape[2] % 4):
        raise UsageError(
            f"networks make images of 1 or 3 channels whose sides are divisible by 4, such as 28 or 32; "
            f"found {' x '.join(map(str, kind.shape))}: crop, pad or resize them"
        )
    if architecture.learns_classes and len(kind.classes) < 2:
        raise UsageError(
            f"norm={architecture.norm!r} and head={architecture.head!r} need labels of 2 classes or more, and the data "
            f"has {len(kind.classes)}: give labels, or choose a model without classes"
        )
    if architecture.norm != "conditional" and (architecture.shared_embedding or architecture.skip_z):
        raise UsageError(
            "shared_embedding and skip_z are about conditional batch normalisation: "
            f"they need norm='conditional', found {architecture.norm!r}"
        )
    if architecture.spectral != "none" and architecture.discriminator_norm != "none":
        raise UsageError(
            "batch normalisation undoes the bound that spectral normalisation sets: "
            "choose discriminator_norm='none' or spectral='none'"
        )
