"""Event-driven product: skip silent source units (numba, the extra ``fast``).

Where few units are active (relu), most columns of W multiply zeros. Over a column-wise (CSC) copy, cut into bands of
rows so that threads never write to the same place, only the columns of active units are read: cost is proportional to
their synapses. A row always adds its sources in the same order, so the result does not depend on the thread count.
Above `MOST` of the synapses active, the row-wise product is faster and takes over; which one runs depends on the
activity alone, so a run can be repeated and resumed exactly (docs/decisions/0015).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops.backends.csr import CsrOperator, CsrProduct
from sparse_mrnn.ops.compiled import use_torch_threads
from sparse_mrnn.ops.pattern import Pattern

MOST = 0.3
"""Largest fraction of synapses with an active source for which columns are faster than rows; measured."""
FEWEST = 300_000
"""Synapses below which a product is so short that the switch costs more than it gains; measured."""
NARROW = 2**16
"""Rows a band may have for two-byte row numbers."""


class EventProduct(CsrProduct):
    """A CSR product of one trial that skips silent sources; equal to `CsrProduct` up to rounding.

    The column-wise copy (6 or 8 bytes a synapse in float32) is made when activity first is sparse enough.
    """

    def __init__(self, operator: CsrOperator, values: Tensor) -> None:
        super().__init__(operator, values)
        pattern = operator.pattern
        self.kernels = _kernels()
        self.columns: tuple[Any, ...] | None = None
        self.active = np.empty(pattern.shape[1] + 1, dtype=np.int32)
        self.fan_out = np.bincount(pattern.col.numpy(), minlength=pattern.shape[1]).astype(np.int32)

    def add_to(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        """As `CsrProduct.add_to`, in place only (``out`` is ``y``)."""
        sources = h.numpy()[:, 0]
        count = self.kernels[0](sources, self.fan_out, self.active, MOST * self.pattern.nnz)
        if count < 0:
            super().add_to(y, h, beta=beta, alpha=alpha, out=out)
            return
        if self.columns is None:
            self.columns = by_column(self.pattern, self.values)
        scale = sources.dtype.type
        self.kernels[1](*self.columns, self.active[:count], sources, out.numpy()[:, 0], scale(beta), scale(alpha))


def events_pay(pattern: Pattern, batch: int, device: torch.device) -> bool:
    """Whether `EventProduct` is available for a product and could make it faster."""
    fits = pattern.nnz >= FEWEST and pattern.col.dtype == torch.int32
    return fits and batch == 1 and device.type == "cpu" and importlib.util.find_spec("numba") is not None


def by_column(pattern: Pattern, values: Tensor) -> tuple[Any, ...]:
    """(band limits, column pointers per band, rows within the band, values): one CSC matrix per band of rows."""
    rows, columns = pattern.shape
    bands = max(2, torch.get_num_threads())
    limits = np.linspace(0, rows, bands + 1).astype(np.int64)
    narrow = int(np.diff(limits).max()) <= NARROW
    crow, col, value = pattern.crow.numpy(), pattern.col.numpy(), values.numpy()
    pointers = np.zeros((bands, columns + 1), dtype=np.int64)
    row_of = np.empty(len(col), dtype=np.uint16 if narrow else np.int32)
    sorted_values = np.empty(len(col), dtype=value.dtype)
    _kernels()[2](limits, crow, col, value, pointers, row_of, sorted_values)
    return limits, pointers, row_of, sorted_values


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Collect active sources; multiply their columns; build the columns."""
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(cache=True)  # type: ignore[untyped-decorator]
    def collect(h, fan_out, active, most):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        work = 0
        for j in range(len(h)):  # != 0 is also true for NaN, which must spread
            work += fan_out[j] if h[j] != 0 else 0
        if work > most:
            return -1
        count = 0
        for j in range(len(h)):
            active[count] = j  # overwritten by the next one unless it is active
            count += h[j] != 0
        return count

    @numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
    def multiply(limits, pointers, row_of, values, active, h, y, beta, alpha):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        for band in prange(len(limits) - 1):
            out = y[limits[band] : limits[band + 1]]
            pointer = pointers[band]
            if beta == 0:
                out[:] = 0
            elif beta != 1:
                for i in range(len(out)):
                    out[i] *= beta
            for k in range(len(active)):
                j = active[k]
                scaled = alpha * h[j]
                for e in range(pointer[j], pointer[j + 1]):
                    out[row_of[e]] += values[e] * scaled

    @numba.njit(cache=True)  # type: ignore[untyped-decorator]
    def build(limits, crow, col, values, pointers, row_of, sorted_values):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        start = 0
        for band in range(len(limits) - 1):
            pointer = pointers[band]
            first, last = limits[band], limits[band + 1]
            for e in range(crow[first], crow[last]):
                pointer[col[e] + 1] += 1
            pointer[0] = start
            for j in range(len(pointer) - 1):
                pointer[j + 1] += pointer[j]
            place = pointer[:-1].copy()
            for i in range(first, last):
                for e in range(crow[i], crow[i + 1]):
                    at = place[col[e]]
                    place[col[e]] = at + 1
                    row_of[at] = i - first
                    sorted_values[at] = values[e]
            start = pointer[-1]

    def threaded(*args: Any) -> None:
        use_torch_threads()
        multiply(*args)

    return collect, threaded, build
