"""The process: how idle threads wait, its memory, and what it gives back to the system.

Importing this module sets how threads wait, which has an effect only before torch is imported.

Between two parallel loops OpenMP's threads spin, and sleep only after a while: in GNU's OpenMP, which
torch's Linux wheels and numba use, after 300,000 turns, some milliseconds. A thread that spins takes its
core from the thread of another process, or of the same one, that all are waiting for. 3,000 turns, some 0.1
ms, last as long as most gaps between the loops of a time step and cost a few percent on an idle machine
(docs/decisions/0023-waiting-threads.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

import psutil

SPIN_COUNT = "3000"
CHOSEN_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables that say how threads wait: where one is set, nothing is changed."""


def set_policy() -> str:
    """Choose how idle threads wait, for this process and those it starts; what was done, for a person.

    Examples
    --------
    >>> import torch
    >>> set_policy().partition(":")[0]
    'left as it is'
    """
    chosen = [f"{name}={os.environ[name]}" for name in CHOSEN_BY_USERS if name in os.environ]
    if chosen:
        return f"left as it is: {', '.join(chosen)}"
    if sys.modules.get("torch") is not None:
        return "left as it is: torch was imported first"
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    return f"GOMP_SPINCOUNT={SPIN_COUNT}, chosen by sparse-mrnn"


POLICY = set_policy()
"""Policy that was set when this process imported the package."""


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
