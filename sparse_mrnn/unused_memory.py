"""Gives memory that building a network has freed back to the system."""

from __future__ import annotations

import ctypes
import sys


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
