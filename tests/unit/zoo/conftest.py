"""A recipe of two players that trains in milliseconds, with all that a training has to keep: see the fixtures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gen_eval.zoo.data import TrainingData
from gen_eval.zoo.task import Kind, Model, Player
from gen_eval.zoo.trained import Trained

LATENT, HIDDEN = 3, 5


class Net(nn.Module):
    """A generator with batch normalisation."""

    latent_dim, noise_dim = LATENT, 0

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Linear(LATENT, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.last = nn.Linear(HIDDEN, math.prod(kind.shape))

    def forward(self, z, labels=None, noise=None):
        x = self.last(self.norm(self.first(z))).view(len(z), *self.kind.shape)
        return x.tanh() if self.kind.images else x


class Critic(nn.Module):
    """Features, spectrally normalised; a parameter without axes; and one that nobody moves."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.features = spectral_norm(nn.Linear(math.prod(kind.shape), 4))
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x):
        return self.features(x.flatten(1)).tanh() * self.gain


class ToyTask:
    """Moment matching in the features of a critic."""

    kept = ("generator",)

    def __init__(self, kind: Kind, recipe: Any) -> None:
        self.recipe, self.begun, self.turns = recipe, [], []
        self.modules = nn.ModuleDict({"generator": Net(kind), "critic": Critic(kind)})
        self.players = (
            Player("critic", self.critic, ["critic"], recipe.rate, turns=2, project=self.project),
            Player("generator", self.generator, ["generator"], recipe.rate, rates=recipe.rates),
        )

    def begin(self, step):
        self.begun.append(step)

    def project(self):
        self.modules["critic"].gain.clamp_(0.5, 2.0)

    def gap(self, batch, noise):
        z = torch.randn(len(batch.x), LATENT, generator=noise).to(batch.x.device)
        self.turns.append((batch, z))
        fake = self.modules["generator"](z)
        critic = self.modules["critic"]
        return (critic(batch.x).mean(0) - critic(fake).mean(0)).square().sum()

    def critic(self, batch, noise):
        gap = self.gap(batch, noise)
        return -gap, {"gap": float(gap.detach())}

    def generator(self, batch, noise):
        gap = self.gap(batch, noise)
        if self.begun[-1] != self.recipe.fails_at:
            return gap, {}
        if self.recipe.failure == "slope":
            bias = self.modules["generator"].last.bias
            return gap + (bias - bias.detach()).abs().sqrt().sum(), {}
        return gap * float(self.recipe.failure), {}


@dataclass(frozen=True)
class Toy:
    """Its recipe.

    Args:
        fails_at: step at which it fails.
        failure: factor of the loss, or ``"slope"`` for a finite loss without a finite gradient.
        rate_of: names and factors of the generator's rates.
    """

    family: ClassVar[str] = "toy"

    batch: int = 8
    steps: int = 40
    rate: float = 0.01
    fails_at: int | None = None
    failure: str = "nan"
    rate_of: tuple[tuple[str, float], ...] = (("generator.last.", 0.5), ("generator.last.bias", 2.0))

    @property
    def rates(self):
        return dict(self.rate_of)

    def task(self, kind):
        return ToyTask(kind, self)

    def sampler(self, name, kind, modules, scaling):
        return Trained(name, kind, modules["generator"], scaling)


def toy_model(**options: Any) -> Model:
    return Model("toy", "moments in features", Toy(**options), "none")


def toy_vectors(seed: int = 0) -> TrainingData:
    """A hundred vectors ``[2]`` far from standard."""
    rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(seed))
    return TrainingData("points", rows * torch.tensor([0.1, 30.0]) + 5)


def toy_images(seed: int = 0) -> TrainingData:
    """A hundred images of 4 x 4 in two classes."""
    levels = torch.randint(256, (100, 1, 4, 4), generator=torch.Generator().manual_seed(seed))
    return TrainingData("pixels", levels.to(torch.uint8), torch.arange(100) % 2, ("even", "odd"))


@pytest.fixture(scope="session")
def toy() -> Any:
    """``toy(fails_at=3)`` is a model of the recipe above."""
    return toy_model


@pytest.fixture(scope="session")
def toy_recipes() -> dict[str, type[Any]]:
    return {Toy.family: Toy}


@pytest.fixture(scope="session")
def points() -> TrainingData:
    return toy_vectors()


@pytest.fixture(scope="session")
def pixels() -> TrainingData:
    return toy_images()


@pytest.fixture(params=["vectors", "images"])
def toy_data(request: pytest.FixtureRequest) -> TrainingData:
    return toy_vectors() if request.param == "vectors" else toy_images()


@pytest.fixture
def untouched() -> Any:
    """What a test runs must leave the global random state alone."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "the global random state was touched"
