"""Ising models: binary images whose neighbours agree, and what such an image was before it was corrupted.

>>> corrupted = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1]])
>>> Ising.given(corrupted, flip=0.2, coupling=0.5).most_likely()
tensor([[0, 1, 1],
        [0, 1, 1],
        [0, 1, 1]])
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from gen_eval import draws
from gen_eval.errors import UsageError
from gen_eval.zoo.mixing import choose
from gen_eval.zoo.sampler import CONTENT, Sampler

_ENUMERABLE = 16  # pixels, whose 65,536 images fit in memory
_CAPACITY = 2**28  # of all fields: what a pixel's edges have left stays within int32


class Enumeration(NamedTuple):
    """All images there are, and how likely each is.

    Args:
        images: ``[2^pixels, height, width]`` of 0 and 1; image k holds the bits of k, its last pixel the lowest.
        log_prob: ``[2^pixels]`` float64.
        log_z: the logarithm of the sum of exp(f).
    """

    images: Tensor
    log_prob: Tensor
    log_z: float


class Ising:
    """p(y) = exp(f(y)) / Z of images y of 0 and 1, f(y) = J sum over neighbours of s s' + sum of h s, with s = 2 y - 1.

    Neighbours share an edge, and there are none across borders (Ising 1925, Zeitschrift für Physik 31:253).

    Args:
        field: h, ``[height, width]``: how much each pixel is inclined to 1.
        coupling: J: how much neighbours are inclined to agree; below 0, to differ.

    Raises:
        UsageError: if they are nothing of the kind.
    """

    def __init__(self, field: Tensor, coupling: float) -> None:
        self.field = torch.as_tensor(field, dtype=torch.float64)
        self.coupling = float(coupling)
        if self.field.ndim != 2 or not self.field.numel():
            raise UsageError(f"expected a field [height, width], found {list(self.field.shape)}")
        if not math.isfinite(self.coupling) or not bool(self.field.isfinite().all()):
            raise UsageError("an Ising model has a finite field and coupling, found NaN or infinity")

    @classmethod
    def given(cls, corrupted: Tensor, *, flip: float, coupling: float) -> Ising:
        """p(y | x): an image as it was, given x in which each pixel was flipped or not, independently of the others.

        log p(x | y) is a constant and s(x) s(y) log((1 - flip) / flip) / 2 of each pixel.

        Args:
            corrupted: x of 0 and 1, ``[height, width]``.
            flip: the probability that a pixel was flipped, above 0 and below 1.
            coupling: J of images before that.

        Raises:
            UsageError: if x holds other numbers, or the probability is none.
        """
        if not 0 < flip < 1:
            raise UsageError(f"a pixel is flipped with a probability above 0 and below 1, found {flip:g}")
        x = torch.as_tensor(corrupted)
        if not bool(((x == 0) | (x == 1)).all()):
            raise UsageError("a corrupted image holds 0 and 1 alone: threshold its levels first")
        return cls((2 * x.double() - 1) * math.log((1 - flip) / flip) / 2, coupling)

    def log_weight(self, images: Tensor) -> Tensor:
        """f, the log-probability but for log Z: ``[n, height, width]`` of 0 and 1 to ``[n]`` float64.

        Raises:
            UsageError: if images are of another size.
        """
        if images.shape[1:] != self.field.shape:
            raise UsageError(
                f"expected images [n, {', '.join(map(str, self.field.shape))}], found {list(images.shape)}"
            )
        s = 2 * images.double() - 1
        pairs = (s[:, 1:] * s[:, :-1]).sum((1, 2)) + (s[..., 1:] * s[..., :-1]).sum((1, 2))
        return self.coupling * pairs + (self.field * s).sum((1, 2))

    @cached_property
    def enumeration(self) -> Enumeration:
        """All images and their probabilities, of 16 pixels or fewer.

        Raises:
            UsageError: if there are more pixels.
        """
        count = self.field.numel()
        if count > _ENUMERABLE:
            raise UsageError(
                f"{count} pixels make 2^{count} images, too many to go through: expected {_ENUMERABLE} or fewer. "
                "Draw samples by gibbs, and find the likeliest image by most_likely or annealed"
            )
        bits = 2 ** torch.arange(count - 1, -1, -1)
        images = (torch.arange(2**count)[:, None] // bits % 2).view(-1, *self.field.shape)
        weights = self.log_weight(images)
        log_z = float(weights.logsumexp(0))
        return Enumeration(images, weights - log_z, log_z)

    def marginals(self) -> Tensor:
        """The probability of a 1 at each pixel, exactly: ``[height, width]`` float64.

        Raises:
            UsageError: if there are more than 16 pixels.
        """
        images, log_prob, _ = self.enumeration
        return torch.einsum("n,nhw->hw", log_prob.exp(), images.double())

    def gibbs(self, n: int, *, seed: int, sweeps: int = 100) -> Tensor:
        """Where chains of Gibbs sampling are after so many sweeps; each starts at random and has a seed of its own.

        A sweep draws all even squares of the board given the odd ones, and then those: squares of one colour are no
        neighbours (Geman and Geman 1984, IEEE PAMI 6:721).

        Args:
            n: chains.
            seed: of the first, 0 or more; chain i is that of ``seed + i``.
            sweeps: of each.

        Returns:
            ``[n, height, width]`` int64 of 0 and 1.

        Raises:
            UsageError: if an argument makes no sense.
        """
        return self._swept(n, seed, [1.0] * _whole(sweeps))

    def annealed(self, *, seed: int, sweeps: int = 200, chains: int = 16) -> Tensor:
        """A likely image by simulated annealing; no better one may be a pixel away, but one may be elsewhere.

        Gibbs sampling of exp(f / T) with T falling from 4 to .1 by one factor a sweep (Kirkpatrick et al. 1983, Science
        220:671); then pixels follow their neighbours until none changes, and the likeliest of all chains is taken.

        Args:
            seed: of the first chain.
            sweeps: of each.
            chains: how many.

        Returns:
            ``[height, width]`` int64 of 0 and 1.

        Raises:
            UsageError: if an argument makes no sense.
        """
        slopes = np.geomspace(1 / 4, 1 / 0.1, _whole(sweeps)).tolist()
        ends = self._settled(self._swept(chains, seed, slopes))
        return ends[self.log_weight(ends).argmax()]

    def most_likely(self) -> Tensor:
        """The likeliest image (MAP), exactly: ``[height, width]`` int64 of 0 and 1; one of them if there are several.

        Where neighbours are not inclined to differ it is a minimum cut of a graph (Greig, Porteous and Seheult 1989,
        JRSS B 51:271); otherwise it is found among all images. A cut takes fields and couplings to within 1e-8 of the
        sum of all fields.

        Raises:
            UsageError: if neighbours are inclined to differ, and there are more than 16 pixels.
        """
        if self.coupling < 0:
            images, log_prob, _ = self.enumeration
            return images[log_prob.argmax()]
        return self._cut()

    def _swept(self, n: int, seed: int, slopes: list[float]) -> Tensor:
        """Chains after a sweep of exp(slope f) for each of the slopes."""
        seeds, count = draws.seeds_from(seed, n), self.field.numel()
        uniform = torch.from_numpy(draws.uniform(seeds, (len(slopes) + 1) * count, CONTENT))
        start, *others = uniform.view(n, -1, *self.field.shape).unbind(1)
        y = (start < 0.5).long()
        colour = _board(self.field)
        for slope, drawn in zip(slopes, others, strict=True):
            for turn in (0, 1):
                found = drawn < torch.sigmoid(2 * slope * self._inclination(y))
                y = torch.where(colour == turn, found.long(), y)
        return y

    def _settled(self, y: Tensor) -> Tensor:
        """Each pixel as its neighbours and its field incline it, colour by colour, until none changes."""
        colour = _board(self.field)
        while True:
            before = y
            for turn in (0, 1):
                inclined = self._inclination(y)
                better = torch.where(inclined == 0, y, (inclined > 0).long())
                y = torch.where(colour == turn, better, y)
            if torch.equal(before, y):
                return y

    def _inclination(self, y: Tensor) -> Tensor:
        """Half of what f gains where a pixel is 1 and not 0, others as they are: ``[n, height, width]`` to the same."""
        s = torch.nn.functional.pad(2 * y.double() - 1, (1, 1, 1, 1))
        around = s[:, :-2, 1:-1] + s[:, 2:, 1:-1] + s[:, 1:-1, :-2] + s[:, 1:-1, 2:]
        return self.coupling * around + self.field

    def _cut(self) -> Tensor:
        """The pixels on the side of 1 of a minimum cut: it costs J where neighbours differ, |h| against a field."""
        field, count = self.field.flatten().numpy(), self.field.numel()
        # SciPy's flows ask for indices of this type.
        pixels = np.arange(count, dtype=np.int32).reshape(self.field.shape)
        pairs = [(pixels[:, :-1], pixels[:, 1:]), (pixels[:-1], pixels[1:])]
        left, right = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
        one, zero = count, count + 1
        tails = np.concatenate([left, right, np.full(count, one, np.int32), pixels.ravel()])
        heads = np.concatenate([right, left, pixels.ravel(), np.full(count, zero, np.int32)])
        total = float(np.abs(field).sum())
        # Pairs that hold against all fields together need hold no more.
        strengths = np.full(2 * len(left), min(self.coupling, total))
        wanted = np.concatenate([strengths, field.clip(min=0), (-field).clip(min=0)])
        unit = _CAPACITY / total if total else 1.0
        whole = np.rint(unit * wanted).astype(np.int32)
        graph = coo_array((whole, (tails, heads)), shape=(count + 2, count + 2)).tocsr()
        left_over = graph - maximum_flow(graph, one, zero).flow
        left_over.data = left_over.data.clip(min=0)
        left_over.eliminate_zeros()
        reached = breadth_first_order(left_over, one, return_predecessors=False)
        image = np.zeros(count + 2, np.int64)
        image[reached] = 1
        return torch.from_numpy(image[:count]).view(self.field.shape)


class IsingImages(Sampler):
    """Images of levels 0 and 255 drawn exactly from an Ising model, whose log-probabilities are known.

    They are probabilities of levels and no densities: ``dequantization`` tells those who measure them.

    Args:
        model: of 16 pixels or fewer.
        name: what to call it.

    Raises:
        UsageError: if there are more pixels.
    """

    bound = "exact"
    dequantization = "none"

    def __init__(self, model: Ising, *, name: str = "ising") -> None:
        self.name, self.shape = name, (1, *model.field.shape)
        self._model, self._all = model, model.enumeration

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-probability in nats of levels ``[n, 1, height, width]``, -inf with others than 0 and 255: ``[n]``."""
        if x.shape[1:] != self.shape:
            raise UsageError(
                f"{self.name} expects levels [n, {str(self.shape)[1:-1]}], found {list(x.shape)}"
            )
        known = ((x == 0) | (x == 255)).flatten(1).all(1)
        found = self._model.log_weight((x[:, 0] > 0).cpu()).to(x.device) - self._all.log_z
        return found.masked_fill(~known, -math.inf)

    def _draw(self, seeds: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        chosen = choose(seeds, self._all.log_prob.exp(), CONTENT)
        return (255 * self._all.images[chosen]).to(torch.uint8)[:, None]


def _board(field: Tensor) -> Tensor:
    """0 and 1 by turns, as the squares of a chessboard."""
    rows, columns = (torch.arange(side) for side in field.shape)
    return (rows[:, None] + columns) % 2


def _whole(sweeps: int) -> int:
    if sweeps < 1:
        raise UsageError(f"a chain takes 1 sweep or more, found {sweeps}")
    return sweeps
