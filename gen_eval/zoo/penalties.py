"""What keeps critics and weights within bounds: clipping, penalties on gradients, orthogonal regularisation.

Each penalty is a number to be added to a loss, times a weight of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gen_eval.errors import UnknownName

Critic = Callable[[Tensor], Tensor]  # from samples [b, ...] to critic values [b]


def clip(parameters: Iterable[Tensor], limit: float) -> None:
    """Move every weight into ±limit, in place: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.

    It bounds the slope of a critic by a number that nobody knows, so that means differ by W1 times that number.
    """
    with torch.no_grad():
        for parameter in parameters:
            parameter.clamp_(-limit, limit)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, draws: torch.Generator) -> Tensor:
    """How far slopes are from 1 between the sets: the mean of ``(|gradient| - 1)²``.

    Gulrajani et al. 2017, arXiv:1704.00028, equation 3, where its weight is 10. Each point lies on the line
    between a real and a fake sample, at a share that is uniform in [0, 1).

    Args:
        critic: sees all points at once; what it makes of one must not depend on the others.
        real: ``[b, ...]``.
        fake: ``[b, ...]``.
        draws: on the CPU, for the shares.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=draws).to(real)
    gradients = _gradients(critic, real + share * (fake - real)).flatten(1)
    slopes: Tensor = torch.linalg.vector_norm(gradients, dim=1)
    return (slopes - 1).square().mean()


def r1(critic: Critic, real: Tensor) -> Tensor:
    """Half the mean of ``|gradient|²`` over real samples ``[b, ...]``.

    Mescheder et al. 2018, arXiv:1801.04406, equation 9, where its weight is called gamma.
    """
    return _gradients(critic, real).flatten(1).square().sum(1).mean() / 2


def _gradients(critic: Critic, at: Tensor) -> Tensor:
    at = at.detach().requires_grad_()
    gradients: Tensor = torch.autograd.grad(critic(at).sum(), at, create_graph=True)[0]
    return gradients


def _from_identity(gram: Tensor) -> Tensor:
    return gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _off_diagonal(gram: Tensor) -> Tensor:
    return gram - torch.diag(gram.diagonal())


# From the products of a matrix's rows with each other to what should be 0 of them. The first is the regularisation
# of Brock et al. 2017 (arXiv:1609.07093), the second that of BigGAN (Brock et al. 2019, arXiv:1809.11096, equation 3),
# which leaves the lengths of the rows alone.
ORTHOGONAL_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _from_identity,
    "off-diagonal": _off_diagonal,
}


def orthogonal(weights: Iterable[Tensor], form: str = "off-diagonal") -> Tensor:
    """How far matrices are from orthogonal, by a row of :data:`ORTHOGONAL_FORMS`: a sum of squares over them all.

    It is taken on the smaller side: rows are output units, but where there are more of them than inputs the
    columns take their place. So 0 can be reached, by exactly the (semi-)orthogonal matrices in the one form, and by
    those of rows (or columns) at right angles in the other; and the products are as few as can be. In the form
    "identity" the sides differ by a constant alone. BigGAN's code takes the rows even where they are too many to be
    at right angles, and half this gradient.

    Args:
        weights: each ``[outputs, ...]``, flattened to a matrix.
        form: a row of :data:`ORTHOGONAL_FORMS`.

    Raises:
        UnknownName: if there is no such form.
    """
    if form not in ORTHOGONAL_FORMS:
        raise UnknownName("form of orthogonal regularisation", form, ORTHOGONAL_FORMS)
    total = torch.zeros(())
    for weight in weights:
        matrix = weight.flatten(1)
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        total = total.to(gram) + ORTHOGONAL_FORMS[form](gram).square().sum()
    return total


def matrices(module: nn.Module) -> Iterator[Tensor]:
    """The weights that orthogonal regularisation is for, each with its output units first.

    These are all of linear and convolutional layers; where spectral normalisation stands before one, what is trained.
    Tables of embeddings are left out, as in BigGAN: a row there is a class, and nothing says that classes are at right
    angles.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            trained: Any = layer.parametrizations if is_parametrized(layer, "weight") else None
            weight: Tensor = layer.weight if trained is None else trained.weight.original
            yield weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
