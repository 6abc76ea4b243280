"""What every model of the zoo promises, whatever it has learnt: trained for two steps on tiny sets."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_eval.errors import GenEvalError, UsageError
from gen_eval.latent import to_uint8
from gen_eval.likelihood import KINDS
from gen_eval.validation.check import Check, near
from gen_eval.validation.closed_forms import normals
from gen_eval.zoo.checkpoint import Checkpoint, load, save
from gen_eval.zoo.data import TrainingData, open_data
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Model
from gen_eval.zoo.trained import BATCH, RESAMPLED, Trained
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import Mixture

_N = 70  # more than a network takes at once
_STEPS = 2
_SEED = 5
_BOUND = 0.5  # of a truncation
_MAGNIFIED = 1000  # after two steps samples differ by less than a level of 255


def images() -> TrainingData:
    """Gray images of 8 x 8 pixels in 3 classes."""
    labels = torch.arange(60) % 3
    bright = 60 * labels[:, None] + 20 * normals(60, 64, 0) + 60
    x = bright.clamp(0, 255).to(torch.uint8).view(-1, 1, 8, 8)
    return TrainingData("8 x 8 images", x, labels, ("dark", "gray", "bright"))


def vectors() -> TrainingData:
    """Points of a ring of 8 classes."""
    return open_data(Mixture.ring(), n=200)


def contract(model: Model) -> Check:
    """The check that a model keeps its promises, of images and of vectors as far as it makes them."""
    return Check(
        f"contract-{model.name}",
        "What the training, the samples and the file of any model promise is kept.",
        (model.name,),
        "quick",
        (near(float(len(PROMISES)), 0.0, "promises kept"),),
        lambda: _kept(model),
        "gen_eval.zoo.sampler, gen_eval.zoo.trained",
    )


def _kept(model: Model) -> float:
    """How many promises are kept, which is all of them.

    Raises:
        GenEvalError: if one is not; names those.
    """
    broken: list[str] = []
    refused: list[str] = []
    for data in (images(), vectors()):
        try:
            with torch.random.fork_rng(devices=[]):
                model.recipe.task(data.kind)
        except UsageError as error:
            refused.append(f"{data.name}: {error}")
            continue
        before = torch.random.get_rng_state()
        case = _Case(model, data)
        broken += [f"{name} ({data.name})" for name, keeps in PROMISES.items() if not keeps(case)]
        if not torch.equal(before, torch.random.get_rng_state()):
            broken.append(f"leaves the random state of torch alone ({data.name})")
    if broken or len(refused) == 2:
        reason = (
            f"does not keep: {'; '.join(broken)}"
            if broken
            else f"can be trained on neither {'; nor '.join(refused)}"
        )
        raise GenEvalError(f"{model.name} {reason}")
    return float(len(PROMISES))


class _Case:
    """A model after two steps."""

    def __init__(self, model: Model, data: TrainingData) -> None:
        self.model, self.data = model, data
        self.checkpoint = self.train()
        self.sampler = self.checkpoint.sampler()
        self.samples = self.sampler.sample(_N, seed=_SEED)

    def train(self) -> Checkpoint:
        return train(self.model, self.data, seed=1, steps=_STEPS, device="cpu")


def _fits(it: _Case) -> bool:
    x, dtype = it.samples, torch.uint8 if it.data.kind.images else torch.float32
    whole = x.shape == (_N, *it.data.kind.shape) == (_N, *it.sampler.shape) and x.dtype == dtype
    return whole and x.device.type == "cpu" and bool(x.isfinite().all())


def _begins(it: _Case) -> bool:
    return torch.equal(it.samples[:20], it.sampler.sample(20, seed=_SEED))


def _stands_anywhere(it: _Case) -> bool:
    seeds = torch.tensor([_SEED + 3, 900, _SEED])
    return torch.equal(it.sampler(seeds)[[2, 0]], it.samples[[0, 3]])


def _varies(it: _Case) -> bool:
    # All have one place in a batch, so that kernels round them alike.
    x = _magnified(it.sampler)(BATCH * torch.arange(8))
    return len(x.unique(dim=0)) == len(x)


def _takes_labels(it: _Case) -> bool:
    sampler, seeds = it.sampler, torch.arange(_SEED, _SEED + _N)
    if not sampler.classes:
        return _refuses(sampler, labels=0)
    again = sampler.sample(_N, seed=_SEED, labels=sampler.labels_of(seeds))
    one = torch.equal(sampler.sample(3, seed=0, labels=1), sampler.sample(3, seed=0, labels=[1, 1, 1]))
    beyond = ({"labels": len(sampler.classes)}, {"labels": -1}, {"labels": [0]})
    fine = _magnified(sampler)
    told = _all_differ(fine(seeds, labels=0), fine(seeds, labels=1))
    return (
        torch.equal(again, it.samples)
        and one
        and told
        and all(_refuses(sampler, **wrong) for wrong in beyond)
    )


def _takes_truncation(it: _Case) -> bool:
    sampler, seeds = it.sampler, torch.arange(_SEED, _SEED + _N)
    if sampler.truncation is None:
        return _refuses(sampler, truncation=_BOUND)
    fine = _magnified(sampler)
    pair = [fine(seeds, truncation=_BOUND) for _ in range(2)]
    moves = torch.equal(*pair) and _all_differ(pair[0], fine(seeds))
    bounded = sampler.truncation != RESAMPLED or _draws_within(sampler)
    return moves and bounded and pair[0].shape == it.samples.shape and _refuses(sampler, truncation=-1.0)


def _draws_within(sampler: Any) -> bool:
    """Whether truncated latents lie within the bound, none of them on it, and are those that samples are made of."""
    seeds, label = torch.arange(BATCH), 0 if sampler.classes else None
    latents = sampler.latent(seeds, _BOUND)
    within = bool((latents.abs() < _BOUND).all())
    if sampler.network.noise_dim:
        return within  # a synthesis is without noise
    samples = _magnified(sampler)(seeds, labels=label, truncation=_BOUND)
    with torch.no_grad():
        made = _magnified(sampler).synthesize(latents, label)
    return within and torch.equal(samples, to_uint8(made) if sampler.kind.images else made)


def _magnified(sampler: Sampler) -> Any:
    """The sampler, of whose images thousandths of a level are seen; they begin again at 0 after each 256."""
    if not isinstance(sampler, Trained) or not sampler.kind.images:
        return sampler
    fine: Any = copy.copy(sampler)
    fine._unscaled = lambda x: (127.5 * _MAGNIFIED * (x + 1)).floor() % 256
    return fine


def _all_differ(a: Tensor, b: Tensor) -> bool:
    """Whether each row differs from the one beside it."""
    return bool((a != b).flatten(1).any(1).all())


def _knows_its_likelihood(it: _Case) -> bool:
    sampler: Any = it.sampler
    if not hasattr(sampler, "log_prob"):
        return True
    x = it.samples
    if it.data.kind.images:  # a density is of pixels in [0, 1]
        given = {"none": x.long(), "binary": (x > 127).float()}
        x = given.get(getattr(sampler, "dequantization", "uniform"), x.float() / 256)
    log_prob = sampler.log_prob(x)
    return log_prob.shape == (_N,) and bool(log_prob.isfinite().all()) and sampler.bound in KINDS


def _refuses(sampler: Sampler, **options: Any) -> bool:
    try:
        sampler.sample(3, seed=0, **options)
    except UsageError:
        return True
    return False


def _trains_by_seed(it: _Case) -> bool:
    weights = it.train().weights
    return all(torch.equal(value, weights[name]) for name, value in it.checkpoint.weights.items())


def _is_stored(it: _Case) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(it.checkpoint, path)
        stored = load(path, {it.model.recipe.family: type(it.model.recipe)})
    return torch.equal(stored.sampler().sample(_N, seed=_SEED), it.samples)


PROMISES: Mapping[str, Callable[[_Case], bool]] = {
    "samples are uint8 images or finite float32 vectors [n, *shape] on the CPU": _fits,
    "the first samples of many are those of few": _begins,
    "a sample depends on its own seed alone": _stands_anywhere,
    "other seeds give other samples": _varies,
    "labels are honoured, or refused": _takes_labels,
    "a truncation is honoured, or refused": _takes_truncation,
    "a log-likelihood is a number for each sample, of a known kind": _knows_its_likelihood,
    "a training of one seed ends in the same weights": _trains_by_seed,
    "a generator that was stored gives the same bytes": _is_stored,
}
