"""The recipe of all GANs: what each player pays, labels, domains, schedules, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.adversarial import Adversarial
from gen_eval.zoo.nets import NETS
from gen_eval.zoo.nets.architecture import Net, Verdict
from gen_eval.zoo.nets.coupled import DOMAINS
from gen_eval.zoo.nets.progressive import STAGES
from gen_eval.zoo.objectives import OBJECTIVES
from gen_eval.zoo.styled import Styled
from gen_eval.zoo.task import Batch, Kind, settings

VECTORS = Kind((2,))
NAMED = Kind((2,), ("a", "b", "c"))
IMAGES = Kind((1, 8, 8))


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(kind, n=8, seed=3):
    x = torch.randn(n, *kind.shape, generator=draws(seed))
    return Batch(x, torch.arange(n) % len(kind.classes) if kind.classes else None)


class Shift(nn.Module):
    """Moves each latent, and further by its label and noise."""

    latent_dim, noise_dim = 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([3.0, 0.0]))
        self.calls: list = []

    def forward(self, z, labels=None, noise=None):
        self.calls.append((z, labels, noise))
        return z + self.by


class Linear(nn.Module):
    """A critic whose slope is the same everywhere, and a classifier of the first component."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.6, -0.8]))
        self.classes, self.calls = classes, []

    def forward(self, x, labels=None):
        self.calls.append((x, labels))
        classes = x[:, :1] * torch.arange(self.classes) if self.classes else None
        return Verdict(3 * x @ self.w, classes)


class Bowl(Linear):
    """A critic x² / 2, whose slope at x is x itself."""

    def forward(self, x, labels=None):
        self.calls.append((x, labels))
        return Verdict(x.square().sum(1) / 2, None)


@pytest.fixture
def task(monkeypatch):
    """A task of a net of which everything is known."""

    def make(kind=VECTORS, critic=Linear, **fields):
        def discriminator(kind, architecture):
            return critic(len(kind.classes) if architecture.head == "auxiliary" else 0)

        net = Net(lambda kind, architecture: Shift(), discriminator, images=False, vectors=True)
        monkeypatch.setitem(NETS, fields.get("net", "linear"), net)
        return Adversarial(**{"net": "linear", **fields}).task(kind)

    return make


def pay(task, player, batch=None, seed=0):
    loss, shown = task.players[player].loss(batch or batch_of(task.kind), draws(seed))
    return loss.item(), shown, loss


CRITIC, GENERATOR = 0, 1


# --- What players pay


@pytest.mark.parametrize("name", OBJECTIVES)
def test_players_pay_what_the_objective_says(task, name):
    made, batch, row = task(objective=name), batch_of(VECTORS), OBJECTIVES[name]
    generator, critic = made.modules["generator"], made.modules["discriminator"]
    loss, shown, _ = pay(made, CRITIC, batch)
    fake = generator.calls[0][0] + generator.by
    on_real, on_fake = critic(batch.x).real, critic(fake).real
    assert loss == pytest.approx(row.discriminator_loss(on_real, on_fake).item())
    assert shown["real"] == pytest.approx(on_real.mean().item())
    assert shown["fake"] == pytest.approx(on_fake.mean().item())
    assert set(shown) == {"real", "fake"} | ({"w1"} if name == "wasserstein" else set())
    loss, shown, _ = pay(made, GENERATOR, batch)
    assert loss == pytest.approx(row.generator_loss(on_fake).item())
    assert shown == {}


def test_what_is_shown_of_a_wasserstein_critic_is_the_difference_of_means(task):
    made = task(objective="wasserstein")
    loss, shown, _ = pay(made, CRITIC)
    assert shown["w1"] == pytest.approx(shown["real"] - shown["fake"])
    assert loss == pytest.approx(-shown["w1"])


def test_the_critic_moves_first_and_alone(task):
    made = task(critic_steps=3, rate_discriminator=4e-4, rate_generator=1e-4, betas=(0.0, 0.9))
    critic, generator = made.players
    assert (critic.name, critic.modules, critic.turns, critic.rate) == ("critic", ("discriminator",), 3, 4e-4)
    assert (generator.name, generator.modules, generator.turns) == ("generator", ("generator",), 1)
    assert generator.rate == 1e-4
    assert critic.betas == generator.betas == (0.0, 0.9)
    assert critic.project is None
    assert made.kept == ("generator",)
    pay(made, CRITIC)[2].backward()
    assert made.modules["generator"].by.grad is None
    assert made.modules["discriminator"].w.grad is not None


def test_losses_come_from_the_source_of_noise_alone(task):
    made, before = task(gradient_penalty=10.0), torch.random.get_rng_state()
    for player in (CRITIC, GENERATOR):
        assert pay(made, player, seed=4)[0] == pay(made, player, seed=4)[0] != pay(made, player, seed=5)[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    z, _, noise = made.modules["generator"].calls[0]
    assert not torch.equal(z, noise)


# --- Penalties


def test_the_gradient_penalty_of_a_linear_critic(task):
    """Its slope is 3: (3 - 1)² times the weight."""
    plain, penalised = task(objective="wasserstein"), task(objective="wasserstein", gradient_penalty=10.0)
    _, shown, _ = pay(penalised, CRITIC)
    assert shown["penalty"] == pytest.approx(10 * 4)
    assert pay(penalised, CRITIC)[0] == pytest.approx(pay(plain, CRITIC)[0] + 40)


def test_the_gradient_penalty_is_of_slopes_between_real_samples_and_fakes(task):
    made, batch = task(critic=Bowl, gradient_penalty=10.0), batch_of(VECTORS)
    _, shown, _ = pay(made, CRITIC, batch)
    (real, _), (fake, _), (points, _) = made.modules["discriminator"].calls
    share = (points - real) / (fake - real)
    torch.testing.assert_close(share[:, 0], share[:, 1])
    assert 0 <= float(share.detach().min()) < float(share.detach().max()) < 1
    assert shown["penalty"] == pytest.approx(10 * (points.norm(dim=1) - 1).square().mean().item())
    assert real is batch.x
    assert torch.equal(fake, made.modules["generator"].calls[0][0] + made.modules["generator"].by)


def test_r1_is_taken_lazily_at_real_samples_with_as_many_times_the_weight(task):
    """Half the mean of |x|² times the weight on average over the steps."""
    made, batch, found = task(critic=Bowl, r1=0.5, r1_every=4), batch_of(VECTORS), []
    known = 0.5 * batch.x.square().sum(1).mean().item() / 2
    for step in range(8):
        made.begin(step)
        found.append(pay(made, CRITIC, batch)[1]["penalty"])
    assert found == pytest.approx([4 * known, 0, 0, 0, 4 * known, 0, 0, 0])
    assert sum(found) / 8 == pytest.approx(known)
    both = task(r1=0.5, gradient_penalty=1.0)
    assert pay(both, CRITIC)[1]["penalty"] == pytest.approx(0.5 * 4.5 + 4)


def test_weights_of_the_critic_are_clipped_after_its_updates(task):
    made = task(objective="wasserstein", clip=0.7)
    project = made.players[CRITIC].project
    assert project is not None
    project()
    assert made.modules["discriminator"].w.tolist() == pytest.approx([0.6, -0.7])
    assert made.modules["generator"].by.tolist() == [3.0, 0.0]
    assert made.players[GENERATOR].project is None


def test_orthogonal_regularisation_is_the_generators():
    made = Adversarial(net="mlp", width=4, orthogonal=0.5, orthogonal_form="identity").task(VECTORS)
    plain = Adversarial(net="mlp", width=4).task(VECTORS)
    plain.modules.load_state_dict(made.modules.state_dict())
    loss, shown, _ = pay(made, GENERATOR)
    assert shown["orthogonal"] > 0
    assert loss == pytest.approx(pay(plain, GENERATOR)[0] + 0.5 * shown["orthogonal"], rel=1e-5)
    assert "orthogonal" not in pay(made, CRITIC)[1]


# --- Labels


def test_fakes_are_of_uniform_classes(task):
    made = task(NAMED, norm="conditional")
    batch = Batch(torch.zeros(6000, 2), torch.zeros(6000, dtype=torch.int64))
    pay(made, CRITIC, batch)
    (_, on_real), (_, on_fake) = made.modules["discriminator"].calls
    assert on_real is batch.labels
    assert torch.equal(on_fake, made.modules["generator"].calls[0][1])
    assert (torch.bincount(on_fake) - 2000).abs().max() < 4 * math.sqrt(6000 * 2 / 9)


def test_models_without_classes_ignore_labels_and_those_with_need_them(task):
    made = task(NAMED)
    for player in (CRITIC, GENERATOR):
        pay(made, player, batch_of(NAMED))
    assert all(call[1] is None for module in made.modules.values() for call in module.calls)


def test_both_players_of_an_ac_gan_pay_for_classes_that_are_not_told(task):
    plain, made = (task(NAMED, head=head, auxiliary=0.5) for head in ("projection", "auxiliary"))
    batch = batch_of(NAMED)
    for player in (CRITIC, GENERATOR):
        loss, shown, _ = pay(made, player, batch)
        _, labels, _ = made.modules["generator"].calls[-1]
        critic = made.modules["discriminator"]
        told = cross_entropy(critic(critic.calls[-1][0]).classes, labels)
        if player == CRITIC:
            told = told + cross_entropy(critic(batch.x).classes, batch.labels)
        assert shown["classes"] == pytest.approx(told.item())
        assert loss == pytest.approx(pay(plain, player, batch)[0] + 0.5 * told.item())


def test_points_of_the_gradient_penalty_have_the_labels_of_real_samples(task):
    made, batch = task(NAMED, norm="conditional", gradient_penalty=1.0), batch_of(NAMED)
    pay(made, CRITIC, batch)
    assert made.modules["discriminator"].calls[2][1] is batch.labels


# --- Two domains


@pytest.mark.parametrize("n", [8, 7])
def test_a_coupled_gan_sees_negatives_and_makes_both_of_one_latent(task, n):
    made, batch = task(NAMED, net="coupled"), batch_of(NAMED, n)
    assert made.kind.classes == DOMAINS
    pay(made, CRITIC, batch)
    (real, on_real), (_, on_fake) = made.modules["discriminator"].calls
    assert torch.equal(real[::2], batch.x[::2])
    assert torch.equal(real[1::2], -batch.x[1::2])
    z, domains, _ = made.modules["generator"].calls[0]
    assert torch.equal(on_real, torch.arange(n) % 2)
    assert torch.equal(domains, torch.arange(n) % 2)
    assert on_fake is domains
    assert torch.equal(z[: n - n % 2 : 2], z[1::2])
    assert not torch.equal(z[0], z[2])


# --- Growing


def test_stages_are_held_and_faded_in():
    made = Adversarial(net="progressive", norm="none", width=4, stage_steps=4).task(IMAGES)
    seen = []
    for step in range(24):
        made.begin(step)
        networks = made.modules["generator"], made.modules["discriminator"]
        assert len({(int(net.stage), float(net.fade)) for net in networks}) == 1
        seen.append((int(networks[0].stage), float(networks[0].fade)))
    fades = [0.0, 0.25, 0.5, 0.75]
    held = [[(stage, 1.0)] * 4 for stage in range(STAGES)]
    faded = [[(stage, fade) for fade in fades] for stage in range(STAGES)]
    assert seen == [*held[0], *faded[1], *held[1], *faded[2], *held[2], *held[2]]


def test_real_images_are_shown_as_the_stage_is():
    made = Adversarial(net="progressive", norm="none", width=4, stage_steps=4).task(IMAGES)
    made.begin(0)
    detail = torch.tensor([1.0, -1.0]).repeat(1, 1, 8, 4).expand(8, -1, -1, -1)
    flat = made.modules["discriminator"](torch.zeros(8, 1, 8, 8)).real
    seen = []
    made.modules["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pay(made, CRITIC, Batch(detail, None))
    assert not seen[0].any()
    torch.testing.assert_close(made.modules["discriminator"](seen[0]).real, flat)


def test_only_nets_that_grow_have_stages():
    with pytest.raises(UsageError, match="'mlp' does not grow: stage_steps is 0, found 5"):
        Adversarial(net="mlp", stage_steps=5).task(VECTORS)


# --- Samplers


def sampler_of(recipe, kind):
    made = recipe.task(kind)
    scaling = {} if kind.images else {"mean": torch.tensor([5.0, 0.0]), "sd": torch.tensor([1.0, 2.0])}
    return recipe.sampler("model", kind, made.modules.eval(), scaling)


def test_samplers_know_the_classes_and_truncations_that_the_recipe_has():
    plain = sampler_of(Adversarial(net="mlp", width=4), NAMED)
    assert (plain.classes, plain.shape) == ((), (2,))
    assert plain.sample(5, seed=0, truncation=0.5).shape == (5, 2)
    with pytest.raises(UsageError, match="no classes"):
        plain.sample(5, seed=0, labels=1)
    classes = sampler_of(Adversarial(net="mlp", width=4, norm="conditional", truncation="none"), NAMED)
    assert classes.classes == NAMED.classes
    assert classes.sample(5, seed=0, labels=2).shape == (5, 2)
    with pytest.raises(UsageError, match="no truncation"):
        classes.sample(5, seed=0, truncation=0.5)
    coupled = sampler_of(Adversarial(net="coupled", width=4), IMAGES)
    assert coupled.classes == DOMAINS
    assert coupled.sample(3, seed=0, labels=1).dtype == torch.uint8


def test_a_style_based_model_is_truncated_in_w():
    recipe = Adversarial(net="style", norm="none", width=8, latent=4, truncation="w")
    styled = sampler_of(recipe, IMAGES)
    assert isinstance(styled, Styled)
    assert not torch.equal(styled.sample(3, seed=0), styled.sample(3, seed=0, truncation=0.5))


# --- Kinds of data, and recipes that make no sense


def test_what_a_net_refuses_the_recipe_refuses():
    with pytest.raises(UsageError, match="need labels"):
        Adversarial(net="mlp", head="projection").task(VECTORS)
    with pytest.raises(UsageError, match="net 'progressive' works on the places"):
        Adversarial(net="progressive", norm="none").task(VECTORS)
    with pytest.raises(UnknownName, match="did you mean 'dcgan'"):
        Adversarial(net="dcgann").task(IMAGES)
    assert Adversarial(net="dcgan", width=4).task(VECTORS).modules["generator"].latent_dim == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "hinges"}, "did you mean 'hinge'"),
        ({"orthogonal_form": "off"}, "unknown form of orthogonal regularisation 'off'"),
        ({"truncation": "psi"}, "unknown truncation 'psi'"),
        ({"truncation": "w", "net": "mlp"}, "needs the net 'style'"),
        ({"clip": 0.0}, "clip is above 0 and finite, found 0.0"),
        ({"gradient_penalty": -1.0}, "gradient_penalty is above 0"),
        ({"r1": math.nan}, "r1 is above 0"),
        ({"r1": 1.0, "discriminator_norm": "batch"}, "batch normalisation mixes samples"),
        ({"rate_generator": 0.0}, "rate_generator is above 0"),
        ({"critic_steps": 0}, "critic_steps is 1 or more, found 0"),
        ({"stage_steps": -1}, "stage_steps is 0 or more, found -1"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Adversarial(**fields)


def test_a_recipe_goes_through_json():
    recipe = Adversarial(clip=0.01, betas=(0.0, 0.9), net="mlp")
    read = json.loads(json.dumps(settings(recipe)))
    assert read.pop("family") == "adversarial"
    assert Adversarial(**{**read, "betas": tuple(read["betas"])}) == recipe
