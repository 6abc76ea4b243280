"""The resize kernels that a :class:`gen_eval.spec.Resize` names.

How an image is resized moves FID by more than most models differ (Parmar et al. 2022, "On aliased
resizing"), so each kernel reproduces one convention of the field to the last bits of float32.
Kernels that run on tensors go with the network, on its device; the others run where images are decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gen_eval.errors import UnknownName, UsageError
from gen_eval.spec import Resize
from gen_eval.transfer import moved, stacked

Pixels = npt.NDArray[np.uint8]
Planes = npt.NDArray[Any]  # float32, or uint8 where the kernel rounds

# Numbers that a core keeps at hand. On one of a Xeon, bringing 64 x 64 pixels to 8 x 8 takes 8 to 24 us an image by
# groups of 8 and 28 to 41 us one by one; groups of 64 take longer again, up to 52 us.
_IN_CACHE = 8 * 3 * 64 * 64


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
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    grown = F.interpolate(padded, (size + 1, size + 1), mode="bilinear", align_corners=True)
    return grown[:, :, :size, :size]


def torch_bilinear(images: Tensor, size: int) -> Tensor:
    """``F.interpolate`` with half-pixel centres and no antialiasing, as pytorch-fid. Shapes as above."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def torch_bilinear_antialias(images: Tensor, size: int) -> Tensor:
    """The same with antialiasing, which widens the kernel where the image shrinks, as torchmetrics since 1.8."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def torch_bicubic_antialias(images: Tensor, size: int) -> Tensor:
    """The same, bicubic, as edm2 for DINOv2: it overshoots [0, 255], and is not clipped."""
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True)


def pil_bicubic(image: Pixels, shape: tuple[int, int]) -> Planes:
    """Pillow's antialiased bicubic on float channels, clipped but not rounded, as clean-fid.

    Args:
        image: ``[h, w, 3]`` uint8.
        shape: height and width of the output.

    Returns:
        ``[3, *shape]`` float32 in [0, 255].
    """
    if image.shape[:2] == shape:
        return _planes(image).astype(np.float32)
    out = np.empty((3, *shape), np.float32)
    for channel in range(3):
        plane = Image.fromarray(image[:, :, channel].astype(np.float32))
        out[channel] = np.asarray(plane.resize(shape[::-1], Image.Resampling.BICUBIC))
    return np.clip(out, 0, 255, out=out)


def pil_bilinear_uint8(image: Pixels, shape: tuple[int, int]) -> Planes:
    """Pillow's antialiased bilinear on the image itself, rounded to whole levels, as torchvision and timm."""
    return _pil_uint8(image, shape, Image.Resampling.BILINEAR)


def pil_bicubic_uint8(image: Pixels, shape: tuple[int, int]) -> Planes:
    """The same, bicubic: as torchvision, timm, dgm-eval and CMMD."""
    return _pil_uint8(image, shape, Image.Resampling.BICUBIC)


def _pil_uint8(image: Pixels, shape: tuple[int, int], resampling: Image.Resampling) -> Planes:
    if image.shape[:2] == shape:
        return _planes(image)
    return _planes(np.asarray(Image.fromarray(image).resize(shape[::-1], resampling)))


def _planes(image: Pixels) -> Pixels:
    """``[h, w, 3]`` to ``[3, h, w]``, in memory too."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


TENSOR_KERNELS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,
    "torch-bilinear": torch_bilinear,
    "torch-bilinear-antialias": torch_bilinear_antialias,
    "torch-bicubic-antialias": torch_bicubic_antialias,
}
PIXEL_KERNELS: dict[str, Callable[[Pixels, tuple[int, int]], Planes]] = {
    "pil-bicubic": pil_bicubic,
    "pil-bilinear-uint8": pil_bilinear_uint8,
    "pil-bicubic-uint8": pil_bicubic_uint8,
}
KERNELS = (*TENSOR_KERNELS, *PIXEL_KERNELS)
FITS = ("whole", "shorter", "square")


def prepare(image: Pixels, to: Resize) -> Tensor:
    """What is done to one decoded image on the CPU: all of the resize, or none of it.

    Args:
        image: ``[h, w, 3]`` uint8.
        to: the resize.

    Returns:
        ``[3, size, size]`` float32 or, of a kernel that rounds, uint8 for a pixel kernel; else the image itself.

    Raises:
        UnknownName: if there is no such kernel or fit.
        UsageError: if the kernel cannot do the fit, or more would be cut out than there is.
    """
    if to.kernel not in KERNELS:
        raise UnknownName("resize kernel", to.kernel, KERNELS)
    if to.fit not in FITS:
        raise UnknownName("fit of a resize", to.fit, FITS)
    if to.kernel in TENSOR_KERNELS:
        if to.fit != "whole" or to.scaled:
            raise UsageError(
                f"the resize kernel {to.kernel} squashes whole images: to cut use {list(PIXEL_KERNELS)}"
            )
        return torch.from_numpy(image)
    side = to.scaled or to.size
    if side < to.size:
        raise UsageError(f"a square of {to.size} cannot be cut out of an image resized to {side}")
    if to.fit == "square":
        image = _central_square(image)
    shape = _shorter_to(image.shape[:2], side) if to.fit == "shorter" else (side, side)
    resized = PIXEL_KERNELS[to.kernel](image, shape)
    # To even, as torchvision's centre crop does.
    top, left = (round((extent - to.size) / 2) for extent in shape)
    return torch.from_numpy(np.ascontiguousarray(resized[:, top : top + to.size, left : left + to.size]))


def _central_square(image: Pixels) -> Pixels:
    """As CMMD cuts it: an odd row or column too many goes from the end."""
    side = min(image.shape[:2])
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return image[top : top + side, left : left + side]


def _shorter_to(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width that keep the proportions, the longer side rounded down, as torchvision."""
    height, width = (int(side * extent / min(shape)) for extent in shape)
    return height, width


def finish(prepared: list[Tensor], to: Resize, device: torch.device) -> Tensor:
    """The rest of the resize: prepared images to one batch on the network's device.

    Returns:
        ``[b, 3, size, size]`` float32 in [0, 255].
    """
    if to.kernel in PIXEL_KERNELS:
        return stacked(prepared, device).float()
    kernel = TENSOR_KERNELS[to.kernel]
    out = torch.empty((len(prepared), 3, to.size, to.size), device=device, memory_format=torch.channels_last)
    for places in _together(prepared, to.size, device):
        images = stacked([prepared[place] for place in places], device).permute(0, 3, 1, 2).float()
        at_size = images.shape[2:] == (to.size, to.size)
        out.index_copy_(
            0, moved(torch.tensor(places), device), images if at_size else kernel(images, to.size)
        )
    return out


def _together(images: list[Tensor], size: int, device: torch.device) -> list[list[int]]:
    """Which images are resized at once: those of one shape, and on a CPU as many as stay in its cache."""
    groups: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape, []).append(place)
    if device.type != "cpu":
        return list(groups.values())
    parts = []
    for (height, width, channels), places in groups.items():
        most = max(1, _IN_CACHE // (channels * max(height * width, size * size)))
        parts += [places[start : start + most] for start in range(0, len(places), most)]
    return parts
