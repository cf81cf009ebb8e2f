"""Loop: a compiled loop in two forms, over threads and on one thread."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any

from numba import njit
from torch import Tensor

from sparse_mrnn.ops.kernels import may_use_threads

SERIAL_WORK = 2**15
"""Multiplications up to which one thread is used: waking another takes as long."""


PARTS = 64
"""Parts of equal work that the rows of a CSR matrix are divided into for the threads."""


@njit(cache=True)
def row_of_work(crow, work):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the first row that so much work is done before; an entry is 1, and so is a row."""
    low, high = 0, len(crow) - 1
    while low < high:
        middle = (low + high) // 2
        if crow[middle] + middle < work:
            low = middle + 1
        else:
            high = middle
    return low


class Loop:
    """A function with a ``prange`` loop, compiled over threads and for one thread, each on its first use.

    It is called with tensors; `of` returns the compiled function, which takes arrays. ``fastmath`` is that of
    ``numba.njit``.
    """

    def __init__(self, function: Any, fastmath: set[str] | None = None) -> None:
        serial = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_serial")
        serial.__qualname__ = f"{function.__qualname__}_serial"  # numba's cache on disk goes by this name
        serial.__module__ = function.__module__
        options: dict[str, Any] = {"cache": True, "fastmath": fastmath or False}
        self.serial: Callable[..., Any] = njit(**options)(serial)
        self.threaded: Callable[..., Any] = njit(parallel=True, **options)(function)
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run on tensors of the CPU; the largest has as many entries as there are multiplications."""
        work = max(a.numel() for a in arguments if isinstance(a, Tensor))
        return self.of(work)(*(a.numpy() if isinstance(a, Tensor) else a for a in arguments))

    def of(self, work: int) -> Callable[..., Any]:
        """Return the form for so many multiplications, with as many threads as torch has."""
        return self.threaded if work > SERIAL_WORK and may_use_threads() else self.serial


def loop(fastmath: set[str] | None = None) -> Callable[[Any], Loop]:
    """Decorate a function to make a `Loop` of it."""
    return lambda function: Loop(function, fastmath)
