"""What stands between a model and the trainer: a model is a row of data, a task its networks and who moves them.

``Model`` (a row of :data:`gen_eval.zoo.MODELS`) names a ``Recipe``; the recipe makes a ``Task`` for the kind of data at
hand; the trainer moves the task's ``Player``s; and the recipe makes a
:class:`~gen_eval.zoo.sampler.Sampler` of what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gen_eval.zoo.sampler import Sampler


@dataclass(frozen=True)
class Kind:
    """What samples are.

    Args:
        shape: ``(channels, height, width)`` of images, or ``(d,)`` of vectors.
        classes: what each label means; empty without labels.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether they are images."""
        return len(self.shape) == 3


class Batch(NamedTuple):
    """What a player learns from.

    Args:
        x: float32 ``[b, *shape]``: images in [-1, 1], or vectors less their mean over their standard deviation.
        labels: int64 ``[b]``, where the data has them.
    """

    x: Tensor
    labels: Tensor | None


# From a batch and a source of noise on the CPU to what is to fall, and what else to show of it.
Loss = Callable[[Batch, torch.Generator], tuple[Tensor, Mapping[str, float]]]


@dataclass(frozen=True)
class Player:
    """Parameters that are moved together, by Adam, to lower one loss.

    Args:
        name: such as ``"critic"``.
        loss: what is to fall.
        modules: names of the task's modules whose parameters move.
        rate: learning rate.
        betas: of Adam.
        turns: updates in a step, each on a batch of its own.
        rates: factors of the rate for single parameters, by the module's name, a dot and the parameter's; a name
            ending in a dot stands for all below it.
        project: changes the parameters in place after each update.
    """

    name: str
    loss: Loss
    modules: Sequence[str]
    rate: float
    betas: tuple[float, float] = (0.0, 0.99)
    turns: int = 1
    rates: Mapping[str, float] | None = None
    project: Callable[[], None] | None = None


class Task(Protocol):
    """The networks of a model for one kind of data.

    All that a module has of state is in its parameters and persistent buffers, a schedule's place included, and
    nothing in it draws from the global random state: so a training that is gone on with ends in the same bytes.
    """

    @property
    def modules(self) -> nn.ModuleDict:
        """All of them by name."""

    @property
    def kept(self) -> Sequence[str]:
        """Names of those that sampling needs; their running averages are what a checkpoint holds."""

    @property
    def players(self) -> Sequence[Player]:
        """In the order in which they move in a step."""

    def begin(self, step: int) -> None:
        """Settle what follows a schedule, such as a fade-in, before a step (from 0 on)."""


class Recipe(Protocol):
    """A frozen dataclass of numbers, texts, and tuples of them: all that says how a model is built and trained.

    Attributes:
        family: the key of the class in :data:`gen_eval.zoo.models.RECIPES`.
        batch: samples in a batch.
        steps: of training, by default.
    """

    family: ClassVar[str]

    @property
    def batch(self) -> int:
        """Samples in a batch."""

    @property
    def steps(self) -> int:
        """Steps of training, by default."""

    def task(self, kind: Kind) -> Task:
        """Fresh networks. Weights are drawn from torch's global state, which the caller has seeded and puts back.

        Raises:
            UsageError: if the model cannot be made for this kind of data; says why.
        """

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """A generator of the kept modules.

        Args:
            name: what to call it.
            kind: what samples are.
            modules: the kept ones, with their learnt weights, in evaluation mode.
            scaling: of vectors ``mean`` and ``sd``, ``[d]``; empty of images.
        """


@dataclass(frozen=True)
class Model:
    """A row of :data:`gen_eval.zoo.MODELS`.

    Args:
        name: such as ``"wgan-gp"``.
        about: a line on what it is.
        recipe: how it is built and trained.
        cite: the paper.
    """

    name: str
    about: str
    recipe: Recipe
    cite: str


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON knows it, to rebuild it from a checkpoint."""
    return {"family": recipe.family, **vars(recipe)}
