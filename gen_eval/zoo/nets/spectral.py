"""Spectral normalisation: weights over their largest singular value, found by power iteration.

Miyato et al. 2018, arXiv:1802.05957. All state is a unit vector, a buffer of the module's state dict, so that
training goes on from a checkpoint to the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

FIRST_ITERATIONS = 20  # of a fresh layer, so that its weight is near the bound from the first step on


class SpectralNorm(nn.Module):
    """A parametrization: the weight as a matrix ``[outputs, rest]`` over an estimate of its largest singular value.

    The estimate is ``|W' u|`` of a unit vector u near the first left singular vector. It is never above the true
    value, and its gradient is that of equation 12 of the paper. In training mode each use of the weight first moves
    u by one iteration; in evaluation mode nothing moves.

    Args:
        weight: at the start.
        output_dim: which dimension counts outputs; the others are flattened, in order.
    """

    u: Tensor

    def __init__(self, weight: Tensor, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.register_buffer("u", F.normalize(torch.randn(weight.shape[output_dim]).to(weight), dim=0))
        with torch.no_grad():
            matrix = self.matrix(weight)
            for _ in range(FIRST_ITERATIONS):
                self.u.copy_(iterated(matrix, self.u))

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as the matrix that is normalised, ``[outputs, rest]``."""
        return weight.movedim(self.output_dim, 0).flatten(1)

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight, of the same shape."""
        matrix = self.matrix(weight)
        with torch.no_grad():
            if self.training:
                self.u.copy_(iterated(matrix, self.u))
            # A copy, as the next use moves the buffer before this one's gradient is taken;
            # normalised, as a running average of unit vectors is shorter than 1.
            u = F.normalize(self.u, dim=0)
        largest: Tensor = torch.linalg.vector_norm(matrix.T @ u)
        return weight / largest


def iterated(matrix: Tensor, u: Tensor) -> Tensor:
    """One power iteration: the direction of ``W W' u``, ``[rows]``."""
    return F.normalize(matrix @ F.normalize(matrix.T @ u, dim=0), dim=0)


def spectrally_normalised(layer: nn.Module) -> nn.Module:
    """The same layer, whose weight is divided by its largest singular value from now on.

    The matrix has a row for each output: ``[out, in]`` of linear layers, ``[out, in * h * w]`` of convolutions
    (transposed ones too, whose weights are stored input first), ``[entries, components]`` of embeddings. Of a
    convolution it is not the operator itself, whose norm is up to sqrt(h * w) times as large.

    A network of such linear layers and activations of slope 1 or less, as ReLU, leaky ReLU and tanh, has gradients of
    norm 1 or less.
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    output_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    return parametrize.register_parametrization(layer, "weight", SpectralNorm(weight.detach(), output_dim))
