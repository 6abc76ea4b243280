"""Residual nets with two doublings, as those of SNGAN, SAGAN and BigGAN.

arXiv:1802.05957, arXiv:1805.08318, arXiv:1809.11096. Sides change between the two convolutions of a block, rather than
before both or after both, so that half of the work is done on the coarser maps.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gen_eval.zoo.nets.architecture import Architecture
from gen_eval.zoo.nets.attention import SelfAttention
from gen_eval.zoo.nets.heads import Discriminator, Head
from gen_eval.zoo.nets.layers import Conditioning, Generator, Layers, Norm, coarse_maps, orthogonal
from gen_eval.zoo.task import Kind


class UpBlock(nn.Module):
    """A residual block that doubles the side of maps.

    Args:
        inputs: channels that it takes.
        outputs: channels that it gives.
        norm: of both of its convolutions.
        told: components of its condition.
        make: makes the layers.
        after: what follows, such as self-attention.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        norm: str,
        told: int,
        make: Layers,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(inputs, norm, told), Norm(outputs, norm, told)])
        self.convs = nn.ModuleList([make.conv(inputs, outputs, 3), make.conv(outputs, outputs, 3)])
        self.shortcut = make.conv(inputs, outputs, 1)
        self.after = after or nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[b, inputs, h, w]`` of samples with conditions ``[b, told]`` to ``[b, outputs, 2 h, 2 w]``."""
        changed = self.convs[0](F.relu(self.norms[0](x, condition)))
        changed = F.interpolate(F.relu(self.norms[1](changed, condition)), scale_factor=2)
        changed = self.convs[1](changed)
        out: Tensor = self.after(changed + F.interpolate(self.shortcut(x), scale_factor=2))
        return out


class DownBlock(nn.Module):
    """A residual block that halves the side of maps.

    Args:
        inputs: channels that it takes.
        inner: channels between its convolutions.
        outputs: channels that it gives.
        make: makes the layers.
        of_images: whether it is the first, whose input is not to be rectified.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, make: Layers, *, of_images: bool = False
    ) -> None:
        super().__init__()
        self.of_images = of_images
        self.convs = nn.ModuleList([make.conv(inputs, inner, 3), make.conv(inner, outputs, 3)])
        self.shortcut = make.conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, inputs, h, w]`` to ``[b, outputs, h / 2, w / 2]``."""
        changed = self.convs[0](x if self.of_images else F.relu(x))
        changed = self.convs[1](F.avg_pool2d(F.relu(changed), 2))
        out: Tensor = changed + self.shortcut(F.avg_pool2d(x, 2))
        return out


class SumOfPlaces(nn.Module):
    """ReLU, then the sum over the places of a map: ``[b, c, h, w]`` to ``[b, c]``."""

    def forward(self, x: Tensor) -> Tensor:
        """The sums."""
        return F.relu(x).sum((2, 3))


def generator(kind: Kind, architecture: Architecture) -> Generator:
    """A generator of two residual blocks: ``width`` maps, half as many, a quarter, the image."""
    make = Layers(orthogonal, architecture.spectral == "both")
    conditioning = Conditioning(kind, architecture, blocks=2)
    coarse, middle, fine = (architecture.width // share for share in (1, 2, 4))
    attention = SelfAttention(middle, make) if architecture.attention else None
    start = coarse_maps(conditioning.first, coarse, kind, make)
    norm, told = architecture.norm, conditioning.told
    blocks = [
        UpBlock(coarse, middle, norm, told[0], make, attention),
        UpBlock(middle, fine, norm, told[1], make),
    ]
    final = nn.Identity() if norm == "none" else nn.BatchNorm2d(fine)
    last = nn.Sequential(final, nn.ReLU(), make.conv(fine, kind.shape[0], 3), nn.Tanh())
    return Generator(architecture, conditioning, blocks, last, first=start)


def discriminator(kind: Kind, architecture: Architecture) -> Discriminator:
    """A discriminator of two residual blocks, whose maps are summed over places."""
    make = Layers(orthogonal, architecture.spectral != "none")
    coarse, middle, fine = (architecture.width // share for share in (1, 2, 4))
    attention = SelfAttention(middle, make) if architecture.attention else nn.Identity()
    first = DownBlock(kind.shape[0], fine, middle, make, of_images=True)
    others = [attention, DownBlock(middle, middle, coarse, make), SumOfPlaces()]
    return Discriminator(first, others, Head(coarse, kind, architecture, make))
