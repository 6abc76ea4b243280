"""Every net, on every kind of data and with every head: shapes, gradients, labels, refusals, states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.nets import NETS, find_net, networks
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.task import Kind

CLASSES = tuple("0123")
KINDS = {
    "8x8": Kind((1, 8, 8), CLASSES),
    "28x28": Kind((1, 28, 28), CLASSES),
    "32x32x3": Kind((3, 32, 32), CLASSES),
    "oblong": Kind((3, 8, 16), CLASSES),
    "plane": Kind((2,), CLASSES),
}
SMALL = Architecture(latent=9, width=8, embedding=4)
HEADS = {
    "plain": replace(SMALL, norm="batch", discriminator_norm="batch"),
    "bare": replace(SMALL, norm="none"),
    "spectral": replace(SMALL, spectral="both", gain=2.0),
    "auxiliary": replace(SMALL, head="auxiliary"),
    "projection": replace(SMALL, head="projection", norm="conditional", spectral="discriminator"),
    "biggan": replace(
        SMALL, head="projection", norm="conditional", spectral="both", shared_embedding=True, skip_z=True
    ),
}
B = 6
LABELS = torch.arange(B) % 4
CASES = [
    (net, kind, head)
    for net in ("mlp", "dcgan", "resnet", "coupled")
    for kind in KINDS
    for head in HEADS
    if net != "coupled" or not HEADS[head].learns_classes
]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        yield


def built(net, kind, head, **fields):
    """Both networks as they are after some training: nothing is 0 any more, and no unit is dead."""
    architecture = replace(HEADS[head], net=net, **fields)
    pair = networks(KINDS[kind], architecture)
    with torch.no_grad():
        for parameter in (p for network in pair for p in network.parameters() if not p.any()):
            parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.uniform_(0.05, 0.3)
    labels = LABELS % 2 if net == "coupled" else LABELS
    return *pair, (labels if architecture.conditional else None), labels


def evaluating(generator, *given):
    """The generator in evaluation mode, with the statistics of what it makes of these inputs."""
    for module in generator.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = None  # running statistics are then those of all batches so far
    generator(*given)
    return generator.eval()


@pytest.mark.parametrize(("net", "kind", "head"), CASES)
def test_shapes_and_gradients(net, kind, head):
    """Both networks answer in the right shapes, and what is said of a sample reaches every parameter of both."""
    generator, discriminator, told, labels = built(net, kind, head)
    shape = KINDS[kind].shape
    samples = generator(torch.randn(B, generator.latent_dim), told)
    assert generator.noise_dim == 0
    assert samples.shape == (B, *shape)
    assert samples.dtype == torch.float32
    if len(shape) == 3:
        assert float(samples.detach().abs().max()) <= 1
    verdict = discriminator(samples, labels)
    assert verdict.real.shape == (B,)
    assert (verdict.classes is None) == (head != "auxiliary")
    said = verdict.real.square().sum()
    if verdict.classes is not None:
        assert verdict.classes.shape == (B, 4)
        said = said + verdict.classes.square().sum()
    said.backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
        untouched = [name for name, p in network.named_parameters() if not p.grad.any()]
        if head != "bare":  # a bias before batch normalisation has no effect
            untouched = [name for name in untouched if not name.endswith("bias")]
        assert not untouched


@pytest.mark.parametrize(("net", "kind"), [("dcgan", "8x8"), ("resnet", "8x8"), ("dcgan", "oblong")])
@pytest.mark.parametrize("head", ["plain", "biggan"])
def test_gradients_go_through_self_attention(net, kind, head):
    generator, discriminator, told, labels = built(net, kind, head, attention=True, width=16)
    discriminator(generator(torch.randn(B, 9), told), labels).real.square().sum().backward()
    for network in (generator, discriminator):
        # The bias of keys adds the same to all scores of a query, which softmax does not see.
        touched = [n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()]
        assert sum("query" in name for name in touched) == 2
        assert any(name.endswith("gamma") for name in touched)


@pytest.mark.parametrize(("net", "kind", "head"), CASES)
def test_labels_change_what_a_conditional_net_makes_and_no_other_takes_them(net, kind, head):
    generator, discriminator, told, labels = built(net, kind, head)
    z = torch.randn(B, 9)
    if told is None:
        with pytest.raises(UsageError, match="takes no labels"):
            generator(z, labels)
        return
    evaluating(generator, z, told)
    discriminator.eval()
    with pytest.raises(UsageError, match="label"):
        generator(z, None)
    count = 2 if net == "coupled" else 4
    with torch.no_grad():
        samples, others = generator(z, told), generator(z, (told + 1) % count)
    assert float((samples - others).abs().flatten(1).amax(1).min()) > 1e-4
    changed = discriminator(samples, labels).real - discriminator(samples, (labels + 1) % count).real
    reads = net == "coupled" or HEADS[head].head == "projection"
    assert bool((changed != 0).all()) if reads else not changed.any()


@pytest.mark.parametrize(("net", "kind", "head"), CASES)
def test_a_state_dict_is_all_there_is(net, kind, head):
    """After some training, fresh networks with the same state go on to the same bytes, in training and after."""
    pairs = [built(net, kind, head)[:2], built(net, kind, head)[:2]]
    _, _, told, labels = built(net, kind, head)
    z = torch.randn(B, 9)
    for _ in range(2):
        pairs[0][1](pairs[0][0](z, told), labels)
    for ours, theirs in zip(*pairs, strict=True):
        theirs.load_state_dict(ours.state_dict())
    for training in (True, False):
        for network in (*pairs[0], *pairs[1]):
            network.train(training)
        found = []
        for generator, discriminator in pairs:
            samples = generator(z, told)
            found.append((samples, discriminator(samples, labels).real))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(("net", "kind", "head"), CASES)
def test_in_evaluation_a_sample_depends_on_itself_alone(net, kind, head):
    generator, discriminator, told, labels = built(net, kind, head)
    evaluating(generator, torch.randn(B, 9), told)
    discriminator.eval()
    state = {name: value.clone() for name, value in generator.state_dict().items()}
    z = torch.randn(B, 9)
    samples = generator(z, told)
    assert torch.equal(generator(z, told), samples)
    verdict = discriminator(samples, labels).real
    backwards = generator(z.flip(0), None if told is None else told.flip(0))
    torch.testing.assert_close(backwards.flip(0), samples, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        discriminator(samples.flip(0), labels.flip(0)).real.flip(0), verdict, rtol=1e-4, atol=1e-5
    )
    assert float((samples[0] - samples[1]).detach().abs().max()) > 0
    assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())


# --- What single nets are


def test_dcgan_normalises_all_but_the_first_layer_of_its_discriminator_and_the_last_of_its_generator():
    generator, discriminator, *_ = built("dcgan", "28x28", "plain")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator.first.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules()) == 1
    assert not any(isinstance(module, nn.BatchNorm2d) for module in generator.last.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in generator.modules()) == 2
    _, discriminator, *_ = built("dcgan", "28x28", "spectral")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())


@pytest.mark.parametrize("kind", ["8x8", "plane"])
def test_coupled_nets_share_what_is_meant_and_not_how_it_looks(kind):
    generator, discriminator, *_ = built("coupled", kind, "plain")
    generator.eval()
    domains = torch.tensor([0, 1, 0, 1, 1, 0])
    z = torch.randn(B, 9)
    zeros, ones = (generator(z, torch.full((B,), domain)) for domain in (0, 1))
    mixed = generator(z, domains)
    assert torch.equal(mixed[domains == 0], zeros[domains == 0])
    assert torch.equal(mixed[domains == 1], ones[domains == 1])
    for network, own in ((generator, "lasts"), (discriminator, "firsts")):
        for domain in (0, 1):
            network.zero_grad()
            answer = network(*((z,) if network is generator else (mixed.detach(),)), torch.full((B,), domain))
            (answer if network is generator else answer.real).square().sum().backward()
            reached = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
            assert any(name.startswith("shared") for name in reached)
            assert any(name.startswith(f"{own}.{domain}") for name in reached)
            assert not any(name.startswith(f"{own}.{1 - domain}") for name in reached)


@pytest.mark.parametrize(
    ("kind", "head", "factor"), [("plane", "projection", 4), ("8x8", "projection", 1), ("plane", "bare", 1)]
)
def test_the_gain_multiplies_what_a_spectrally_normalised_critic_says_of_vectors(kind, head, factor):
    verdicts = []
    for gain in (1.0, 4.0):
        torch.manual_seed(0)
        _, discriminator, _, labels = built("resnet", kind, head, gain=gain)
        torch.manual_seed(1)
        verdicts.append(discriminator.eval()(torch.randn(B, *KINDS[kind].shape), labels).real)
    torch.testing.assert_close(verdicts[1], factor * verdicts[0])


def test_vectors_take_fully_connected_layers_in_place_of_convolutions():
    for net in ("dcgan", "resnet"):
        generator, discriminator, *_ = built(net, "plane", "projection")
        assert not any(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in generator.modules())
        assert sum(isinstance(module, nn.Linear) for module in discriminator.modules()) == 4


# --- Refusals


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Kind((1, 10, 8)), {}, "divisible by 4.*found 1 x 10 x 8"),
        (Kind((1, 8, 9)), {"net": "mlp"}, "divisible by 4"),
        (Kind((2, 8, 8)), {}, "1 or 3 channels.*found 2 x 8 x 8"),
        (KINDS["plane"], {"attention": True}, "has none: choose attention=False"),
        (KINDS["8x8"], {"net": "mlp", "attention": True}, "has none: choose attention=False"),
        (KINDS["plane"], {"net": "progressive"}, "works on the places of an image"),
        (Kind((1, 8, 8)), {"norm": "conditional"}, "need labels of 2 classes or more, and the data has 0"),
        (Kind((1, 8, 8), ("0",)), {"head": "auxiliary"}, "the data has 1"),
        (KINDS["8x8"], {"skip_z": True}, "need norm='conditional', found 'batch'"),
        (KINDS["8x8"], {"shared_embedding": True}, "need norm='conditional'"),
        (KINDS["8x8"], {"spectral": "both", "discriminator_norm": "batch"}, "spectral='none'"),
        (KINDS["8x8"], {"net": "coupled", "head": "projection"}, "its two domains, not classes"),
        (KINDS["8x8"], {"net": "coupled", "norm": "conditional"}, "its two domains, not classes"),
    ],
)
def test_what_cannot_be_built_is_refused(kind, fields, message):
    with pytest.raises(UsageError, match=message):
        networks(kind, replace(SMALL, **fields))


@pytest.mark.parametrize("field", ["net", "norm", "discriminator_norm", "spectral", "head"])
def test_words_that_are_not_known_are_refused(field):
    with pytest.raises(UnknownName, match="'bath'"):
        networks(KINDS["8x8"], replace(SMALL, **{field: "bath"}))


def test_every_net_has_a_name():
    for name, net in NETS.items():
        assert find_net(name) is net
        assert net.images or net.vectors
    with pytest.raises(UnknownName, match="did you mean 'dcgan'"):
        find_net("dcgann")
