"""The Ising model of the lecture: a corrupted image restored, against all images and against a minimum cut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.validation.check import Check, near
from gen_eval.zoo.ising import Ising, IsingImages

_TRUE = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 1, 1]])
_FLIP, _COUPLING = 0.2, 0.5


def _corrupted() -> Ising:
    """Images given the true one with its right pixel in the middle flipped."""
    x = _TRUE.clone()
    x[1, 2] = 1 - x[1, 2]
    return Ising.given(x, flip=_FLIP, coupling=_COUPLING)


def _by_rows(model: Ising) -> float:
    """log Z by a product of matrices from row to row (Kramers and Wannier 1941, Physical Review 60:252)."""
    width = model.field.shape[1]
    rows = torch.tensor([[k >> bit & 1 for bit in range(width)] for k in range(2**width)])
    spins = 2 * rows.double() - 1
    across = model.coupling * (spins[:, 1:] * spins[:, :-1]).sum(1)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for number, field in enumerate(model.field):
        if number:
            total = (total[:, None] + model.coupling * spins @ spins.T).logsumexp(0)
        total = total + across + spins @ field
    return float(total.logsumexp(0))


def _small() -> Sequence[float]:
    """Wrong pixels of the likeliest image, both ways; errors of log Z, of Gibbs sampling, and of samples' pixels."""
    model = _corrupted()
    everything = model.enumeration
    best = everything.images[everything.log_prob.argmax()]
    exact = model.marginals()
    settled = model.gibbs(10_000, seed=0, sweeps=20)
    mean_f = everything.log_prob.exp() @ model.log_weight(everything.images)
    drawn = IsingImages(model).sample(10_000, seed=0)[:, 0] / 255
    return (
        float((best != _TRUE).sum()),
        float((model.most_likely() != _TRUE).sum()),
        everything.log_z - _by_rows(model),
        float((settled.double().mean(0) - exact).abs().max()),
        float(model.log_weight(settled).mean() - mean_f),
        float((drawn.double().mean(0) - exact).abs().max()),
    )


def _random(number: int, height: int, width: int) -> Ising:
    """A model with its own field and a coupling of 0 to 1."""
    seed = torch.tensor([number])
    coupling = float(draws.uniform(seed, 1)[0, 0])
    return Ising(draws.normal(seed, height * width, 1).view(height, width), coupling)


def _cuts() -> Sequence[float]:
    """By how much cuts of small boards, and annealing on a larger one, fall short of the most that f can be."""
    short = []
    for number in range(30):
        model = _random(number, 3, 3)
        short.append(
            float(model.enumeration.log_prob.max() + model.enumeration.log_z) - _f(model, model.most_likely())
        )
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = ((rows - 16) ** 2 + (columns - 16) ** 2 < 100).long()
    flipped = torch.from_numpy(draws.uniform(torch.tensor([0]), 32 * 32)).view(32, 32) < 0.15
    model = Ising.given(torch.where(flipped, 1 - disc, disc), flip=0.15, coupling=0.6)
    restored = model.most_likely()
    return (
        max(short),
        _f(model, restored) - _f(model, model.annealed(seed=0)),
        float((restored != disc).double().mean()),
    )


def _f(model: Ising, image: Tensor) -> float:
    return float(model.log_weight(image[None])[0])


ISING = (
    Check(
        "ising-three-by-three",
        "The likeliest of all images is the true one; Gibbs sampling and exact draws have the exact marginals.",
        ("ising",),
        "quick",
        (
            near(0.0, 0.0, "wrong pixels, all images"),
            near(0.0, 0.0, "wrong pixels, minimum cut"),
            near(0.0, 1e-10, "log Z by rows"),
            near(0.0, 0.02, "marginals, Gibbs"),
            near(0.0, 0.08, "mean of f, Gibbs"),
            near(0.0, 0.02, "marginals, exact draws"),
        ),
        _small,
        "enumeration of 512 images; four standard errors of 10,000 draws",
    ),
    Check(
        "ising-minimum-cut",
        "A minimum cut is the likeliest of all images of small boards; on a large one annealing comes as far.",
        ("ising",),
        "quick",
        (
            near(0.0, 1e-6, "f of cuts"),
            near(0.0, 0.5, "f by annealing"),
            near(0.0, 0.03, "wrong pixels, of 15 % flipped"),
        ),
        _cuts,
        "Greig, Porteous and Seheult 1989, JRSS B 51:271",
    ),
)
