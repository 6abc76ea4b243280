"""Ising models: all images, Gibbs sampling, annealing, minimum cuts, and exact draws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.likelihood import evaluate_likelihood
from gen_eval.zoo.data import open_data
from gen_eval.zoo.ising import Ising, IsingImages

TRUE = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 1, 1]])
FLIPPED = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1]])


def model(number=0, height=2, width=3, coupling=0.7):
    return Ising(draws.normal(torch.tensor([number]), height * width).view(height, width), coupling)


# --- The model


def test_f_counts_pairs_that_agree_and_pixels_that_follow_their_field():
    ising = Ising(torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), 2.0)
    y = torch.tensor([[[1, 1, 0], [0, 1, 0]]])
    pairs = (1 - 1) + (-1 - 1) + (-1 + 1 + 1)  # rows, then columns
    field = 0.1 + 0.2 - 0.3 - 0.4 + 0.5 - 0.6
    assert float(ising.log_weight(y)[0]) == pytest.approx(2 * pairs + field)


def test_the_field_of_a_corrupted_image_is_its_likelihood():
    """p(y | x) by Bayes' rule: p(y) times the probability of the flips that lead to x."""
    prior, flip = Ising(torch.zeros(2, 3), 0.4), 0.2
    x = torch.tensor([[0, 1, 1], [1, 1, 0]])
    images, log_prior, _ = prior.enumeration
    flips = (images != x).sum((1, 2))
    joint = log_prior + flips * math.log(flip) + (6 - flips) * math.log(1 - flip)
    found = Ising.given(x, flip=flip, coupling=0.4).enumeration.log_prob
    torch.testing.assert_close(found, joint - joint.logsumexp(0))


def test_all_images_are_gone_through_once():
    images, log_prob, log_z = model().enumeration
    assert images.flatten(1).tolist() == [list(bits) for bits in itertools.product((0, 1), repeat=6)]
    assert float(log_prob.logsumexp(0)) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(log_prob + log_z, model().log_weight(images))


def test_pixels_without_coupling_are_independent():
    ising = model(coupling=0.0)
    torch.testing.assert_close(ising.marginals(), torch.sigmoid(2 * ising.field))
    assert torch.equal(ising.most_likely(), (ising.field > 0).long())


# --- Gibbs sampling


@pytest.mark.parametrize("coupling", [0.7, -0.4])
def test_gibbs_sampling_has_the_distribution(coupling):
    """Counts of all 64 images, by chi-square: its mean is 63 and its standard deviation 11."""
    ising, n = model(coupling=coupling), 8000
    y = ising.gibbs(n, seed=0, sweeps=30)
    place = y.flatten(1) @ (2 ** torch.arange(5, -1, -1))
    expected = n * ising.enumeration.log_prob.exp()
    counts = torch.bincount(place, minlength=64).double()
    often = expected > 5
    assert float(((counts - expected).square() / expected)[often].sum()) < int(often.sum()) + 45


def test_a_chain_is_that_of_its_seed():
    y = model().gibbs(20, seed=3, sweeps=4)
    assert torch.equal(model().gibbs(1, seed=10, sweeps=4)[0], y[7])
    assert not torch.equal(model().gibbs(20, seed=30, sweeps=4), y)
    assert y.dtype == torch.int64


# --- The likeliest image


def test_a_pixel_is_restored_where_its_neighbours_agree():
    ising = Ising.given(FLIPPED, flip=0.2, coupling=0.5)
    assert torch.equal(ising.most_likely(), TRUE)
    assert torch.equal(ising.annealed(seed=0), TRUE)
    weak = Ising.given(FLIPPED, flip=0.2, coupling=0.2)
    assert torch.equal(weak.most_likely(), FLIPPED)


@pytest.mark.parametrize("shape", [(3, 4), (1, 7), (5, 1), (1, 1)])
def test_a_cut_is_the_likeliest_of_all_images(shape):
    for number in range(8):
        ising = model(number, *shape, coupling=0.25 * number)
        best = float(ising.enumeration.log_prob.max() + ising.enumeration.log_z)
        assert float(ising.log_weight(ising.most_likely()[None])[0]) == pytest.approx(best, abs=1e-6)


def test_a_cut_counts_fields_and_couplings_of_any_size():
    for scale in (1e-9, 1e9):
        ising = Ising(scale * model().field, scale * 0.7)
        assert torch.equal(ising.most_likely(), model().most_likely())
    assert torch.equal(Ising(torch.zeros(2, 2), 0.0).most_likely(), torch.zeros(2, 2, dtype=torch.int64))


def test_neighbours_that_differ_are_found_among_all_images():
    board = Ising(torch.tensor([[0.1, 0.0], [0.0, 0.0]]), -1.0)
    assert board.most_likely().tolist() == [[1, 0], [0, 1]]
    assert board.annealed(seed=0).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UsageError, match=r"25 pixels make 2\^25 images"):
        Ising(torch.zeros(5, 5), -1.0).most_likely()


def test_no_better_image_is_a_pixel_away_from_an_annealed_one():
    ising = model(5, 6, 7, coupling=-0.6)
    y = ising.annealed(seed=1, sweeps=3, chains=2)
    away = y.repeat(42, 1, 1)
    away.view(42, 42).diagonal().bitwise_xor_(torch.ones(42, dtype=torch.int64))
    assert bool((ising.log_weight(away) <= ising.log_weight(y[None]) + 1e-9).all())
    assert torch.equal(ising.annealed(seed=1, sweeps=3, chains=2), y)


# --- Images


def test_images_are_drawn_by_their_probabilities():
    sampler = IsingImages(model())
    x = sampler.sample(5000, seed=0)
    assert (x.dtype, x.shape, sampler.shape) == (torch.uint8, (5000, 1, 2, 3), (1, 2, 3))
    assert torch.equal(sampler.sample(3, seed=7), x[7:10])
    torch.testing.assert_close((x[:, 0] / 255).double().mean(0), model().marginals(), rtol=0, atol=0.03)
    everything = model().enumeration
    found = sampler.log_prob(255 * everything.images[:, None])
    torch.testing.assert_close(found, everything.log_prob)
    assert float(sampler.log_prob(torch.full((1, 1, 2, 3), 254))[0]) == -math.inf


def test_their_likelihood_is_one_of_levels_and_models_are_trained_on_them():
    sampler = IsingImages(Ising(torch.zeros(4, 4), 0.4))
    data = open_data(sampler, n=2000)
    assert data.kind.shape == (1, 4, 4)
    found = evaluate_likelihood(sampler, data.x.permute(0, 2, 3, 1).numpy())
    log_prob = IsingImages(Ising(torch.zeros(4, 4), 0.4))._all.log_prob
    entropy = -float((log_prob.exp() * log_prob).sum())
    assert found.terms.dequantization == "none"
    assert found.values["nll"] == pytest.approx(entropy, abs=0.2)


# --- Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ising(torch.zeros(3), 1.0), r"a field \[height, width\], found \[3\]"),
        (lambda: Ising(torch.zeros(0, 3), 1.0), r"found \[0, 3\]"),
        (lambda: Ising(torch.full((2, 2), math.nan), 1.0), "found NaN or infinity"),
        (lambda: Ising(torch.zeros(2, 2), math.inf), "found NaN or infinity"),
        (lambda: Ising.given(TRUE, flip=0.0, coupling=1.0), "a probability above 0 and below 1, found 0"),
        (lambda: Ising.given(255 * TRUE, flip=0.1, coupling=1.0), "threshold its levels"),
        (lambda: model().log_weight(torch.zeros(1, 3, 3)), r"expected images \[n, 2, 3\], found \[1, 3, 3\]"),
        (lambda: model().gibbs(2, seed=0, sweeps=0), "1 sweep or more, found 0"),
        (lambda: model().gibbs(0, seed=0), "n of 1 or more"),
        (lambda: IsingImages(Ising(torch.zeros(5, 5), 1.0)), "expected 16 or fewer"),
        (
            lambda: IsingImages(model()).log_prob(torch.zeros(2, 2, 3)),
            r"levels \[n, 1, 2, 3\], found \[2, 2, 3\]",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
