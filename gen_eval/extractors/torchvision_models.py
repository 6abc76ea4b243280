"""Any classifier of torchvision as an extractor, with the preprocessing that its weights were trained for."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName, WeightsError
from gen_eval.extractors.network import (
    Network,
    Normalize,
    classifier_weights,
    settle_normalize,
    settle_precision,
    settle_resize,
)
from gen_eval.extractors.published import fetch_published
from gen_eval.extractors.tensors import State, read_tensors
from gen_eval.progress import Progress, silent
from gen_eval.spec import Resize


def find(name: str) -> Callable[..., Network]:
    """Any classifier of torchvision, such as torchvision:resnet50 or torchvision:resnet50.IMAGENET1K_V1.

    Args:
        name: the model, by itself with torchvision's default weights or with ``.WEIGHTS``.

    Returns:
        Its loader: :func:`load` without the name.

    Raises:
        UnknownName: if torchvision has no such classifier or no such weights for it.
    """
    _published(name)
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
) -> Network:
    """A classifier of torchvision, with taps pool (what its last layer reads) and logits.

    Args:
        name: as :func:`find` takes it.
        weights: a local state dict; by default the file of torchvision is found in the cache or fetched.
        taps: the taps that will be asked for.
        resize: another kernel, or another resize to the same size, than the weights were trained for.
        normalize: another normalisation, a name in :data:`gen_eval.extractors.network.NORMALIZATIONS`.
        device: where the network runs.
        offline: never touch the network; by default as the environment says.
        progress: not told: torchvision's files come in one piece.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.

    Raises:
        UnknownName: if a name is unknown.
        FetchError: if the weights can be had from nowhere.
        WeightsError: if the file is not this network.
    """
    published = _published(name)
    transform = published.transforms()
    (size,), (scaled,) = transform.crop_size, transform.resize_size
    own = Resize(size, f"pil-{transform.interpolation.value}-uint8", "shorter", scaled)
    # What is refused is refused before anything is fetched in vain.
    to = settle_resize(resize, own)
    normalization = settle_normalize(normalize, Normalize(tuple(transform.mean), tuple(transform.std)))
    settle_precision(precision, torch.device(device))
    builder, classes = name.partition(".")[0], len(published.meta["categories"])
    path = fetch_published(published.url, offline=offline) if weights is None else Path(weights)
    model = _build(builder, published, read_tensors(path))
    head_name, head = _head(model, classes)
    extractor = Network(
        f"torchvision:{builder}",
        partial(_forward, model.to(device), head),
        taps={"pool": head.weight.shape[1], "logits": classes},
        weights=classifier_weights(model.state_dict(), head_name),
        resize=to,
        normalize=normalization,
        device=device,
        precision=precision,
    )
    for tap in taps:
        extractor.spec(tap)
    return extractor


def load_vgg16(*, resize: str | Resize | None = None, **options: Any) -> Network:
    """VGG16 behind TensorFlow's resize, pool is fc2 after ReLU: precision and recall of torch-fidelity.

    Options as :func:`load`'s.
    """
    to = settle_resize(resize, Resize(224, "tf1-bilinear"))
    return load("vgg16.IMAGENET1K_V1", resize=to, **options)


def _published(name: str) -> Any:
    """The member of torchvision's weights enumeration that a name stands for."""
    from torchvision import models

    model, _, wanted = name.partition(".")
    known = models.list_models(module=models)
    if model not in known:
        raise UnknownName("torchvision classifier", model, known)
    members = models.get_model_weights(model).__members__
    # Some weights are those of a trunk alone.
    weights = {member: value for member, value in members.items() if value.meta["categories"]}
    if (wanted or "DEFAULT") not in weights:
        raise UnknownName(f"weights of torchvision's {model}", wanted, weights)
    return weights[wanted or "DEFAULT"]


def _build(builder: str, published: Any, state: State) -> nn.Module:
    """The network with these tensors, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):  # initial values are drawn, and written over
        model = architecture(builder, published)
    try:
        model.load_state_dict(_modern(state, builder))
    except RuntimeError as error:
        raise WeightsError(f"these are not the weights of torchvision's {builder}: {error}") from error
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # heads that help in training alone
        if hasattr(model, auxiliary):
            setattr(model, auxiliary, None)
    return model.eval().requires_grad_(False)


def architecture(builder: str, published: Any) -> nn.Module:
    """The network as torchvision builds it for a member of a weights enumeration, with initial values."""
    from torchvision import models

    options: dict[str, Any] = {"num_classes": len(published.meta["categories"])}
    if builder.startswith("vit_"):
        options["image_size"] = published.meta["min_size"][0]
    if builder in ("googlenet", "inception_v3"):
        # Their trunks read pixels of another range than the transform gives, and turn the one into the other.
        options |= {"aux_logits": True, "init_weights": False, "transform_input": True}
    model: nn.Module = models.get_model(builder, weights=None, **options)
    return model


def _modern(state: State, builder: str) -> State:
    """The state as today's code reads it: the published files of DenseNet are older, MNASNet asks for a version."""
    if builder.startswith("densenet"):
        return {re.sub(r"(norm|conv)\.([12])\.", r"\1\2.", name): value for name, value in state.items()}
    versioned = OrderedDict(state)
    versioned._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    return versioned


def _head(model: nn.Module, classes: int) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last layer and its name: linear, but for SqueezeNet, where it is a convolution."""
    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    return next((name, layer) for name, layer in reversed(layers) if len(layer.weight) == classes)


def _forward(model: nn.Module, head: nn.Module, x: Tensor, taps: Collection[str]) -> Mapping[str, Tensor]:
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = model(x.contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    (pool,) = seen
    return {"pool": pool.mean((2, 3)) if pool.ndim == 4 else pool, "logits": logits}
