"""Parts of flows beside normflows (Stimper et al. 2023) and zuko, with the same weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from zuko.transforms import AdditiveTransform, CouplingTransform, DependentTransform

from gen_eval.zoo.nets.couplings import Chain, Coupling, Couplings, squeeze, steps
from gen_eval.zoo.nets.multiscale import convolutions, dense

MASK = torch.arange(6) < 3


def moved(module):
    """In float64, with weights away from where they begin."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return module.eval()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


class AsTheirs(nn.Module):
    """What our coupling decides, as normflows' coupling takes it: of its other direction, shift and scale in turn."""

    def __init__(self, coupling):
        super().__init__()
        self.coupling = coupling

    def forward(self, x):
        log_scale, shift = self.coupling._decided(x)
        return torch.stack([-shift * (-log_scale).exp(), -log_scale], 2).flatten(1, 2)


def test_a_step_of_glow_is_that_of_normflows():
    """Theirs goes from the latent to the image, and its parts in that order."""
    flows = pytest.importorskip("normflows", reason="normflows is not installed").flows
    made_of = Couplings(mixing="invertible", actnorm=True)
    step = moved(Chain(steps(1, lambda at: MASK, partial(convolutions, 8), made_of)))
    scale, mixing, coupling = step.parts
    block = flows.GlowBlock(6, 8, scale_map="exp", use_lu=False).double()
    theirs, linear, actnorm = block.flows
    theirs.flows[1].param_map = AsTheirs(coupling)
    linear.W.data = mixing.matrix().detach()
    actnorm.s.data = -scale.log_scale.view(1, 6, 1, 1)
    actnorm.t.data = -(scale.shift * (-scale.log_scale).exp()).view(1, 6, 1, 1)
    actnorm.data_dep_init_done.fill_(1)
    x = noise(4, 6, 4, 2)
    y, log_det = step(x)
    same((y, log_det), block.inverse(x))
    back, minus = block(y)
    same((step.inverse(y), -log_det), (back, minus))
    assert torch.equal(squeeze(x), flows.Squeeze().inverse(x)[0])


def test_actnorm_begins_as_that_of_normflows():
    """Theirs divides by n - 1 in the variance, and adds a little to its root."""
    flows = pytest.importorskip("normflows", reason="normflows is not installed").flows
    x = 3 * noise(16, 6, 4, 2) + 2
    made_of = Couplings(actnorm=True)
    ours = steps(1, lambda at: MASK, partial(convolutions, 8), made_of)[0].double().train()(x)
    theirs, log_det = flows.ActNorm((6, 1, 1)).double()(x)
    torch.testing.assert_close(ours[0], theirs, rtol=0, atol=0.02)
    torch.testing.assert_close(ours[1], log_det.expand(16), rtol=1e-2, atol=0)


@pytest.mark.parametrize("kind", ["additive", "affine"])
def test_a_coupling_is_zukos_with_the_same_network(kind):
    coupling = moved(Coupling(MASK, partial(dense, 8), affine=kind == "affine"))

    def decided(stays):
        log_scale, shift = coupling._decided(stays)
        univariate = AdditiveTransform(shift)
        if kind == "affine":
            univariate = torch.distributions.AffineTransform(shift, log_scale.exp())
        return DependentTransform(univariate, 1)

    x = noise(5, 6)
    same(coupling(x), CouplingTransform(decided, MASK).call_and_ladj(x))
