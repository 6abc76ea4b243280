"""The resize kernels that a :class:`gen_eval.spec.Resize` names.

How an image is resized moves FID by more than most models differ (Parmar et al. 2022, "On aliased
resizing"), so each kernel reproduces one convention of the field to the last bits of float32.
Kernels that run on tensors go with the network, on its device; the others run where images are decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gen_eval.errors import UnknownName

Pixels = npt.NDArray[np.uint8]


def tf1_bilinear(images: Tensor, size: int) -> Tensor:
    """TensorFlow 1's ``ResizeBilinear``: output pixel i reads source position i * in / out.

    One replicated row and column turn that grid into one with aligned corners, for which torch has a
    fast kernel; the extra output row and column are dropped.

    Args:
        images: ``[b, 3, h, w]`` float32 in [0, 255].
        size: side of the output.

    Returns:
        ``[b, 3, size, size]`` float32, unrounded.
    """
    if images.shape[-2:] == (size, size):
        return images
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    grown = F.interpolate(padded, (size + 1, size + 1), mode="bilinear", align_corners=True)
    return grown[:, :, :size, :size]


def torch_bilinear(images: Tensor, size: int) -> Tensor:
    """``F.interpolate`` with half-pixel centres and no antialiasing, as pytorch-fid. Shapes as above."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def pil_bicubic(image: Pixels, size: int) -> npt.NDArray[np.float32]:
    """Pillow's antialiased bicubic on float channels, clipped but not rounded, as clean-fid.

    Args:
        image: ``[h, w, 3]`` uint8.
        size: side of the output.

    Returns:
        ``[3, size, size]`` float32 in [0, 255].
    """
    out = np.empty((3, size, size), np.float32)
    for channel in range(3):
        plane = Image.fromarray(image[:, :, channel].astype(np.float32))
        out[channel] = np.asarray(plane.resize((size, size), Image.Resampling.BICUBIC))
    return np.clip(out, 0, 255, out=out)


TENSOR_KERNELS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,
    "torch-bilinear": torch_bilinear,
}
PIXEL_KERNELS: dict[str, Callable[[Pixels, int], npt.NDArray[np.float32]]] = {
    "pil-bicubic": pil_bicubic,
}
KERNELS = (*TENSOR_KERNELS, *PIXEL_KERNELS)


def prepare(image: Pixels, size: int, kernel: str) -> Tensor:
    """What is done to one decoded image on the CPU: all of the resize, or none of it.

    Returns:
        ``[3, size, size]`` float32 for a pixel kernel, else the image itself, ``[h, w, 3]`` uint8.
    """
    if kernel in PIXEL_KERNELS:
        return torch.from_numpy(PIXEL_KERNELS[kernel](image, size))
    if kernel in TENSOR_KERNELS:
        return torch.from_numpy(image)
    raise UnknownName("resize kernel", kernel, KERNELS)


def finish(prepared: list[Tensor], size: int, kernel: str, device: torch.device) -> Tensor:
    """The rest of the resize: prepared images to one batch on the network's device.

    Returns:
        ``[b, 3, size, size]`` float32 in [0, 255].
    """
    if kernel in PIXEL_KERNELS:
        return torch.stack(prepared).to(device)
    resize = TENSOR_KERNELS[kernel]
    out = torch.empty((len(prepared), 3, size, size), device=device, memory_format=torch.channels_last)
    for place, image in enumerate(prepared):
        planes = image.to(device).permute(2, 0, 1)[None].float()
        out[place] = resize(planes, size)[0]
    return out
