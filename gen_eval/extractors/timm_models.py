"""Any model of timm as an extractor, and those of its models that evaluation knows by short names."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_eval.errors import FetchError, UnknownName, UsageError, WeightsError
from gen_eval.extractors.network import (
    Network,
    Normalize,
    classifier_weights,
    settle_normalize,
    settle_precision,
    settle_resize,
)
from gen_eval.extractors.published import OFF, fetch_published, unavailable
from gen_eval.extractors.tensors import State, read_tensors
from gen_eval.fetch import is_offline
from gen_eval.precision import full_precision
from gen_eval.progress import Progress, silent
from gen_eval.spec import Resize

_FILE = "model.safetensors"
_DINOV2, _DINOV2_SIZE = "vit_large_patch14_dinov2.lvd142m", 224
_CLIP = "vit_large_patch14_clip_quickgelu_336.openai"


def _leave(model: Any) -> None:
    return None


@dataclass(frozen=True)
class Variant:
    """What sets a network apart from the model of timm that it is made of.

    Args:
        title: what it is called in specs, in place of timm's name.
        resize: in place of that of timm.
        adapt: what is done to the model once it has its weights.
        projected: whether ``pool`` is the output of the model, and no other tap is had.
    """

    title: str | None = None
    resize: Resize | None = None
    adapt: Callable[[Any], None] = _leave
    projected: bool = False


PLAIN = Variant()


def find(name: str) -> Callable[..., Network]:
    """Any model of timm, such as timm:convnext_tiny.fb_in1k, with its own preprocessing.

    Args:
        name: the model as timm lists it, with or without the tag of its weights.

    Returns:
        Its loader: :func:`load` without the name.

    Raises:
        UnknownName: if timm has no such model.
        UsageError: if timm is not installed.
    """
    timm = import_timm()
    known = {*timm.list_models(), *timm.list_pretrained()}
    if name not in known:
        nearest = get_close_matches(name, known, n=8, cutoff=0.3)
        raise UnknownName(f"timm model (of {len(known)}, the nearest are listed)", name, nearest)
    return partial(load, name)


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    taps: Collection[str] = ("pool",),
    resize: str | Resize | None = None,
    normalize: str | Normalize | None = None,
    device: torch.device | str = "cpu",
    offline: bool | None = None,
    progress: Progress = silent,
    precision: str = "fp32",
    variant: Variant = PLAIN,
) -> Network:
    """A model of timm, with taps pool (before the classifier) and, where it has a classifier, logits.

    Args:
        name: as :func:`find` takes it.
        weights: a local file in a layout that timm knows; by default that of the Hugging Face hub.
        taps: the taps that will be asked for.
        resize: another kernel, or another resize to the same size, than the weights were trained for.
        normalize: another normalisation, a name in :data:`gen_eval.extractors.network.NORMALIZATIONS`.
        device: where the network runs.
        offline: never touch the network; by default as the environment says.
        progress: not told: the hub's files come in one piece.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.
        variant: what sets the network apart from timm's; nothing, by default.

    Raises:
        UsageError: if timm is not installed, or the model wants a preprocessing that is not to be had here.
        FetchError: if the weights can be had from nowhere.
        WeightsError: if the file is not this network.
    """
    own = own_resize(name)  # refuses before anything is fetched in vain, as the rest does here
    to = settle_resize(resize, variant.resize or own)
    normalization = settle_normalize(normalize, own_normalize(name))
    settle_precision(precision, torch.device(device))
    model = build(name, read_tensors(_fetch(name, offline) if weights is None else Path(weights)))
    variant.adapt(model)
    return wrap(
        variant.title or f"timm:{_full_name(model)}",
        model,
        taps,
        resize=to,
        normalize=normalization,
        device=device,
        precision=precision,
        projected=variant.projected,
    )


def load_dinov2(**options: Any) -> Network:
    """DINOv2 ViT-L/14 at 224 pixels, the class token: FD-DINOv2 as dgm-eval measures it.

    Oquab et al. 2023, arXiv:2304.07193; Stein et al. 2023, arXiv:2306.04675. Options as :func:`load`'s.
    """
    variant = Variant("dinov2", Resize(_DINOV2_SIZE, "pil-bicubic-uint8"), adapt=_to_dinov2_size)
    return load(_DINOV2, variant=variant, **options)


def load_clip(**options: Any) -> Network:
    """CLIP ViT-L/14 at 336 pixels, the projected image embedding, not normalised: what CMMD reads.

    Radford et al. 2021, arXiv:2103.00020; Jayasumana et al. 2024, arXiv:2401.09603. Options as :func:`load`'s.
    """
    variant = Variant("clip", Resize(336, "pil-bicubic-uint8", "square"), projected=True)
    return load(_CLIP, variant=variant, **options)


def import_timm() -> Any:
    """The package timm, which comes with an extra.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(
            f'this extractor needs the package timm ({error}): pip install "gen_eval[timm]"'
        ) from error


def build(name: str, state: State) -> Any:
    """A model of timm with these tensors, in evaluation mode; timm converts the layouts that it knows.

    Raises:
        WeightsError: if they do not fit.
    """
    timm = import_timm()
    try:
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and written over
            model = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}
            )
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"these are not the weights of timm's {name}: {error}") from error
    model.pretrained_cfg["state_dict"] = None  # else every tensor is held twice
    return model.eval().requires_grad_(False)


def own_resize(name: str) -> Resize:
    """The resize that a model's weights were trained for.

    Raises:
        UsageError: if it is none that can be had here.
    """
    config = _config(name)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width or config["crop_mode"] == "border":
        raise UsageError(
            f"timm's {name} takes {channels} x {height} x {width} with crop mode {config['crop_mode']}: only square "
            "colour images, squashed or cut, are to be had here. Wrap it as gen_eval.extractors.Custom."
        )
    fit = "whole" if config["crop_mode"] == "squash" else "shorter"
    scaled = math.floor(height / config["crop_pct"])
    return Resize(height, f"pil-{config['interpolation']}-uint8", fit, scaled)


def own_normalize(name: str) -> Normalize:
    """The normalisation that a model's weights were trained for."""
    config = _config(name)
    return Normalize(tuple(config["mean"]), tuple(config["std"]))


def wrap(
    name: str,
    model: Any,
    taps: Collection[str],
    *,
    resize: Resize,
    normalize: Normalize,
    device: torch.device | str,
    precision: str,
    projected: bool = False,
) -> Network:
    """A model of timm as an extractor.

    Args:
        name: what it is called in specs.
        model: as :func:`build` gives it.
        taps: the taps that will be asked for.
        resize: how images reach the input size.
        normalize: what is done to pixels first.
        device: where the network runs.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.
        projected: whether ``pool`` is the output of the model, and no other tap is had.
    """
    heads = model.pretrained_cfg.get("classifier") or ()
    weights = classifier_weights(model.state_dict(), *([heads] if isinstance(heads, str) else heads))
    if projected:
        weights = {"pool": weights["logits"]}
    elif not model.num_classes:
        del weights["logits"]
    forward = partial(_forward, model.to(device), projected)
    with torch.inference_mode(), full_precision(torch.device(device).type):
        features = forward(torch.zeros((1, 3, resize.size, resize.size), device=device), tuple(weights))
    for tap, values in features.items():
        if values.ndim != 2:
            raise UsageError(f"{name} has features of shape {list(values.shape)} at {tap}: expected [b, d]")
    extractor = Network(
        name,
        forward,
        taps={tap: features[tap].shape[1] for tap in weights},
        weights=weights,
        resize=resize,
        normalize=normalize,
        device=device,
        precision=precision,
    )
    for tap in taps:
        extractor.spec(tap)
    return extractor


def _full_name(model: Any) -> str:
    """With the tag of the weights, so that a model has one name whichever way it was asked for."""
    config = model.pretrained_cfg
    return ".".join(filter(None, (config["architecture"], config["tag"])))


def _config(name: str) -> dict[str, Any]:
    """What timm's own transform is made from."""
    published = import_timm().get_pretrained_cfg(name, allow_unregistered=False)
    resolve = importlib.import_module("timm.data").resolve_data_config
    config: dict[str, Any] = resolve({}, pretrained_cfg=published.to_dict() if published else {})
    return config


def _forward(model: Any, projected: bool, x: Tensor, taps: Collection[str]) -> Mapping[str, Tensor]:
    features = model.forward_features(x.contiguous(memory_format=torch.channels_last))
    if projected:
        return {"pool": model.forward_head(features)}
    out = {}
    if "pool" in taps:
        out["pool"] = model.forward_head(features, pre_logits=True)
    if "logits" in taps:
        out["logits"] = model.forward_head(features)
    return out


def _to_dinov2_size(model: Any) -> None:
    grid = _DINOV2_SIZE // model.patch_embed.patch_size[0]
    positions = _shrink(model.pos_embed.data, grid)
    model.set_input_size(img_size=(_DINOV2_SIZE, _DINOV2_SIZE))
    model.pos_embed = nn.Parameter(positions, requires_grad=False)


def _shrink(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings for a smaller grid, as DINOv2's own code does it: bicubic, by a factor that is .1 too large.

    timm resizes them with antialiasing, which moves every feature.

    Args:
        positions: ``[1, 1 + n * n, d]``, the class token's first.
        grid: the new n.
    """
    token, patches = positions[:, :1], positions[:, 1:]
    side = math.isqrt(patches.shape[1])
    planes = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = (grid + 0.1) / side
    smaller = F.interpolate(planes, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return torch.cat([token, smaller.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def _fetch(name: str, offline: bool | None) -> Path:
    """The weights file of a model, from the cache of the Hugging Face hub or fetched into it."""
    config = import_timm().get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or not (config.hf_hub_id or config.url):
        raise FetchError(
            f"timm publishes no weights of {name}: name a file with --weights FILE (weights=FILE)"
        )
    if not config.hf_hub_id:
        return fetch_published(config.url, offline=offline)
    hub = importlib.import_module("huggingface_hub")
    file = config.hf_hub_filename or _FILE
    reason = OFF
    # Once here a file is not asked for again: the hub may be gone, and must not be waited for.
    for local in (True,) if is_offline(offline) else (True, False):
        try:
            return Path(hub.hf_hub_download(config.hf_hub_id, file, local_files_only=local))
        except (OSError, ValueError) as error:
            if not local:
                reason = str(error)
    raise unavailable(name, f"https://huggingface.co/{config.hf_hub_id}/{file}", reason)
