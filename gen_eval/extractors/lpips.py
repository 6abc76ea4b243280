"""LPIPS: how different two images look to a network whose channels were weighted by people's judgements.

Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", arXiv:1801.03924,
version 0.1 of the weights. At five depths of a network, activations are scaled to unit length at each position;
squared differences are weighted by channel, averaged over positions and added up. So LPIPS is the squared
Euclidean distance of two long vectors, which :meth:`LPIPS.features` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_eval.errors import UsageError
from gen_eval.extractors.lpips_weights import WEIGHTS, find_trunk, read_weights
from gen_eval.extractors.network import IMAGENET, settle_precision
from gen_eval.extractors.tensors import State, fingerprint
from gen_eval.fetch import fetch
from gen_eval.precision import arithmetic
from gen_eval.progress import Progress, silent

_NO_DIVISION_BY_ZERO = 1e-10  # as in the published code


class LPIPS:
    """The learned perceptual distance of images.

    Args:
        state: tensors as read by :func:`gen_eval.extractors.lpips_weights.read_weights`.
        net: a key of :data:`gen_eval.extractors.lpips_weights.TRUNKS`, the one that ``state`` was read for.
        device: where the network runs.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.

    Attributes:
        weights: fingerprint of the tensors.

    Raises:
        UnknownName: if there is no such network or precision.
        UsageError: if the device cannot compute in that precision.
    """

    def __init__(
        self,
        state: State,
        *,
        net: str = "vgg16",
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.net = net
        self.device = torch.device(device)
        self.weights = fingerprint(state)
        self._trunk = find_trunk(net)
        self._precision = settle_precision(precision, self.device)
        self._state = {name: value.to(self.device) for name, value in state.items()}

    @classmethod
    def load(
        cls,
        net: str = "vgg16",
        *,
        weights: str | Path | Sequence[str | Path] | None = None,
        device: torch.device | str = "cpu",
        offline: bool | None = None,
        progress: Progress = silent,
        precision: str = "fp32",
    ) -> LPIPS:
        """LPIPS with its published weights: vgg16 as in path lengths, or alexnet, the authors' own choice.

        Args:
            net: ``"vgg16"`` or ``"alexnet"``.
            weights: a local file, or two where the trunk and the heads are apart; see
                :func:`gen_eval.extractors.lpips_weights.read_weights`. By default found in the cache or fetched.
            device: where the network runs.
            offline: never touch the network; by default as the environment says.
            progress: told how a download stands.
            precision: a name in :data:`gen_eval.precision.PRECISIONS`.

        Raises:
            UnknownName: if there is no such network.
            FetchError: if the weights can be had from nowhere.
            WeightsError: if the file does not hold this network.
        """
        find_trunk(net)  # what is refused is refused before anything is fetched in vain
        settle_precision(precision, torch.device(device))
        if weights is None:
            weights = fetch(WEIGHTS, offline=offline, progress=progress)
        paths = [weights] if isinstance(weights, (str, Path)) else weights
        state = read_weights([Path(path) for path in paths], net)
        return cls(state, net=net, device=device, precision=precision)

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """The vectors whose squared Euclidean distances are LPIPS.

        Args:
            images: ``[b, 3, h, w]`` in [0, 255], floating point or uint8, on any device.

        Returns:
            ``[b, d]`` float32 on the network's device. They are long: d is 122 h w for vgg16 where 16 divides the
            sides, 500,000 at 64 pixels.

        Raises:
            UsageError: if these are no such images, or too small.
        """
        return torch.cat([weighted.flatten(1) for weighted in self._stages(images)], 1)

    @torch.inference_mode()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS of each image of ``a`` to that of ``b`` in its place.

        Args:
            a: ``[b, 3, h, w]`` in [0, 255], as :meth:`features` takes them.
            b: the same.

        Returns:
            ``[b]`` float32 on the network's device.

        Raises:
            UsageError: if these are no such images, or of different shapes.
        """
        if a.shape != b.shape:
            raise UsageError(
                f"images of one shape can be compared, found {list(a.shape)} and {list(b.shape)}"
            )
        return sum(
            ((x - y).square().sum((1, 2, 3)) for x, y in zip(self._stages(a), self._stages(b), strict=True)),
            start=torch.zeros(len(a), device=self.device),
        )

    def _stages(self, images: Tensor) -> Iterator[Tensor]:
        """At each depth, the unit activations by the roots of their weights, ``[b, c, h, w]`` float32."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self._trunk.smallest:
            raise UsageError(
                f"expected images [b, 3, h, w] with sides of at least {self._trunk.smallest} pixels, found "
                f"{list(images.shape)}"
            )
        x = IMAGENET(images.to(self.device, torch.float32))  # equal to the published shift and scale
        for stage, places in enumerate(self._trunk.stages):
            # Entered for each stage alone: the caller's own arithmetic between them is not ours.
            with arithmetic(self._precision, self.device.type):
                x = self._convolved(x, stage, places)
            activations = x.float()
            unit = activations / (
                torch.linalg.vector_norm(activations, dim=1, keepdim=True) + _NO_DIVISION_BY_ZERO
            )
            share = self._state[f"lin{stage}"] / (x.shape[2] * x.shape[3])
            yield unit * share.sqrt().view(-1, 1, 1)

    def _convolved(self, x: Tensor, stage: int, places: Sequence[int]) -> Tensor:
        if stage in self._trunk.pooled:
            x = F.max_pool2d(x, self._trunk.window, 2)
        for place in places:
            kernel, bias = (self._state[f"features.{place}.{part}"] for part in ("weight", "bias"))
            stride, padding = self._trunk.first if place == 0 else (1, kernel.shape[-1] // 2)
            x = F.relu(F.conv2d(x, kernel, bias, stride, padding), inplace=True)
        return x
