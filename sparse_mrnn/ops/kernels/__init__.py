"""Compiled CPU kernels (numba, the extra ``fast``), one a file; used where numba is installed.

A kernel file imports numba when it is imported itself, by `load`, on first use: numba takes longer to import
than torch. Arrays are C-contiguous and of one dtype. ``fastmath`` keeps NaN and infinities, so a net that
diverges is seen to.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import torch


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


def use_torch_threads() -> None:
    """Let compiled kernels have as many threads as torch has."""
    numba = _numba()
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


@cache
def _numba() -> Any:
    """numba with its threads started, which makes OpenMP's, and so torch's, as many as there are cores."""
    numba = importlib.import_module("numba")
    threads = torch.get_num_threads()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return numba
