"""The layers of the FID Inception, in the folded and merged form that :mod:`.inception` describes."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.errors import WeightsError
from gen_eval.extractors import onednn
from gen_eval.extractors.inception_weights import HEAD
from gen_eval.extractors.tensors import State

_EPSILON = 1e-3  # of every batch norm
_SPATIAL_BLOCK = "Mixed_6d"  # TensorFlow's mixed_6
_SPATIAL_CHANNELS = 7


class Conv(nn.Module):
    """Convolution, batch norm and ReLU; siblings of one kernel size on one input run as one.

    Args:
        state: the canonical state.
        names: the convolutions, whose outputs are concatenated along the channels.
        stride: of the convolution.
        same: pad so that the size stays.
        linear: how many of the last convolutions go without their ReLU, for a pooling to come first.
    """

    def __init__(
        self, state: State, *names: str, stride: int = 1, same: bool = True, linear: int = 0
    ) -> None:
        super().__init__()
        folded = [_fold(state, name) for name in names]
        self.widths = [len(bias) for _, bias in folded]
        weight, bias = folded[0] if len(folded) == 1 else map(torch.cat, zip(*folded, strict=True))
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self._stride = stride
        self._padding = tuple(k // 2 for k in self.weight.shape[2:]) if same else (0, 0)
        self._rectified = len(names) - linear
        self._fused: list[onednn.Convolution] = []

    def fuse(self) -> None:
        """Compute by :mod:`.onednn` from here on, which takes the weights, each convolution by itself.

        That reads the input more often, and spares a pass for the ReLU of branches, and a copy of each that another
        convolution reads.
        """
        parts = zip(*(torch.split(each, self.widths) for each in (self.weight, self.bias)), strict=True)
        self._fused = [
            onednn.Convolution(weight.clone(), bias.clone(), self._stride, self._padding)
            for weight, bias in parts
        ]
        del self.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, h, w]`` to ``[b, width, h', w']``, of a single convolution."""
        (output,) = self.branches(x)
        return output

    def branches(self, x: Tensor) -> tuple[Tensor, ...]:
        """The output of each convolution by itself."""
        if self._fused:
            return tuple(one(x, relu=at < self._rectified) for at, one in enumerate(self._fused))
        # Branch by branch: a ReLU in place of a slice of them all would be traced as a scatter (see .backends).
        outputs = torch.split(
            F.conv2d(x, self.weight, self.bias, self._stride, self._padding), self.widths, 1
        )
        for output in outputs[: self._rectified]:
            F.relu_(output)
        return outputs


class Halve(nn.Module):
    """3x3 max pooling by steps of 2, of what a ReLU left."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, h, w]`` to ``[b, c, (h - 1) // 2, (w - 1) // 2]``.

        Numbers from 0 on are in the order of their bits, as which a CPU takes maxima of bf16 in two fifths of the time
        that torch's pooling takes; of float32 the two are equals.
        """
        if x.dtype != torch.bfloat16 or x.device.type != "cpu":
            return F.max_pool2d(x, 3, 2)
        bits = x.permute(0, 2, 3, 1).view(torch.int16)
        return _maxima(_maxima(bits, 1), 2).view(x.dtype).permute(0, 3, 1, 2)


class MixedA(nn.Module):
    """Mixed_5b, 5c, 5d: 1x1, 5x5, double 3x3 and average-pool branches."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        b = f"{name}.branch"
        self.entry = Conv(state, b + "1x1", b + "5x5_1", b + "3x3dbl_1", b + "_pool", linear=1)
        self.five = Conv(state, b + "5x5_2")
        self.twice = nn.Sequential(Conv(state, b + "3x3dbl_2"), Conv(state, b + "3x3dbl_3"))

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, 35, 35]`` to ``[b, 256 or 288, 35, 35]``."""
        one, five, twice, pool = self.entry.branches(x)
        return torch.cat([one, self.five(five), self.twice(twice), _average(pool)], 1)


class MixedB(nn.Module):
    """Mixed_6a: halves the size by 3x3, double 3x3 and max-pool branches."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        b = f"{name}.branch"
        self.three = Conv(state, b + "3x3", stride=2, same=False)
        self.twice = nn.Sequential(
            Conv(state, b + "3x3dbl_1"),
            Conv(state, b + "3x3dbl_2"),
            Conv(state, b + "3x3dbl_3", stride=2, same=False),
        )
        self.halve = Halve()

    def forward(self, x: Tensor) -> Tensor:
        """``[b, 288, 35, 35]`` to ``[b, 768, 17, 17]``."""
        return torch.cat([self.three(x), self.twice(x), self.halve(x)], 1)


class MixedC(nn.Module):
    """Mixed_6b to 6e: 1x1, factored 7x7, double factored 7x7 and average-pool branches."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        b = f"{name}.branch"
        self.entry = Conv(state, b + "1x1", b + "7x7_1", b + "7x7dbl_1", b + "_pool", linear=1)
        self.seven = nn.Sequential(*(Conv(state, f"{b}7x7_{i}") for i in (2, 3)))
        self.twice = nn.Sequential(*(Conv(state, f"{b}7x7dbl_{i}") for i in (2, 3, 4, 5)))

    def forward(self, x: Tensor) -> Tensor:
        """``[b, 768, 17, 17]`` to the same."""
        one, seven, twice, pool = self.entry.branches(x)
        return torch.cat([one, self.seven(seven), self.twice(twice), _average(pool)], 1)


class MixedD(nn.Module):
    """Mixed_7a: halves the size by 3x3, 7x7-3x3 and max-pool branches."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        b = f"{name}.branch"
        self.entry = Conv(state, b + "3x3_1", b + "7x7x3_1")
        self.three = Conv(state, b + "3x3_2", stride=2, same=False)
        self.seven = nn.Sequential(
            Conv(state, b + "7x7x3_2"),
            Conv(state, b + "7x7x3_3"),
            Conv(state, b + "7x7x3_4", stride=2, same=False),
        )
        self.halve = Halve()

    def forward(self, x: Tensor) -> Tensor:
        """``[b, 768, 17, 17]`` to ``[b, 1280, 8, 8]``."""
        three, seven = self.entry.branches(x)
        return torch.cat([self.three(three), self.seven(seven), self.halve(x)], 1)


class MixedE(nn.Module):
    """Mixed_7b and 7c: 1x1, split 3x3, double split 3x3 and pooling branches.

    The graph of 2015 pools 7b by average and 7c by maximum; a maximum does not commute with the
    convolution after it, so that branch stays apart.
    """

    def __init__(self, state: State, name: str, pool: str) -> None:
        super().__init__()
        b = f"{name}.branch"
        merged = [b + "1x1", b + "3x3_1", b + "3x3dbl_1"]
        self.pool: Conv | None = None
        if pool == "average":
            self.entry = Conv(state, *merged, b + "_pool", linear=1)
        else:
            self.entry = Conv(state, *merged)
            self.pool = Conv(state, b + "_pool")
        self.three_a, self.three_b = Conv(state, b + "3x3_2a"), Conv(state, b + "3x3_2b")
        self.twice = Conv(state, b + "3x3dbl_2")
        self.twice_a, self.twice_b = Conv(state, b + "3x3dbl_3a"), Conv(state, b + "3x3dbl_3b")

    def forward(self, x: Tensor) -> Tensor:
        """``[b, 1280 or 2048, 8, 8]`` to ``[b, 2048, 8, 8]``."""
        one, three, twice, *linear = self.entry.branches(x)
        twice = self.twice(twice)
        pool = _average(linear[0]) if self.pool is None else self.pool(F.max_pool2d(x, 3, 1, 1))
        return torch.cat(
            [one, self.three_a(three), self.three_b(three), self.twice_a(twice), self.twice_b(twice), pool], 1
        )


class InceptionNet(nn.Module):
    """The whole network, from normalised pixels to its taps.

    Args:
        state: the canonical state; without ``fc.*`` the logits cannot be asked for.

    Raises:
        WeightsError: if a tensor is missing.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        try:
            self.stem = nn.Sequential(
                Conv(state, "Conv2d_1a_3x3", stride=2, same=False),
                Conv(state, "Conv2d_2a_3x3", same=False),
                Conv(state, "Conv2d_2b_3x3"),
                Halve(),
                Conv(state, "Conv2d_3b_1x1"),
                Conv(state, "Conv2d_4a_3x3", same=False),
                Halve(),
            )
            self.to_spatial = nn.Sequential(
                *(MixedA(state, f"Mixed_5{letter}") for letter in "bcd"),
                MixedB(state, "Mixed_6a"),
                *(MixedC(state, f"Mixed_6{letter}") for letter in "bc"),
            )
            self.to_pool = nn.Sequential(
                *(MixedC(state, f"Mixed_6{letter}") for letter in "de"),
                MixedD(state, "Mixed_7a"),
                MixedE(state, "Mixed_7b", pool="average"),
                MixedE(state, "Mixed_7c", pool="maximum"),
            )
            spatial = state[f"{_SPATIAL_BLOCK}.branch1x1.weight"][:_SPATIAL_CHANNELS]
        except KeyError as error:
            raise WeightsError(f"the weights lack the tensor {error}") from error
        self.spatial_weight = nn.Parameter(spatial.clone())
        if HEAD in state:
            self.head = nn.Parameter(state[HEAD].clone())
            self.head_bias = nn.Parameter(state["fc.bias"].clone())

    def fuse(self) -> None:
        """Compute convolutions by :mod:`.onednn` from here on: on a CPU, by torch, and without gradients."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()

    def forward(self, x: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        """``[b, 3, 299, 299]`` normalised pixels to ``{tap: [b, d]}``."""
        out: dict[str, Tensor] = {}
        for tap, layers in (("64", self.stem[:4]), ("192", self.stem[4:])):
            x = layers(x)
            if tap in taps:
                out[tap] = x.mean((2, 3))
            if set(taps) == set(out):
                return out
        x = self.to_spatial(x)
        if "spatial" in taps:
            # The evaluator of guided-diffusion reads the convolution before its batch norm, in NHWC order.
            raw = F.conv2d(x, self.spatial_weight)
            out["spatial"] = raw.permute(0, 2, 3, 1).flatten(1)
        if set(taps) == set(out):
            return out
        x = self.to_pool[:2](x)
        if "768" in taps:
            out["768"] = x.mean((2, 3))
        if set(taps) == set(out):
            return out
        pool = self.to_pool[2:](x).mean((2, 3))
        if "pool" in taps:
            out["pool"] = pool
        if "logits_unbiased" in taps:
            out["logits_unbiased"] = pool @ self.head.T
        if "logits" in taps:
            out["logits"] = torch.addmm(self.head_bias, pool, self.head.T)
        return out


def _maxima(x: Tensor, dim: int) -> Tensor:
    """Of every second three neighbours along a dimension."""
    start = slice(None)
    first, second, third = (x[(start,) * dim + (slice(at, x.shape[dim] - 2 + at, 2),)] for at in range(3))
    found = torch.maximum(first, second)
    return torch.maximum(found, third, out=found)


def _average(x: Tensor) -> Tensor:
    """3x3 average pooling that leaves the padding out of its count, then the ReLU it was put before."""
    return F.relu_(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _fold(state: State, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm folded in; the scale is rounded once."""
    weight = state[f"{name}.weight"]
    channels = {state[f"{name}.{part}"].shape for part in ("beta", "mean", "var")}
    if weight.ndim != 4 or channels != {weight.shape[:1]}:
        raise WeightsError(
            f"the tensors of {name} have shapes that do not fit: {list(weight.shape)}, {channels}"
        )
    scale = (state[f"{name}.var"].double() + _EPSILON).rsqrt()
    bias = state[f"{name}.beta"].double() - state[f"{name}.mean"].double() * scale
    return weight * scale.float()[:, None, None, None], bias.float()
