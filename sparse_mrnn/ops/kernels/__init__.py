"""Compiled CPU kernels (numba, the extra ``fast``); used where numba is installed.

A kernel file imports numba when it is imported itself, by `load`, on first use: numba takes longer to import
than torch. Arrays are C-contiguous and of one dtype. ``fastmath`` keeps NaN and infinities, so a net that
diverges is seen to.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from functools import cache
from typing import Any

import torch

_has_pool = False  # OpenMP or MKL had threads (which Python does not know of) when this process forked last
_forked = False  # this process was forked from such a process


@cache
def load(name: str) -> Any:
    """The kernel file of a name, or None without numba.

    Examples
    --------
    >>> load("sddmm") is None or load("sddmm").__name__
    'sparse_mrnn.ops.kernels.sddmm'
    """
    if importlib.util.find_spec("numba") is None:
        return None
    return importlib.import_module(f"sparse_mrnn.ops.kernels.{name}")


def may_use_threads() -> bool:
    """Let compiled loops have as many threads as torch has; return False in a process that cannot use any.

    Threads do not survive a fork. In a process forked from one with threads (a worker of a ``DataLoader`` or
    of a ``Pool``), GNU's OpenMP ends the process at its first loop, and torch's own loops wait for ever. Such
    a process computes on one thread.
    """
    if _forked:
        return False
    numba = _numba()
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    return True


def _before_fork() -> None:
    global _has_pool
    try:
        _has_pool = len(os.listdir("/proc/self/task")) > threading.active_count()
    except OSError:  # not Linux
        _has_pool = False


def _after_fork() -> None:
    global _forked
    if _has_pool:
        _forked = True
        torch.set_num_threads(1)


if sys.platform != "win32":  # which has no fork
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


@cache
def _numba() -> Any:
    """numba with its threads started, which makes OpenMP's, and so torch's, as many as there are cores."""
    numba = importlib.import_module("numba")
    threads = torch.get_num_threads()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return numba
