"""Autoregressive models of images: the probability of each number given those before it, so that images sum to one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.nets.pixelcnn import PixelCNN
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.observations import LEVELS, TrainedDensity, numbers_of_none
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Batch, Kind, Player, Task

NET = "pixelcnn"


@dataclass(frozen=True)
class Autoregressive:
    """A gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328) whose numbers follow mixtures of logistics.

    The mixtures are those of Salimans et al. 2017, arXiv:1701.05517, but that each channel of a pixel has its own, told
    by all numbers before it, in place of one for a pixel.

    Args:
        width: channels of the two stacks of convolutions.
        layers: of them; each sees a row and a column further than the one before.
        components: of a mixture.
        rate: learning rate.
        batch: samples in a batch.
        steps: of training, by default.

    Raises:
        UsageError: if an argument makes no sense.
    """

    family: ClassVar[str] = "autoregressive"
    width: int = 32
    layers: int = 5
    components: int = 5
    rate: float = 3e-3
    batch: int = 16
    steps: int = 350

    def __post_init__(self) -> None:
        require_whole(self, width=1, layers=1, components=1, batch=1, steps=1)
        require_positive(self, "rate")

    def task(self, kind: Kind) -> Task:
        """See :class:`gen_eval.zoo.task.Recipe`.

        Raises:
            UsageError: of vectors, whose numbers have no levels and no places.
        """
        if not kind.images:
            raise UsageError(
                "a PixelCNN tells the levels of pixels by those above and to the left, and the data is vectors of "
                f"{kind.shape[0]} components: choose an autoregressive flow, maf or nsf"
            )
        return _Task(self, kind)

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """See :class:`gen_eval.zoo.task.Recipe`; an :class:`AutoregressiveSampler`."""
        net: PixelCNN = modules[NET]  # type: ignore[assignment]
        return AutoregressiveSampler(name, Kind(kind.shape), net, scaling)


class _Task:
    """The network, moved to the likelihood; see :class:`gen_eval.zoo.task.Task`."""

    kept: Sequence[str] = (NET,)

    def __init__(self, recipe: Autoregressive, kind: Kind) -> None:
        self._net = PixelCNN(
            kind.shape, LEVELS, width=recipe.width, layers=recipe.layers, components=recipe.components
        )
        self.modules = nn.ModuleDict({NET: self._net})
        self.players: Sequence[Player] = (Player(NET, self._loss, (NET,), recipe.rate, (0.9, 0.999)),)

    def begin(self, step: int) -> None:
        """Nothing follows a schedule."""

    def _loss(self, batch: Batch, source: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        level = ((batch.x + 1) * ((LEVELS - 1) / 2)).round().long()
        per_dim = -self._net.log_prob(level).mean() / self._net.latent_dim
        return per_dim, {"bits_per_dim": float(per_dim.detach()) / math.log(2)}


class AutoregressiveSampler(TrainedDensity):
    """Samples of a PixelCNN, number by number, and their density.

    The model is of levels. Its density of a pixel with uniform noise between levels is the same all over the cell of a
    level: the level's probability over the cell's width, 1 / 256. So it compares with densities of pixels.

    Args:
        name: what to call it.
        kind: what samples are.
        net: in evaluation mode.
        scaling: empty, of images.
    """

    bound = "exact"

    def __init__(self, name: str, kind: Kind, net: PixelCNN, scaling: Mapping[str, Tensor]) -> None:
        super().__init__(name, kind, net, scaling)
        self._net = net

    def log_prob(self, x: Tensor) -> Tensor:
        """See :class:`~gen_eval.zoo.observations.TrainedDensity`."""
        observations, _ = self._observations(x)
        if not len(x):
            return numbers_of_none(x)
        with torch.no_grad(), full_precision(self._device.type):
            of_levels = self._net.log_prob((LEVELS * observations).long().clamp(max=LEVELS - 1))
        return (of_levels.double() + self._net.latent_dim * math.log(LEVELS)).to(x.device)
