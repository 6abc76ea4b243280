"""Flows of couplings and autoregressive ones: their volumes, inverses and parts, and what they learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from gen_eval.datasets import load
from gen_eval.validation.check import Check, Known, at_most, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.autoregressive_flows import AutoregressiveFlow
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.data import open_data
from gen_eval.zoo.flows import Flow, FlowNet, FlowSampler
from gen_eval.zoo.nets.couplings import Coupling, Mixing, Scale, squeeze, unsqueeze
from gen_eval.zoo.nets.multiscale import convolutions
from gen_eval.zoo.task import Kind, Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

# Sides and channels that differ, so that none can be taken for another.
_IMAGES, _VECTORS = Kind((3, 4, 8)), Kind((5,))
_GLOW: dict[str, Any] = {"mixing": "invertible", "actnorm": True}
_SMALL: Mapping[str, Flow] = {
    "nice": CouplingFlow(coupling="additive", width=8, flat=True),
    "nice of maps": CouplingFlow(coupling="additive", width=8),
    "realnvp": CouplingFlow(width=8),
    "glow": CouplingFlow(width=8, **_GLOW),
    "maf": AutoregressiveFlow(layers=2, width=16),
    "iaf": AutoregressiveFlow(layers=2, width=16, fast="sampling"),
    "nsf": AutoregressiveFlow(layers=2, width=16, transform="spline", bins=4),
}


def _net(recipe: Flow, kind: Kind) -> FlowNet:
    """A network in float64, far enough from where it begins that every part does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = recipe.net(kind).double().eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net


# --- Volumes and inverses


def _invertible(recipe: Flow) -> Sequence[float]:
    """Greatest errors of the log-determinant against autograd's Jacobian and of the inverse, of images and vectors."""
    found = [_errors(_net(recipe, kind), kind) for kind in (_IMAGES, _VECTORS)]
    return [max(errors) for errors in zip(*found, strict=True)]


def _errors(net: FlowNet, kind: Kind) -> tuple[float, float]:
    x = normals(2, math.prod(kind.shape), 0).view(-1, *kind.shape)
    with torch.no_grad():
        z, log_det = net.to_latent(x)
        back = net.from_latent(z)
        known = [torch.linalg.slogdet(_jacobian(net, each)).logabsdet for each in x]
    return float((log_det - torch.stack(known)).abs().max()), float((back - x).abs().max())


def _jacobian(net: FlowNet, x: Tensor) -> Tensor:
    """Of the latent of one x, ``[d, d]``."""
    found: Tensor = torch.func.jacrev(lambda x: net.to_latent(x[None])[0][0])(x)
    return found.reshape(x.numel(), x.numel())


def _mixing() -> Sequence[float]:
    """Errors of a mixing's volume on maps: at the beginning, where it is a rotation, and after its weights moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixing = Mixing(6).double()
    x, found = normals(1, 6 * 4 * 3, 0).view(1, 6, 4, 3), []
    for step in range(2):
        known = 12 * torch.linalg.slogdet(mixing.matrix()).logabsdet
        found.append(float((mixing(x)[1] - known).abs().max().detach()))
        if not step:
            found.append(abs(float(known.detach())))
        with torch.no_grad():
            for number, parameter in enumerate(mixing.parameters()):
                parameter.add_(0.3 * normals(1, parameter.numel(), number).view_as(parameter))
    return found


def _squeeze() -> Sequence[float]:
    """Whether nothing is lost, and channels are the places of pixels in squares."""
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    y = squeeze(x)
    places = [torch.equal(y[:, place::4], x[:, :, place // 2 :: 2, place % 2 :: 2]) for place in range(4)]
    return float(torch.equal(unsqueeze(y), x)), float(sum(places))


# --- Parts


def _split_prior() -> float:
    """The greatest error of the density of channels given away against the Gaussian that those kept tell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = convolutions(8, 3, 6)
        torch.nn.init.normal_(network[-1].weight)
    split = Coupling(torch.arange(6) < 3, lambda inputs, outputs: network, affine=True).double()
    x = normals(5, 6 * 4, 0).view(5, 6, 2, 2)
    kept, given = x.chunk(2, 1)
    with torch.no_grad():
        y, log_det = split(x)
        at = [torch.cat([kept, torch.full_like(given, level)], 1) for level in (0.0, 1.0)]
        mean, a_sd_above = (split.inverse(each).chunk(2, 1)[1] for each in at)
    standard: Any = Normal(0.0, 1.0)
    told: Any = Normal(mean, a_sd_above - mean)
    found = standard.log_prob(y.chunk(2, 1)[1]).flatten(1).sum(1) + log_det
    return float((found - told.log_prob(given).flatten(1).sum(1)).abs().max())


def _actnorm() -> Sequence[float]:
    """Of normalised channels on the first batch, greatest mean and error of the variance; moves on the second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _SMALL["glow"].net(_IMAGES).double().train()
    outputs: list[Tensor] = []
    parts = [part for part in net.modules() if isinstance(part, Scale) and not part.begun]
    hooks = [part.register_forward_hook(lambda *given: outputs.append(given[-1][0])) for part in parts]
    batch = 3 * normals(16, math.prod(_IMAGES.shape), 0).view(-1, *_IMAGES.shape) + 2
    with torch.no_grad():
        net.to_latent(batch)
        for hook in hooks:
            hook.remove()
        first = [part.shift.clone() for part in parts]
        net.to_latent(2 * batch)
    rows = torch.cat([output.mean((0, 2, 3)) for output in outputs])
    variances = torch.cat([output.var((0, 2, 3), correction=0) for output in outputs])
    moved = [float((part.shift.detach() - old).abs().max()) for part, old in zip(parts, first, strict=True)]
    return float(rows.abs().max()), float((variances - 1).abs().max()), max(moved)


def _temperature() -> Sequence[float]:
    """How far samples at temperature 0 are from that of the latent 0, and those at 1 from those without one."""
    apart, moved = [], []
    for recipe in _SMALL.values():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            modules = recipe.task(_VECTORS).modules.eval()
        scaling = {"mean": torch.full(_VECTORS.shape, 3.0), "sd": torch.full(_VECTORS.shape, 2.0)}
        sampler = recipe.sampler("flow", _VECTORS, modules, scaling)
        assert isinstance(sampler, FlowSampler)
        mode = sampler.synthesize(torch.zeros(1, *_VECTORS.shape)).detach()
        apart.append(float((sampler.sample(5, seed=0, truncation=0.0) - mode).abs().max()))
        moved.append(
            float((sampler.sample(5, seed=0, truncation=1.0) - sampler.sample(5, seed=0)).abs().max())
        )
    return max(apart), max(moved)


# --- What is learnt of eight Gaussians, and of digits of 17 levels

_RING = Mixture.ring(sd=0.3)
_PLANE: dict[str, Any] = {"batch": 256, "rate": 2e-3}
_LEARNT: Mapping[str, tuple[CouplingFlow | AutoregressiveFlow, int, float]] = {
    "realnvp": (CouplingFlow(depth=4, width=64, **_PLANE), 1000, 0.2),
    "glow": (CouplingFlow(depth=4, width=64, **_GLOW, **_PLANE), 1000, 0.2),
    "maf": (AutoregressiveFlow(layers=6, width=64, **_PLANE), 1000, 0.2),
    "nsf": (AutoregressiveFlow(layers=3, width=64, transform="spline", **_PLANE), 800, 0.08),
}


def _ring(name: str) -> Sequence[float]:
    """KL(ring || model) in nats, and the integral of the model's density over a square."""
    recipe, steps, _ = _LEARNT[name]
    sampler: Any = train(
        Model(name, "", recipe, ""), open_data(_RING, n=20_000), steps=steps, device="cpu"
    ).sampler()
    x = _RING.sample(20_000, seed=10**6)
    middles = (torch.arange(400) + 0.5) / 400 * 12 - 6
    total = sampler.log_prob(torch.cartesian_prod(middles, middles)).exp().sum() * (12 / 400) ** 2
    return float((_RING.log_prob(x) - sampler.log_prob(x)).mean()), float(total)


_LEVELS = 17  # of the digits: 0 to 16


def _digits() -> float:
    """Bits per dimension of held-out digits, told as for their 17 levels."""
    train_rows, test_rows = (_of_levels(split, copies) for split, copies in (("train", 20), ("test", 1)))
    model = Model("realnvp", "", CouplingFlow(levels=1, depth=6, width=64, batch=128), "")
    sampler: Any = train(model, open_data(train_rows), steps=500, device="cpu").sampler()
    nats = -sampler.log_prob(test_rows).mean() / test_rows.shape[1]
    return float(nats) / math.log(2) + math.log2(_LEVELS)


def _of_levels(split: str, copies: int) -> Tensor:
    """Digits as vectors (level + noise) / 17, ``[copies * n, 64]``, with other noise in each copy."""
    images = torch.from_numpy(load("digits", split).images).flatten(1)
    levels = (images.double() * (_LEVELS - 1) / 255).round().repeat(copies, 1)
    noise = torch.special.ndtr(normals(len(levels), levels.shape[1], copies))
    found: Tensor = (levels + noise) / _LEVELS
    return found.float()


def _ring_known(name: str) -> tuple[Known, ...]:
    return (at_most(_LEARNT[name][2], "divergence from the ring"), near(1.0, 1e-3, "integral"))


DISCRETE_FLOWS = (
    *(
        Check(
            f"volume-of-a-flow-{name.replace(' ', '-')}",
            "The log-determinant is that of the Jacobian, and the inverse leads back, of images and of vectors.",
            (name.split()[0],),
            "quick",
            (near(0.0, 1e-10, "log-determinant"), near(0.0, 1e-10, "inverse")),
            lambda recipe=recipe: _invertible(recipe),  # type: ignore[misc]
            "Dinh et al. 2017, arXiv:1605.08803, section 3.1",
        )
        for name, recipe in _SMALL.items()
    ),
    Check(
        "volume-of-an-invertible-convolution",
        "A matrix over the channels changes the volume of a map by its determinant at each place; it begins as a "
        "rotation, by 1.",
        ("glow",),
        "quick",
        (near(0.0, 1e-10, "at first"), near(0.0, 1e-5, "of a rotation"), near(0.0, 1e-10, "once it moved")),
        _mixing,
        "Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.2",
    ),
    Check(
        "squeeze-and-back",
        "Squeezing loses nothing, and each channel holds one place of all 2 x 2 squares.",
        ("realnvp", "glow"),
        "quick",
        (near(1.0, 0.0, "the same"), near(4.0, 0.0, "places")),
        _squeeze,
        "Dinh et al. 2017, arXiv:1605.08803, section 3.6",
    ),
    Check(
        "channels-given-away",
        "What a level gives away has the Gaussian density, with mean and scale, that the channels kept tell.",
        ("realnvp", "glow"),
        "quick",
        (near(0.0, 1e-10, "log-density"),),
        _split_prior,
        "Kingma and Dhariwal 2018, arXiv:1807.03039",
    ),
    Check(
        "actnorm-begins-with-data",
        "On the first batch all normalised channels have mean 0 and variance 1; a second one sets nothing.",
        ("glow",),
        "quick",
        (near(0.0, 1e-10, "mean"), near(0.0, 1e-10, "variance"), near(0.0, 0.0, "moved by a second batch")),
        _actnorm,
        "Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.1",
    ),
    Check(
        "temperature-of-flows",
        "At temperature 0 every sample is that of the latent 0; at 1 it is what it is without one.",
        tuple(dict.fromkeys(name.split()[0] for name in _SMALL)),
        "quick",
        (near(0.0, 1e-5, "at 0"), near(0.0, 0.0, "at 1")),
        _temperature,
        "Kingma and Dhariwal 2018, arXiv:1807.03039, section 6",
    ),
    *(
        Check(
            f"ring-learnt-by-{name}",
            "Trained on eight Gaussians in a ring, its density is near theirs and integrates to 1.",
            (name, "ring8"),
            "standard",
            _ring_known(name),
            lambda name=name: _ring(name),  # type: ignore[misc]
            "measured; the integral by definition",
        )
        for name in _LEARNT
    ),
    Check(
        "digits-learnt-by-realnvp",
        "Bits per dimension of digits of 17 levels by other writers than those that it learnt from; an even code "
        "takes 4.09.",
        ("realnvp",),
        "standard",
        (near(2.57, 0.1, "bits per dimension"),),
        _digits,
        "measured",
    ),
)
