"""Generators that are networks: where a sample sits in a batch, and latents of one class."""

from __future__ import annotations

import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.truncation import in_z
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.task import Kind
from gen_eval.zoo.trained import BATCH, Trained

CLASSES = ("a", "b", "c")
KINDS = [Kind((1, 8, 8), CLASSES), Kind((2,), CLASSES)]


@pytest.fixture(params=KINDS, ids=["images", "vectors"])
def sampler(request) -> Trained:
    recipe = Adversarial(width=16, latent=6, norm="conditional", head="projection", spectral="discriminator")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = recipe.task(request.param)
        for parameter in task.modules["generator"].parameters():
            torch.nn.init.normal_(parameter, std=0.5)  # so that classes and latents are told apart
    scaling = (
        {} if request.param.images else {"mean": torch.tensor([1.0, 2.0]), "sd": torch.tensor([3.0, 0.5])}
    )
    made = recipe.sampler("net", request.param, task.modules.eval().requires_grad_(False), scaling)
    assert isinstance(made, Trained)
    return made


def test_a_sample_is_the_same_to_the_last_bit_whatever_it_is_drawn_with(sampler):
    together = sampler.sample(3 * BATCH + 5, seed=7)
    for seed in (7, 8, 70, 7 + 3 * BATCH):
        assert torch.equal(sampler.sample(4, seed=seed), together[seed - 7 : seed - 3])
    scattered = torch.tensor([150, 9, 9 + BATCH, 9, 80])
    assert torch.equal(sampler(scattered), together[scattered - 7])


def test_latents_of_a_generator_with_classes_need_one(sampler):
    latents = sampler.latent(torch.arange(5))
    with pytest.raises(UsageError, match=r"knows 3 classes: say which, by of_class\(label\)"):
        sampler.synthesize(latents)
    with pytest.raises(UsageError, match="labels of net are 0 to 2"):
        sampler.of_class(3)
    first, second = (sampler.of_class(label).synthesize(latents) for label in (0, 1))
    assert not torch.equal(first, second)
    exact = sampler.sample(5, seed=0, labels=1)
    torch.testing.assert_close(
        second.round() if sampler.kind.images else second, exact.float(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("sampler", KINDS[:1], indirect=True)
def test_truncation_of_latents_needs_a_class(sampler):
    seeds = torch.arange(6)
    with pytest.raises(UsageError, match="of_class"):
        in_z(sampler)(0.5)(seeds)
    assert in_z(sampler.of_class(2))(0.5)(seeds).shape == (6, 3, 8, 8)
