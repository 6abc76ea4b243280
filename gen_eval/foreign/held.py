"""One set of features as a file of another tool holds it, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import StoreError, UsageError
from gen_eval.stats import Features, Moments, Sample

# What rounding may do to a covariance, as a part of its largest entry, by the bytes of a number.
_ROUNDING = {4: 1e-3, 8: 1e-6}


@dataclass(frozen=True, eq=False)  # its numbers are not looked at to tell one from another
class Held:
    """The features of one tap.

    Args:
        where: what the file calls them.
        features: their moments, and their rows if the file has them.
        network: the name of their network, or how it begins; empty where the file does not say.
        tap: the tap of that network; empty where the file does not say.
    """

    where: str
    features: Features
    network: str = ""
    tap: str = ""

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.features.moments.dim

    def counted(self, n: int | None) -> Held:
        """The same of so many images, where the file does not say.

        Raises:
            UsageError: if it says another number.
        """
        if n is None or self.features.n == n:
            return self
        if self.features.n is not None:
            raise UsageError(
                f"{self.where} says that it is of {self.features.n:,} images, and {n:,} were claimed"
            )
        return replace(self, features=self.features.counted(n))

    def fits(self, network: str, tap: str) -> bool:
        """Whether these may be the features of a tap of a network; of two names for one, one begins the other."""
        alike = network.startswith(self.network) or self.network.startswith(network)
        return alike and self.tap in ("", tap)

    def __str__(self) -> str:
        known = (
            f"{self.network} {self.tap}" if self.network else "features of a network that it does not name"
        )
        return f"{known} ({self.where}), {self.dim} dimensions"


def gaussian(
    contents: Mapping[str, Any],
    mu: str = "mu",
    sigma: str = "sigma",
    *,
    n: int | None = None,
    network: str = "",
    tap: str = "",
) -> Held:
    """A mean and a covariance that was divided by n - 1.

    Args:
        contents: what holds them.
        mu: the name of the mean, ``[d]``.
        sigma: the name of the covariance, ``[d, d]``.
        n: number of images; ``None`` if nobody says.
        network: as :class:`Held` has it.
        tap: likewise.

    Raises:
        StoreError: if they are missing, of other shapes or types, not finite, or no covariance.
    """
    mean, cov = numbers(contents, mu), numbers(contents, sigma)
    _require_square(mu, mean, sigma, cov)
    _require_covariance(sigma, cov, _ROUNDING[min(8, contents[sigma].dtype.itemsize)])
    features = Features.of_gaussian(mean, (cov + cov.T) / 2, n)
    return Held(f"{mu}, {sigma}", features, network, tap)


def rows(contents: Mapping[str, Any], name: str) -> Held:
    """Feature rows, one an image, ``[n, d]``.

    Raises:
        StoreError: if they are missing, of another shape or type, fewer than two, or not finite.
    """
    return Held(name, Features.of(matrix(contents, name)))


def sums(contents: Mapping[str, Any], total: str, outer: str, n: int, sample: Tensor | None = None) -> Held:
    """Sums over the images of the features and of their outer products, from which any covariance follows.

    Args:
        contents: what holds them.
        total: the name of the sum, ``[d]``.
        outer: the name of the sum of outer products, ``[d, d]``.
        n: number of images.
        sample: the rows, if they are at hand, ``[n, d]``.

    Raises:
        StoreError: as :func:`gaussian` does.
    """
    added, products = numbers(contents, total), numbers(contents, outer)
    _require_square(total, added, outer, products)
    mean = added / n
    scatter = products - torch.outer(mean, added)
    _require_covariance(outer, scatter, _ROUNDING[8], of=products)
    kept = None if sample is None else Sample.of(sample, torch.arange(n), None)
    return Held(f"{total}, {outer}", Features(n, Moments(n, mean, (scatter + scatter.T) / 2), kept))


def count(contents: Mapping[str, Any], name: str) -> int:
    """A number of images.

    Raises:
        StoreError: if it is none, or less than two.
    """
    value = contents[name]
    if type(value) is not int or value < 2:
        found = value if type(value) is int else f"a {type(value).__name__}"
        raise StoreError(f"{name} is {found}: expected a number of images, at least 2")
    return value


def numbers(contents: Mapping[str, Any], name: str) -> Tensor:
    """An array of float32 or float64 numbers, as float64.

    Raises:
        StoreError: if it is missing, of another type, or holds NaN or infinity.
    """
    if name not in contents:
        raise StoreError(f"it lacks {name}: found {', '.join(sorted(contents)) or 'nothing'}")
    array = contents[name]
    if not isinstance(array, np.ndarray):
        raise StoreError(f"{name} is a {type(array).__name__}: expected an array")
    if array.dtype.kind != "f" or array.dtype.itemsize not in _ROUNDING:
        raise StoreError(f"{name} is {array.dtype}: expected float32 or float64")
    if not np.isfinite(array).all():
        raise StoreError(f"it holds NaN or infinity in {name}")
    return torch.from_numpy(np.array(array, np.float64, order="C"))


def matrix(contents: Mapping[str, Any], name: str) -> Tensor:
    """Feature rows as they are, float32 or float64.

    Raises:
        StoreError: as :func:`rows` does.
    """
    values = numbers(contents, name)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 1:
        raise StoreError(f"{name} has shape {list(values.shape)}: expected feature rows [n, d], n at least 2")
    return values if contents[name].dtype.itemsize == 8 else values.float()


def stacked(contents: Mapping[str, Any], name: str, n: int) -> Tensor:
    """Feature rows that stand in a list, some images an entry, as one matrix.

    Raises:
        StoreError: if they are not ``n`` in all, or as :func:`rows` does.
    """
    parts = contents[name]
    if not isinstance(parts, Sequence) or not all(isinstance(part, np.ndarray) for part in parts):
        raise StoreError(f"{name} is no list of arrays")
    # Each once: a list of a few bytes may name one array a million times.
    if len({id(part) for part in parts}) != len(parts):
        raise StoreError(f"{name} holds one array twice")
    shapes = {(part.ndim, part.shape[-1] if part.ndim else 0, part.dtype.str) for part in parts}
    if len(shapes) != 1 or sum(len(part) for part in parts) != n:
        raise StoreError(f"{name} does not hold {n} feature rows of one size and type")
    return matrix({name: np.concatenate(parts)}, name)


def _require_square(mu: str, mean: Tensor, sigma: str, cov: Tensor) -> None:
    if mean.ndim != 1 or not len(mean) or cov.shape != (len(mean), len(mean)):
        raise StoreError(
            f"expected {mu} [d] and {sigma} [d, d], found {list(mean.shape)} and {list(cov.shape)}"
        )


def _require_covariance(name: str, cov: Tensor, rounding: float, of: Tensor | None = None) -> None:
    """Refuse what no rounding explains; ``of`` holds the numbers that it is the difference of."""
    rounded = cov if of is None else of
    slack = rounding * float(rounded.abs().max())
    variance = cov.diagonal()
    if float((cov - cov.T).abs().max()) > slack:
        raise StoreError(f"{name} is no covariance: it is not symmetric")
    if float(variance.min()) < -slack:
        raise StoreError(f"{name} is no covariance: it has a negative variance")
    largest = variance.clamp_min(0).sqrt()
    if bool((cov.abs() > torch.outer(largest, largest) + slack).any()):
        raise StoreError(f"{name} is no covariance: it has a correlation beyond 1")
    # Entries that are off by a part r of the standard deviations' product move an eigenvalue by r times the trace at
    # most (Weyl's inequality, and the Frobenius norm): d mean variances, of d features.
    shift = rounding * float(rounded.diagonal().clamp_min(0).sum())
    shifted = cov.clone()
    shifted.diagonal().add_(shift)
    if shift and int(torch.linalg.cholesky_ex(shifted).info):
        raise StoreError(
            f"{name} is no covariance: some weighted sum of the features has a negative variance, beyond rounding"
        )
