"""Arithmetic that does not depend on what the caller has switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

# What a network may be asked to compute in; anything but fp32 makes other features.
PRECISIONS = (
    "fp32",  # float32, each product and sum of it
    "tf32",  # on CUDA, products of float32 rounded to 10 bits of mantissa
    "bf16",  # products of bfloat16, summed in float32; what is sensitive to it (norms, softmax) stays float32
)


@contextmanager
def arithmetic(precision: str, device_type: str) -> Iterator[None]:
    """Compute in one of :data:`PRECISIONS`, whatever the caller has in force."""
    # Only the switches of precision are touched: `torch.backends.cudnn.flags` would turn cuDNN off as well.
    by_operation = hasattr(torch.backends, "fp32_precision")
    restore = (_switch_by_operation if by_operation else _switch)(tf32=precision == "tf32")
    products = torch.backends.cuda.matmul
    in_bf16 = products.allow_bf16_reduced_precision_reduction  # sums of parts of a product
    products.allow_bf16_reduced_precision_reduction = False
    try:
        with torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        products.allow_bf16_reduced_precision_reduction = in_bf16
        restore()


def full_precision(device_type: str) -> AbstractContextManager[None]:
    """float32 means float32: no autocast, no TF32, no reduced-precision matrix products."""
    return arithmetic("fp32", device_type)


def _switch_by_operation(*, tf32: bool) -> Callable[[], None]:
    """From torch 2.9, which refuses to read the older switches once a caller has used the newer ones."""
    backends: Any = torch.backends  # their types lag behind
    on_cuda, on_cpu = (
        (backends.cuda.matmul, backends.cudnn.conv),
        (backends.mkldnn.matmul, backends.mkldnn.conv),
    )
    before = [(owner, owner.fp32_precision) for owner in (*on_cuda, *on_cpu)]

    def restore() -> None:
        for owner, precision in before:
            owner.fp32_precision = precision

    for owner in on_cuda:
        owner.fp32_precision = "tf32" if tf32 else "ieee"
    for owner in on_cpu:
        owner.fp32_precision = "ieee"
    return restore


def _switch(*, tf32: bool) -> Callable[[], None]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    def restore() -> None:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions

    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    return restore
