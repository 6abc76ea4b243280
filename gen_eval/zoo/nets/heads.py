"""What a discriminator says of features: real or not, and of which class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.layers import Layers
from gen_eval.zoo.task import Kind


class Head(nn.Module):
    """The last layer of a discriminator.

    It is plain; with an auxiliary classifier (Odena et al. 2017, arXiv:1610.09585), which is never spectrally
    normalised, as logits of slope 1 could not be sure of a class; or with a projection, the inner product of the
    features and an embedding of the label (Miyato and Koyama 2018, arXiv:1802.05637).

    Args:
        features: how many.
        kind: what samples are.
        architecture: of the discriminator.
        make: makes the layers.
    """

    def __init__(self, features: int, kind: Kind, architecture: Architecture, make: Layers) -> None:
        super().__init__()
        classes, head = len(kind.classes), architecture.head
        self.gain = 1.0 if kind.images or architecture.spectral == "none" else architecture.gain
        self.real = make.linear(features, 1)
        self.classes = Layers(make.start).linear(features, classes) if head == "auxiliary" else None
        self.embedding = make.embedding(classes, features) if head == "projection" else None

    def forward(self, features: Tensor, labels: Tensor | None) -> Verdict:
        """Features ``[b, features]``, and int64 ``[b]``, which a projection alone reads."""
        real: Tensor = self.real(features)[:, 0]
        if self.embedding is not None:
            if labels is None:
                raise UsageError("a projection discriminator judges samples of a label: give labels [b]")
            real = real + (self.embedding(labels) * features).sum(1)
        return Verdict(self.gain * real, None if self.classes is None else self.classes(features))


class Discriminator(nn.Module):
    """From samples to a verdict.

    Args:
        first: samples to features.
        others: each from features to features, at last ``[b, features]``.
        head: features to a verdict.
    """

    def __init__(self, first: nn.Module, others: Sequence[nn.Module], head: Head) -> None:
        super().__init__()
        self.first, self.others, self.head = first, nn.Sequential(*others), head

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Verdict:
        """Samples ``[b, *shape]``, and their labels, int64 ``[b]``, which a projection head alone reads."""
        verdict: Verdict = self.head(self.others(self.first(x)), labels)
        return verdict
