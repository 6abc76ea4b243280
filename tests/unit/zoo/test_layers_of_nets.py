"""Conditional batch normalisation, who is told of the label, heads, and how layers start."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from gen_eval.errors import UsageError
from gen_eval.zoo.nets import networks
from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.heads import Head
from gen_eval.zoo.nets.layers import Conditioning, Layers, Norm, narrow_normal, orthogonal
from gen_eval.zoo.task import Kind

DIGITS = Kind((1, 8, 8), tuple("0123"))
LABELS = torch.tensor([0, 3, 1, 1, 2])


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


# --- Normalisation


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_conditional_normalisation_starts_as_plain(flat, training):
    shape = (5, 6) if flat else (5, 6, 4, 4)
    conditional, plain = Norm(6, "conditional", 3, flat=flat), Norm(6, "batch", 0, flat=flat)
    for _ in range(3):  # so that running statistics are none of the first
        x = 2 * torch.randn(shape) + 1
        conditional(x, torch.randn(5, 3))
        plain(x, torch.empty(5, 0))
    conditional.train(training)
    plain.train(training)
    x = torch.randn(shape)
    torch.testing.assert_close(conditional(x, torch.randn(5, 3)), plain(x, torch.empty(5, 0)))


@pytest.mark.parametrize("flat", [True, False])
def test_gain_and_bias_are_linear_in_the_condition(flat):
    norm = Norm(6, "conditional", 3, flat=flat).double()
    nn.init.normal_(norm.styles.weight)
    x = torch.randn((5, 6) if flat else (5, 6, 4, 4), dtype=torch.float64)
    condition = torch.randn(5, 3, dtype=torch.float64)
    normalised = nn.functional.batch_norm(x, None, None, training=True)
    found = norm(x, condition)
    for i in range(5):
        gain = 1 + norm.styles.weight[:6] @ condition[i]
        bias = norm.styles.weight[6:] @ condition[i]
        spread = (slice(None),) + (None,) * (x.ndim - 2)
        torch.testing.assert_close(found[i], gain[spread] * normalised[i] + bias[spread])


def test_no_normalisation_leaves_features_alone():
    x = torch.randn(5, 6)
    assert torch.equal(Norm(6, "none", 0, flat=True)(x, torch.empty(5, 0)), x)


# --- Who is told


def conditioning(kind=DIGITS, blocks=2, **fields):
    return Conditioning(kind, Architecture(latent=10, embedding=5, **fields), blocks)


def test_without_classes_the_first_layer_gets_the_latent():
    made, z = conditioning(), torch.randn(5, 10)
    first, told = made(z, None)
    assert torch.equal(first, z)
    assert [len(condition[0]) for condition in told] == made.told == [0, 0]


def test_classes_without_conditional_normalisation_stand_beside_the_latent():
    made, z = conditioning(head="auxiliary"), torch.randn(5, 10)
    first, told = made(z, LABELS)
    assert made.first == first.shape[1] == 15
    assert torch.equal(first[:, :10], z)
    assert torch.equal(first[:, 10:], made.embedding.weight[LABELS])
    assert [len(condition[0]) for condition in told] == made.told == [0, 0]


def test_each_block_has_a_table_of_its_own_or_all_share_an_embedding():
    z = torch.randn(5, 10)
    alone, shared = conditioning(norm="conditional"), conditioning(norm="conditional", shared_embedding=True)
    first, told = alone(z, LABELS)
    assert torch.equal(first, z)
    assert torch.equal(told[0], torch.eye(4)[LABELS])
    assert torch.equal(told[0], told[1])
    assert sum(1 for _ in alone.parameters()) == 0
    first, told = shared(z, LABELS)
    assert torch.equal(told[1], shared.embedding.weight[LABELS])
    assert alone.told == [4, 4]
    assert shared.told == [5, 5]
    assert alone.first == shared.first == 10


@pytest.mark.parametrize(("shared", "code"), [(True, 5), (False, 4)])
def test_each_block_gets_its_chunk_of_the_latent(shared, code):
    made = conditioning(norm="conditional", shared_embedding=shared, skip_z=True)
    z = torch.randn(5, 10)
    first, told = made(z, LABELS)
    assert made.first == first.shape[1] == 4  # 10 = 4 + 3 + 3
    assert made.told == [code + 3, code + 3]
    assert torch.equal(torch.cat([first, told[0][:, code:], told[1][:, code:]], 1), z)
    assert torch.equal(told[0][:, :code], told[1][:, :code])


def test_labels_that_are_missing_or_not_known_are_refused():
    z = torch.randn(5, 10)
    with pytest.raises(UsageError, match="takes one of 4 labels for each sample; found None"):
        conditioning(norm="conditional")(z, None)
    with pytest.raises(UsageError, match=r"takes no labels; found \[5\]"):
        conditioning()(z, LABELS)
    with pytest.raises(UsageError, match="into 11 chunks, and it has 10"):
        conditioning(blocks=10, norm="conditional", skip_z=True)


# --- Heads


def head(name):
    return Head(7, DIGITS, Architecture(head=name), Layers(orthogonal))


def test_a_projection_adds_the_inner_product_with_the_label():
    made, features = head("projection"), torch.randn(5, 7)
    nn.init.normal_(made.real.bias)
    verdict = made(features, LABELS)
    for i, label in enumerate(LABELS):
        plain = made.real.weight[0] @ features[i] + made.real.bias[0]
        torch.testing.assert_close(verdict.real[i], plain + made.embedding.weight[label] @ features[i])
    assert verdict.classes is None
    with pytest.raises(UsageError, match="give labels"):
        made(features, None)


def test_an_auxiliary_head_classifies_whatever_the_label():
    made, features = head("auxiliary"), torch.randn(5, 7)
    verdict = made(features, None)
    assert verdict.real.shape == (5,)
    torch.testing.assert_close(verdict.classes, features @ made.classes.weight.T)
    again = made(features, LABELS)
    assert torch.equal(again.real, verdict.real)
    assert torch.equal(again.classes, verdict.classes)


def test_a_plain_head_is_a_number():
    verdict = head("none")(torch.randn(5, 7), LABELS)
    assert verdict.real.shape == (5,)
    assert verdict.classes is None


# --- How layers start


def test_weights_start_as_the_papers_say():
    make = Layers(narrow_normal)
    weights = make.conv(40, 50, 3).weight
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.03)
    layer = Layers(orthogonal).linear(30, 20)
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(20))
    assert not layer.bias.any()


def test_layers_keep_halve_and_double_sides():
    make, x = Layers(orthogonal), torch.randn(2, 3, 6, 8)
    assert make.conv(3, 4, 3)(x).shape == (2, 4, 6, 8)
    assert make.conv(3, 4, 4, stride=2)(x).shape == (2, 4, 3, 4)
    assert make.doubling_conv(3, 4)(x).shape == (2, 4, 12, 16)


WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


@pytest.mark.parametrize("net", ["mlp", "dcgan", "resnet"])
@pytest.mark.parametrize("spectral", ["none", "discriminator", "both"])
def test_weights_are_normalised_where_asked_for(net, spectral):
    """All of them but the maps and embeddings of conditions, and the classifier beside a critic."""
    architecture = Architecture(net=net, width=16, spectral=spectral, norm="conditional", head="projection")
    generator, discriminator = networks(DIGITS, architecture)
    expected = {
        "generator": spectral == "both",
        "discriminator": spectral != "none",
    }
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        layers = {
            path: is_parametrized(layer, "weight")
            for path, layer in network.named_modules()
            if isinstance(layer, WEIGHTED) and not path.endswith(("styles", "conditioning.embedding"))
        }
        assert len(layers) >= 3
        assert set(layers.values()) == {expected[name]}, layers
    _, discriminator = networks(DIGITS, Architecture(net=net, width=16, spectral=spectral, head="auxiliary"))
    assert not is_parametrized(discriminator.head.classes)
