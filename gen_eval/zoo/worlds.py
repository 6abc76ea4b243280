"""Worlds: distributions sampled exactly whose density is known, so that what a metric says of them can be checked.

>>> world = find_world("ring8")
>>> world.sample(2, seed=0, labels=[0, 4])
tensor([[ 2.1712,  0.0849],
        [-2.0264, -0.0277]])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.mixing import by_part, choose, mixed_log_prob, mixed_score, posterior, rows_of, shares
from gen_eval.zoo.sampler import CONTENT, LABELS, Sampler


class Gaussian(Sampler):
    """A normal distribution of ``d`` dimensions.

    Args:
        mean: ``[d]``.
        covariance: ``[d, d]``, symmetric and positive definite.
        name: what to call it.

    Raises:
        UsageError: if they are nothing of the kind.
    """

    bound = "exact"
    truncation = "the way from the mean times psi"

    def __init__(
        self,
        mean: Tensor | Sequence[float],
        covariance: Tensor | Sequence[Sequence[float]],
        *,
        name: str = "gaussian",
    ) -> None:
        self.mean, self.covariance = _numbers(mean), _numbers(covariance)
        self.name, self.shape = name, tuple(self.mean.shape)
        if self.mean.ndim != 1 or self.covariance.shape != 2 * self.shape:
            found = f"{list(self.mean.shape)} and {list(self.covariance.shape)}"
            raise UsageError(f"expected a mean [d] and a covariance [d, d], found {found}")
        root, failed = torch.linalg.cholesky_ex(self.covariance)
        if failed or not torch.allclose(self.covariance, self.covariance.T):
            raise UsageError(f"the covariance of {name} is not symmetric and positive definite")
        self._root: Tensor = root

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, ``[n, d]`` to ``[n]`` float64."""
        volume = self._root.diagonal().log().sum().item() + len(self.mean) / 2 * math.log(2 * math.pi)
        return -self._white(x).square().sum(0) / 2 - volume

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, ``[n, d]`` to ``[n, d]`` float64."""
        centred = rows_of(x, self) - self.mean.to(x.device)
        score: Tensor = -torch.cholesky_solve(centred.T, self._root.to(x.device)).T
        return score

    def distances(self, x: Tensor) -> Tensor:
        """How far each row is from the mean in standard deviations (Mahalanobis), ``[n, d]`` to ``[n]`` float64."""
        return self._white(x).square().sum(0).sqrt()

    def _white(self, x: Tensor) -> Tensor:
        """``[n, d]`` to ``[d, n]``, standard normal if x is of this distribution."""
        centred = rows_of(x, self) - self.mean.to(x.device)
        white: Tensor = torch.linalg.solve_triangular(self._root.to(x.device), centred.T, upper=False)
        return white

    def noised(self, sd: float) -> Gaussian:
        """The distribution of samples with independent noise of a standard deviation added."""
        return Gaussian(self.mean, self.covariance + _isotropic(sd, len(self.mean)), name=self.name)

    def truncated(self, psi: float) -> Gaussian:
        """The distribution of samples truncated by a psi above 0."""
        return Gaussian(self.mean, psi**2 * self.covariance, name=self.name)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        normal = draws.normal(seeds, len(self.mean), CONTENT)
        moved = torch.zeros_like(normal)
        # A product of matrices would round by how many rows there are.
        for column, axis in zip(normal.T, self._root.T, strict=True):
            moved += column[:, None] * axis
        return (self.mean + _psi(truncation) * moved).float()


class Modes(NamedTuple):
    """Which modes of a mixture samples cover.

    Args:
        covered: how many.
        high_quality: the share of samples near a mode.
        shares: of all samples, those near each mode ``[k]``.
    """

    covered: int
    high_quality: float
    shares: Tensor


class Mixture(Sampler):
    """Gaussians, each a class, drawn by their weights.

    Args:
        means: ``[k, d]``.
        spread: the standard deviation of round Gaussians, one or ``[k]``; or covariances ``[k, d, d]``.
        weights: ``[k]`` above 0, of any sum; equal if not given.
        classes: what each is called; by default its number.
        name: what to call the mixture.

    Raises:
        UsageError: if they are nothing of the kind.
    """

    bound = "exact"

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        spread: Tensor | Sequence[float] | float,
        weights: Tensor | Sequence[float] | None = None,
        *,
        classes: Sequence[str] = (),
        name: str = "mixture",
    ) -> None:
        self.means = _numbers(means)
        if self.means.ndim != 2 or not len(self.means):
            raise UsageError(f"expected means [k, d], found {list(self.means.shape)}")
        count, dim = self.means.shape
        self.covariances = _covariances(_numbers(spread), count, dim)
        self.weights = shares(weights, count)
        self.name, self.shape = name, (dim,)
        self.classes = tuple(classes) or tuple(str(k) for k in range(count))
        if len(self.classes) != count:
            raise UsageError(f"{count} Gaussians have as many classes, found {len(self.classes)}")
        self.components = tuple(map(Gaussian, self.means, self.covariances))

    @classmethod
    def ring(cls, modes: int = 8, radius: float = 2.0, sd: float = 0.1) -> Mixture:
        """Round Gaussians at equal angles of a circle about the origin, the first at angle 0."""
        angles = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
        return cls(radius * torch.stack([angles.cos(), angles.sin()], 1), sd, name=f"ring{modes}")

    @classmethod
    def grid(cls, side: int = 5, spacing: float = 2.0, sd: float = 0.1) -> Mixture:
        """Round Gaussians on a square grid about the origin, row by row."""
        ticks = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
        return cls(torch.cartesian_prod(ticks, ticks), sd, name=f"grid{side**2}")

    def labels_of(self, seeds: Tensor) -> Tensor:
        """The class that each seed draws where none is asked for, by the weights."""
        return choose(seeds, self.weights, LABELS)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, ``[n, d]`` to ``[n]`` float64."""
        return mixed_log_prob(self.components, self.weights, x)

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, ``[n, d]`` to ``[n, d]`` float64."""
        return mixed_score(self.components, self.weights, x)

    def classify(self, x: Tensor) -> Tensor:
        """The probability of each class given the sample, by Bayes' rule: ``[n, d]`` to ``[n, k]`` float64."""
        return posterior(self.components, self.weights, x)

    def modes_covered(self, x: Tensor, *, reach: float = 3.0, least: float = 0.1) -> Modes:
        """Which modes samples cover. For error bars see :func:`~gen_eval.metrics.diversity.modes.mode_coverage`.

        Args:
            x: samples ``[n, d]``.
            reach: a sample within so many standard deviations of its nearest mode is near it, and of high quality.
            least: a mode is covered if the share of samples near it is this much of its weight, or more.

        Raises:
            UsageError: if there are no samples, or they are of another dimension.
        """
        if not len(x):
            raise UsageError(f"the modes of {self.name} are covered by samples, found none")
        distances, nearest = torch.stack([each.distances(x) for each in self.components], 1).min(1)
        near = torch.bincount(nearest[distances <= reach], minlength=len(self.weights)).double() / len(x)
        enough = near >= least * self.weights.to(x.device)
        return Modes(int(enough.sum()), float(near.sum()), near)

    def noised(self, sd: float) -> Mixture:
        """The distribution of samples with independent noise of a standard deviation added."""
        covariances = self.covariances + _isotropic(sd, self.shape[0])
        return Mixture(self.means, covariances, self.weights, classes=self.classes, name=self.name)

    def keep(self, modes: Sequence[int]) -> Mixture:
        """The distribution of samples of some classes alone."""
        chosen = list(modes)
        classes = [self.classes[mode] for mode in chosen]
        parts = self.means[chosen], self.covariances[chosen], self.weights[chosen]
        return Mixture(*parts, classes=classes, name=self.name)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        assert labels is not None  # the mixture has classes
        return by_part(self.components, labels, lambda part, rows: part(seeds[rows]))


class Disc(Sampler):
    """The uniform distribution on a disc about the origin."""

    bound = "exact"
    truncation = "the radius times psi"
    shape = (2,)

    def __init__(self, radius: float = 1.0, *, name: str = "disc") -> None:
        self.name, self.radius = name, _positive(radius, "radius")

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, -inf outside: ``[n, 2]`` to ``[n]`` float64."""
        return _uniform(rows_of(x, self).norm(dim=1) <= self.radius, math.pi * self.radius**2)

    def truncated(self, psi: float) -> Disc:
        """The distribution of samples truncated by a psi above 0."""
        return Disc(psi * self.radius, name=self.name)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        area = torch.from_numpy(draws.uniform(seeds, 1, CONTENT))
        # Neither sine nor cosine, whose last bits depend on how many there are: the direction of a Gaussian.
        direction = draws.normal(seeds, 3, CONTENT)[:, 1:]
        direction = direction / direction.square().sum(1, keepdim=True).sqrt()
        inside = self.radius * (1 - 2**-22)  # so that no rounding to float32 leaves the disc
        return (_psi(truncation) * inside * area.sqrt() * direction).float()


class Checkerboard(Sampler):
    """The uniform distribution on the black squares of a board about the origin, its corner black.

    Args:
        side: squares along a side.
        width: of a square.
        name: what to call it.

    Raises:
        UsageError: if they are not positive.
    """

    bound = "exact"
    shape = (2,)

    def __init__(self, side: int = 4, width: float = 1.0, *, name: str = "checkerboard") -> None:
        self.name, self.side, self.width = name, side, _positive(width, "width")
        if side < 1:
            raise UsageError(f"a board has at least 1 square along a side, found {side}")
        places = torch.cartesian_prod(torch.arange(self.side), torch.arange(self.side))
        self._black = places[places.sum(1) % 2 == 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, -inf outside: ``[n, 2]`` to ``[n]`` float64."""
        place = (rows_of(x, self) / self.width + self.side / 2).floor()
        on_board = ((place >= 0) & (place < self.side)).all(1)
        return _uniform(on_board & (place.sum(1) % 2 == 0), len(self._black) * self.width**2)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        uniform = torch.from_numpy(draws.uniform(seeds, 3, CONTENT))
        square = self._black[(uniform[:, 0] * len(self._black)).long()]
        margin = self.side * 2**-23  # so that no rounding to float32 leaves the square
        within = margin + (1 - 2 * margin) * uniform[:, 1:]
        return ((square + within - self.side / 2) * self.width).float()


class Empirical(Sampler):
    """Draws with replacement from data. It has no density.

    Args:
        data: uint8 images ``[n, c, h, w]``, of 1 or 3 channels, or floating point vectors ``[n, d]``.
        labels: the class of each, ``[n]`` whole numbers from 0 on.
        classes: what each label means; by default its number.
        name: what to call it.

    Raises:
        UsageError: if they are nothing of the kind or not finite, or there is a class without an item.
    """

    def __init__(
        self,
        data: Tensor | np.typing.NDArray[Any],
        labels: Tensor | Sequence[int] | None = None,
        classes: Sequence[str] = (),
        *,
        name: str = "empirical",
    ) -> None:
        self._data = _data(data)
        self.name, self.shape = name, tuple(self._data.shape[1:])
        of_each = torch.zeros(len(self._data), dtype=torch.int64)
        if labels is not None:
            of_each = _item_labels(labels, len(self._data))
            self.classes = tuple(classes) or tuple(str(k) for k in range(int(of_each.max()) + 1))
            _require_items(of_each, self.classes)
        elif classes:
            raise UsageError("classes go with labels: say which item is of which class")
        self._counts = of_each.bincount()
        self._order = of_each.argsort(stable=True)

    def labels_of(self, seeds: Tensor) -> Tensor | None:
        """The class that each seed draws where none is asked for, as often as the data has it."""
        return choose(seeds, self._counts.double(), LABELS) if self.classes else None

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        chosen = torch.zeros(len(seeds), dtype=torch.int64) if labels is None else labels
        uniform = torch.from_numpy(draws.uniform(seeds, 1, CONTENT))[:, 0]
        within = (uniform * self._counts[chosen]).long()
        starts = self._counts.cumsum(0) - self._counts
        return self._data[self._order[starts[chosen] + within]]


WORLDS: dict[str, Callable[[], Sampler]] = {
    "gaussian": partial(Gaussian, (0.0, 0.0), ((1.0, 0.5), (0.5, 1.0))),
    "ring8": Mixture.ring,
    "grid25": Mixture.grid,
    "disc": Disc,
    "checkerboard": Checkerboard,
}


def find_world(name: str) -> Sampler:
    """The world of a name.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
    """
    if name not in WORLDS:
        raise UnknownName("world", name, WORLDS)
    return WORLDS[name]()


def _uniform(inside: Tensor, area: float) -> Tensor:
    found = torch.full(inside.shape, -math.inf, dtype=torch.float64, device=inside.device)
    return found.masked_fill(inside, -math.log(area))


def _numbers(given: Any) -> Tensor:
    found = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach().clone()
    if not bool(found.isfinite().all()):
        raise UsageError("a world is made of finite numbers, found NaN or infinity")
    return found


def _covariances(spread: Tensor, count: int, dim: int) -> Tensor:
    if spread.ndim == 3 and spread.shape == (count, dim, dim):
        return spread
    if spread.shape not in ((), (count,)) or not bool((spread > 0).all()):
        raise UsageError(
            f"expected a standard deviation above 0, {count} of them, or covariances [{count}, {dim}, {dim}]; "
            f"found {list(spread.shape)}, least {float(spread.min()):g}"
        )
    return spread.expand(count).square()[:, None, None] * torch.eye(dim, dtype=torch.float64)


def _isotropic(sd: float, dim: int) -> Tensor:
    if not (sd >= 0 and math.isfinite(sd)):
        raise UsageError(f"the standard deviation of noise is 0 or more, found {sd}")
    return sd**2 * torch.eye(dim, dtype=torch.float64)


def _positive(value: float, what: str) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"a {what} is above 0 and finite, found {value}")
    return value


def _psi(truncation: float | None) -> float:
    if truncation == math.inf:
        raise UsageError("psi is a finite factor, found inf: leave it out not to truncate")
    return 1.0 if truncation is None else truncation


def _data(given: Tensor | np.typing.NDArray[Any]) -> Tensor:
    # A copy, so that the caller may change theirs.
    data = (
        given.detach().clone() if isinstance(given, Tensor) else torch.from_numpy(np.array(given, order="C"))
    )
    images = data.ndim == 4 and data.dtype == torch.uint8 and data.shape[1] in (1, 3)
    if not len(data) or not (images or (data.ndim == 2 and data.is_floating_point())):
        expected = "uint8 images [n, 1 or 3, h, w] or floating point vectors [n, d], one or more"
        raise UsageError(f"expected {expected}; found {data.dtype} {list(data.shape)}")
    data = data.cpu() if images else data.float().cpu()
    if not images and not bool(data.isfinite().all()):
        raise UsageError("data holds vectors that are NaN, infinite or beyond float32")
    return data


def _item_labels(given: Any, count: int) -> Tensor:
    labels = torch.as_tensor(given).cpu()
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != (count,):
        found = f"{labels.dtype} {list(labels.shape)}"
        raise UsageError(f"expected a whole number as the label of each of {count} items, found {found}")
    return labels.long()


def _require_items(of_each: Tensor, classes: Sequence[str]) -> None:
    found = sorted(set(of_each.tolist()))
    if found != list(range(len(classes))):
        raise UsageError(
            f"expected items of each of the classes 0 to {len(classes) - 1} and of no other, found those of "
            f"{', '.join(map(str, found))}: number the classes that there are"
        )
