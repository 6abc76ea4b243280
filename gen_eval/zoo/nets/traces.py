"""The divergence of a vector field: the trace of its Jacobian, exactly, or by Hutchinson's estimate.

Each function also gives the velocity, of which it is worked out. Gradients go through both where they are enabled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of the time, without axes, and places [b, d], to velocities [b, d].
Field = Callable[[Tensor, Tensor], Tensor]


def exact_trace(field: Field, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities ``[b, d]`` and traces ``[b]``, by d products with the Jacobian, made together."""
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
    v, rows = _products(field, t, x, basis, batched=True)
    return v, rows.diagonal(dim1=0, dim2=2).sum(1)


def hutchinson(field: Field, t: Tensor, x: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities ``[b, d]`` and estimates ``[b]`` of traces, e'Je, by one product with the Jacobian J.

    Its mean is the trace. With S the symmetric part of J, its variance is 2 |S|² (the sum of squares) for Gaussian
    probes, and 2 (|S|² less the squares of the diagonal) for Rademacher ones.

    Hutchinson 1990, Communications in Statistics 19:433; Avron and Toledo 2011, J. ACM 58:8, for the variances.

    Args:
        field: whose divergence.
        t: the time.
        x: places.
        probe: e, independent numbers of mean 0 and variance 1, ``[b, d]``.
    """
    v, product = _products(field, t, x, probe, batched=False)
    return v, (product * probe).sum(1)


def _products(field: Field, t: Tensor, x: Tensor, probes: Tensor, *, batched: bool) -> tuple[Tensor, Tensor]:
    """Velocities, and products of probes ``[b, d]``, or of several if batched ``[k, b, d]``, with the Jacobian."""
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        # Where nothing is learnt, as in the adjoint method's way there, x may still hang on what came before.
        x = x if learning and x.requires_grad else x.detach().requires_grad_()
        v = field(t, x)
        (products,) = torch.autograd.grad(v, x, probes, create_graph=learning, is_grads_batched=batched)
    return (v, products) if learning else (v.detach(), products)
