"""Autoregressive models: what they say of every image there is, of what comes first, and of a law that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import chisquare
from torch import Tensor

from gen_eval import draws
from gen_eval.validation.check import Check, Known, at_least, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo import logistics
from gen_eval.zoo.autoregressive import NET, Autoregressive, AutoregressiveSampler
from gen_eval.zoo.data import TrainingData
from gen_eval.zoo.nets.pixelcnn import PixelCNN
from gen_eval.zoo.observations import LEVELS
from gen_eval.zoo.task import Kind, Model
from gen_eval.zoo.training import train

_SMALL: dict[str, Any] = {"width": 8, "layers": 3}


def _net(shape: tuple[int, ...], levels: int, components: int = 3) -> PixelCNN:
    """A network in float64 whose numbers heed one another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = PixelCNN(shape, levels, **_SMALL, components=components).double().eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


# --- Nine bits

_BITS = 2 ** torch.arange(9)
_DRAWN = 5000
_FEWEST = 5.0  # of an image, expected; rarer ones are counted together


def _nine_bits() -> Sequence[float]:
    """What the probabilities of all 512 images sum to, and the p-value of samples against them."""
    net = _net((1, 3, 3), 2)
    images = (torch.arange(512)[:, None] & _BITS).ne(0).long().view(-1, 1, 3, 3)
    probability = net.log_prob(images).exp()
    shares = torch.from_numpy(draws.uniform(torch.arange(_DRAWN), 9)).view(-1, 1, 3, 3)
    counts = torch.bincount((net.draw(shares).flatten(1) * _BITS).sum(1), minlength=512).double()
    return float(probability.sum()), _p_value(counts, _DRAWN * probability)


def _p_value(counts: Tensor, expected: Tensor) -> float:
    often = expected >= _FEWEST
    found, known = (torch.cat([x[often], x[~often].sum()[None]]) for x in (counts, expected))
    return float(chisquare(found[known > 0], (known / known.sum() * found.sum())[known > 0]).pvalue)


# --- What comes first

_GRAY, _COLOUR = (1, 4, 3), (3, 2, 3)


def _causality() -> Sequence[float]:
    """Of gray and colour: the greatest slope by a number not before, and the share of those before that count."""
    return [number for shape in (_GRAY, _COLOUR) for number in _slopes(shape)]


def _slopes(shape: tuple[int, ...]) -> tuple[float, float]:
    net, size = _net(shape, 7, components=1), math.prod(shape)
    x = normals(1, size, 0).view(1, *shape).clamp(-1, 1)
    found: Any = torch.func.jacrev(lambda x: net.outputs(x)[0])(x)  # [numbers, *shape, 1, *shape]
    sizes = found.abs().sum(0).reshape(size, size)
    # In the order of drawing: row by row, pixel by pixel, channel by channel.
    order = torch.arange(size).view(shape).permute(1, 2, 0).flatten()
    sizes = sizes[order][:, order]
    before = torch.ones(size, size).tril(-1).bool()
    return float(sizes[~before].max()), float((sizes[before] > 0).double().mean())


def _agreement() -> Sequence[float]:
    """Of gray and colour: how many numbers drawn from what was kept are not those that one pass gives."""
    found = []
    for shape in (_GRAY, _COLOUR):
        net, size = _net(shape, 7), math.prod(shape)
        shares = torch.from_numpy(draws.uniform(torch.arange(200), size)).view(-1, *shape)
        drawn = net.draw(shares)
        outputs = net.outputs(logistics.to_unit(drawn, 7).double()).transpose(0, 1).flatten(1).T
        again = logistics.level_of(outputs, shares.flatten(), 7)
        found.append(float((again != drawn.flatten()).sum()))
    return found


# --- Masses


def _masses() -> Sequence[float]:
    """Errors of masses against differences of the distribution function, of their sum, in the far tail; an integral."""
    outputs = torch.cat([normals(50, 3, 0), normals(50, 3, 1), normals(50, 3, 2) - 1.5], 1)
    of_levels = torch.stack(
        [logistics.log_mass(outputs, torch.full((50,), level), LEVELS) for level in range(LEVELS)], 1
    )
    weight, mean, sd = outputs[:, :3].softmax(1), outputs[:, 3:6], outputs[:, 6:].exp()
    edges = (2 * torch.arange(LEVELS + 1).double() - LEVELS) / (LEVELS - 1)
    edges[0], edges[-1] = -math.inf, math.inf
    below = (weight[..., None] * ((edges - mean[..., None]) / sd[..., None]).sigmoid()).sum(1)
    narrow = torch.tensor([[0.0, 5.0, -6.0]], dtype=torch.float64)  # all of it beyond the last level
    tail = [float(logistics.log_mass(narrow, torch.tensor([level]), LEVELS)) for level in range(LEVELS)]
    middles = (torch.arange(4 * LEVELS) + 0.5) / (4 * LEVELS)
    net = _net((1, 1, 1), LEVELS)
    density = AutoregressiveSampler("one pixel", Kind((1, 1, 1)), net, {}).log_prob(middles.view(-1, 1, 1, 1))
    return (
        float((of_levels.exp() - below.diff(dim=1)).abs().max()),
        float((of_levels.logsumexp(1)).abs().max()),
        # A level lower by 2 / 255 in the tail of a logistic is less likely by a factor exp(2 / 255 / scale).
        abs(tail[101] - tail[100] - 2 / 255 * math.exp(6)),
        float(density.exp().mean()),
    )


# --- A law whose entropy is known: a pixel is the exclusive or of its neighbours to the left and above, but for noise

_SIDE, _FLIPPED = 4, 0.1


def _exclusive_or(seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Images of levels 0 and 255, ``[n, 1, side, side]`` uint8, of as many seeds, and their log-probabilities."""
    noise = torch.from_numpy(draws.uniform(seeds, _SIDE**2) < _FLIPPED).view(-1, 1, _SIDE, _SIDE)
    flips = noise.flatten(1).sum(1)
    log_prob = flips * math.log(_FLIPPED) + (_SIDE**2 - flips) * math.log(1 - _FLIPPED)
    bits = torch.zeros(len(seeds), 1, _SIDE + 1, _SIDE + 1, dtype=torch.bool)  # off beyond the border
    for row in range(_SIDE):
        for column in range(_SIDE):
            told = bits[..., row, column + 1] ^ bits[..., row + 1, column]
            bits[..., row + 1, column + 1] = told ^ noise[..., row, column]
    return 255 * bits[..., 1:, 1:].to(torch.uint8), log_prob


def _learnt() -> float:
    """KL(law || model) in nats."""
    data = TrainingData("exclusive or", _exclusive_or(torch.arange(20_000))[0])
    recipe = Autoregressive(width=16, layers=2, components=2, rate=1e-2, batch=128)
    sampler: Any = train(Model(NET, "", recipe, ""), data, steps=400, device="cpu").sampler()
    x, log_prob = _exclusive_or(torch.arange(10**6, 10**6 + 5000))
    of_levels = sampler.log_prob((x.float() + 0.5) / LEVELS) - _SIDE**2 * math.log(LEVELS)
    return float((log_prob - of_levels).mean())


AUTOREGRESSIVE = (
    Check(
        "nine-bits",
        "The probabilities of all 512 images of nine bits sum to 1, and samples are as frequent as they say.",
        ("pixelcnn",),
        "quick",
        (near(1.0, 1e-6, "sum"), at_least(1e-3, "p-value")),
        _nine_bits,
        "van den Oord et al. 2016, arXiv:1601.06759, equation 1",
    ),
    Check(
        "what-comes-first",
        "No number of an image is told by itself or by those after it, and each by all before it.",
        ("pixelcnn",),
        "quick",
        (
            near(0.0, 0.0, "slope, gray"),
            near(1.0, 0.0, "told by those before, gray"),
            near(0.0, 0.0, "slope, colour"),
            near(1.0, 0.0, "told by those before, colour"),
        ),
        _causality,
        "van den Oord et al. 2016, arXiv:1606.05328, section 2.2",
    ),
    Check(
        "drawn-as-told",
        "A sample's numbers, drawn one by one from what was kept, are those that one pass over the sample gives.",
        ("pixelcnn",),
        "quick",
        (near(0.0, 0.0, "gray"), near(0.0, 0.0, "colour")),
        _agreement,
        "by definition",
    ),
    Check(
        "masses-of-levels",
        "A level has the mass of the mixture within its cell, however little that is; as a density of pixels it has "
        "the integral 1.",
        ("pixelcnn",),
        "quick",
        (
            near(0.0, 1e-12, "mass"),
            near(0.0, 1e-12, "sum, in nats"),
            near(0.0, 1e-9, "ratio in the far tail, nats"),
            near(1.0, 1e-6, "integral"),
        ),
        _masses,
        "Salimans et al. 2017, arXiv:1701.05517, equation 2",
    ),
    Check(
        "exclusive-or-learnt-by-pixelcnn",
        "Trained on pixels that are the exclusive or of two neighbours but for noise, it comes near to their law.",
        ("pixelcnn",),
        "standard",
        (Known(0.0, 0.01, 0.06, "divergence, nats"),),
        _learnt,
        "by definition; the tolerance measured",
    ),
)
