"""PixelCNN: its density of pixels, what its samples are made of, what it learns, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.likelihood import evaluate_likelihood, require_comparable_likelihoods
from gen_eval.zoo.autoregressive import NET, Autoregressive
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.nets.pixelcnn import PixelCNN
from gen_eval.zoo.task import Batch, Kind

GRAY, COLOUR = Kind((1, 4, 8)), Kind((3, 4, 4), ("a", "b"))
SMALL = Autoregressive(width=6, layers=2, components=2)


def built(kind=GRAY, recipe=SMALL, seed=0):
    """A task with weights drawn by the seed, and its sampler."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        task = recipe.task(kind)
    return task, recipe.sampler("pixelcnn", kind, task.modules.eval().requires_grad_(False), {})


def levels(kind, n=3):
    return torch.randint(0, 256, (n, *kind.shape), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [GRAY, COLOUR], ids=["gray", "colour"])
def test_a_density_is_the_probability_of_the_level_all_over_its_cell(kind):
    task, sampler = built(kind)
    level = levels(kind)
    of_levels = task.modules[NET].log_prob(level).double()
    for place in (0.0, 0.5, 1 - 2**-15):
        found = sampler.log_prob((level + place) / 256)
        torch.testing.assert_close(found, of_levels + level[0].numel() * math.log(256))
    white = torch.full_like(level[:1], 255)
    torch.testing.assert_close(
        sampler.log_prob(torch.ones(white.shape)), sampler.log_prob((white + 0.5) / 256)
    )


def test_its_bits_compare_with_those_of_a_flow():
    _, sampler = built()
    images = sampler.sample(20, seed=0)
    found = evaluate_likelihood(sampler, images)
    assert (found.terms.kind, found.terms.dequantization) == ("exact", "uniform")
    bits = -sampler._net.log_prob(images.long()).double().mean() / (32 * math.log(2))
    assert found.values["bits_per_dim"] == pytest.approx(float(bits), rel=1e-6)
    recipe = CouplingFlow(width=4, levels=1, depth=2)
    flow = recipe.sampler("flow", GRAY, recipe.task(GRAY).modules.eval(), {})
    require_comparable_likelihoods([found, evaluate_likelihood(flow, images)])


@pytest.mark.parametrize("kind", [GRAY, COLOUR], ids=["gray", "colour"])
def test_samples_are_the_levels_that_their_latents_invert_to(kind):
    _, sampler = built(kind)
    found = sampler.sample(70, seed=3)
    latents = sampler.latent(torch.arange(3, 3 + 64))
    drawn = sampler._net.draw(torch.special.ndtr(latents).view(-1, *kind.shape))
    # Kernels round by their place in a batch, which now and then moves a level.
    assert float((found[:64].long() == drawn).double().mean()) > 0.999
    assert torch.equal(sampler.sample(3, seed=70), found[67:])


def test_a_training_batch_is_taken_for_the_levels_that_it_was():
    task, _ = built()
    level = levels(GRAY, 64)
    loss, shown = task.players[0].loss(Batch(level / 127.5 - 1, None), torch.Generator())
    known = -float(task.modules[NET].log_prob(level).mean()) / 32
    assert float(loss) == pytest.approx(known, rel=1e-6)
    assert shown["bits_per_dim"] == pytest.approx(known / math.log(2), rel=1e-6)


def test_it_learns():
    recipe = Autoregressive(width=6, layers=2, components=2, rate=1e-2)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        task = recipe.task(GRAY)
    bright = torch.randint(100, 110, (32, *GRAY.shape), generator=torch.Generator().manual_seed(0))
    batch = Batch(bright / 127.5 - 1, None)
    adam = torch.optim.Adam(task.modules.parameters(), recipe.rate)
    bits = []
    for _ in range(150):
        adam.zero_grad()
        loss, shown = task.players[0].loss(batch, torch.Generator())
        loss.backward()
        adam.step()
        bits.append(shown["bits_per_dim"])
    assert bits[0] > 6
    assert math.log2(10) - 0.2 < bits[-1] < 4.2  # levels are even on ten values


def test_weights_that_nothing_heeds_stay_out_of_a_checkpoint():
    task, _ = built(COLOUR)
    assert not any(name.endswith("seen") for name in task.modules.state_dict())


def test_a_side_of_one_will_do():
    net = PixelCNN((1, 1, 1), 4, width=3, layers=1, components=1)
    with torch.no_grad():
        total = net.log_prob(torch.arange(4).view(4, 1, 1, 1)).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UsageError, match="vectors of 2 components: choose an autoregressive flow"):
        SMALL.task(Kind((2,)))
    with pytest.raises(UsageError, match="components is 1 or more"):
        Autoregressive(components=0)
    with pytest.raises(UsageError, match="rate is above 0"):
        Autoregressive(rate=0.0)
    sampler = built(COLOUR)[1]
    with pytest.raises(UsageError, match="no truncation"):
        sampler.sample(2, seed=0, truncation=0.5)
    with pytest.raises(UsageError, match="takes no labels"):
        sampler.sample(2, seed=0, labels=0)
    with pytest.raises(UsageError, match=r"pixels in \[0, 1\]"):
        sampler.log_prob(torch.full((2, 3, 4, 4), 1.5))
