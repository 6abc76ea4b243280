"""Objectives, penalties and parts of networks, each against what it must do where that can be worked out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.validation.check import Check, at_least, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.nets import progressive, style
from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.attention import SelfAttention
from gen_eval.zoo.nets.layers import Layers
from gen_eval.zoo.nets.spectral import iterated, spectrally_normalised
from gen_eval.zoo.objectives import find_objective
from gen_eval.zoo.penalties import ORTHOGONAL_FORMS, clip, gradient_penalty, orthogonal, r1
from gen_eval.zoo.styled import Styled
from gen_eval.zoo.task import Kind

# --- Objectives

_SURE_OF_A_FAKE = -10.0  # the critic value of a discriminator that gives a sample one chance in 22,000


def _slopes() -> Sequence[float]:
    """Of what the generator pays, in the critic value."""
    found = []
    for name in ("saturating", "non-saturating"):
        value = torch.tensor([_SURE_OF_A_FAKE], dtype=torch.float64, requires_grad=True)
        find_objective(name).generator_loss(value).backward()  # type: ignore[no-untyped-call]
        assert value.grad is not None
        found.append(float(value.grad))
    return found


_JSD = 0.0992901  # of N(0, 1) and N(1, 1.5²), in nats


def _best_discriminator() -> Sequence[float]:
    """What the loss at v = log(p/q) tells of the divergence, and its slope there, by quadrature."""
    x = torch.linspace(-16, 18, 20_001, dtype=torch.float64)
    log_p, log_q = -(x**2) / 2, -(((x - 1) / 1.5) ** 2) / 2 - math.log(1.5)
    p, q = (torch.exp(each) / math.sqrt(2 * math.pi) for each in (log_p, log_q))
    v = (log_p - log_q).requires_grad_()
    game, step = find_objective("non-saturating"), float(x[1] - x[0])
    loss = (p * game.real(v) + q * game.fake(v)).sum() * step
    (slope,) = torch.autograd.grad(loss, v)
    return math.log(2) - float(loss.detach()) / 2, float(slope.abs().max())


# --- Penalties


def _linear_critic() -> Sequence[float]:
    """Penalties of the critic x -> slope u.x with a unit vector u, and its greatest weight once clipped."""
    u = torch.nn.functional.normalize(normals(1, 6, 0)[0], dim=0)
    real, fake = normals(50, 6, 1), normals(50, 6, 2)
    paid = [
        *(
            gradient_penalty(partial(torch.mv, vec=slope * u), real, fake, torch.Generator())
            for slope in (1, 2)
        ),
        r1(partial(torch.mv, vec=2 * u), real),
    ]
    weights = 5 * u.clone()
    clip([weights], 0.01)
    return [*(float(each.detach()) for each in paid), float(weights.abs().max())]


def _orthogonal() -> Sequence[float]:
    """Each form at a wide and a tall orthogonal matrix, its slope there, and both at others."""
    tall = torch.linalg.qr(normals(12, 5, 0))[0]
    found = []
    for form in ORTHOGONAL_FORMS:
        weights = [matrix.clone().requires_grad_() for matrix in (tall.T, tall)]
        value = orthogonal(weights, form)
        slopes = torch.autograd.grad(value, weights)
        found += [float(value.detach()), max(float(slope.abs().max()) for slope in slopes)]
    sheared = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    for weight in (2 * tall.T, sheared):
        found += [float(orthogonal([weight], form)) for form in ORTHOGONAL_FORMS]
    return found


# --- Spectral normalisation

_STEPS = (20, 50)


def _power_iteration() -> Sequence[float]:
    """By how much the norm that it finds falls short of the singular value, relative to that."""
    matrix, u = normals(64, 128, 0), torch.nn.functional.normalize(normals(1, 64, 1)[0], dim=0)
    largest, found = float(torch.linalg.matrix_norm(matrix, 2)), []
    for step in range(1, _STEPS[-1] + 1):
        u = iterated(matrix, u)
        if step in _STEPS:
            found.append(1 - float((matrix.T @ u).norm()) / largest)
    return found


def _normalised_layers() -> Sequence[float]:
    """The largest singular values of the weights in use, after 100 uses in training."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        layers = (nn.Linear(32, 16), nn.Conv2d(8, 16, 3), nn.ConvTranspose2d(8, 16, 4))
        found = []
        for layer in layers:
            spectrally_normalised(layer).train()
            for _ in range(100):
                weight = layer.weight
            outputs_first = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
            found.append(float(torch.linalg.matrix_norm(outputs_first.flatten(1), 2)))
        return found


# --- Attention


def _attention() -> Sequence[float]:
    """Greatest deviations of a fresh block on maps of 8 x 8 places."""

    def moved(x: Tensor) -> Tensor:  # windows of 2 x 2 places, which the block pools, stay together
        return x.roll((2, 4), (2, 3)).flip(3)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        block = SelfAttention(16, Layers(nn.init.orthogonal_))
        x = 2 * normals(3, 1024, 0).float().view(3, 16, 8, 8)
        sums = block.attention(x).sum(2)
        found = [_apart(block(x), x), _apart(sums, torch.ones_like(sums))]
        block.gamma.fill_(1.0)
        found.append(_apart(block(moved(x)), moved(block(x))))
        even = block.attention(x[..., :1, :1].expand_as(x))
        return [*found, _apart(even * even.shape[2], torch.ones_like(even))]


# --- Growth

_KIND = Kind((1, 16, 16))


def _growth() -> Sequence[float]:
    """Greatest differences of pixels and verdicts: a stage that has not begun, and the halves of a fade."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        architecture = Architecture(net="progressive", latent=8, width=8, norm="none")
        generator: Any = progressive.Generator(_KIND, architecture).eval()
        discriminator: Any = progressive.Discriminator(_KIND, architecture).eval()
        z, images = normals(4, 8, 0).float(), normals(4, 256, 1).float().view(4, 1, 16, 16)

        def made(stage: int, fade: float) -> Tensor:
            generator.grow(stage, fade)
            image: Tensor = generator(z)
            return image

        def judged(stage: int, fade: float) -> Tensor:
            discriminator.grow(stage, fade)
            verdict: Verdict = discriminator(images)
            return verdict.real

        found = []
        for result in (made, judged):
            found.append(max(_apart(result(stage, 0.0), result(stage - 1, 1.0)) for stage in (1, 2)))
        found.append(_apart(made(2, 0.5), (made(1, 1.0) + made(2, 1.0)) / 2))
        new = made(1, 1.0)
        nn.init.normal_(generator.to_image[0].weight)
        return [*found, _apart(new, made(1, 1.0))]


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


# --- Styles


def _styles() -> Sequence[float]:
    """In levels: the spread of samples at psi 0 and 1, and what is left between two ways to truncate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        architecture = Architecture(net="style", latent=8, width=16, norm="none")
        generator = Styled("fresh", _KIND, style.Generator(_KIND, architecture).eval(), {})
    seeds = torch.arange(20)
    none, half, whole = (generator(seeds, truncation=psi).float() for psi in (0.0, 0.5, 1.0))
    # The strength of a fresh net's noise is 0, so that styles are all that samples differ by.
    styles = generator.mapping(generator.latent(seeds))
    with torch.no_grad():
        between = generator.synthesize(generator.centre + (styles - generator.centre) / 2)
    spreads = [float((images.amax(0) - images.amin(0)).max()) for images in (none, whole)]
    return [*spreads, _apart(whole, generator(seeds).float()), _apart(half, between)]


MECHANISMS = (
    Check(
        "saturation",
        "Where a discriminator is sure of a fake, the saturating loss falls with slope D, the other with slope 1 - D.",
        ("gan-saturating", "gan"),
        "quick",
        (
            near(-1 / (1 + math.exp(-_SURE_OF_A_FAKE)), 1e-9, "saturating"),
            near(-1 / (1 + math.exp(_SURE_OF_A_FAKE)), 1e-9, "non-saturating"),
        ),
        _slopes,
        "Goodfellow et al. 2014, arXiv:1406.2661, section 3",
    ),
    Check(
        "best-discriminator",
        "At v = log(p/q) the loss is 2 log 2 - 2 JSD, of N(0, 1) and N(1, 1.5²), and no change of v lowers it.",
        ("gan", "jensen-shannon"),
        "quick",
        (near(_JSD, 1e-6, "divergence in nats"), near(0.0, 1e-12, "largest slope")),
        _best_discriminator,
        "Goodfellow et al. 2014, arXiv:1406.2661, theorem 1",
    ),
    Check(
        "penalties-of-a-linear-critic",
        "A critic of slope K pays (K - 1)² to the gradient penalty and K² / 2 to R1; clipping ends at its limit.",
        ("wgan", "wgan-gp", "stylegan"),
        "quick",
        (
            near(0.0, 1e-12, "gradient penalty, slope 1"),
            near(1.0, 1e-12, "gradient penalty, slope 2"),
            near(2.0, 1e-12, "R1, slope 2"),
            near(0.01, 0.0, "largest weight"),
        ),
        _linear_critic,
        "Gulrajani et al. 2017, arXiv:1704.00028; Mescheder et al. 2018, arXiv:1801.04406",
    ),
    Check(
        "orthogonal-regularisation",
        "It is 0 at orthogonal matrices, wide and tall, with no slope; twice one, it is (4 - 1)² a row or still 0.",
        ("biggan",),
        "quick",
        (
            *(
                near(0.0, 1e-12, f"{form}, {what}")
                for form in ORTHOGONAL_FORMS
                for what in ("value", "largest slope")
            ),
            near(45.0, 1e-9, "identity, doubled"),
            near(0.0, 1e-12, "off-diagonal, doubled"),
            near(3.0, 1e-6, "identity, sheared"),
            near(2.0, 1e-6, "off-diagonal, sheared"),
        ),
        _orthogonal,
        "Brock et al. 2019, arXiv:1809.11096, section 3.1",
    ),
    Check(
        "power-iteration",
        "The norm of a 64 x 128 matrix by power iteration falls hardly short of its largest singular value.",
        ("sngan",),
        "quick",
        tuple(near(0.0, short, f"{steps} steps") for steps, short in zip(_STEPS, (1e-2, 1e-5), strict=True)),
        _power_iteration,
        "Miyato et al. 2018, arXiv:1802.05957, appendix A",
    ),
    Check(
        "spectrally-normalised-layers",
        "In use, the weight of a layer has 1 for its largest singular value, whatever the layer.",
        ("sngan",),
        "quick",
        tuple(near(1.0, 1e-4, layer) for layer in ("linear", "convolution", "transposed convolution")),
        _normalised_layers,
        "Miyato et al. 2018, arXiv:1802.05957",
    ),
    Check(
        "self-attention",
        "It starts as the identity, its rows sum to 1 over keys, it commutes with moves of places, and places alike "
        "are seen evenly.",
        ("sagan", "biggan"),
        "quick",
        (
            near(0.0, 0.0, "identity at gamma 0"),
            near(0.0, 1e-6, "sums over keys"),
            near(0.0, 1e-5, "moved places"),
            near(0.0, 1e-7, "places alike"),
        ),
        _attention,
        "Zhang et al. 2019, arXiv:1805.08318",
    ),
    Check(
        "progressive-fade",
        "A stage at share 0 is the stage before, bit for bit; at a half, the mean of both; at 1 the old layer is gone.",
        ("progan",),
        "quick",
        (
            near(0.0, 0.0, "images at 0"),
            near(0.0, 0.0, "verdicts at 0"),
            near(0.0, 1e-6, "images at 1/2"),
            near(0.0, 0.0, "images at 1"),
        ),
        _growth,
        "Karras et al. 2018, arXiv:1710.10196, figure 2",
    ),
    Check(
        "style-truncation",
        "Styles move straight to their mean: at psi 0 all samples are one, at 1 nothing changes, at 1/2 half way.",
        ("stylegan",),
        "quick",
        (
            near(0.0, 0.0, "spread at 0, levels"),
            at_least(20.0, "spread at 1, levels"),
            near(0.0, 0.0, "change at 1, levels"),
            near(0.0, 0.51, "off half way at 1/2, levels"),
        ),
        _styles,
        "Karras et al. 2019, arXiv:1812.04948, B",
    ),
)
