"""Checks of discrete flows catch what they are for: each is run on something that was broken on purpose."""

from __future__ import annotations

import pytest
import torch

from gen_eval.validation import discrete_flows
from gen_eval.zoo import autoregressive_flows
from gen_eval.zoo.autoregressive_flows import AutoregressiveNet
from gen_eval.zoo.flows import FlowSampler
from gen_eval.zoo.nets import multiscale
from gen_eval.zoo.nets.couplings import Coupling, Mixing, Scale
from gen_eval.zoo.nets.multiscale import MultiScale

couple, mix, scaled, begin = Coupling.forward, Mixing.forward, Scale.forward, Scale._begin
unscaled, latent, layer = Scale.inverse, FlowSampler.latent, autoregressive_flows._layer
of_maps = MultiScale.to_latent
of_numbers = AutoregressiveNet.to_latent


def without_volume(coupling, x):
    y, log_det = couple(coupling, x)
    return y, 0 * log_det


def of_one_place(mixing, x):
    y, log_det = mix(mixing, x)
    return y, log_det / x[0, 0].numel()


def by_all(coupling, x):
    """What changes is decided by what changes."""
    _, log_det = couple(coupling, x)
    staying = x[:, coupling.staying] * (1 + x[:, coupling.changing].flatten(1).mean() / 10)
    log_scale, shift = coupling._decided(staying)
    changed = x[:, coupling.changing] * log_scale.exp() + shift
    return torch.cat([x[:, coupling.staying], changed], 1)[:, coupling.back], log_det


def seen_by_all(order, made_of):
    """A masked network whose masks let everything through."""
    made = layer(order, made_of)
    for part in made.hyper:
        if hasattr(part, "mask"):
            part.mask.fill_(True)
    return made


def one_pass_less(order, made_of):
    made = layer(order, made_of)
    made.passes -= 1
    return made


def by_sample_variance(scale, x):
    begin(scale, x)
    scale.log_scale += 0.01


def every_time(scale, x):
    scale.begun.fill_(not scale.training)
    return scaled(scale, x)


def in_rows(x):
    """Halves a map's sides by cutting its rows."""
    b, c, h, w = x.shape
    return x.reshape(b, 4 * c, h // 2, w // 2)


REAL_NVP, GLOW = "volume-of-a-flow-realnvp", "volume-of-a-flow-glow"
BROKEN = {
    "no volume": (REAL_NVP, Coupling, "forward", without_volume),
    "no triangle": (REAL_NVP, Coupling, "forward", by_all),
    "no volume of the prior": (
        *("volume-of-a-flow-nice", Scale, "forward"),
        lambda scale, x: (scaled(scale, x)[0], x.new_zeros(len(x))),
    ),
    "no shift on the way back": (
        *("volume-of-a-flow-nice", Scale, "inverse"),
        lambda scale, y: unscaled(scale, y + scale.shift),
    ),
    "volume of one place": (GLOW, Mixing, "forward", of_one_place),
    "volume of one place alone": ("volume-of-an-invertible-convolution", Mixing, "forward", of_one_place),
    "transposed for inverted": (
        *(GLOW, Mixing, "inverse"),
        lambda mixing, y: torch.einsum("ji,bj...->bi...", mixing.matrix(), y),
    ),
    "volume of the last scale": (
        *(GLOW, MultiScale, "to_latent"),
        lambda net, x, probe=None: (of_maps(net, x)[0], of_maps(net, x)[1] / 2),
    ),
    "everything sees everything": (
        *("volume-of-a-flow-maf", autoregressive_flows, "_layer"),
        seen_by_all,
    ),
    "a pass too few": ("volume-of-a-flow-maf", autoregressive_flows, "_layer", one_pass_less),
    "splines with a pass too few": ("volume-of-a-flow-nsf", autoregressive_flows, "_layer", one_pass_less),
    "the volume of the inverse": (
        *("volume-of-a-flow-iaf", AutoregressiveNet, "to_latent"),
        lambda net, x, probe=None: (of_numbers(net, x)[0], -of_numbers(net, x)[1]),
    ),
    "another squeeze": ("squeeze-and-back", discrete_flows, "squeeze", in_rows),
    "shuffled squares": (
        *("squeeze-and-back", discrete_flows, "squeeze"),
        lambda x: multiscale.squeeze(x.transpose(2, 3)).transpose(2, 3),
    ),
    "given away unscaled": ("channels-given-away", Coupling, "forward", without_volume),
    "another variance": ("actnorm-begins-with-data", Scale, "_begin", by_sample_variance),
    "set by every batch": ("actnorm-begins-with-data", Scale, "forward", every_time),
    "temperature unheard": (
        *("temperature-of-flows", FlowSampler, "latent"),
        lambda sampler, seeds, truncation=None: latent(sampler, seeds),
    ),
    "temperature added": (
        *("temperature-of-flows", FlowSampler, "latent"),
        lambda sampler, seeds, truncation=None: latent(sampler, seeds) + (truncation or 0.0),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    assert_missed(*BROKEN[what])
