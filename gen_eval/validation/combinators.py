"""What is made of other generators does what it says, on tiny images and on the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gen_eval.validation.check import Check, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.combinators import Blurred, KeepModes, Mix, Noisy, Shifted
from gen_eval.zoo.worlds import Empirical, Gaussian, Mixture

_N = 20_000
_TIMES = (1, 2, 3)  # how often the data has each class


def _flat(level: int) -> Tensor:
    return torch.full((1, 1, 2, 2), level, dtype=torch.uint8)


def _shares() -> Sequence[float]:
    """Of a mixture the share of its second part and its density; of some modes shares, labels and density."""
    mix = Mix([Empirical(_flat(0)), Empirical(_flat(255))], (0.3, 0.7))
    white = (mix.sample(_N, seed=0) == 255).double().mean()
    there, far = Gaussian((0.0,), torch.eye(1)), Gaussian((50.0,), torch.eye(1))
    at_centre = torch.tensor([[50.0]])
    lost = Mix([there, far], (0.3, 0.7)).log_prob(at_centre) - far.log_prob(at_centre)

    labels = torch.arange(3).repeat_interleave(torch.tensor(_TIMES))
    images = torch.cat([_flat(int(label)) for label in labels])
    kept = KeepModes(Empirical(images, labels), [2, 0])
    levels = kept.sample(_N, seed=0)[:, 0, 0, 0]
    asked = torch.arange(100) % 2
    told = kept.sample(100, seed=0, labels=asked)[:, 0, 0, 0] == torch.tensor([2, 0])[asked]

    ring = Mixture.ring()
    centres = ring.sample(4, seed=0, labels=[0, 0, 1, 1]).double()
    gain = KeepModes(ring, [0, 1]).log_prob(centres) - ring.log_prob(centres)
    return [
        float(white),
        float(lost),
        float((levels == 2).double().mean()),
        float((levels == 0).double().mean()),
        float(told.double().mean()),
        float(gain.mean()),
    ]


_NOISE = 12.0


def _noise() -> Sequence[float]:
    """Mean and standard deviation of noise on a gray image; correlations of its channels, and of a coloured one's."""
    gray = torch.full((1, 3, 8, 8), 128, dtype=torch.uint8)
    coloured = gray + 10 * torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1)
    noise = [
        Noisy(Empirical(image), _NOISE).sample(2000, seed=0).double() - image.double()
        for image in (gray, coloured)
    ]
    between = [float(each.transpose(0, 1).flatten(1).corrcoef()[0, 1]) for each in noise]
    seeds = torch.stack([noise[0][:-1, 0].flatten(), noise[0][1:, 0].flatten()]).corrcoef()[0, 1]
    return [float(noise[0].mean()), float(noise[0].std()), *between, float(seeds)]


_BLUR = 1.5


def _blur() -> Sequence[float]:
    """The place and the standard deviation of the slope of an edge, blurred; down and across."""
    side = 24
    edge = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    edge[..., side // 2 :] = 255
    found = []
    for down in (True, False):
        image = edge.transpose(2, 3) if down else edge
        blurred = Blurred(Empirical(image), _BLUR).sample(1, seed=0)[0, 0].double()
        profile = blurred[:, side // 2] if down else blurred[side // 2]
        slope = profile.diff() / 255
        places = torch.arange(1, side).double() - side / 2
        mean = float((slope * places).sum())
        found += [mean, math.sqrt(float((slope * (places - mean).square()).sum()))]
    return found


def _shift() -> Sequence[float]:
    """How many pixels are not where they belong, and the greatest error of a way on the plane."""
    image = torch.arange(1, 49, dtype=torch.uint8).view(1, 1, 6, 8)
    moved = Shifted(Empirical(image), (1, -2)).sample(1, seed=0)
    expected = torch.zeros_like(image)
    expected[..., 1:, :-2] = image[..., :-1, 2:]
    ring, way = Mixture.ring(), torch.tensor([1.0, -0.5])
    off = Shifted(ring, way).sample(100, seed=0) - ring.sample(100, seed=0) - way
    x = normals(100, 2, 0)
    density = Shifted(ring, way).log_prob(x + way) - ring.log_prob(x)
    return [float((moved != expected).sum()), float(off.abs().max()), float(density.abs().max())]


COMBINATORS = (
    Check(
        "shares-of-parts",
        "A mixture takes its parts as often as its weights say; of some modes each is as often as before, relative to "
        "the others, and labels are theirs. Densities follow.",
        ("mix", "keep-modes"),
        "quick",
        (
            near(0.7, 0.015, "share of the second part"),
            near(math.log(0.7), 1e-9, "log-density at its centre, less its own"),
            near(0.75, 0.015, "share of a mode kept"),
            near(0.25, 0.015, "share of another"),
            near(1.0, 0.0, "labels honoured"),
            near(math.log(4.0), 1e-6, "log-density of 2 of 8 modes, less that of all"),
        ),
        _shares,
        "arithmetic",
    ),
    Check(
        "noise-on-images",
        "Noise has mean 0 and the standard deviation asked for, rounding included; it is one on the channels of a gray "
        "image, and independent on those of another and from seed to seed.",
        ("noisy",),
        "quick",
        (
            near(0.0, 0.15, "mean in levels"),
            near(math.sqrt(_NOISE**2 + 1 / 12), 0.1, "standard deviation in levels"),
            near(1.0, 1e-9, "correlation of channels, gray"),
            near(0.0, 0.02, "correlation of channels, coloured"),
            near(0.0, 0.02, "correlation of seeds"),
        ),
        _noise,
        "arithmetic",
    ),
    Check(
        "blur-of-an-edge",
        "The slope of an edge that is blurred is the Gaussian that blurs it.",
        ("blurred",),
        "quick",
        tuple(
            known
            for way in ("down", "across")
            for known in (near(0.0, 0.02, f"place, {way}"), near(_BLUR, 0.05, f"standard deviation, {way}"))
        ),
        _blur,
        "a convolution with a step",
    ),
    Check(
        "shift-of-images-and-points",
        "Images move by whole pixels and leave black behind; points and their density move by the way asked for.",
        ("shifted",),
        "quick",
        (
            near(0.0, 0.0, "pixels misplaced"),
            near(0.0, 1e-6, "error on the plane"),
            near(0.0, 1e-9, "error of the log-density"),
        ),
        _shift,
        "arithmetic",
    ),
)
