"""Arithmetic that does not depend on what the caller has switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """float32 means float32: no autocast, no TF32, no reduced-precision matrix products."""
    # Only the switches of precision are touched: `torch.backends.cudnn.flags` would turn cuDNN off as well.
    by_operation = hasattr(torch.backends, "fp32_precision")
    restore = _exact_by_operation() if by_operation else _exact()
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        restore()


def _exact_by_operation() -> Callable[[], None]:
    """From torch 2.9, which refuses to read the older switches once a caller has used the newer ones."""
    backends: Any = torch.backends  # their types lag behind
    owners = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [owner.fp32_precision for owner in owners]

    def restore() -> None:
        for owner, precision in zip(owners, before, strict=True):
            owner.fp32_precision = precision

    for owner in owners:
        owner.fp32_precision = "ieee"
    return restore


def _exact() -> Callable[[], None]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    def restore() -> None:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    return restore
