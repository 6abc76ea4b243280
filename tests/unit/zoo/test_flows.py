"""What all flows share: the volume of what is done to pixels, and the density that it is part of."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.flows import FLOW
from gen_eval.zoo.task import Kind


def built(kind, **settings):
    """A flow in float64, away from where it begins: its model and its sampler."""
    recipe = CouplingFlow(coupling="additive", width=8, flat=True, **settings)
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        modules = recipe.task(kind).modules.double().eval()
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return modules[FLOW], recipe.sampler("flow", kind, modules, {})


@pytest.mark.parametrize("margin", [0.05, 0.3])
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 2, 1)])
def test_the_volume_of_a_density_is_that_of_all_that_is_done_to_pixels(shape, margin):
    model, sampler = built(Kind(shape), margin=margin)
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[0], x[1] = 0, 1  # where logits are the steepest
    of_all = torch.autograd.functional.jacobian(lambda x: model.to_latent(x)[0].sum(0), x)
    volumes = torch.linalg.slogdet(of_all.flatten(2).transpose(0, 1)).logabsdet
    z = sampler.encode(x)
    of_latents = -(z.square() + math.log(2 * math.pi)).sum(1) / 2
    torch.testing.assert_close(sampler.log_prob(x), of_latents + volumes, rtol=0, atol=1e-10)
