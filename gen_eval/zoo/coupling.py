"""Flows of coupling layers: NICE, RealNVP and Glow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gen_eval.zoo.flows import Flow, FlowNet
from gen_eval.zoo.nets.couplings import Couplings
from gen_eval.zoo.nets.multiscale import MultiScale, OfVectors
from gen_eval.zoo.task import Kind


@dataclass(frozen=True)
class CouplingFlow(Couplings, Flow):
    """A flow of coupling layers, whose density and samples take one pass each.

    NICE (Dinh et al. 2015, arXiv:1410.8516), RealNVP (Dinh et al. 2017, arXiv:1605.08803) and Glow (Kingma and Dhariwal
    2018, arXiv:1807.03039) are settings of it. Images take convolutions at several scales; vectors fully connected
    layers, and the same couplings and mixing.

    Args:
        flat: whether images are taken as vectors.
    """

    family: ClassVar[str] = "coupling-flow"
    flat: bool = False

    def __post_init__(self) -> None:
        Flow.__post_init__(self)
        Couplings.__post_init__(self)

    def net(self, kind: Kind) -> FlowNet:
        """See :class:`gen_eval.zoo.flows.Flow`."""
        net = MultiScale if kind.images and not self.flat else OfVectors
        return net(kind.shape, self)
