"""Pipelines of Hugging Face diffusers as generators: from seeds to images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_eval.errors import ImagesError, UsageError
from gen_eval.images.floats import FloatRange


def from_pipeline(
    pipeline: Any,
    *,
    prompts: Sequence[str] | None = None,
    class_labels: Sequence[int] | None = None,
    **options: Any,
) -> Callable[[Tensor], Tensor]:
    """A pipeline as a callable from seeds to images, for ``gen_eval.evaluate(generated=..., n=...)``.

    Each image has a generator of its own, seeded with its seed alone, so image i is the same however many are made
    together, but for the rounding of the network. The pipeline's floats become 8 bits as its own ``numpy_to_pil`` makes
    them, to the nearest level.

    Args:
        pipeline: any that takes ``generator`` and ``output_type`` and returns ``images``, such as ``DDPMPipeline``.
        prompts: of a pipeline that takes one: image i gets ``prompts[seed % len(prompts)]``.
        class_labels: of a pipeline by class, such as ``DiTPipeline``, dealt out in the same way.
        options: passed on, such as ``num_inference_steps``.

    Returns:
        From int64 seeds ``[b]`` to uint8 images ``[b, h, w, c]``.

    Raises:
        UsageError: if prompts are one text, or none; if there are no labels, or prompts beside them; if the pipeline
            takes what it is asked for in another way.
        ImagesError: by the callable, if the pipeline returns something else than floats in [0, 1].
    """
    if prompts is not None and (isinstance(prompts, str) or not len(prompts)):
        raise UsageError(f"prompts are a list of one text or more, found {prompts!r}")
    if class_labels is not None and (prompts is not None or not len(class_labels)):
        raise UsageError(f"class_labels are one number or more, without prompts, found {class_labels!r}")
    floats, name = FloatRange(0, 1), type(pipeline).__name__
    argument: str = "batch_size"
    dealt: Sequence[Any] | None = None
    if prompts is not None:
        argument, dealt = "prompt", prompts
    elif class_labels is not None:
        argument, dealt = "class_labels", class_labels
    _require_taken(pipeline, argument)

    def sample(seeds: Tensor) -> Tensor:
        # On the CPU, so that one seed is one image on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds.tolist()]
        told = len(generators) if dealt is None else [dealt[seed % len(dealt)] for seed in seeds.tolist()]
        images = pipeline(generator=generators, output_type="np", **{argument: told}, **options).images
        if not isinstance(images, np.ndarray):
            raise ImagesError(
                f"{name} returned images as {type(images).__name__}, where output_type='np' asks "
                "for a NumPy array [b, h, w, c]"
            )
        if images.ndim != 4 or len(images) != len(generators):
            raise ImagesError(
                f"{name} returned images of shape {list(images.shape)} for {len(generators)} seeds"
            )
        return floats.to_uint8(torch.from_numpy(images))

    sample.__name__ = name
    return sample


def _require_taken(pipeline: Any, argument: str) -> None:
    parameters = inspect.signature(type(pipeline).__call__).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if argument not in parameters and not anything:
        raise UsageError(
            f"{type(pipeline).__name__} takes no {argument}: give it prompts= or class_labels=, as it takes them, or "
            "measure a function of your own from seeds to uint8 images"
        )
