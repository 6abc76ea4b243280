"""What a discriminator and a generator pay for critic values: the objectives of adversarial training.

A discriminator gives each sample a number v without bounds. Every objective here is separable: the discriminator
pays for each real and each fake sample by itself, and the generator for each of its own. Both losses are means.

Where p is the density of the data and q that of the generator, v stands for

* log(p/q), with the GAN of Goodfellow et al. 2014 (D is its sigmoid) and every f-GAN but those of Pearson,
  where it is T, that is 2 (p/q - 1), and of the total variation, where the best is without bounds;
* a potential that is to be Lipschitz, whose means differ by the distance, with the Wasserstein GAN;
* a margin, of which only -1 to 1 counts, with the hinge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

from gen_eval.errors import UnknownName
from gen_eval.metrics.divergence.conjugates import DIVERGENCES, Divergence

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """One game; each function goes element by element.

    Args:
        name: what it is called.
        real: what the discriminator pays for the critic value of a real sample.
        fake: what it pays for that of a fake.
        generator: what the generator pays for that of a fake.
        cite: the paper.
    """

    name: str
    real: Function
    fake: Function
    generator: Function
    cite: str

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Of critic values ``[n]`` and ``[m]``, a number."""
        return self.real(real).mean() + self.fake(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Of critic values ``[m]``, a number."""
        return self.generator(fake).mean()


def _of_divergence(row: Divergence, *, minimax: bool) -> Objective:
    """The two games of Nowozin et al. 2016 over the bound E_P T - E_Q f*(T), which the discriminator raises.

    In the minimax game (2) the generator lowers the bound itself. In the alternative of section 3.2 it raises
    E_Q T instead, which has the same fixed point. At the best T it then descends another divergence: for KL
    that is the reverse KL, for JS it is that of the non-saturating GAN.
    """
    output, penalty = row.output, row.penalty
    if row.name == "pearson":
        # T itself, as in the paper. It is exponential in log(p/q), by which only the best of the fakes would count.
        output, penalty = _unchanged, row.conjugate
    return Objective(
        f"f-gan-minimax:{row.name}" if minimax else f"f-gan:{row.name}",
        real=lambda v: -output(v),
        fake=penalty,
        generator=(lambda v: -penalty(v)) if minimax else (lambda v: -output(v)),
        cite="Nowozin et al. 2016, arXiv:1606.00709",
    )


def _unchanged(v: Tensor) -> Tensor:
    return v


OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        # -log D, -log(1 - D), and log(1 - D): it hardly falls any more where D is near 0.
        Objective(
            "saturating",
            real=lambda v: softplus(-v),
            fake=softplus,
            generator=lambda v: -softplus(v),
            cite="Goodfellow et al. 2014, arXiv:1406.2661, equation 1",
        ),
        # The generator's is -log D.
        Objective(
            "non-saturating",
            real=lambda v: softplus(-v),
            fake=softplus,
            generator=lambda v: softplus(-v),
            cite="Goodfellow et al. 2014, arXiv:1406.2661, section 3",
        ),
        Objective(
            "wasserstein",
            real=lambda v: -v,
            fake=lambda v: v,
            generator=lambda v: -v,
            cite="Arjovsky et al. 2017, arXiv:1701.07875",
        ),
        Objective(
            "hinge",
            real=lambda v: relu(1 - v),
            fake=lambda v: relu(1 + v),
            generator=lambda v: -v,
            cite="Lim and Ye 2017, arXiv:1705.02894",
        ),
        *(_of_divergence(row, minimax=False) for row in DIVERGENCES.values()),
        *(_of_divergence(row, minimax=True) for row in DIVERGENCES.values()),
    )
}


def find_objective(name: str) -> Objective:
    """The row of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in OBJECTIVES:
        raise UnknownName("objective", name, OBJECTIVES)
    return OBJECTIVES[name]
