"""Batches of nothing: no seeds make no samples, and no rows have no densities, of every world and model."""

from __future__ import annotations

import pytest
import torch

from gen_eval.errors import UsageError
from gen_eval.zoo.chains import Langevin
from gen_eval.zoo.checkpoint import kept_modules, sampler_of
from gen_eval.zoo.ising import Ising, IsingImages
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.task import Kind
from gen_eval.zoo.worlds import Gaussian, Mixture

from .test_sampler import SAMPLERS

KINDS = [Kind(shape, classes) for shape in ((2,), (1, 28, 28)) for classes in ((), ("a", "b"))]
NO_SEEDS = torch.empty(0, dtype=torch.int64)


def untrained(name, kind):
    """A model as it is before its first step; ``None`` where it is not made for such data."""
    recipe = MODELS[name].recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            kept = kept_modules(recipe.task(kind))
        except UsageError:
            return None
    scaling = {} if kind.images else {"mean": torch.zeros(kind.shape), "sd": torch.ones(kind.shape)}
    return sampler_of(name, recipe, kind, kept, scaling)


def require_nothing(sampler):
    """Whatever it has makes of no rows as many, of the type and shape that it makes of some."""
    for options in ({}, {"labels": []}, {"labels": 0}) if sampler.classes else ({},):
        samples = sampler(NO_SEEDS, **options)
        assert samples.shape == (0, *sampler.shape)
        assert samples.dtype == (torch.uint8 if len(sampler.shape) == 3 else torch.float32)
    no_rows = torch.empty(0, *sampler.shape)
    for name in ("log_prob", "unnormalised_log_prob"):
        if hasattr(sampler, name):
            found = getattr(sampler, name)(no_rows)
            assert (found.shape, found.dtype) == ((0,), torch.float64)
    if hasattr(sampler, "log_ratio"):
        assert sampler.log_ratio(no_rows, no_rows).shape == (0,)
    if hasattr(sampler, "log_weights"):
        assert sampler.log_weights(no_rows, 3, 0 if sampler.classes else None).shape == (0, 3)
    if hasattr(sampler, "score"):
        assert sampler.score(no_rows).shape == no_rows.shape
    if hasattr(sampler, "encode"):
        assert sampler.encode(no_rows).shape == (0, no_rows[:1].flatten(1).shape[1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_worlds_make_nothing_of_nothing(name):
    require_nothing(SAMPLERS[name]())


def test_others_make_nothing_of_nothing():
    require_nothing(IsingImages(Ising(torch.zeros(2, 3), 0.4)))
    standard = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    require_nothing(Langevin(standard, step_size=0.1, steps=3, start_sd=1.0))


@pytest.mark.parametrize("name", MODELS)
def test_models_make_nothing_of_nothing(name, untouched):
    made = [sampler for kind in KINDS if (sampler := untrained(name, kind))]
    assert made
    for sampler in made:
        require_nothing(sampler)
        assert len(sampler.latent(NO_SEEDS)) == 0
        wrong = torch.empty(0, *sampler.shape, 3)
        for asked in ("log_prob", "score", "unnormalised_log_prob", "encode"):
            if hasattr(sampler, asked):
                with pytest.raises(UsageError, match="found torch.float32"):
                    getattr(sampler, asked)(wrong)


@pytest.mark.parametrize("name", ["dcgan", "ac-gan", "stylegan"])
def test_no_latents_make_no_images(name, untouched):
    sampler = next(sampler for kind in reversed(KINDS) if (sampler := untrained(name, kind)))
    latents = sampler.latent(torch.arange(2))
    if hasattr(sampler, "mapping"):
        latents = sampler.mapping(latents)
        assert sampler.mapping(sampler.latent(NO_SEEDS)).shape == (0, *latents.shape[1:])
    given = [0] if sampler.classes else []
    assert sampler.synthesize(latents[:0], *given).shape == sampler.synthesize(latents, *given)[:0].shape


def test_what_makes_no_sense_is_refused_of_nothing_too():
    ring = Mixture.ring()
    for seeds in (torch.empty(0), torch.empty(0, 2, dtype=torch.int64), torch.tensor(3)):
        with pytest.raises(UsageError, match="expected seeds as int64"):
            ring(seeds)
    with pytest.raises(UsageError, match="found 1 labels for 0 samples"):
        ring(NO_SEEDS, labels=[1])
    with pytest.raises(UsageError, match="has no truncation"):
        ring(NO_SEEDS, truncation=0.5)
    with pytest.raises(UsageError, match="n=0"):
        ring.sample(0, seed=0)
    with pytest.raises(UsageError, match="found none"):
        ring.modes_covered(torch.empty(0, 2))
    assert ring.classify(torch.empty(0, 2)).shape == (0, 8)
