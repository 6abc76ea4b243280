"""Good likelihood with bad samples, and good samples with bad likelihood.

Theis et al. 2016, "A note on the evaluation of generative models", arXiv:1511.01844, section 3: in many dimensions one
says next to nothing of the other. Three densities of handwritten digits, all exact:

- ``ppca`` is probabilistic principal component analysis, fitted to training digits.
- ``diluted`` draws from ``ppca`` once in a hundred times, and uniform noise else. Its density is no less than a
  hundredth of that of ``ppca``, so its likelihood is at most log 100 = 4.6 nats worse: .0085 bits per dimension.
- ``memoriser`` repeats a training digit, with noise too small to see. No held-out digit lies near one of them.

    python examples/likelihood_and_samples.py
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval import evaluate
from gen_eval.datasets import load
from gen_eval.likelihood import Likelihood, evaluate_likelihood
from gen_eval.metrics.memorization.authenticity import authenticity

HELD_OUT = 1_000  # of 5,000 digits
COMPONENTS = 64  # of the principal component analysis
DATA, NOISE_SD = 0.01, 1 / 256  # share of data in the dilution; of the memoriser's noise, one level
SEED = 0


class PPCA:
    """Probabilistic PCA at its maximum likelihood (Tipping and Bishop 1999, JRSS B 61:611)."""

    name, bound = "ppca", "exact"

    def __init__(self, rows: Tensor, components: int) -> None:
        self.mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        self.noise = values[:-components].mean()
        self.variances, self.axes = values[-components:], vectors[:, -components:]

    def log_prob(self, x: Tensor) -> Tensor:
        """Of pixels on [0, 1], ``[b, 1, h, w]`` or ``[b, d]`` to ``[b]``."""
        centred = x.flatten(1).double() - self.mean
        inside = centred @ self.axes
        rest = centred.square().sum(1) - inside.square().sum(1)
        fit = (inside.square() / self.variances).sum(1) + rest / self.noise
        spread = self.variances.log().sum() + (len(self.mean) - len(self.variances)) * self.noise.log()
        return -(fit + spread + len(self.mean) * math.log(2 * math.pi)) / 2

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """``[n, d]``."""
        inside = torch.randn(n, len(self.variances), generator=rng, dtype=torch.float64)
        noise = torch.randn(n, len(self.mean), generator=rng, dtype=torch.float64)
        widths = (self.variances - self.noise).sqrt()  # the noise fills every direction
        return self.mean + (inside * widths) @ self.axes.T + noise * self.noise.sqrt()


class Diluted:
    """A little of a model, and uniform noise else."""

    name, bound = "diluted", "exact"

    def __init__(self, model: PPCA, share: float) -> None:
        self.model, self.share = model, share

    def log_prob(self, x: Tensor) -> Tensor:
        """As that of the model; the density of noise on [0, 1] is 1."""
        noise = torch.tensor(math.log(1 - self.share), dtype=torch.float64)
        return torch.logaddexp(self.model.log_prob(x) + math.log(self.share), noise)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """``[n, d]``."""
        of_model = self.model.sample(n, rng)
        noise = torch.rand(of_model.shape, generator=rng, dtype=torch.float64)
        return torch.where(torch.rand(n, 1, generator=rng) < self.share, of_model, noise)


class Memoriser:
    """A Gaussian about each training image."""

    name, bound = "memoriser", "exact"

    def __init__(self, rows: Tensor, sd: float) -> None:
        self.rows, self.sd = rows, sd

    def log_prob(self, x: Tensor) -> Tensor:
        """As that of PPCA."""
        squares = torch.cdist(x.flatten(1).double(), self.rows).square() / self.sd**2
        volume = self.rows.shape[1] * math.log(2 * math.pi * self.sd**2)
        return (-squares / 2).logsumexp(1) - math.log(len(self.rows)) - volume / 2

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """``[n, d]``."""
        chosen = self.rows[torch.randint(len(self.rows), (n,), generator=rng)]
        return chosen + self.sd * torch.randn(chosen.shape, generator=rng, dtype=torch.float64)


class Row(NamedTuple):
    """A model's likelihood, and what its samples are worth: Fréchet distance of pixels, precision, authenticity."""

    name: str
    likelihood: Likelihood
    frechet: float
    precision: float
    authenticity: float


def digits(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out digits, uint8 ``[n, 28, 28]``."""
    images = load("mnist-5k").images[..., 0]
    images = images[np.random.default_rng(seed).permutation(len(images))]
    return images[HELD_OUT:], images[:HELD_OUT]


def rows(train: np.ndarray, held_out: np.ndarray, seed: int = SEED) -> list[Row]:
    """What the table shows, of each model."""
    centres = (torch.from_numpy(train).flatten(1).double() + 0.5) / 256
    ppca = PPCA(centres, COMPONENTS)
    table = []
    for model in (ppca, Diluted(ppca, DATA), Memoriser(centres, NOISE_SD)):
        drawn = model.sample(len(held_out), torch.Generator().manual_seed(seed))
        images = (drawn * 256).floor().clamp(0, 255).byte().reshape(-1, *held_out.shape[1:])
        measures = ["frechet:pixels", "precision-recall:pixels"]
        frechet, precision = evaluate(measures, generated=images, reference=held_out)
        authentic = authenticity(images.flatten(1).double(), torch.from_numpy(train).flatten(1).double())
        likelihood = evaluate_likelihood(model, held_out, seed=seed)
        table.append(
            Row(model.name, likelihood, frechet.value, precision.value, authentic.values["authenticity"])
        )
    return table


def main() -> None:
    """Print the table."""
    print(
        f"{'model':11}{'bits/dim':>10}{'± s.e.':>8}{'Fréchet (pixels)':>18}{'precision':>11}{'authenticity':>14}"
    )
    for name, likelihood, frechet, precision, authentic in rows(*digits()):
        bits, error = likelihood.values["bits_per_dim"], likelihood.errors["bits_per_dim"]
        print(f"{name:11}{bits:10.4f}{error:8.2g}{frechet:18,.0f}{precision:11.3f}{authentic:14.3f}")


if __name__ == "__main__":
    main()
