"""Penalties on critics and weights of which the answer is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gen_eval.errors import UnknownName
from gen_eval.zoo.penalties import clip, gradient_penalty, matrices, orthogonal, r1


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=draws(seed), dtype=torch.float64)


# --- Critics


@pytest.mark.parametrize("shape", [(3,), (1, 4, 2)])
def test_of_a_linear_critic_the_slope_is_the_same_everywhere(shape):
    """(|w| - 1)² between the sets, and |w|² / 2 at real samples; their gradients in w as well."""
    w = normal(math.prod(shape)).requires_grad_()
    real, fake = normal(50, *shape, seed=1), normal(50, *shape, seed=2)

    def critic(x):
        return x.flatten(1) @ w + 0.7

    length = float(w.detach().norm())
    for penalty, expected, slope in (
        (gradient_penalty(critic, real, fake, draws()), (length - 1) ** 2, 2 * (length - 1) / length),
        (r1(critic, real), length**2 / 2, 1.0),
    ):
        assert penalty.item() == pytest.approx(expected, rel=1e-12)
        (gradient,) = torch.autograd.grad(penalty, w)
        torch.testing.assert_close(gradient, slope * w.detach())


def test_the_gradient_penalty_is_two_sided():
    for slope in (0.5, 1.5):
        penalty = gradient_penalty(
            lambda x, a=slope: a * x[:, 0], normal(8, 2), normal(8, 2, seed=1), draws()
        )
        assert penalty.item() == pytest.approx(0.25)


def test_points_of_the_gradient_penalty_are_uniform_on_lines_between_the_sets():
    """A critic x² / 2 has slope x: on lines from a to 0 the mean of (U a - 1)² is a² / 3 - a + 1."""
    n, a = 40_000, 3.0
    zeros = torch.zeros(n, 1, dtype=torch.float64)
    for real, fake in ((zeros + a, zeros), (zeros, zeros + a)):
        found = gradient_penalty(lambda x: x[:, 0] ** 2 / 2, real, fake, draws(1))
        # The standard deviation of (3U - 1)² is 1.1.
        assert found.item() == pytest.approx(a**2 / 3 - a + 1, abs=3 * 1.1 / math.sqrt(n))


def test_shares_are_drawn_of_the_generator_alone_one_a_sample():
    real, fake = normal(6, 1, 2, 2), normal(6, 1, 2, 2, seed=1)
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().sum((1, 2, 3))

    before = torch.random.get_rng_state()
    first, second = (gradient_penalty(critic, real, fake, draws(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
    share = (seen[0] - real) / (fake - real)
    torch.testing.assert_close(share, share[:, :1, :1, :1].expand_as(share))
    assert (share >= 0).all()
    assert (share < 1).all()
    assert len(share[:, 0, 0, 0].unique()) == 6


def test_r1_of_a_quadratic_critic_is_half_the_mean_square_of_real_samples():
    real = normal(30, 4)
    found = r1(lambda x: x.square().sum(1) / 2, real)
    assert found.item() == pytest.approx(float(real.square().sum(1).mean() / 2))


def test_a_flat_critic_has_finite_gradients():
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ w, normal(5, 3), normal(5, 3, seed=1), draws())
    assert penalty.item() == 1
    assert torch.autograd.grad(penalty, w)[0].isfinite().all()


def test_clipped_weights_are_within_the_limit_and_others_as_they_were():
    layer = nn.Linear(20, 20)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    clip(layer.parameters(), 0.1)
    for parameter, old in zip(layer.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.1, 0.1))
        assert parameter.requires_grad
        assert float(old.abs().max()) > 0.1


# --- Weights


def semi_orthogonal(rows, columns):
    q, _ = torch.linalg.qr(normal(max(rows, columns), min(rows, columns)))
    return q if rows >= columns else q.T.contiguous()


@pytest.mark.parametrize("form", ["identity", "off-diagonal"])
@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_orthogonal_matrices_cost_nothing_and_are_left_alone(form, shape):
    weight = semi_orthogonal(*shape).requires_grad_()
    cost = orthogonal([weight], form)
    assert cost.item() < 1e-28
    (gradient,) = torch.autograd.grad(cost, weight)
    assert float(gradient.abs().max()) < 1e-13


def test_only_one_form_minds_the_lengths_of_rows():
    scaled = torch.diag(torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64)) @ semi_orthogonal(3, 5)
    assert float(orthogonal([scaled], "off-diagonal")) == pytest.approx(0, abs=1e-28)
    assert float(orthogonal([scaled], "identity")) == pytest.approx(3**2 + 8**2 + 0.75**2)


def test_both_forms_by_hand():
    weight = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])  # products 5, 2; 2, 2
    assert float(orthogonal([weight], "off-diagonal")) == 2 * 2**2
    assert float(orthogonal([weight], "identity")) == 4**2 + 1 + 2 * 2**2
    assert float(orthogonal([weight.T], "identity")) == float(orthogonal([weight], "identity"))
    assert float(orthogonal([weight, 2 * weight], "off-diagonal")) == 8 + 16 * 8
    assert float(orthogonal([weight.view(2, 1, 3, 1)])) == 8
    assert float(orthogonal([])) == 0


def test_the_smaller_side_moves_weights_as_the_larger_one_would_in_the_form_of_the_identity():
    """The sides differ by a constant, the difference of their sizes."""
    weight = normal(9, 4).requires_grad_()
    larger = (weight @ weight.T - torch.eye(9, dtype=torch.float64)).square().sum()
    smaller = orthogonal([weight], "identity")
    assert (larger - smaller).item() == pytest.approx(9 - 4)
    torch.testing.assert_close(*(torch.autograd.grad(cost, weight)[0] for cost in (larger, smaller)))


def test_off_the_diagonal_the_gradient_is_twice_that_of_biggan():
    """Its code adds 2 (W W' o (1 - I)) W to the gradients, of rows; here of at most as many rows as columns."""
    weight = normal(4, 9).requires_grad_()
    (gradient,) = torch.autograd.grad(orthogonal([weight]), weight)
    w = weight.detach()
    gram = w @ w.T
    torch.testing.assert_close(gradient, 4 * (gram - torch.diag(gram.diagonal())) @ w)


def test_rows_are_output_units_and_embeddings_are_left_out():
    module = nn.ModuleList(
        [
            nn.Linear(3, 5),
            nn.Conv2d(2, 7, 3),
            nn.ConvTranspose2d(4, 6, 2),
            nn.Embedding(10, 8),
            nn.BatchNorm2d(4),
        ]
    )
    assert [tuple(weight.shape) for weight in matrices(module)] == [(5, 3), (7, 2, 3, 3), (6, 4, 2, 2)]
    orthogonal(matrices(module)).backward()
    assert all(weight.grad is None for name, weight in module.named_parameters() if name[0] in "34")
    assert module[2].weight.grad is not None


def test_forms_are_told_when_one_is_mistyped():
    with pytest.raises(UnknownName, match="did you mean 'off-diagonal'"):
        orthogonal([torch.eye(2)], "offdiagonal")
