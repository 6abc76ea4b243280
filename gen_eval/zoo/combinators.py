"""Generators made of other generators, spoilt in a way whose effect on a metric is known.

A combinator has labels and truncation where what it is made of has them. It has ``log_prob``, ``score``, ``noised``
and ``keep`` only where they are exact: ``hasattr`` tells.

>>> from gen_eval.zoo.worlds import Disc, Mixture
>>> collapsed = KeepModes(Mixture.ring(), [0, 1, 2])
>>> collapsed.classes, hasattr(collapsed, "log_prob"), hasattr(Noisy(Disc(), 0.1), "log_prob")
(('0', '1', '2'), True, False)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval import draws
from gen_eval.disturbances import pixels
from gen_eval.errors import UsageError
from gen_eval.latent import to_uint8
from gen_eval.zoo.mixing import by_part, choose, mixed_log_prob, mixed_score, rows_of, shares
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.worlds import Empirical

_FIRST_STREAM = 16  # of a seed, that combinators draw from: those before are of worlds and networks
_AT_ONCE = 1024  # images whose noise is held at a time
_REDRAWS = 100_000
_REDRAWN_AT_ONCE, _LARGEST_BLOCK = 4096, 256  # seeds, and how many more of each: about a million together


class Combinator(Sampler):
    """What all that change one generator share.

    Args:
        name: what to call it.
        base: what is changed.
        others: what it is made of besides.

    Attributes:
        bound, log_prob, score, noised, keep: as a world has them, where they are exact; otherwise they are not there.
    """

    bound: str
    log_prob: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    noised: Callable[[float], Sampler]
    keep: Callable[[Sequence[int]], Sampler]
    _stream: int

    def __init__(self, name: str, base: Sampler, *others: Sampler) -> None:
        self.name, self.shape = name, base.shape
        self.classes, self.truncation = base.classes, base.truncation
        self._base = base
        # A stream that nothing below draws from, so that noise on noise is independent of it.
        below = [part._stream for part in (base, *others) if isinstance(part, Combinator)]
        self._stream = max(below, default=_FIRST_STREAM - 1) + 1

    def labels_of(self, seeds: Tensor) -> Tensor | None:
        """The class that each seed draws where none is asked for, int64 ``[b]``; ``None`` without classes."""
        return self._base.labels_of(seeds)

    def _follow(self, law: Sampler) -> None:
        """Take over what is known of the distribution that samples have."""
        for name in ("bound", "log_prob", "score", "noised", "keep"):
            if hasattr(law, name):
                setattr(self, name, getattr(law, name))


class Noisy(Combinator):
    """Samples with independent Gaussian noise added.

    The noise on images is that of the disturbance ``noise``: rounded and clipped, one draw a pixel on those that are
    gray. With noise, the sample of a seed keeps its content. Exact density where the base has ``noised``.

    Args:
        base: makes the samples.
        sd: standard deviation, 0 or more; on images in levels of 255.

    Raises:
        UsageError: if the standard deviation is nothing of the kind.
    """

    def __init__(self, base: Sampler, sd: float) -> None:
        super().__init__(f"{base.name} + noise {sd:g}", base)
        self._sd = _scale(sd)
        if hasattr(base, "noised"):
            self._follow(base.noised(sd))

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        clean = self._base(seeds, labels=labels, truncation=truncation)
        parts = zip(torch.split(clean, _AT_ONCE), torch.split(seeds, _AT_ONCE), strict=True)
        return torch.cat([self._noised(*part) for part in parts])

    def _noised(self, clean: Tensor, seeds: Tensor) -> Tensor:
        noise = draws.normal(seeds, math.prod(self.shape), self._stream).view(clean.shape)
        if _images(self):
            gray = (clean == clean[:, :1]).all(3).all(2).all(1)
            noise = torch.where(gray[:, None, None, None], noise[:, :1], noise)
            return to_uint8(clean + self._sd * noise)
        return (clean + self._sd * noise).float()


class Blurred(Combinator):
    """Images convolved with a Gaussian, as the disturbance ``blur`` does.

    Args:
        base: makes the images.
        sd: standard deviation in pixels, 0 or more.

    Raises:
        UsageError: if the base makes vectors, or the standard deviation is nothing of the kind.
    """

    def __init__(self, base: Sampler, sd: float) -> None:
        super().__init__(f"{base.name}, blurred by {sd:g}", base)
        self._sd = _scale(sd)
        if not _images(base):
            raise UsageError(f"{base.name} makes vectors {list(base.shape)}, and only images can be blurred")

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        unused = np.random.default_rng(0)  # a blur is the same each time
        sharp = self._base(seeds, labels=labels, truncation=truncation).permute(0, 2, 3, 1).numpy()
        blurred = np.empty_like(sharp)
        for number, image in enumerate(sharp):
            blurred[number] = pixels.blur(image, self._sd, unused)
        return torch.from_numpy(blurred).permute(0, 3, 1, 2).contiguous()


class KeepModes(Combinator):
    """A collapsed generator: samples of some classes alone, as often relative to one another as before.

    Seeds whose own class is kept give the samples that they gave. Exact density where the base has ``keep``.

    Args:
        base: has classes.
        modes: the labels that are kept; label i of this generator is ``modes[i]`` of the base.

    Raises:
        UsageError: if the base has no such classes, or a mode is named twice.
    """

    def __init__(self, base: Sampler, modes: Sequence[int]) -> None:
        kept = list(modes)
        count = len(base.classes)
        if not kept or len(set(kept)) < len(kept) or not all(0 <= mode < count for mode in kept):
            has = f"labels 0 to {count - 1}" if count else "no classes"
            raise UsageError(f"expected some of the classes of {base.name}, which has {has}; found {kept}")
        super().__init__(f"{base.name}, {len(kept)} of {count} modes", base)
        self.classes = tuple(base.classes[mode] for mode in kept)
        self._modes = torch.tensor(kept)
        self._place = torch.full((count,), -1)
        self._place[self._modes] = torch.arange(len(kept))
        if hasattr(base, "keep"):
            self._follow(base.keep(kept))

    def labels_of(self, seeds: Tensor) -> Tensor:
        """The class that each seed draws where none is asked for: the base's own, drawn again until it is kept.

        Raises:
            UsageError: if the base draws the classes that are kept too seldom.
        """
        labels = self._own(seeds)
        for dropped in torch.split((labels < 0).nonzero()[:, 0], _REDRAWN_AT_ONCE):
            labels[dropped] = self._redrawn(seeds[dropped])
        return labels

    def _redrawn(self, seeds: Tensor) -> Tensor:
        """The first label that is kept of the seeds that follow each, in blocks that grow while none is."""
        labels = torch.full_like(seeds, -1)
        pending, drawn, block = torch.arange(len(seeds)), 0, 1
        while len(pending):
            if drawn >= _REDRAWS:
                raise UsageError(
                    f"{self._base.name} draws the classes {', '.join(self.classes)} hardly ever: ask by labels="
                )
            following = torch.from_numpy(draws.uniform(seeds, block, self._stream) * 2**52).long()
            found = self._own(following.flatten()).view(-1, block)
            kept = found >= 0
            first = torch.from_numpy(kept.numpy().argmax(1))  # torch's own may be any of them
            done = kept.any(1)
            labels[pending[done]] = found[done, first[done]]
            pending, seeds = pending[~done], following[~done, -1]
            drawn, block = drawn + block, min(2 * block, _LARGEST_BLOCK)
        return labels

    def _own(self, seeds: Tensor) -> Tensor:
        labels = self._base.labels_of(seeds)
        assert labels is not None  # the base has classes
        return self._place[labels]

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        assert labels is not None
        return self._base(seeds, labels=self._modes[labels], truncation=truncation)


class Mix(Combinator):
    """Each seed takes one of several generators. Exact density where all have one.

    It has no classes: what part a label would come from is a question of how often each has it, which parts do not
    tell. It has a truncation if all parts have one.

    Args:
        parts: make samples of one shape.
        weights: how often each is taken, ``[k]`` above 0, of any sum; equally often if not given.

    Raises:
        UsageError: if there are no parts, their shapes differ, or weights are nothing of the kind.
    """

    def __init__(self, parts: Sequence[Sampler], weights: Tensor | Sequence[float] | None = None) -> None:
        if not parts or len({part.shape for part in parts}) > 1:
            found = ", ".join(f"{part.name} {list(part.shape)}" for part in parts) or "none"
            raise UsageError(f"expected generators of samples of one shape, found {found}")
        super().__init__(" | ".join(part.name for part in parts), *parts)
        self._parts, self._weights = tuple(parts), shares(weights, len(parts))
        self.classes = ()
        if any(part.truncation is None for part in parts):
            self.truncation = None
        if all(getattr(part, "bound", None) == "exact" for part in parts):
            self.bound, self.log_prob = "exact", self._log_prob
            if all(hasattr(part, "score") for part in parts):
                self.score = self._score
            if all(hasattr(part, "noised") for part in parts):
                self.noised = self._noised

    def labels_of(self, seeds: Tensor) -> None:
        """Nothing: there are no classes."""

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        def draw(part: Sampler, rows: Tensor) -> Tensor:
            return part(seeds[rows], truncation=truncation)

        chosen = choose(seeds, self._weights, self._stream)
        return by_part(self._parts, chosen, draw)

    def _log_prob(self, x: Tensor) -> Tensor:
        return mixed_log_prob(self._parts, self._weights, x)

    def _score(self, x: Tensor) -> Tensor:
        return mixed_score(self._parts, self._weights, x)

    def _noised(self, sd: float) -> Mix:
        parts: Sequence[Any] = self._parts
        return Mix([part.noised(sd) for part in parts], self._weights)


class Truncated(Combinator):
    """A generator at one truncation. Exact density where the base knows it.

    Args:
        base: has a truncation.
        truncation: 0 or more, as the base takes it.

    Raises:
        UsageError: if the base has none, or it is below 0.
    """

    def __init__(self, base: Sampler, truncation: float) -> None:
        super().__init__(f"{base.name}, truncated to {truncation:g}", base)
        if base.truncation is None or not truncation >= 0:
            has = "has no truncation" if base.truncation is None else "is truncated by 0 or more"
            raise UsageError(f"{base.name} {has}; found truncation={truncation:g}")
        self.truncation = None
        self._fixed = truncation
        if hasattr(base, "truncated") and truncation > 0:
            self._follow(base.truncated(truncation))

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        return self._base(seeds, labels=labels, truncation=self._fixed)


class Memoriser(Empirical):
    """Returns exact copies of the first training items, each seed one of them.

    Args:
        data: the training items, as :class:`Empirical` takes them.
        copies: how many of them it knows.
        labels: the class of each training item.
        classes: what each label means.

    Raises:
        UsageError: if there are fewer items, or :class:`Empirical` refuses them.
    """

    def __init__(
        self,
        data: Tensor | np.typing.NDArray[Any],
        copies: int,
        labels: Tensor | Sequence[int] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        if not 0 < copies <= len(data):
            raise UsageError(f"expected 1 to {len(data)} copies, as many as there are items; found {copies}")
        known = None if labels is None else labels[:copies]
        super().__init__(data[:copies], known, classes, name=f"memoriser of {copies}")


class Shifted(Combinator):
    """Samples moved by the same way. Of vectors, what the base knows of its density holds there.

    Args:
        base: makes the samples.
        by: of vectors ``[d]``; of images whole pixels ``(down, right)``, the edge that is left is filled with 0.

    Raises:
        UsageError: if it does not fit the samples.
    """

    def __init__(self, base: Sampler, by: Tensor | Sequence[float]) -> None:
        self._by = torch.as_tensor(by, dtype=torch.float64, device="cpu").detach().clone()
        super().__init__(f"{base.name}, shifted by {self._by.tolist()}", base)
        if not _images(base):
            if self._by.shape != base.shape or not bool(self._by.isfinite().all()):
                raise UsageError(f"expected a shift {list(base.shape)}, finite; found {self._by.tolist()}")
            self._follow_vectors(base)
        elif self._by.shape != (2,) or not self._within(base.shape[1:]):
            size = " x ".join(map(str, base.shape[1:]))
            raise UsageError(
                f"expected a shift (down, right) by whole pixels, less than the {size} of an image; "
                f"found {self._by.tolist()}"
            )

    def _within(self, size: tuple[int, ...]) -> bool:
        whole = torch.equal(self._by, self._by.round())
        return whole and bool((self._by.abs() < torch.tensor(size)).all())

    def _follow_vectors(self, base: Any) -> None:
        if hasattr(base, "log_prob"):
            self.bound = base.bound
            self.log_prob = lambda x: base.log_prob(rows_of(x, self) - self._by.to(x.device))
        if hasattr(base, "score"):
            self.score = lambda x: base.score(rows_of(x, self) - self._by.to(x.device))
        if hasattr(base, "noised"):
            self.noised = lambda sd: Shifted(base.noised(sd), self._by)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        samples = self._base(seeds, labels=labels, truncation=truncation)
        if not _images(self):
            return (samples + self._by).float()
        down, right = (int(by) for by in self._by)
        return torch.nn.functional.pad(samples, (right, -right, down, -down))


def _images(sampler: Sampler) -> bool:
    return len(sampler.shape) == 3


def _scale(sd: float) -> float:
    if not (sd >= 0 and math.isfinite(sd)):
        raise UsageError(f"a standard deviation is 0 or more and finite, found {sd}")
    return sd
