"""Integrals of unnormalised densities by quadrature, and densities normalised by them."""

from __future__ import annotations

import math

import pytest
import torch

from gen_eval.errors import NumericalError, UsageError
from gen_eval.zoo.partition import Normalised, log_partition
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import Disc, Gaussian

WORLD = Gaussian((0.5, -1.0), ((1.0, 0.3), (0.3, 0.5)))
BOX = ((-9.0, -8.0), (10.0, 6.0))


class Lifted(Sampler):
    """The world, with a constant on its log-density."""

    name, shape = "lifted", (2,)

    def unnormalised_log_prob(self, x):
        return WORLD.log_prob(x) + 700  # exp of it leaves float64

    def score(self, x):
        return WORLD.score(x)

    def _draw(self, seeds, labels, truncation):
        return WORLD(seeds)


# --- Integrals


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_gaussian_in_some_dimensions(dim):
    found = log_partition(lambda x: -x.square().sum(1) / 2, [-9.0] * dim, [9.0] * dim, steps=60)
    assert found.log_z == pytest.approx(dim / 2 * math.log(2 * math.pi), abs=1e-9)
    assert found.error < 1e-9
    assert found.rim < 1e-12


def test_it_is_the_trapezoidal_rule():
    """Of f = log(x) on [0, 1] in 4 steps; ends count by half, and half the steps make the error."""
    found = log_partition(lambda x: x[:, 0].log(), [0.0], [1.0], steps=4)
    assert math.exp(found.log_z) == pytest.approx(0.5)
    squares = log_partition(lambda x: 2 * x[:, 0].log(), [0.0], [1.0], steps=4)
    fine, coarse = (0.5 + sum((k / n) ** 2 for k in range(1, n)) for n in (4, 2))
    assert squares.log_z == pytest.approx(math.log(fine / 4))
    assert squares.error == pytest.approx(abs(math.log(fine / 4) - math.log(coarse / 2)))
    assert squares.rim == pytest.approx(0.5 / fine)


def test_axes_are_those_of_x():
    """So a box that fits one axis alone is told from the other."""
    wide = Gaussian((0.0, 0.0), ((25.0, 0.0), (0.0, 0.04)))
    fits = log_partition(wide.log_prob, (-40, -2), (40, 2), steps=200)
    assert fits.log_z == pytest.approx(0, abs=1e-9)
    assert log_partition(wide.log_prob, (-2, -40), (2, 40), steps=200).rim > 1e-3


@pytest.mark.parametrize(
    ("lower", "upper", "steps", "message"),
    [
        ((0.0,), (1.0, 2.0), 4, "a finite lower and upper end on each axis"),
        ((), (), 4, "a finite lower and upper end"),
        ((1.0,), (1.0,), 4, "a finite lower and upper end"),
        ((0.0,), (math.inf,), 4, "a finite lower and upper end"),
        ((0.0,), (1.0,), 5, "an even number of steps.*found 5"),
        ((0.0,) * 4, (1.0,) * 4, 256, "for 3 dimensions or fewer"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(lower, upper, steps, message):
    with pytest.raises(UsageError, match=message):
        log_partition(lambda x: x[:, 0], lower, upper, steps=steps)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_density_that_is_no_number_is_refused(value):
    with pytest.raises(NumericalError, match="NaN or infinite"):
        log_partition(lambda x: torch.full((len(x),), value), (0.0,), (1.0,), steps=4)


# --- Densities


def test_a_normalised_density_is_the_density():
    found, x = Normalised(Lifted(), *BOX), WORLD.sample(50, seed=0)
    assert found.bound == "exact"
    assert (found.name, found.shape) == ("lifted, normalised", (2,))
    torch.testing.assert_close(found.log_prob(x), WORLD.log_prob(x))
    torch.testing.assert_close(found.score(x), WORLD.score(x))
    assert torch.equal(found.sample(5, seed=3), WORLD.sample(5, seed=3))
    assert found.partition.log_z == pytest.approx(700)


@pytest.mark.parametrize(
    ("box", "steps", "message"),
    [
        (BOX, 4, "take more steps"),
        (((-1.0, -8.0), (10.0, 6.0)), 256, "is in the rim of the box.*a wider box"),
    ],
)
def test_an_integral_that_is_off_is_refused(box, steps, message):
    with pytest.raises(NumericalError, match=message):
        Normalised(Lifted(), *box, steps=steps)


def test_what_has_no_such_density_is_refused():
    with pytest.raises(UsageError, match="expected a model with an unnormalised density"):
        Normalised(Disc(), *BOX)
    with pytest.raises(UsageError, match=r"of vectors \[1\].*lifted of \[2\]"):
        Normalised(Lifted(), (0.0,), (1.0,))
