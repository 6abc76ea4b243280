"""Checks of autoregressive models catch what they are for: each is run on something that was broken on purpose."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gen_eval.zoo import logistics
from gen_eval.zoo.autoregressive import AutoregressiveSampler
from gen_eval.zoo.nets import pixelcnn
from gen_eval.zoo.nets.pixelcnn import GatedLayer, PixelCNN

mass, level_of, said = logistics.log_mass, logistics.level_of, PixelCNN._said
log_prob, add = AutoregressiveSampler.log_prob, pixelcnn._Kept.add


def of_the_middle(layer, v, h):
    """The rows below are seen as well as those above."""
    above = layer.above(F.pad(v, (layer.side, layer.side, layer.top - layer.top // 2, layer.top // 2)))
    out = layer.out(pixelcnn.gated(layer.beside(F.pad(h, (layer.left, 0))) + layer.across(above)))
    return pixelcnn.gated(above), h + out if layer._residual else out


def without_rows(layer, v, h):
    """The rows above are not passed on to the row."""
    above = layer.above(F.pad(v, (layer.side, layer.side, layer.top, 0)))
    out = layer.out(pixelcnn.gated(layer.beside(F.pad(h, (layer.left, 0)))))
    return pixelcnn.gated(above), h + out if layer._residual else out


def seen_by_all(net, h, x):
    """A channel is told by itself and by those after it."""
    net.seen = torch.ones_like(net.seen)
    return said(net, h, x)


def seen_by_none(net, h, x):
    net.seen = torch.zeros_like(net.seen)
    return said(net, h, x)


def without_tails(outputs, level, levels):
    """The first and the last level have the mass of a cell as wide as others."""
    return mass(outputs, level + 1, levels + 2)


def by_slope(outputs, level, levels):
    """The density at the middle, in place of the mass: what implementations take for narrow cells."""
    logits, mean, rate = logistics._components(outputs)
    z = (2 * level[:, None].to(outputs) / (levels - 1) - 1 - mean) * rate
    density = F.logsigmoid(z) + F.logsigmoid(-z) + rate.log() + torch.log(torch.tensor(2 / (levels - 1)))
    return (logits.log_softmax(1) + density).logsumexp(1)


BROKEN = {
    "shares upside down": (
        *("nine-bits", logistics, "level_of"),
        lambda outputs, share, levels: level_of(outputs, share.square(), levels),
    ),
    "masses of a cell alone": ("nine-bits", logistics, "log_mass", without_tails),
    "rows below": ("what-comes-first", GatedLayer, "forward", of_the_middle),
    "no rows above": ("what-comes-first", GatedLayer, "forward", without_rows),
    "a channel told by itself": ("what-comes-first", PixelCNN, "_said", seen_by_all),
    "channels that are not told": ("what-comes-first", PixelCNN, "_said", seen_by_none),
    "a pixel kept a column too far": (
        *("drawn-as-told", pixelcnn._Kept, "add"),
        lambda kept, x, row, column: add(kept, x, row, min(column + 1, kept._places.shape[3] - 1)),
    ),
    "a pixel kept a row too far": (
        *("drawn-as-told", pixelcnn._Kept, "add"),
        lambda kept, x, row, column: add(kept, x, min(row + 1, kept._places.shape[2] - 1), column),
    ),
    "slopes for masses": ("masses-of-levels", logistics, "log_mass", by_slope),
    "a density of levels": (
        *("masses-of-levels", AutoregressiveSampler, "log_prob"),
        lambda sampler, x: log_prob(sampler, x) - 1e-3,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_missed(what, assert_missed):
    assert_missed(*BROKEN[what])
