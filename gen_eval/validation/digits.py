"""A small classifier of handwritten digits: it judges labels, and its features stand in for a slow network's."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen_eval.datasets import load

_STEPS, _BATCH = 1500, 128
_AT_ONCE = 1000


class Split(NamedTuple):
    """Digits as tensors.

    Args:
        images: uint8 ``[n, 1, 28, 28]``.
        labels: int64 ``[n]``.
    """

    images: Tensor
    labels: Tensor


class Judge(NamedTuple):
    """The classifier.

    Args:
        trunk: from images in [-1, 1] to 64 features.
        head: from features to logits.
    """

    trunk: nn.Module
    head: nn.Module

    def features(self, images: Tensor) -> Tensor:
        """uint8 ``[n, 1, 28, 28]`` to float64 ``[n, 64]``."""
        with torch.no_grad():
            return torch.cat([self.trunk(_scaled(part)) for part in torch.split(images, _AT_ONCE)]).double()

    def logits(self, images: Tensor) -> Tensor:
        """uint8 ``[n, 1, 28, 28]`` to float64 ``[n, 10]``."""
        with torch.no_grad():
            logits: Tensor = self.head(self.features(images).float()).double()
            return logits

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images whose largest logit is that of their label."""
        return float(torch.eq(self.logits(images).argmax(1), labels).double().mean())


@cache
def digits(split: str) -> Split:
    """MNIST: ``"train"`` or ``"test"``, in the order in which it was published."""
    data = load("mnist", split)
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(data.labels))


@cache
def judge() -> Judge:
    """A classifier trained on the training digits; the same one each time."""
    images, labels = digits("train")
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = nn.Sequential(
            *(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU()),
        )
        head = nn.Linear(64, 10)
    parameters = [*trunk.parameters(), *head.parameters()]
    adam = torch.optim.Adam(parameters, 2e-3)
    for _ in range(_STEPS):
        rows = torch.randint(len(images), (_BATCH,), generator=draws)
        adam.zero_grad()
        nn.functional.cross_entropy(head(trunk(_scaled(images[rows]))), labels[rows]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return Judge(trunk, head)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1
