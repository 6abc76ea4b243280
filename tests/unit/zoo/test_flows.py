"""What all flows share: the volume of what is done to pixels, and the density that it is part of."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.flows import FLOW
from gen_eval.zoo.task import Kind


def built(kind, scaling, **settings):
    """A flow in float64, away from where it begins: its model and its sampler."""
    recipe = CouplingFlow(coupling="additive", width=8, flat=True, **settings)
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        modules = recipe.task(kind).modules.double().eval()
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return modules[FLOW], recipe.sampler("flow", kind, modules, scaling)


@pytest.mark.parametrize("margin", [0.05, 0.3])
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 2, 1)])
def test_the_volume_of_a_density_is_that_of_all_that_is_done_to_pixels(shape, margin):
    model, sampler = built(Kind(shape), {}, margin=margin)
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[0], x[1] = 0, 1  # where logits are the steepest
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda x: model.to_latent(x[None])[0][0], each) for each in x]
    )
    volumes = torch.linalg.slogdet(jacobians.view(len(x), model.latent_dim, -1)).logabsdet
    z = sampler.encode(x)
    of_latents = -(z.square() + math.log(2 * math.pi)).sum(1) / 2
    torch.testing.assert_close(sampler.log_prob(x), of_latents + volumes, rtol=0, atol=1e-10)


def test_pixels_come_back_from_their_latents():
    model, sampler = built(Kind((1, 2, 2)), {})
    x = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inside = x.clamp(0.5 / 256, 1 - 0.5 / 256)  # the middles of the first and the last level
    levels = sampler.synthesize(sampler.encode(inside)).detach()
    torch.testing.assert_close(levels, 256 * inside - 0.5, rtol=0, atol=1e-9)
