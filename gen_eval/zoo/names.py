"""Generators by name: worlds, checkpoints that ship, files, and how many of whose samples are meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UnknownName, UsageError
from gen_eval.sealed import EXTENSION
from gen_eval.zoo.checkpoint import load
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import WORLDS, find_world

PREFIX = "zoo:"
_SETTINGS = {"n": int, "seed": int, "label": int, "truncation": float}
_FOLDER = Path(__file__).parent / "checkpoints"
# The trained generators that ship, by name: MODEL-DATA.
CHECKPOINTS: dict[str, Path] = {path.stem: path for path in sorted(_FOLDER.glob(f"*{EXTENSION}"))}


def open_sampler(name: str | Path, device: torch.device | str = "cpu") -> Sampler:
    """A generator by its name.

    Args:
        name: a row of :data:`WORLDS` or :data:`CHECKPOINTS`, or the path of a checkpoint; ``zoo:`` may stand before it.
        device: where its network runs; another device rounds otherwise, so samples may differ by a level.

    Raises:
        UnknownName: if it is neither a name nor a file.
        StoreError: if the file is no checkpoint.
    """
    name = str(name).removeprefix(PREFIX)
    if name in WORLDS:
        return find_world(name)
    path = CHECKPOINTS.get(name, Path(name))
    if path.is_file():
        return load(path).sampler(device)
    raise UnknownName("generator", name, [*WORLDS, *CHECKPOINTS, f"FILE{EXTENSION}"])


@dataclass(frozen=True)
class Named:
    """Samples as they are named where a set of images is: ``zoo:sngan-mnist,n=1000,seed=3,truncation=0.5``.

    Args:
        text: the whole name.
        sampler: who makes them.
        n: how many; ``None`` where it does not say.
        seed: of the first one; ``None`` where the name does not say.
        label: the class of all; ``None`` for each its own.
        truncation: as :meth:`Sampler.sample` takes it.
    """

    text: str
    sampler: Sampler
    n: int | None = None
    seed: int | None = None
    label: int | None = None
    truncation: float | None = None

    @property
    def source(self) -> object:
        """What tells one generator from another: its name, or the object where it was given as one."""
        return self.text.partition(",")[0] if self.text.startswith(PREFIX) else self.sampler

    def seeds(self, n: int, seed: int) -> Tensor:
        """Those of ``n`` samples, int64 ``[n]``; ``seed`` is the first where the name does not say.

        Raises:
            UsageError: if there are none, or they are no seeds.
        """
        return draws.seeds_from(seed if self.seed is None else self.seed, n)

    def __call__(self, seeds: Tensor) -> Tensor:
        """The samples of some seeds."""
        return self.sampler(seeds, labels=self.label, truncation=self.truncation)


def open_named(text: str) -> Named:
    """Read such a name, and check what it asks for by drawing one sample.

    Raises:
        UsageError: if a setting is unknown, no number, or nothing that the generator can honour.
        UnknownName: if there is no such generator.
    """
    name, *given = text.removeprefix(PREFIX).split(",")
    settings = {}
    for each in given:
        key, _, value = each.partition("=")
        if key not in _SETTINGS:
            raise UnknownName(f"setting in {text}", key, _SETTINGS)
        if key in settings:
            raise UsageError(f"{text} says {key} twice: leave one out")
        try:
            settings[key] = _SETTINGS[key](value)
        except ValueError as error:
            raise UsageError(f"{text}: expected a number in '{each}', such as n=1000") from error
    named = Named(text, open_sampler(name), **settings)
    try:
        seeds = named.seeds(1 if named.n is None else named.n, 0)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from error
    named(seeds[:1])
    return named
