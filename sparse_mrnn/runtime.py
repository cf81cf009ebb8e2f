"""The memory of the process, and what it gives back to the system."""

from __future__ import annotations

import ctypes
import sys

import psutil


def release_unused_memory() -> None:
    """Give freed memory back that the C library and pyarrow keep for later.

    After reading and lowering a large connectome that is a third of a process, in pieces that a training step
    cannot use. Does nothing where the C library cannot (it is glibc's ``malloc_trim``).

    Examples
    --------
    >>> release_unused_memory()
    """
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def resident_memory() -> int:
    """Resident memory of this process, bytes."""
    return int(psutil.Process().memory_info().rss)


def free_memory() -> int:
    """Memory that processes can have before the system swaps, bytes."""
    return int(psutil.virtual_memory().available)
