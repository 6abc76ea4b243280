"""Progressive GAN (Karras et al. 2018, arXiv:1710.10196): networks that grow from few pixels to many.

Whatever the stage, images are of full size: the generator repeats the pixels of a smaller image, the discriminator
averages squares of them. What sees images between the two, such as a penalty, need not know of stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.equalised import Conv, Linear, leaky, nearest, pixel_norm, with_deviation
from gen_eval.zoo.task import Kind

_PLAIN = {
    "norm": "none",
    "discriminator_norm": "none",
    "spectral": "none",
    "gain": 1.0,
    "attention": False,
    "head": "none",
    "shared_embedding": False,
    "skip_z": False,
}
STAGES = 3  # 7, 14 and 28 pixels a side, or 8, 16 and 32


class Growing(nn.Module):
    """A network that works at one stage, and fades from the one before.

    Until it is told otherwise it is at its last one, and has no past.
    """

    stage: Tensor
    fade: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stage", torch.tensor(STAGES - 1))
        self.register_buffer("fade", torch.tensor(1.0))

    def grow(self, stage: int, fade: float) -> None:
        """Go to a stage.

        Args:
            stage: from 0, the smallest images, to ``STAGES - 1``.
            fade: share of this stage in what comes out, from 0, that of the stage before alone, to 1.

        Raises:
            UsageError: if there is no such stage or share.
        """
        if not 0 <= stage < STAGES or not 0 <= fade <= 1:
            expected = f"a stage of 0 to {STAGES - 1} and a fade of 0 to 1"
            raise UsageError(f"expected {expected}, found stage={stage} and fade={fade}")
        self.stage.fill_(stage)
        self.fade.fill_(fade)

    @property
    def _at(self) -> tuple[int, float]:
        stage = int(self.stage)
        return stage, float(self.fade) if stage else 1.0


class Finer(nn.Module):
    """From one size to twice as much, in the generator.

    Args:
        before: channels that it takes.
        after: channels that it gives.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = Conv(before, after), Conv(after, after)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, before, h, w]`` to ``[b, after, 2 h, 2 w]``."""
        return _normalised(self.second(_normalised(self.first(nearest(x)))))


class Coarser(nn.Module):
    """From one size to half of it, in the discriminator.

    Its second convolution works at the smaller size, unlike the paper's: that is a quarter of the work.

    Args:
        before: channels that it takes.
        after: channels that it gives.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = Conv(before, before), Conv(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, before, 2 h, 2 w]`` to ``[b, after, h, w]``."""
        return leaky(self.second(halved(leaky(self.first(x)))))


class Generator(Growing):
    """From latents to images of full size, by nearest neighbours from those of the stage.

    Args:
        kind: of images.
        architecture: its ``latent``, and ``width``, the channels of the smallest images; each stage has half of them.
    """

    noise_dim = 0

    def __init__(self, kind: Kind, architecture: Architecture) -> None:
        super().__init__()
        require_plain(architecture)
        self.latent_dim = architecture.latent
        self.side, widths = smallest(kind), channels(architecture.width)
        self.dense = Linear(self.latent_dim, widths[0] * self.side**2)
        self.first = Conv(widths[0], widths[0])
        self.blocks = nn.ModuleList(Finer(before, after) for before, after in pairwise(widths))
        self.to_image = nn.ModuleList(Conv(width, kind.shape[0], 1, gain=1) for width in widths)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """``[b, latent]`` to ``[b, c, side, side]`` in [-1, 1]."""
        stage, fade = self._at
        x = self.dense(pixel_norm(z)).view(len(z), -1, self.side, self.side)
        x = before = _normalised(self.first(_normalised(x)))
        for block in islice(self.blocks, stage):
            before, x = x, block(x)
        image = self.to_image[stage](x).tanh()
        if fade < 1:
            image = torch.lerp(nearest(self.to_image[stage - 1](before).tanh()), image, fade)
        return nearest(image, 1 << (STAGES - 1 - stage))


class Discriminator(Growing):
    """The generator's mirror image, which averages images of full size down to those of the stage.

    Args:
        kind: of images.
        architecture: its ``width``, as the generator has it.
    """

    def __init__(self, kind: Kind, architecture: Architecture) -> None:
        super().__init__()
        require_plain(architecture)
        side, widths = smallest(kind), channels(architecture.width)
        self.from_image = nn.ModuleList(Conv(kind.shape[0], width, 1) for width in widths)
        self.blocks = nn.ModuleList(Coarser(before, after) for after, before in pairwise(widths))
        self.last = Conv(widths[0] + 1, widths[0])
        self.dense = Linear(widths[0] * side**2, widths[0])
        self.verdict = Linear(widths[0], 1, gain=1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Verdict:
        """``[b, c, side, side]`` to verdicts ``[b]``, each of which depends on the batch it is in."""
        stage, fade = self._at
        x = halved(x, STAGES - 1 - stage)
        features = leaky(self.from_image[stage](x))
        for index in reversed(range(stage)):
            features = self.blocks[index](features)
            if index == stage - 1 and fade < 1:
                features = torch.lerp(leaky(self.from_image[index](halved(x))), features, fade)
        features = leaky(self.last(with_deviation(features)))
        return Verdict(self.verdict(leaky(self.dense(features.flatten(1))))[:, 0], None)

    def as_shown(self, x: Tensor) -> Tensor:
        """Real images ``[b, c, side, side]`` as they are to be shown at this stage.

        While a stage fades in, they are blended with themselves at half the size as the generator's are; else it
        would be told by its lack of detail.
        """
        stage, fade = self._at
        x = halved(x, STAGES - 1 - stage)
        if fade < 1:
            x = torch.lerp(nearest(halved(x)), x, fade)
        return nearest(x, 1 << (STAGES - 1 - stage))


def require_plain(architecture: Architecture) -> None:
    """Raise a :class:`UsageError` if an architecture asks for what networks with an equalised learning rate lack."""
    for name, value in _PLAIN.items():
        found = getattr(architecture, name)
        if found != value:
            raise UsageError(f"the net '{architecture.net}' knows {name}={value!r} only, found {found!r}")


def smallest(kind: Kind) -> int:
    """Side of the images of the first stage.

    Raises:
        UsageError: if samples are no square images whose side can be halved as often as there are stages.
    """
    factor = 1 << (STAGES - 1)
    if not kind.images or kind.shape[1] != kind.shape[2] or kind.shape[1] % factor:
        raise UsageError(
            f"networks that grow need square images of a side divisible by {factor}, found samples of shape "
            f"{list(kind.shape)}"
        )
    return kind.shape[1] // factor


def channels(width: int) -> Sequence[int]:
    """Channels at each stage: half as many where there are four times the pixels."""
    return [max(1, width // 2**stage) for stage in range(STAGES)]


def halved(x: Tensor, times: int = 1) -> Tensor:
    """Images ``[b, c, h, w]`` at half the size, by averages of four pixels.

    Twice halved is what it says, so that the stages agree bit for bit.
    """
    for _ in range(times):
        x = F.avg_pool2d(x, 2)
    return x


def _normalised(x: Tensor) -> Tensor:
    return pixel_norm(leaky(x))
