"""Variational autoencoders whose posterior is improved by a flow: inverse autoregressive, Sylvester or continuous.

The bound is E_q0 [log p(x | z) + log p(z) - log q_0(z_0 | x) + log |det dz/dz_0|] (Rezende and Mohamed 2015,
arXiv:1505.05770, equation 15), and the flow's volume the only thing that is new in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.nets.autoencoder import Encoder
from gen_eval.zoo.nets.posteriors import POSTERIORS, FlowSettings
from gen_eval.zoo.task import Kind
from gen_eval.zoo.variational import Variational


@dataclass(frozen=True)
class FlowVariational(FlowSettings, Variational):
    """A variational autoencoder with q(z | x) moved by a flow that x tells: amortised.

    Args:
        posterior: a row of :data:`~gen_eval.zoo.nets.posteriors.POSTERIORS`.

    Raises:
        UnknownName: if there is no such posterior, likelihood or solver.
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "flow-variational"
    posterior: str = "iaf"

    def __post_init__(self) -> None:
        Variational.__post_init__(self)
        FlowSettings.__post_init__(self)
        if self.posterior not in POSTERIORS:
            raise UnknownName("posterior", self.posterior, POSTERIORS)
        if self.posterior == "iaf" and self.units < self.latent:
            raise UsageError(
                f"{self.units} hidden units do not tell {self.latent} latents apart: choose units={self.latent} or more"
            )

    def encoder(self, kind: Kind, classes: int) -> Encoder:
        """See :class:`~gen_eval.zoo.variational.Variational`."""
        return Encoder(kind, classes, self, POSTERIORS[self.posterior](self.latent, self), self.context)
