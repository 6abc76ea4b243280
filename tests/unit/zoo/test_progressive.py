"""Networks that grow: what fading in changes, and what it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.progressive import STAGES, Discriminator, Generator, halved
from gen_eval.zoo.task import Kind

GRAY, COLOUR = Kind((1, 28, 28)), Kind((3, 32, 32))
SMALL = Architecture(net="progressive", norm="none", latent=6, width=12)
BATCH = 5


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(maker, kind=GRAY, seed=9):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return maker(kind, SMALL)


def at(network, stage, fade=1.0):
    network.grow(stage, fade)
    return network


def images(kind=GRAY, seed=1):
    return rows(BATCH, *kind.shape, seed=seed)


# --- Fading in


@pytest.mark.parametrize("kind", [GRAY, COLOUR])
@pytest.mark.parametrize("stage", [1, 2])
@torch.no_grad()
def test_a_stage_begins_with_the_images_of_the_one_before(kind, stage):
    """Bit for bit: at a fade of 0 nothing changes, in the generator, the discriminator and the real images."""
    generator, critic = made(Generator, kind), made(Discriminator, kind)
    z, x = rows(BATCH, 6), images(kind)
    for network, given in ((generator, z), (critic, x)):
        before, now = at(network, stage - 1)(given), at(network, stage, 0.0)(given)
        before, now = (each if isinstance(each, torch.Tensor) else each.real for each in (before, now))
        assert torch.equal(now, before)
        assert float(before.std()) > 0
    assert torch.equal(at(critic, stage, 0.0).as_shown(x), at(critic, stage - 1).as_shown(x))


@pytest.mark.parametrize("stage", [1, 2])
@torch.no_grad()
def test_a_stage_ends_without_the_branch_of_the_one_before(stage):
    """Bit for bit: at a fade of 1 the old layers to and from images may be anything."""
    generator, critic = made(Generator), made(Discriminator)
    z, x = rows(BATCH, 6), images()
    expected = at(generator, stage)(z), at(critic, stage)(x).real
    for layer in (generator.to_image[stage - 1], critic.from_image[stage - 1]):
        layer.weight.fill_(torch.nan)
    assert torch.equal(at(generator, stage, 1.0)(z), expected[0])
    assert torch.equal(at(critic, stage, 1.0)(x).real, expected[1])
    assert bool(at(generator, stage, 0.5)(z).isnan().all())
    assert bool(at(critic, stage, 0.5)(x).real.isnan().all())


@pytest.mark.parametrize("stage", [1, 2])
@torch.no_grad()
def test_images_between_are_mixed_by_the_fade(stage):
    generator, critic = made(Generator), made(Discriminator)
    z, x = rows(BATCH, 6), images()
    old, new = at(generator, stage - 1)(z), at(generator, stage)(z)
    torch.testing.assert_close(at(generator, stage, 0.3)(z), 0.7 * old + 0.3 * new)
    old, new = at(critic, stage - 1).as_shown(x), at(critic, stage).as_shown(x)
    torch.testing.assert_close(at(critic, stage, 0.3).as_shown(x), 0.7 * old + 0.3 * new)
    assert float((old - new).abs().max()) > 0.1


# --- Stages


@pytest.mark.parametrize("kind", [GRAY, COLOUR])
@pytest.mark.parametrize("stage", range(STAGES))
@torch.no_grad()
def test_images_are_of_full_size_with_the_detail_of_the_stage(kind, stage):
    factor = 2 ** (STAGES - 1 - stage)
    made_up = at(made(Generator, kind), stage)(rows(BATCH, 6))
    shown = at(made(Discriminator, kind), stage).as_shown(images(kind))
    for found in (made_up, shown):
        assert found.shape == (BATCH, *kind.shape)
        small = found[:, :, ::factor, ::factor]
        assert torch.equal(found, small.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
        assert factor > 1 or not torch.equal(found[:, :, ::2], found[:, :, 1::2])
    assert float(made_up.abs().max()) <= 1
    torch.testing.assert_close(
        shown, F.avg_pool2d(images(kind), factor).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    )


@torch.no_grad()
def test_a_critic_sees_no_more_than_its_stage():
    critic, x = at(made(Discriminator), 1), images()
    detail = rows(BATCH, 1, 28, 28, seed=2)
    detail -= halved(detail).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(critic(x + detail).real, critic(x).real)
    assert float((at(critic, 2)(x + detail).real - critic(x).real).abs().max()) > 1e-3


@torch.no_grad()
def test_a_critic_sees_a_batch_that_repeats_itself():
    critic, x = made(Discriminator), images()[:4]
    alone = torch.cat([critic(each[None]).real for each in x])
    assert float((critic(x).real - alone).abs().max()) > 1e-3
    torch.testing.assert_close(critic(x[:1].expand(4, -1, -1, -1)).real, alone[:1].expand(4))


def test_layers_of_later_stages_have_no_gradient_and_old_ones_lose_theirs():
    generator, critic = (at(made(maker), 1, 0.5) for maker in (Generator, Discriminator))
    critic(generator(rows(BATCH, 6))).real.sum().backward()
    for network, ends in ((generator, generator.to_image), (critic, critic.from_image)):
        assert [end.weight.grad is not None for end in ends] == [True, True, False]
        assert [block.first.weight.grad is not None for block in network.blocks] == [True, False]


def test_the_stage_is_saved_and_restored():
    generator = at(made(Generator), 1, 0.25)
    other = made(Generator, seed=8)
    z = rows(BATCH, 6)
    assert not torch.equal(other(z), generator(z))
    other.load_state_dict(generator.state_dict())
    assert torch.equal(other(z), generator(z))


def test_networks_begin_at_the_last_stage():
    for maker, given in ((Generator, rows(BATCH, 6)), (Discriminator, images())):
        fresh, grown = made(maker)(given), at(made(maker), STAGES - 1)(given)
        assert torch.equal(*(each if maker is Generator else each.real for each in (fresh, grown)))


# --- Refusals


@pytest.mark.parametrize(
    ("stage", "fade"), [(-1, 1.0), (STAGES, 1.0), (1, -0.1), (1, 1.1), (1, float("nan"))]
)
def test_stages_that_are_none_are_refused(stage, fade):
    with pytest.raises(UsageError, match=f"found stage={stage} and fade={fade}"):
        made(Generator).grow(stage, fade)


@pytest.mark.parametrize("maker", [Generator, Discriminator])
@pytest.mark.parametrize("shape", [(2,), (1, 28, 32), (1, 30, 30)])
def test_samples_that_cannot_grow_are_refused(maker, shape):
    with pytest.raises(
        UsageError, match=r"square images of a side divisible by 4, found .*\[" + str(shape[0])
    ):
        maker(Kind(shape), SMALL)


@pytest.mark.parametrize("maker", [Generator, Discriminator])
@pytest.mark.parametrize(
    "asked",
    [
        {"norm": "batch"},
        {"norm": "conditional"},
        {"discriminator_norm": "batch"},
        {"spectral": "both"},
        {"gain": 2.0},
        {"attention": True},
        {"head": "projection"},
        {"norm": "none", "skip_z": True},
    ],
)
def test_architectures_that_it_cannot_honour_are_refused(maker, asked):
    with pytest.raises(
        UsageError, match=f"'progressive' knows {list(asked)[-1]}=.* found {list(asked.values())[-1]!r}"
    ):
        maker(GRAY, replace(SMALL, **asked))
