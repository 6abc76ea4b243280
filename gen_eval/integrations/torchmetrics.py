"""Metrics in the shape of torchmetrics: the same names, arguments and calls, with an error bar beside the value.

They are metrics of torchmetrics, so they stand in a ``MetricCollection`` and in a ``LightningModule``. What they gather
is a :class:`gen_eval.Monitor`'s, which brings ranks together by itself.

>>> from gen_eval.integrations.torchmetrics import KernelInceptionDistance
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import UsageError
from gen_eval.extractors import Custom, Normalize
from gen_eval.metrics import METRICS, Measure
from gen_eval.monitor import Monitor
from gen_eval.results import Result

try:
    from torchmetrics import Metric
except ImportError as error:
    raise UsageError("this needs torchmetrics: python -m pip install torchmetrics") from error

_TAPS: dict[Any, str] = {64: "64", 192: "192", 768: "768", 2048: "pool", "logits_unbiased": "logits_unbiased"}


class _Fed(Metric):
    """A metric whose state is a monitor's."""

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        metric: str,
        feature: int | str | nn.Module,
        params: Mapping[str, Any],
        *,
        normalize: bool,
        antialias: bool = True,
        weights: str | None = None,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _require_bools(normalize=normalize, antialias=antialias)
        self._module = feature if isinstance(feature, nn.Module) else None
        if self._module is None and feature not in _TAPS:
            raise UsageError(f"feature is {', '.join(map(repr, _TAPS))} or a module, found {feature!r}")
        tap = "pool" if self._module is not None else _TAPS[feature]
        extractor = "inception" if self._module is None else "feature"
        self._measure = Measure(metric, METRICS[metric], extractor, tap)
        self._settings: dict[str, Any] = {
            "protocol": "torchmetrics" if antialias else "torch-fidelity",
            "params": dict(params),
            "weights": weights,
            # Theirs are cut off where Inception sees them. A module of one's own gets the nearest level.
            "rounding": "truncate" if self._module is None else "save_image",
            "value_range": (0, 1) if normalize else None,
            "distributed": None if self.sync_on_compute else False,
            **(options or {}),
        }
        self._monitor = None if self._module is not None else Monitor(self._measure, **self._settings)
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """What :meth:`compute` found last, with its error, its bias and its terms.

        Raises:
            UsageError: if nothing was computed yet.
        """
        if self._result is None:
            raise UsageError("there is no result before compute()")
        return self._result

    @property
    def error(self) -> Tensor | None:
        """The standard error of what :meth:`compute` gave last, where there is one."""
        return None if self.result.error is None else self._number(self.result.error)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a distance of one batch means nothing.

        Raises:
            UsageError: says to call ``update`` and ``compute``.
        """
        raise UsageError(
            f"the {self._measure.name} of one batch means nothing: call update(), then compute()"
        )

    def merge_state(self, incoming_state: Any) -> None:
        """Refused: what was gathered is no state of torchmetrics'.

        Raises:
            UsageError: says what brings images together.
        """
        raise UsageError(
            f"the {self._measure.name} of two metrics cannot be merged: feed all images to one, or let each rank of "
            "torch.distributed feed its share, which compute() brings together"
        )

    def persistent(self, mode: bool = False) -> None:
        """Refused if it is to be true: images are no part of ``state_dict()``.

        Raises:
            UsageError: says what keeps them.
        """
        if mode:
            raise UsageError(
                "images are no part of state_dict(): to go on with them later, feed a gen_eval.Monitor, whose "
                "state_dict() holds what was gathered, or pickle the metric"
            )
        super().persistent(mode)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot values of :meth:`compute`, by default the one of now, as torchmetrics does."""
        return self._plot(self._shown() if val is None else val, ax)

    def _shown(self) -> Tensor:
        """What there is to plot: the first number of :meth:`compute`."""
        found: Tensor | tuple[Tensor, Tensor] = self.compute()
        return found[0] if isinstance(found, tuple) else found

    def reset(self) -> None:
        """Forget the images, those of the reference too unless ``reset_real_features`` is off."""
        super().reset()
        if self._monitor is not None:
            self._monitor.reset(real=getattr(self, "reset_real_features", True))

    def _take(self, imgs: Tensor, real: bool = False) -> None:
        if imgs.is_floating_point() and self._settings["value_range"] is None:
            raise UsageError(
                f"{imgs.dtype} images were given, where uint8 in [0, 255] is expected: floats in [0, 1] are for "
                f"{type(self).__name__}(normalize=True)"
            )
        if self._monitor is None:
            self._monitor = self._monitor_of_module(imgs)
        self._monitor.update(imgs, real=real)

    def _measured(self) -> Result:
        if self._monitor is None:
            raise UsageError("there are no images to measure yet: feed them, update(imgs)")
        (self._result,) = self._monitor.compute()
        return self._result

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.get_default_dtype(), device=self.device)

    def _monitor_of_module(self, imgs: Tensor) -> Monitor:
        assert self._module is not None
        if imgs.ndim != 4 or imgs.shape[1] != 3 or imgs.shape[2] != imgs.shape[3]:
            raise UsageError(
                f"a module of one's own is given square RGB images [b, 3, s, s], found {list(imgs.shape)}"
            )
        bytes_wanted = self._settings["value_range"] is None
        net = Custom(
            _AsGiven(self._module, bytes_wanted),
            size=imgs.shape[2],
            name=type(self._module).__name__,
            resize="torch-bilinear",  # the identity, at this size
            normalize=Normalize(divisor=1.0 if bytes_wanted else 255.0),
            device=self.device,
        )
        settings = {**self._settings, "extractors": {"feature": net}, "weights": None, "device": self.device}
        return Monitor(self._measure, **settings)


class _AsGiven(nn.Module):
    """Somebody's module, given images as torchmetrics would give them."""

    def __init__(self, module: nn.Module, as_bytes: bool) -> None:
        super().__init__()
        self.module, self.as_bytes = module, as_bytes

    def forward(self, images: Tensor) -> Tensor:
        """``[b, 3, s, s]`` to ``[b, d]``."""
        features: Tensor = self.module(images.byte() if self.as_bytes else images)
        return features if features.is_floating_point() else features.float()


class FrechetInceptionDistance(_Fed):
    """As ``torchmetrics.image.fid.FrechetInceptionDistance``, with :attr:`error` and :attr:`result` besides.

    Args:
        feature: 64, 192, 768 or 2048 features of Inception; or a module from images to ``[b, d]``.
        reset_real_features: whether :meth:`reset` forgets the reference too.
        normalize: whether images are floats in [0, 1] instead of uint8.
        input_img_size: not needed: a module is given the images as they come.
        feature_extractor_weights_path: a local file of Inception's weights.
        antialias: resize as torchmetrics does; else as TensorFlow did.
        options: what else :class:`gen_eval.Monitor` takes, such as ``device``, ``offline`` and ``rows``.
        kwargs: as torchmetrics takes them.
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(
        self,
        feature: int | nn.Module = 2048,
        reset_real_features: bool = True,
        normalize: bool = False,
        input_img_size: tuple[int, int, int] = (3, 299, 299),
        feature_extractor_weights_path: str | None = None,
        antialias: bool = True,
        *,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _require_bools(reset_real_features=reset_real_features)
        super().__init__(
            "frechet",
            feature,
            {},
            normalize=normalize,
            antialias=antialias,
            weights=feature_extractor_weights_path,
            options=options,
            **kwargs,
        )
        self.reset_real_features = reset_real_features

    def update(self, imgs: Tensor, real: bool) -> None:
        """Take in images ``[b, 3, h, w]`` of one side."""
        self._take(imgs, real)

    def compute(self) -> Tensor:
        """The distance, a scalar."""
        return self._number(self._measured().value)


class KernelInceptionDistance(_Fed):
    """As ``torchmetrics.image.kid.KernelInceptionDistance``, with :attr:`error` and :attr:`result` besides.

    The subsets are drawn by a seed, and not from the global generator: the mean is that of other subsets.

    Args:
        feature: 64, 192, 768, 2048 or ``"logits_unbiased"`` of Inception; or a module from images to ``[b, d]``.
        subsets: how many are drawn.
        subset_size: rows of each set in a subset.
        degree: of the kernel.
        gamma: of the kernel, ``1 / d`` if not given.
        coef: of the kernel.
        reset_real_features: whether :meth:`reset` forgets the reference too.
        normalize: whether images are floats in [0, 1] instead of uint8.
        options: what else :class:`gen_eval.Monitor` takes.
        kwargs: as torchmetrics takes them.
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(
        self,
        feature: int | str | nn.Module = 2048,
        subsets: int = 100,
        subset_size: int = 1000,
        degree: int = 3,
        gamma: float | None = None,
        coef: float = 1.0,
        reset_real_features: bool = True,
        normalize: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _require_bools(reset_real_features=reset_real_features)
        params = {
            "subsets": subsets,
            "subset_size": subset_size,
            "degree": degree,
            "gamma": gamma,
            "coef0": coef,
        }
        for name, value in (("gamma", gamma), ("coef", coef)):
            if value is not None and value <= 0:
                raise UsageError(f"{name} is positive, found {value}")
        super().__init__("kid", feature, params, normalize=normalize, options=options, **kwargs)
        self.reset_real_features, self.subset_size = reset_real_features, subset_size

    def update(self, imgs: Tensor, real: bool) -> None:
        """Take in images ``[b, 3, h, w]`` of one side."""
        self._take(imgs, real)

    def compute(self) -> tuple[Tensor, Tensor]:
        """The mean over the subsets, and their spread (which is no error bar; :attr:`error` is).

        Raises:
            UsageError: if a set is smaller than a subset.
        """
        result = self._measured()
        fewest = min(info.n or 0 for info in result.sets.values())
        if fewest < self.subset_size:
            raise UsageError(
                f"subset_size is {self.subset_size}, and a set holds {fewest} images: feed more, or lower it"
            )
        return self._number(result.values["kid"]), self._number(result.values["std"])


class InceptionScore(_Fed):
    """As ``torchmetrics.image.inception.InceptionScore``, with :attr:`error` and :attr:`result` besides.

    Images are put into splits by a seed, and not by the global generator; and where the splits do not divide their
    number, by torch-fidelity's bounds.

    Args:
        feature: ``"logits_unbiased"``, or what else torchmetrics takes; or a module from images to ``[b, d]``.
        splits: how many.
        normalize: whether images are floats in [0, 1] instead of uint8.
        options: what else :class:`gen_eval.Monitor` takes, such as ``weights``: a file that has the classifier.
        kwargs: as torchmetrics takes them.
    """

    higher_is_better = True
    plot_lower_bound = 0.0

    def __init__(
        self,
        feature: int | str | nn.Module = "logits_unbiased",
        splits: int = 10,
        normalize: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            "inception-score", feature, {"splits": splits}, normalize=normalize, options=options, **kwargs
        )
        self.splits = splits

    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor]:
        """The score of one batch alone, as :meth:`compute` gives it; the batch is taken in besides.

        It goes through the network twice, and what was gathered is copied: to score no batches, call :meth:`update`.
        """
        before = None if self._monitor is None else self._monitor.state_dict()
        self.reset()
        self.update(imgs)
        found = self.compute()
        assert self._monitor is not None
        if before is not None:
            self._monitor.load_state_dict(before)
            self.update(imgs)
        return found

    def update(self, imgs: Tensor) -> None:
        """Take in images ``[b, 3, h, w]``."""
        self._take(imgs)

    def compute(self) -> tuple[Tensor, Tensor]:
        """The mean over the splits, and their spread (ddof 1; which is no error bar, :attr:`error` is)."""
        result = self._measured()
        unbiased = math.sqrt(self.splits / (self.splits - 1)) if self.splits > 1 else math.nan
        return self._number(result.value), self._number(result.values["std"] * unbiased)


def _require_bools(**arguments: object) -> None:
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise UsageError(f"{name} is true or false, found {value!r}")
