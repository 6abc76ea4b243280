"""FLD and its mixtures: against autograd and torch's Adam, against formulas, and on what it is to tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.metrics.memorization import mixture
from gen_eval.metrics.memorization.fld import fld
from gen_eval.metrics.memorization.mixture import Mixture

D = 12


def draw(n, seed, scale=1.0):
    return (
        scale * torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.5, 2, D)
        + 3
    )


@pytest.fixture(scope="module")
def sets():
    return draw(150, 0, 1.15), draw(260, 1), draw(120, 2)


def log_densities(rows, centres, logs):
    """Of each Gaussian at each row, by the formula."""
    squared = (rows.double()[:, None] - centres.double()).square().sum(2)
    return -0.5 * squared * (-logs).exp() - D / 2 * (logs + math.log(2 * math.pi))


def fitted_by_torch(centres, rows):
    """The fifty steps, by autograd and torch's own Adam."""
    squared = (rows.double()[:, None] - centres.double()).square().sum(2)
    logs = ((squared.amin(0) + 1e-3) / D).log().requires_grad_()
    wide = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logs, wide], lr=0.5)
    around = rows.double() - rows.double().mean(0)
    for _ in range(50):
        adam.zero_grad()
        each = log_densities(rows, centres, logs) - math.log(len(centres))
        base = -0.5 * 0.81 * around.square().sum(1) * (-wide).exp() - D / 2 * (wide + math.log(2 * math.pi))
        loss = -torch.logsumexp(torch.cat([each, base[:, None]], 1), 1).mean() / D
        loss.backward()
        adam.step()
        with torch.no_grad():
            logs.clamp_(-40, 20)
    return logs.detach()


@pytest.mark.parametrize("copies", [False, True])
def test_variances_are_those_of_fifty_steps_of_adam(sets, copies):
    generated, training, _ = sets
    centres = training[:150] + 0.01 * draw(150, 3) if copies else generated
    found = Mixture.fit(centres, training)
    torch.testing.assert_close(found.log_variances, fitted_by_torch(centres, training), rtol=1e-4, atol=1e-4)


def test_likelihoods_are_those_of_the_formula(sets):
    generated, training, heldout = sets
    model = Mixture.fit(generated, training)
    each = log_densities(heldout, generated, model.log_variances) - math.log(150)
    torch.testing.assert_close(model.look(heldout).likelihoods, each.logsumexp(1), rtol=1e-6, atol=1e-6)


def test_the_variance_is_that_of_drawing_the_centres_anew():
    rows = draw(2000, 9)
    models = [Mixture(draw(120, seed), torch.full((120,), 0.5, dtype=torch.float64)) for seed in range(100)]
    looks = [model.look(rows) for model in models]
    means = torch.stack([look.likelihoods.mean() for look in looks])
    assert np.mean([look.variance for look in looks]) == pytest.approx(float(means.var()), rel=0.35)


def test_one_gaussian_is_as_wide_as_its_rows():
    """Far from the wide one about the mean the best variance is the mean squared distance per dimension."""
    rows = torch.cat([draw(40, 0, 0.01), draw(40, 1, 0.01) + 400])
    centres = torch.stack([rows[:40].mean(0), rows[40:].mean(0)])
    found = Mixture.fit(centres, rows)
    expected = torch.stack(
        [(rows[at : at + 40] - centre).square().mean() for at, centre in zip((0, 40), centres, strict=True)]
    )
    torch.testing.assert_close(found.log_variances, expected.double().log(), rtol=0, atol=0.05)


@pytest.mark.parametrize(("numbers", "kept"), [(700, 1 << 28), (700, 0)])
def test_blocks_do_not_matter_nor_whether_distances_are_kept(sets, monkeypatch, numbers, kept):
    expected = fld(*sets)
    monkeypatch.setattr(mixture, "_NUMBERS", numbers)
    monkeypatch.setattr(mixture, "_KEPT", kept)
    found = fld(*sets)
    assert dict(found.values) == pytest.approx(dict(expected.values), rel=1e-9)
    assert dict(found.errors) == pytest.approx(dict(expected.errors), rel=1e-9)


# --- The value


def test_values_are_made_of_the_terms(sets):
    score = fld(*sets)
    values = score.values
    assert values["fld"] == pytest.approx(100 * (values["nll"] - values["baseline_nll"]))
    assert values["fld"] == pytest.approx(float(score.per_image["heldout"].mean()))
    deviation, mean = torch.std_mean(sets[2].double(), 0)
    generated, training, heldout = (((rows - mean) / deviation).float() for rows in sets)
    model = Mixture.fit(generated, training)
    nll, trained = (-float(model.look(rows).likelihoods.mean()) / D for rows in (heldout, training))
    assert values["nll"] == pytest.approx(nll, rel=1e-6)
    assert values["generalization_gap"] == pytest.approx(100 * (trained - nll), rel=1e-6)


def test_what_it_is_to_tell_apart():
    training, heldout = draw(500, 1), draw(300, 2)
    fresh, near, wide, moved = (
        fld(rows, training, heldout)
        for rows in (
            draw(250, 0),
            training[:250] + 0.05 * draw(250, 5),
            draw(250, 0, 1.6),
            draw(250, 0) + 1.5,
        )
    )
    assert abs(fresh.values["fld"]) < 4 * fresh.errors["fld"]
    for bad in (wide, moved):
        assert bad.values["fld"] > 5 * bad.errors["fld"]
        assert abs(bad.values["generalization_gap"]) < 10
    assert near.values["fld"] > 20
    assert near.values["generalization_gap"] < -20
    copies = fld(training[:250], training, heldout)
    assert copies.values["fld"] > 1e6
    assert "training images were copied" in copies.warnings[0]
    assert not fresh.warnings


def test_the_error_is_made_of_its_parts(sets):
    score = fld(*sets)
    terms, part = score.per_image["heldout"], score.contributions["heldout"]
    torch.testing.assert_close(part, (terms - terms.mean()) / len(terms))
    assert score.errors["fld"] > math.sqrt(float(terms.var()) / len(terms))
    many = fld(draw(600, 0, 1.15), draw(1200, 1), sets[2])
    rest = [
        math.sqrt(each.errors["fld"] ** 2 - float(each.per_image["heldout"].var()) / 120)
        for each in (score, many)
    ]
    assert rest[1] < 0.8 * rest[0]  # more images, less chance in which


def test_order_does_not_matter_and_a_seed_is_a_draw(sets):
    generated, training, heldout = sets
    turned = fld(generated.flip(0), training[torch.arange(260) * 7 % 260], heldout.flip(0))
    score = fld(*sets)
    assert dict(turned.values) == pytest.approx(dict(score.values), rel=1e-6)
    torch.testing.assert_close(
        turned.per_image["heldout"].flip(0), score.per_image["heldout"], rtol=1e-4, atol=1e-4
    )
    other = fld(*sets, seed=1)
    assert other.values["nll"] == pytest.approx(score.values["nll"], rel=1e-12)
    assert other.values["baseline_nll"] != score.values["baseline_nll"]


def test_no_more_gaussians_than_asked_for(sets):
    generated, training, heldout = sets
    assert fld(*sets, components=150).values == fld(*sets).values
    assert fld(*sets, components=60).values["nll"] != fld(*sets).values["nll"]
    half = fld(training[:120].repeat(2, 1), training, heldout, components=60)
    assert half.values["nll"] > fld(training[:120].repeat(2, 1), training, heldout).values["nll"] > 1e6
    assert fld(generated, training, heldout, components=140).values["baseline_nll"] == pytest.approx(
        fld(*sets).values["baseline_nll"]  # half of the training set is less than that
    )


@pytest.mark.parametrize(("kept", "expected"), [(60, 60), (150, 130)])
def test_the_baseline_has_as_many_gaussians_as_the_model_or_half_of_the_training_set(sets, kept, expected):
    generated, training, heldout = sets
    deviation, mean = torch.std_mean(heldout.double(), 0)
    rows, others = (((each - mean) / deviation).float() for each in (training, heldout))
    rng = np.random.default_rng(2020)
    rng.permutation(kept)  # the draw of the generated rows comes first
    order = rows.double().square().sum(1).argsort()[torch.from_numpy(rng.permutation(len(rows)))]
    plain = Mixture.fit(rows[order[:expected]], rows[order[expected:]])
    baseline = -float(plain.look(others).likelihoods.mean()) / D
    assert fld(generated[:kept], training, heldout).values["baseline_nll"] == pytest.approx(
        baseline, rel=1e-6
    )


def test_scale_and_place_of_features_do_not_matter_and_dead_ones_are_left_out(sets):
    score = fld(*sets)
    moved = fld(*(1e3 * rows.double() - 7 for rows in sets))
    assert dict(moved.values) == pytest.approx(dict(score.values), rel=1e-3)
    dead = fld(*(torch.cat([rows, torch.full((len(rows), 1), 5.0)], 1) for rows in sets))
    assert dead.values == score.values
    assert dead.warnings == ("1 features vary in no held-out image and are left out",)


# --- What is refused


@pytest.mark.parametrize("at", [0, 1, 2])
def test_too_few_rows_are_refused(sets, at):
    few = [rows[:3] if place == at else rows for place, rows in enumerate(sets)]
    with pytest.raises(
        TooFewImages, match="at least 4 (generated|reference|heldout) rows are needed, found 3"
    ):
        fld(*few)


def test_features_that_do_not_vary_are_refused(sets):
    with pytest.raises(NumericalError, match="no feature varies"):
        fld(sets[0], sets[1], torch.ones(9, D))


def test_arguments_that_make_no_sense_are_refused(sets):
    with pytest.raises(UsageError, match="at least 2 components, found 1"):
        fld(*sets, components=1)


def test_global_random_state_and_the_rows_are_left_alone(sets):
    torch.manual_seed(0)
    np.random.seed(0)
    before, copies = (torch.get_rng_state(), np.random.get_state()[1].copy()), [rows.clone() for rows in sets]
    fld(*sets)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(sets, copies, strict=True))
