"""The two statistics that every metric is made from. Both are commutative monoids.

Streaming over batches, sharding over processes and merging files are all the same ``+``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import scipy.linalg.blas
import torch
from torch import Tensor

from gen_eval.errors import NumericalError, TooFewImages, UsageError
from gen_eval.transfer import moved

# Stands in for an n that is unknown: by any count, the covariance comes back that the scatter was made from.
_ANY_COUNT = 2
# Rows that are taken to float64 at a time: however many come, the memory beside them is a few matrices.
_BLOCK = 4096
_JOINED = 1024  # rows that are copied at a time where samples are joined


class Moments:
    """Count, mean and scatter of feature rows, in float64.

    The scatter is kept about the mean and merged by the pairwise update (Chan, Golub, LeVeque 1983),
    so a large common offset of the features costs no digits.

    Args:
        n: number of rows.
        mean: ``[d]`` float64.
        scatter: ``[d, d]`` float64, the sum of outer products of the centred rows; or what makes it, which is called
            once, if it is ever asked for.
    """

    def __init__(self, n: int, mean: Tensor, scatter: Tensor | Callable[[], Tensor]) -> None:
        self.n, self.mean, self._scatter = n, mean, scatter

    @classmethod
    def of(cls, rows: Tensor, *, again: Callable[[], Iterable[Tensor]] | None = None) -> Moments:
        """The moments of ``[n, d]`` rows.

        Args:
            rows: the rows.
            again: gives blocks of the same rows, where they are held anyway: the scatter is made of those, once it is
                asked for. Few metrics do, and of 2,000 rows of 2,048 features it takes .2 s of a core.

        Raises:
            NumericalError: if a feature is NaN or infinite.
        """
        _require_rows(rows)
        blocks = torch.split(rows, _BLOCK)
        sums = rows.new_empty(len(blocks), rows.shape[1], dtype=torch.float64)
        for at, block in enumerate(blocks):
            torch.sum(block.double(), 0, out=sums[at])
        mean = sums.sum(0) / len(rows)
        if not bool(mean.isfinite().all()):
            raise NumericalError(non_finite(rows))
        if again is None:
            return cls(len(rows), mean, _scatter(blocks, mean))
        return cls(len(rows), mean, functools.partial(_scatter_of, again, mean))

    @property
    def scatter(self) -> Tensor:
        """The sum of outer products of the centred rows, ``[d, d]`` float64."""
        if not isinstance(self._scatter, Tensor):
            self._scatter = self._scatter()
        return self._scatter

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.mean)

    def cov(self, ddof: int = 1) -> Tensor:
        """The covariance, ``[d, d]`` float64, divided by ``n - ddof``."""
        if self.n <= ddof:
            raise TooFewImages(f"a covariance needs at least {ddof + 1} images, found {self.n}")
        return self.scatter / (self.n - ddof)

    def without_rows(self) -> Moments:
        """The same, with a scatter that is made, so that no rows are held to make it of."""
        return Moments(self.n, self.mean, self.scatter)

    def symmetric(self) -> Moments:
        """The same with a scatter that is symmetric to the last bit, which products of blocks need not be."""
        return Moments(self.n, self.mean, (self.scatter + self.scatter.T) / 2)

    def to(self, device: torch.device) -> Moments:
        """The same on another device."""
        if device == self.mean.device:
            return self
        return Moments(self.n, self.mean.to(device), self.scatter.to(device))

    def __add__(self, other: Moments) -> Moments:
        if self.dim != other.dim:
            raise UsageError(f"moments of {self.dim} and of {other.dim} features do not add")
        n = self.n + other.n
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        scatter = self.scatter + other.scatter
        scatter.addr_(gap, gap, alpha=self.n * other.n / n)
        return Moments(n, mean, scatter)


@dataclass(frozen=True)
class Sample:
    """Up to ``limit`` feature rows, chosen by a hash of the image's index.

    Which rows are kept depends on the indices alone: not on order, batches or processes. Rows stand in
    the order of their hash, so any leading part of a sample is itself a uniform subset.

    Args:
        rows: ``[k, d]`` float32, or float64 where they came so.
        index: ``[k]`` int64 on the CPU, the images that the rows belong to.
        limit: the most rows to keep; ``None`` keeps all.
    """

    rows: Tensor
    index: Tensor
    limit: int | None

    @classmethod
    def of(cls, rows: Tensor, index: Tensor, limit: int | None) -> Sample:
        """The sample of ``[n, d]`` rows that belong to the images ``index``, ``[n]``."""
        _require_rows(rows)
        if index.shape != rows.shape[:1]:
            raise UsageError(f"{len(rows)} rows need as many indices, found {tuple(index.shape)}")
        kept = cls(rows, index, None)._chosen(limit)
        return kept if kept.rows.dtype == torch.float64 else replace(kept, rows=kept.rows.float())

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Samples of different images as one: that of all of them. No row is held but theirs and its own."""
        limit = samples[0].limit
        for sample in samples:
            if sample.limit != limit:
                raise UsageError(f"samples limited to {limit} and to {sample.limit} rows do not add")
        samples = [sample for sample in samples if sample.n] or samples[:1]
        if len(samples) == 1:
            return samples[0]
        index = torch.cat([sample.index for sample in samples])
        order = torch.argsort(scrambled(index))[:limit]
        first = samples[0].rows
        dtype = functools.reduce(torch.promote_types, (sample.rows.dtype for sample in samples))
        rows, start = first.new_empty(len(order), first.shape[1], dtype=dtype), 0
        place = torch.full((len(index),), -1)
        place[order] = torch.arange(len(order))
        for sample in samples:
            of_own = place[start : start + sample.n]
            for own in torch.split((of_own >= 0).nonzero().flatten(), _JOINED):
                rows[of_own[own].to(first.device)] = sample.rows[own.to(first.device)].to(dtype)
            start += sample.n
        return cls(rows, index[order], limit)

    @property
    def n(self) -> int:
        """Number of rows held."""
        return len(self.rows)

    def head(self, k: int) -> Tensor:
        """``k`` rows, a uniform subset that is the same on every machine, ``[k, d]``."""
        if k > self.n:
            raise UsageError(f"asked for {k} rows of a sample of {self.n}")
        return self.rows[:k]

    def cut(self, limit: int | None) -> Sample:
        """The same, of at most ``limit`` rows."""
        fewer = limit is not None and limit < self.n  # copied then: a view would hold on to all
        rows, index = self.rows[:limit], self.index[:limit]
        return Sample(rows.clone() if fewer else rows, index.clone() if fewer else index, limit)

    def in_order(self) -> Tensor:
        """The rows in the order of their images, ``[k, d]``."""
        return self.rows[self._order()]

    def blocks_in_order(self) -> Iterator[Tensor]:
        """The rows in that order some at a time, without a copy of all."""
        return (self.rows[some] for some in torch.split(self._order(), _BLOCK))

    def _order(self) -> Tensor:
        return self.index.argsort().to(self.rows.device)

    def to(self, device: torch.device) -> Sample:
        """The same with its rows on another device."""
        return Sample(self.rows.to(device), self.index, self.limit)

    def __add__(self, other: Sample) -> Sample:
        return Sample.joined([self, other])

    def _chosen(self, limit: int | None) -> Sample:
        """The rows whose hashed index is lowest, in that order."""
        order = torch.argsort(scrambled(self.index))[:limit]
        return Sample(self.rows[moved(order, self.rows.device)], self.index[order], limit)


@dataclass(frozen=True)
class Features:
    """What is known of one set's features at one tap.

    Args:
        n: number of images; ``None`` for statistics of another tool that do not say.
        moments: of all of them.
        sample: a bounded subset of the rows, or all; ``None`` where only moments are known.
        classes: the class of each row of the sample, ``k`` names; ``None`` where they are unknown.
    """

    n: int | None
    moments: Moments
    sample: Sample | None = None
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, rows: Tensor, limit: int | None = None) -> Features:
        """The features of ``[n, d]`` rows, of which at most ``limit`` are kept; ``None`` keeps all.

        Raises:
            NumericalError: if a feature is NaN or infinite.
        """
        sample = Sample.of(rows, torch.arange(len(rows)), limit)
        again = sample.blocks_in_order if sample.n == len(rows) else None
        return cls(len(rows), Moments.of(rows, again=again), sample)

    @classmethod
    def of_gaussian(cls, mean: Tensor, cov: Tensor, n: int | None = None) -> Features:
        """The features of which only two moments are known.

        Args:
            mean: ``[d]`` float64.
            cov: ``[d, d]`` float64, divided by ``n - 1``.
            n: number of images; ``None`` if unknown.
        """
        count = n or _ANY_COUNT
        return cls(n, Moments(count, mean, cov * (count - 1)))

    def cov(self, ddof: int = 1) -> Tensor:
        """The covariance, divided by ``n - ddof``; where n is unknown, by what it came divided by, ``n - 1``."""
        return self.moments.cov(1 if self.n is None else ddof)

    def counted(self, n: int) -> Features:
        """The same, where n was unknown, of so many images."""
        return Features.of_gaussian(self.moments.mean, self.cov(), n)

    def cut(self, rows: int | None) -> Features:
        """The same with at most so many rows; ``None`` for all that there are."""
        if self.sample is None or rows == self.sample.limit:
            return self
        sample = self.sample.cut(rows)
        moments = self.moments if sample.n == self.sample.n else self.moments.without_rows()
        return replace(self, moments=moments, sample=sample)

    def by_class(self) -> Classes:
        """The features of each class, by its name in sorted order; each is made when it is asked for.

        Raises:
            UsageError: if the classes or rows are unknown.
        """
        if self.sample is None or self.classes is None:
            raise UsageError("features by class need the rows and the class of each")
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.classes):
            places.setdefault(name, []).append(place)
        return Classes(self.sample, {name: torch.tensor(places[name]) for name in sorted(places)})

    def __add__(self, other: Features) -> Features:
        """The features of two sets together: their rows where both hold some, and no classes."""
        n = None if self.n is None or other.n is None else self.n + other.n
        sample = self.sample + other.sample if self.sample and other.sample else None
        return Features(n, (self.moments + other.moments).symmetric(), sample)

    def to(self, device: torch.device) -> Features:
        """The same on another device."""
        return replace(self, moments=self.moments.to(device), sample=self.sample and self.sample.to(device))


class Classes(Mapping[str, Features]):
    """The features of each class of a set. No more of them are held than their user holds: each may make a covariance.

    Args:
        sample: the rows of all.
        places: of each class in it, by name.
    """

    def __init__(self, sample: Sample, places: Mapping[str, Tensor]) -> None:
        self._sample, self._places = sample, places

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each class."""
        return {name: len(places) for name, places in self._places.items()}

    def rows(self, name: str) -> Tensor:
        """Those of a class, ``[k, d]``, without moments."""
        return self._sample.rows[self._places[name].to(self._sample.rows.device)]

    def __getitem__(self, name: str) -> Features:
        rows = self.rows(name)
        sample = Sample(rows, self._sample.index[self._places[name]], None)
        return Features(len(rows), Moments.of(rows, again=sample.blocks_in_order), sample)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class SampleBuilder:
    """Fills a :class:`Sample` of the images ``0 .. n - 1`` as their rows come, in no more memory than that.

    Args:
        n: number of images.
        dim: number of features.
        limit: the most rows to keep; ``None`` keeps all.
        device: where the rows are kept.
        part: the images whose rows will come; ``None`` for all. What is kept of them is what is kept of the whole.
    """

    def __init__(
        self, n: int, dim: int, limit: int | None, device: torch.device, part: range | None = None
    ) -> None:
        self._limit = limit
        chosen = torch.argsort(scrambled(torch.arange(n)))[:limit]
        if part is not None:
            chosen = chosen[(chosen >= part.start) & (chosen < part.stop)]
        self._index = chosen
        self._place = torch.full((n,), -1)
        self._place[self._index] = torch.arange(len(self._index))
        self._rows = torch.empty(len(self._index), dim, device=device)
        self._filled = torch.zeros(len(self._index), dtype=torch.bool)

    def put(self, rows: Tensor, index: Tensor) -> None:
        """Keep those of the ``[b, d]`` rows of images ``index`` that belong to the sample."""
        place = self._place[index]
        kept = (place >= 0).nonzero().flatten()  # on the host, so that nothing waits for a GPU
        place = place[kept]
        chosen = rows.index_select(0, moved(kept, rows.device)).to(self._rows)
        self._rows.index_copy_(0, moved(place, self._rows.device), chosen)
        self._filled[place] = True

    def finish(self) -> Sample:
        """The sample, less the rows that never came."""
        if bool(self._filled.all()):
            return Sample(self._rows, self._index, self._limit)
        return Sample(self._rows[self._filled.to(self._rows.device)], self._index[self._filled], self._limit)


class SampleStream:
    """Gathers a :class:`Sample` of images whose number is unknown, in little more memory than its rows take.

    Args:
        limit: the most rows to keep; ``None`` keeps all.
        start: a sample to go on from.
    """

    def __init__(self, limit: int | None, start: Sample | None = None) -> None:
        self._limit = limit
        self._parts = [] if start is None else [start.cut(limit)]

    def put(self, rows: Tensor, index: Tensor) -> None:
        """Keep those of the ``[b, d]`` rows of images ``index`` that may belong to the sample."""
        part = Sample.of(rows, index, self._limit)
        if part.n or not self._parts:
            self._parts.append(part)
        if self._limit is not None and sum(part.n for part in self._parts[1:]) > max(self._limit // 2, 1):
            self.finish()

    def finish(self) -> Sample:
        """The sample so far; more may come."""
        if len(self._parts) > 1:
            self._parts = [Sample.joined(self._parts)]
        return self._parts[0]


def _scatter(blocks: Iterable[Tensor], mean: Tensor) -> Tensor:
    """The sum of outer products of the rows of all blocks about a mean, ``[d, d]`` float64 and symmetric.

    On the CPU only the lower triangle is computed, which is half the work: 512 rows of 2,048 features take .07 s of a
    core where the whole product takes .14.
    """
    scatter = mean.new_zeros(len(mean), len(mean))
    on_cpu = scatter.device.type == "cpu"
    for block in blocks:
        rows = block.to(torch.float64, copy=True).sub_(mean)
        if on_cpu:
            scipy.linalg.blas.dsyrk(1.0, rows.numpy().T, beta=1.0, c=scatter.numpy().T, overwrite_c=True)
        else:
            scatter.addmm_(rows.T, rows)
    return scatter.add_(scatter.tril(-1).T) if on_cpu else (scatter + scatter.T) / 2


def _scatter_of(blocks: Callable[[], Iterable[Tensor]], mean: Tensor) -> Tensor:
    return _scatter(blocks(), mean)


def non_finite(rows: Tensor) -> str:
    """Says where features are not finite."""
    bad = (~rows.isfinite().all(1)).nonzero().flatten()
    return (
        f"{len(bad)} of {len(rows)} feature rows hold NaN or infinity (first: row {int(bad[0])}); "
        "check the images and the extractor's weights"
    )


def _require_rows(rows: Tensor) -> None:
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise UsageError(f"features must be [n, d] with n > 0, found shape {tuple(rows.shape)}")


def scrambled(index: Tensor) -> Tensor:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014) of each number, as signed int64."""
    z = index + -7046029254386353131  # the golden ratio in 64 bits
    z = (z ^ _shift_right(z, 30)) * -4658895280553007687
    z = (z ^ _shift_right(z, 27)) * -7723592293110705685
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, by: int) -> Tensor:
    """Logical shift: torch's is arithmetic, which drags the sign in."""
    return (z >> by) & ((1 << (64 - by)) - 1)
