"""The Inception Score says how sure it is: simulated again and again on classifiers of every kind.

Tolerances are what chance allows: `NOISE` standard deviations of what R repetitions leave uncertain, as in
`test_uncertainty.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from gen_eval.metrics.inception_score import inception_score

NOISE = 2.5
Z = 1.96  # of a 95 % interval


# Logits of n images over some classes. All but `unsure` see one class in each image, drawn from `frequencies`.


def unsure(n, classes, generator):
    return 2 * torch.randn(n, classes, generator=generator)


def sure(n, classes, generator):
    """Nearly one-hot, and all classes equally often: first order almost vanishes."""
    return noisy(torch.ones(classes), math.log(classes) + 8, n, generator)


def certain(n, classes, generator):
    """One-hot, and all classes equally often: first order vanishes."""
    return 1000.0 * torch.nn.functional.one_hot(torch.randint(classes, (n,), generator=generator), classes)


def skewed(n, classes, generator):
    """Nearly one-hot, with classes as frequent as words."""
    return noisy(1 / torch.arange(1.0, classes + 1), math.log(classes) + 6, n, generator)


def varied(n, classes, generator):
    """Some images clear, some not: as of a real classifier."""
    margin = math.log(classes) + 6 * torch.rand(n, 1, generator=generator)
    return noisy(torch.ones(classes), margin, n, generator)


def noisy(frequencies, margin, n, generator):
    seen = torch.multinomial(frequencies, n, replacement=True, generator=generator)
    classes = len(frequencies)
    return margin * torch.nn.functional.one_hot(seen, classes) + torch.randn(n, classes, generator=generator)


class Run(NamedTuple):
    """What R repetitions said of one value: it, its standard error, its bias."""

    values: np.ndarray
    errors: np.ndarray
    biases: np.ndarray

    @property
    def covered(self):
        """How often a 95 % interval holds the estimator's expectation."""
        return float((np.abs(self.values - self.values.mean()) < Z * self.errors).mean())

    @property
    def ratio(self):
        """The standard error stated, in the mean square, over the standard deviation that there is."""
        return float(np.sqrt((self.errors**2).mean()) / self.values.std(ddof=1))

    @property
    def uncertain(self):
        """Of the mean of the values."""
        return NOISE * self.values.std(ddof=1) / math.sqrt(len(self.values))


def simulate(world, n, classes, repetitions, **options):
    generator = torch.Generator().manual_seed(0)
    scores = [inception_score(world(n, classes, generator), **options) for _ in range(repetitions)]
    return {
        name: Run(
            *(
                np.array([part.get(name, math.nan) for part in parts])
                for parts in zip(
                    *((score.values, score.errors, score.biases) for score in scores), strict=True
                )
            )
        )
        for name in scores[0].values
    }


# --- The standard error


@pytest.mark.parametrize(
    ("world", "n", "classes", "repetitions"),
    [
        (unsure, 500, 10, 500),
        (sure, 500, 10, 500),
        (certain, 500, 10, 500),
        (skewed, 500, 10, 500),
        (varied, 500, 10, 500),
        (unsure, 5000, 10, 200),
        (certain, 5000, 10, 200),
        (unsure, 500, 1000, 100),
        (sure, 500, 1000, 100),
        (skewed, 500, 1000, 100),
    ],
)
def test_intervals_cover_the_estimators_own_mean(world, n, classes, repetitions):
    # An error bar of first order is a quarter too short for the last three, and half too wide for `certain`.
    run = simulate(world, n, classes, repetitions)["inception_score"]
    spread = [math.sqrt(p * (1 - p) / repetitions) for p in (0.92, 0.98)]
    assert 0.92 - NOISE * spread[0] <= run.covered <= 0.98 + NOISE * spread[1]
    assert abs(run.ratio - 1) <= 0.05 + NOISE * math.sqrt(0.5 / repetitions)


@pytest.mark.parametrize(
    ("world", "names"),
    [
        (unsure, ("whole", "kl", "sharpness")),
        (varied, ("whole", "kl", "sharpness")),
        (skewed, ("whole", "kl", "sharpness", "diversity")),
    ],
)
def test_errors_of_the_details_are_right_where_first_order_does_not_vanish(world, names):
    repetitions = 400
    runs = simulate(world, 500, 10, repetitions, splits=2)
    for name in names:
        assert 0.92 - NOISE * 0.0136 <= runs[name].covered <= 0.98 + NOISE * 0.007, name
        assert runs[name].ratio == pytest.approx(1, abs=0.05 + NOISE * math.sqrt(0.5 / repetitions)), name


@pytest.mark.parametrize(("n", "classes", "repetitions"), [(500, 10, 400), (600, 1000, 70)])
@pytest.mark.parametrize("world", [sure, certain])
def test_errors_of_the_details_are_never_too_short_nor_useless(world, n, classes, repetitions):
    runs = simulate(world, n, classes, repetitions, splits=2)
    for name in ("whole", "kl", "diversity"):
        noise = NOISE * math.sqrt(0.5 / repetitions)
        assert 1 - noise <= runs[name].ratio <= 1.6 * (1 + noise), name


# --- The bias


@pytest.mark.parametrize("world", [unsure, sure, skewed, varied])
def test_the_stated_bias_is_the_true_one(world):
    of_many = simulate(world, 50_000, 10, 8, splits=1)  # their own bias is a hundredth of that of 500
    runs = simulate(world, 500, 10, 400)
    for name in ("inception_score", "whole", "kl", "diversity"):
        run, known = runs[name], of_many[name if name != "inception_score" else "whole"]
        bias = run.values.mean() - (known.values - known.biases).mean()
        uncertain = math.hypot(run.uncertain, known.uncertain)
        assert run.biases.mean() == pytest.approx(bias, rel=0.1, abs=uncertain), name
    assert (
        runs["inception_score"].biases.mean() < -5 * runs["inception_score"].uncertain
    )  # there is one to be seen


@pytest.mark.parametrize(("n", "within"), [(1000, 1 / 3), (2000, 0.1)])
def test_the_stated_bias_is_right_to_a_tenth_with_twice_as_many_images_as_classes(n, within):
    run = simulate(certain, n, 1000, 10, splits=1)["whole"]
    bias = run.values.mean() - 1000
    assert run.biases.mean() == pytest.approx(bias, rel=within)
    assert run.biases.mean() > bias  # it is understated, if anything


@pytest.mark.parametrize("world", [sure, skewed, varied])
def test_the_bias_of_fewer_images_than_classes_is_at_least_what_the_warning_says(world):
    few = inception_score(world(300, 1000, torch.Generator().manual_seed(0)), splits=1)
    many = inception_score(world(4000, 1000, torch.Generator().manual_seed(1)), splits=1)
    stated = float(few.warnings[0].split(" by ")[1].split()[0])
    assert 0 < stated < many.values["whole"] - few.values["whole"]
