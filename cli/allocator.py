"""Make glibc keep freed memory for the next activation instead of handing it back to the system.

A convolutional network on the CPU frees and asks for the same large blocks again and again. By default
glibc maps each of them anew, and the page faults cost more than the arithmetic on some machines.
This is a decision for a whole process, so the command line takes it and the library does not.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of <malloc.h>


def keep_freed_memory() -> None:
    """Serve every block from the heap, and never shrink it. Does nothing where the C library is not glibc."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
