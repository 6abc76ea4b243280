"""Generative adversarial networks: one recipe of an architecture, an objective and penalties; one task for them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.nets import networks
from gen_eval.zoo.nets.architecture import Architecture, Verdict
from gen_eval.zoo.nets.coupled import DOMAINS
from gen_eval.zoo.nets.progressive import STAGES, Discriminator, Growing
from gen_eval.zoo.numbers import require_positive, require_whole
from gen_eval.zoo.objectives import find_objective
from gen_eval.zoo.penalties import ORTHOGONAL_FORMS, clip, gradient_penalty, matrices, orthogonal, r1
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.styled import Styled
from gen_eval.zoo.task import Batch, Kind, Player
from gen_eval.zoo.trained import RESAMPLED, GeneratorNet, Trained

TRUNCATIONS = ("z", "w", "none")


@dataclass(frozen=True)
class Adversarial(Architecture):
    """How a GAN is built and trained; how it is built, as :class:`Architecture` says.

    Args:
        objective: a row of :data:`gen_eval.zoo.objectives.OBJECTIVES`.
        clip: each weight of the discriminator stays within so much of 0.
        gradient_penalty: weight of the penalty on slopes between the sets.
        r1: weight of the penalty on slopes at real samples.
        r1_every: it is taken every so many steps, with so many times the weight (Karras et al. 2020,
            arXiv:1912.04958, B).
        orthogonal: weight of the generator's orthogonal regularisation.
        orthogonal_form: a row of :data:`gen_eval.zoo.penalties.ORTHOGONAL_FORMS`.
        auxiliary: weight of the auxiliary classifier's losses.
        rate_generator: learning rate of the generator.
        rate_discriminator: learning rate of the discriminator.
        betas: of Adam.
        critic_steps: updates of the discriminator for one of the generator.
        batch: samples in a batch.
        steps: of training, by default.
        stage_steps: of nets that grow: how long each resolution is held, and how long it fades in before; 0 starts
            with the highest.
        truncation: ``"z"`` draws components of the latent again, ``"w"`` moves mapped latents towards their mean,
            ``"none"`` refuses.
    """

    family: ClassVar[str] = "adversarial"

    objective: str = "non-saturating"
    clip: float | None = None
    gradient_penalty: float | None = None
    r1: float | None = None
    r1_every: int = 1
    orthogonal: float | None = None
    orthogonal_form: str = "off-diagonal"
    auxiliary: float = 1.0
    rate_generator: float = 2e-4
    rate_discriminator: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    critic_steps: int = 1
    batch: int = 64
    steps: int = 1500
    stage_steps: int = 0
    truncation: str = "z"

    def __post_init__(self) -> None:
        super().__post_init__()
        find_objective(self.objective)
        if self.orthogonal_form not in ORTHOGONAL_FORMS:
            raise UnknownName("form of orthogonal regularisation", self.orthogonal_form, ORTHOGONAL_FORMS)
        if self.truncation not in TRUNCATIONS:
            raise UnknownName("truncation", self.truncation, TRUNCATIONS)
        if self.truncation == "w" and self.net != "style":
            raise UsageError(f"truncation in w needs the net 'style', which maps z to w; found '{self.net}'")
        weights = ("clip", "gradient_penalty", "r1", "orthogonal")
        given = (name for name in weights if getattr(self, name) is not None)
        require_positive(self, "rate_generator", "rate_discriminator", *given)
        require_whole(self, r1_every=1, critic_steps=1, batch=1, steps=1, stage_steps=0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas are two numbers from 0 on and below 1, found {self.betas}")
        if self.discriminator_norm == "batch" and (self.gradient_penalty or self.r1):
            raise UsageError(
                "penalties on slopes are of each sample by itself, and batch normalisation mixes samples: "
                "choose discriminator_norm='none', or no gradient_penalty and no r1"
            )

    @property
    def coupled(self) -> bool:
        """Whether labels are the two domains, and not those of the data."""
        return self.net == "coupled"

    def task(self, kind: Kind) -> AdversarialTask:
        """Fresh networks.

        Raises:
            UsageError: if the model learns classes and the data has none, or the net cannot make such data.
        """
        return AdversarialTask(self, self._learned(kind))

    def sampler(
        self, name: str, kind: Kind, modules: nn.ModuleDict, scaling: Mapping[str, Tensor]
    ) -> Sampler:
        """What the generator makes; labels and truncation as far as the recipe has them."""
        if self.truncation == "w":
            return Styled(name, kind, modules["generator"], scaling)
        classes = self._learned(kind).classes
        truncation = RESAMPLED if self.truncation == "z" else None
        return Trained(name, kind, modules["generator"], scaling, classes=classes, truncation=truncation)

    def _learned(self, kind: Kind) -> Kind:
        """The kind with the classes that the networks know."""
        if self.coupled:
            return replace(kind, classes=DOMAINS)
        return kind if self.conditional else replace(kind, classes=())


class AdversarialTask:
    """A generator and a discriminator, and what each pays; as :class:`gen_eval.zoo.task.Task` says.

    Args:
        recipe: what they are made of.
        kind: what samples are, with the classes that the networks know.
    """

    kept = ("generator",)

    def __init__(self, recipe: Adversarial, kind: Kind) -> None:
        generator, discriminator = networks(kind, recipe)
        self.recipe, self.kind = recipe, kind
        self.modules = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        if recipe.stage_steps and not isinstance(generator, Growing):
            raise UsageError(
                f"the net '{recipe.net}' does not grow: stage_steps is 0, found {recipe.stage_steps}"
            )
        if recipe.orthogonal is not None and not any(True for _ in matrices(generator)):
            raise UsageError(
                f"orthogonal regularisation finds no weights that it knows in the net '{recipe.net}'"
            )
        self._objective = find_objective(recipe.objective)
        self._step = 0
        self.players = (
            Player(
                "critic",
                self._critic_loss,
                ("discriminator",),
                recipe.rate_discriminator,
                recipe.betas,
                turns=recipe.critic_steps,
                project=self._clip if recipe.clip is not None else None,
            ),
            Player("generator", self._generator_loss, ("generator",), recipe.rate_generator, recipe.betas),
        )

    def begin(self, step: int) -> None:
        """Say which step it is, and let nets grow by it: a stage is held, then the next one fades in and is held."""
        self._step = step
        if self.recipe.stage_steps:
            block, within = divmod(step, self.recipe.stage_steps)
            grown = block >= 2 * (STAGES - 1)
            stage = STAGES - 1 if grown else (block + 1) // 2
            fade = within / self.recipe.stage_steps if block % 2 and not grown else 1.0
            for module in self.modules.values():
                cast(Growing, module).grow(stage, fade)

    def _critic_loss(self, batch: Batch, draws: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        real, labels = self._real(batch)
        with torch.no_grad():
            fake, of_fakes = self._fake(len(real), draws, real.device)
        on_real, on_fake = self._verdict(real, labels), self._verdict(fake, of_fakes)
        loss = self._objective.discriminator_loss(on_real.real, on_fake.real)
        shown = {"real": on_real.real.mean().item(), "fake": on_fake.real.mean().item()}
        if self.recipe.objective == "wasserstein":
            shown["w1"] = shown["real"] - shown["fake"]
        if self.recipe.head == "auxiliary":
            told = _misjudged(on_real, labels) + _misjudged(on_fake, of_fakes)
            loss = loss + self.recipe.auxiliary * told
            shown["classes"] = told.item()
        if self.recipe.gradient_penalty is not None or self.recipe.r1 is not None:
            penalty = self._penalty(real, fake, labels, draws)
            loss = loss + penalty
            shown["penalty"] = penalty.item()
        return loss, shown

    def _generator_loss(self, batch: Batch, draws: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        fake, labels = self._fake(len(batch.x), draws, batch.x.device)
        verdict = self._verdict(fake, labels)
        loss = self._objective.generator_loss(verdict.real)
        shown = {}
        if self.recipe.head == "auxiliary":
            told = _misjudged(verdict, labels)
            loss = loss + self.recipe.auxiliary * told
            shown["classes"] = told.item()
        if self.recipe.orthogonal is not None:
            away = orthogonal(matrices(self.modules["generator"]), self.recipe.orthogonal_form)
            loss = loss + self.recipe.orthogonal * away
            shown["orthogonal"] = away.item()
        return loss, shown

    def _penalty(self, real: Tensor, fake: Tensor, labels: Tensor | None, draws: torch.Generator) -> Tensor:
        """What slopes cost in this step. A point between two samples has the label of the real one."""
        recipe, total = self.recipe, real.new_zeros(())

        def critic(x: Tensor) -> Tensor:
            return self._verdict(x, labels).real

        if recipe.gradient_penalty is not None:
            total = total + recipe.gradient_penalty * gradient_penalty(critic, real, fake, draws)
        if recipe.r1 is not None and self._step % recipe.r1_every == 0:
            total = total + recipe.r1 * recipe.r1_every * r1(critic, real)
        return total

    def _verdict(self, x: Tensor, labels: Tensor | None) -> Verdict:
        verdict: Verdict = self.modules["discriminator"](x, labels)
        return verdict

    def _clip(self) -> None:
        assert self.recipe.clip is not None
        clip(self.modules["discriminator"].parameters(), self.recipe.clip)

    def _real(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Samples and labels as the networks know them.

        Of a coupled net, every other sample is made one of domain 1, by x to -x: no pairs are needed.
        """
        if self.recipe.stage_steps:
            return cast(Discriminator, self.modules["discriminator"]).as_shown(batch.x), None
        if not self.recipe.coupled:
            return batch.x, batch.labels if self.kind.classes else None
        domain = torch.arange(len(batch.x), device=batch.x.device) % len(DOMAINS)
        sign = (1 - 2 * domain).view(-1, *[1] * (batch.x.ndim - 1))
        return batch.x * sign, domain

    def _fake(self, n: int, draws: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Samples ``[n, *shape]`` and labels ``[n]``, all drawn on the CPU.

        Of a coupled net, neighbours are of one latent in both domains.
        """
        net, count = cast(GeneratorNet, self.modules["generator"]), len(self.kind.classes)
        labels = None
        if self.recipe.coupled:
            labels = torch.arange(n) % count
            z = torch.randn(n // 2 + n % 2, net.latent_dim, generator=draws).repeat_interleave(2, 0)[:n]
        else:
            if count:
                labels = torch.randint(count, (n,), generator=draws)
            z = torch.randn(n, net.latent_dim, generator=draws)
        noise = torch.randn(n, net.noise_dim, generator=draws) if net.noise_dim else None
        labels, noise = (None if given is None else given.to(device) for given in (labels, noise))
        return net(z.to(device), labels, noise), labels


def _misjudged(verdict: Verdict, labels: Tensor | None) -> Tensor:
    assert verdict.classes is not None
    assert labels is not None
    return cross_entropy(verdict.classes, labels)
