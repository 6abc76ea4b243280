"""A training as it stands: the networks, their averages and Adam's moments, and the steps that change them."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import NumericalError, StoreError, UsageError
from gen_eval.precision import full_precision
from gen_eval.zoo.checkpoint import Checkpoint, below, kept_modules, sampler_of
from gen_eval.zoo.data import TrainingData, key
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Model, Player, Task, settings

_DECAY = 0.999  # of the averages, once they have seen enough
_MODULES, _AVERAGE, _ADAM = "modules.", "average.", "adam."
_SAME = ("data_digest", "seed")  # terms that a resumption must share, besides the recipe


class Run:
    """All that changes in a training, and the steps that change it."""

    def __init__(self, model: Model, data: TrainingData, seed: int, device: torch.device | str) -> None:
        self._model, self._data, self._seed = model, data, seed
        self._device = torch.device(device)
        self._here = data.to(self._device)
        self._task = _fresh(model, data, seed)
        self._task.modules.to(self._device).train()
        self._kept = kept_modules(self._task)
        self._average = copy.deepcopy(self._kept).requires_grad_(False)
        self._learnt = [each for each in self._task.modules.parameters() if each.requires_grad]
        self._parameters = {
            player.name: _parameters(self._task.modules, player) for player in self._task.players
        }
        self._adams = {
            player.name: _adam(player, self._parameters[player.name]) for player in self._task.players
        }
        self.name = f"{model.name} on {data.name}"
        self.steps, self.seconds, self.cpu_seconds = 0, 0.0, 0.0
        self.torn = False  # whether a step was stopped halfway

    def step(self) -> dict[str, float]:
        """Every player's turns, and the losses of the last one of each."""
        began, cpu_began = time.perf_counter(), time.process_time()
        self.torn = True
        self._task.begin(self.steps)
        losses: dict[str, float] = {}
        with full_precision(self._device.type):
            for player in self._task.players:
                for turn in range(player.turns):
                    losses |= self._turn(player, turn)
        self._follow()
        self.steps += 1
        self.torn = False
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began
        return losses

    def _turn(self, player: Player, turn: int) -> dict[str, float]:
        place = (self._seed, self.steps, player.name, turn)
        batch = self._here.batch(*place, self._model.recipe.batch)
        noise = torch.Generator().manual_seed(key("noise", *place))
        # The others are held, so that no gradient is worked out which nobody uses.
        for parameter in self._learnt:
            parameter.requires_grad_(False)
        for parameter in self._parameters[player.name].values():
            parameter.requires_grad_(True)
        adam = self._adams[player.name]
        adam.zero_grad()
        loss, shown = player.loss(batch, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(
                f"the loss of {player.name} is {value} in step {self.steps + 1} of {self.name}"
            )
        adam.step()
        if player.project is not None:
            with torch.no_grad():
                player.project()
        return {player.name: value, **{f"{player.name} {what}": number for what, number in shown.items()}}

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averages of the kept parameters; buffers, such as batch statistics, are copied."""
        decay = min(_DECAY, (1 + self.steps) / (10 + self.steps))
        for average, parameter in zip(self._average.parameters(), self._kept.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)
        for own, buffer in zip(self._average.buffers(), self._kept.buffers(), strict=True):
            own.copy_(buffer)

    def sampler(self) -> Sampler:
        """The generator with the weights averaged so far, a copy."""
        return sampler_of(
            self._model.name,
            self._model.recipe,
            self._data.kind,
            copy.deepcopy(self._average),
            self._data.scaling,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that steps change, by name."""
        found = {_MODULES + name: value for name, value in self._task.modules.state_dict().items()}
        found |= {_AVERAGE + name: value for name, value in self._average.state_dict().items()}
        for player, parameters in self._parameters.items():
            for name, parameter in parameters.items():
                kept = self._adams[player].state.get(parameter, {})
                found |= {f"{_ADAM}{player}.{name}.{what}": value for what, value in kept.items()}
        return found

    def require_finite(self) -> None:
        """Refuse to go on with tensors that are NaN or infinite.

        Raises:
            NumericalError: names one.
        """
        for name, tensor in self.tensors().items():
            if not bool(tensor.isfinite().all()):
                raise NumericalError(f"{name} is NaN or infinite after step {self.steps} of {self.name}")

    def terms(self) -> dict[str, Any]:
        """Those that a resumption must share, and how far this has come."""
        return {
            "recipe": settings(self._model.recipe),
            "data": self._data.name,
            "data_digest": self._data.digest,
            "seed": self._seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }

    def restore(self, terms: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
        """Take up what :meth:`terms` and :meth:`tensors` gave.

        Raises:
            UsageError: if it was made by another recipe, on other data or with another seed.
            StoreError: if the tensors are not those of these networks.
        """
        mine = json.loads(json.dumps(self.terms()))
        different = _different(terms["recipe"], mine["recipe"], "recipe.")
        different += _different({name: terms[name] for name in _SAME}, {name: mine[name] for name in _SAME})
        if different:
            raise UsageError(
                f"{path} is of another training, {terms['data']}: {'; '.join(different)}. Resume it on its own terms, "
                "or choose another name"
            )
        try:
            self._task.modules.load_state_dict(below(_MODULES, tensors))
            self._average.load_state_dict(below(_AVERAGE, tensors))
        except RuntimeError as error:
            raise StoreError(
                f"{path} does not fit the networks that its recipe makes, so another version of gen_eval made it: "
                f"{' '.join(str(error).split())}"
            ) from error
        for player, parameters in self._parameters.items():
            for name, parameter in parameters.items():
                kept = below(f"{_ADAM}{player}.{name}.", tensors)
                if kept:
                    # Adam counts steps on the CPU, wherever the parameter is.
                    self._adams[player].state[parameter] = {
                        what: value if what == "step" else value.to(parameter.device)
                        for what, value in kept.items()
                    }
        self.steps, self.seconds = terms["steps"], terms["seconds"]
        self.cpu_seconds = terms["cpu_seconds"]

    def checkpoint(self, command: str) -> Checkpoint:
        """The generator with the weights averaged so far."""
        return Checkpoint(
            model=self._model.name,
            recipe=self._model.recipe,
            kind=self._data.kind,
            weights={name: value.cpu().clone() for name, value in self._average.state_dict().items()},
            scaling=self._data.scaling,
            data=self._data.name,
            data_digest=self._data.digest,
            seed=self._seed,
            steps=self.steps,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            command=command,
            versions={
                **{name: metadata.version(name) for name in ("gen_eval", "torch")},
                "device": str(self._device),
                "threads": str(torch.get_num_threads()),
            },
        )


def _fresh(model: Model, data: TrainingData, seed: int) -> Task:
    """Networks whose weights are drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            key("weights", seed)
        )  # torch.manual_seed would reach for CUDA's too
        return model.recipe.task(data.kind)


def _parameters(modules: nn.ModuleDict, player: Player) -> dict[str, nn.Parameter]:
    """What a player moves, by the module's name, a dot and the parameter's."""
    return {
        f"{module}.{name}": parameter
        for module in player.modules
        for name, parameter in modules[module].named_parameters()
        if parameter.requires_grad
    }


def _adam(player: Player, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Adam:
    rates = player.rates or {}
    unknown = [of for of in rates if not any(_is_of(name, of) for name in parameters)]
    if unknown:
        raise UsageError(
            f"{player.name} has rates for {', '.join(unknown)}, and moves {', '.join(parameters)}"
        )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        chosen = max((of for of in rates if _is_of(name, of)), key=len, default=None)
        groups.setdefault(1.0 if chosen is None else rates[chosen], []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "lr": player.rate * factor} for factor, group in groups.items()],
        betas=player.betas,
    )


def _is_of(name: str, of: str) -> bool:
    """Whether a parameter is the one named, or below a name that ends in a dot."""
    return name.startswith(of) if of.endswith(".") else name == of


def _different(found: Mapping[str, Any], expected: Mapping[str, Any], of: str = "") -> list[str]:
    """What differs between two mappings, in words."""
    return [
        f"its {of}{name} is {found.get(name)}, not {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
