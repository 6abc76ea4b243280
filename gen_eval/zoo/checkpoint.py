"""Trained generators on disk: one safetensors file that says how it was made, in which nothing can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval import sealed
from gen_eval.errors import StoreError, WeightsError
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Kind, Recipe, Task, settings

FORMAT = "gen_eval generator 1"
_WHAT = "a trained generator"
_WEIGHTS, _SCALING = "weights.", "scaling."


@dataclass(frozen=True)
class Checkpoint:
    """A trained generator, and all that is known of how it came about.

    Args:
        model: the row of :data:`gen_eval.zoo.MODELS` that it was.
        recipe: how it is built and was trained.
        kind: what its samples are.
        weights: of the kept modules, averaged over training: their state dict.
        scaling: of vectors ``mean`` and ``sd``, ``[d]``; empty of images.
        data: what it was trained on, with the split.
        data_digest: of the content of that.
        seed: of all draws of the training.
        steps: that it was trained for.
        seconds: that took, by the clock.
        cpu_seconds: that took, of all threads together.
        command: that made it; empty where none did.
        versions: of libraries, and the device.
        scores: measured on its samples, by name.
    """

    model: str
    recipe: Recipe
    kind: Kind
    weights: Mapping[str, Tensor]
    scaling: Mapping[str, Tensor]
    data: str
    data_digest: str
    seed: int
    steps: int
    seconds: float
    cpu_seconds: float
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def sampler(self, device: torch.device | str = "cpu") -> Sampler:
        """The generator, ready to sample.

        Raises:
            WeightsError: if the weights are not those of the network that the recipe makes.
        """
        with torch.random.fork_rng(devices=[]):
            kept = kept_modules(self.recipe.task(self.kind))
        try:
            kept.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise WeightsError(
                f"the weights of {self.model} do not fit the network that its recipe makes, so another version of "
                f"gen_eval made them. Train it anew. {' '.join(str(error).split())}"
            ) from error
        return sampler_of(self.model, self.recipe, self.kind, kept.to(device), self.scaling)


def kept_modules(task: Task) -> nn.ModuleDict:
    """The modules of a task that sampling needs."""
    return nn.ModuleDict({name: task.modules[name] for name in task.kept})


def sampler_of(
    name: str, recipe: Recipe, kind: Kind, kept: nn.ModuleDict, scaling: Mapping[str, Tensor]
) -> Sampler:
    """A generator of kept modules, which are put in evaluation mode and learn no more."""
    return recipe.sampler(name, kind, kept.eval().requires_grad_(False), scaling)


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a generator. The file appears whole or not at all.

    Raises:
        StoreError: if the name does not end in ``.safetensors`` or the folder cannot be written to.
    """
    terms = {name: value for name, value in vars(checkpoint).items() if name not in ("weights", "scaling")}
    terms |= {
        "recipe": settings(checkpoint.recipe),
        "kind": vars(checkpoint.kind),
        "versions": dict(checkpoint.versions),
        "scores": dict(checkpoint.scores),
    }
    tensors = {_WEIGHTS + name: tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {_SCALING + name: tensor for name, tensor in checkpoint.scaling.items()}
    sealed.write(Path(path), FORMAT, terms, tensors, _WHAT)


def load(path: str | Path, recipes: Mapping[str, type[Any]] | None = None) -> Checkpoint:
    """Read a generator that :func:`save` wrote.

    Args:
        path: the file.
        recipes: classes of recipes by family; by default those of the zoo.

    Raises:
        StoreError: if the file is missing, cut short, altered, something else, or of a recipe unknown here.
    """
    path = Path(path)
    terms, tensors = sealed.read(path, FORMAT, _WHAT)
    try:
        recipe, kind = (
            _recipe(terms.pop("recipe"), _known() if recipes is None else recipes, path),
            terms.pop("kind"),
        )
        return Checkpoint(
            recipe=recipe,
            kind=Kind(tuple(kind["shape"]), tuple(kind["classes"])),
            weights=below(_WEIGHTS, tensors),
            scaling=below(_SCALING, tensors),
            **terms,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is a trained generator, but not as this version of gen_eval writes them ({error!r})"
        ) from error


def _known() -> Mapping[str, type[Any]]:
    from gen_eval.zoo.models import RECIPES  # here, as recipes have what makes checkpoints below them

    return RECIPES


def _recipe(found: dict[str, Any], recipes: Mapping[str, type[Any]], path: Path) -> Recipe:
    family = found.pop("family")
    if family not in recipes:
        raise StoreError(
            f"{path} is of the family '{family}', which this version of gen_eval does not know: "
            f"known are {', '.join(sorted(recipes))}"
        )
    recipe: Recipe = recipes[family](**{name: _tuples(value) for name, value in found.items()})
    return recipe


def _tuples(value: Any) -> Any:
    """JSON knows lists alone, and recipes tuples alone."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def require_name(path: Path) -> None:
    """Refuse a path that :func:`save` would refuse, before the work is done.

    Raises:
        StoreError: if it does not end in ``.safetensors`` or its folder does not exist.
    """
    sealed.require_name(path, _WHAT)
