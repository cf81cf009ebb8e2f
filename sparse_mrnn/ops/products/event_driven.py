"""Backend "event_driven": a CSR product that skips silent sources, for simulation (numba, extra ``fast``).

Where few units are active (relu), most columns of W multiply zeros. Over a column-wise (CSC) copy, cut into
bands of rows so that threads never write to the same row, only the columns of active units are read: cost is
proportional to their synapses. A row always adds its sources in the same order, so the result does not depend
on the thread count. Above `MOST` of the synapses active, the row-wise product is faster and takes over; which
one runs depends on the activity alone, so a run can be repeated and resumed exactly (docs/decisions/0015).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products.csr import CsrOperator, CsrProduct

MOST = 0.3
"""Largest fraction of synapses with an active source for which columns are faster than rows; measured."""
FEWEST = 300_000
"""Synapses below which a product is so short that the switch costs more than it gains; measured."""
NARROW = 2**16
"""Rows a band may have for two-byte row numbers."""


class EventDrivenProduct(CsrProduct):
    """A CSR product of one trial that skips silent sources; equal to `CsrProduct` up to rounding.

    The column-wise copy (6 or 8 bytes a synapse in float32) is made when activity first is sparse enough.
    """

    def __init__(self, operator: CsrOperator, values: Tensor) -> None:
        super().__init__(operator, values)
        n_sources = operator.pattern.shape[1]
        self.kernels = kernels.load("products")
        self.columns: tuple[Any, ...] | None = None
        self.active = np.empty(n_sources + 1, dtype=np.int32)
        self.fan_out = np.bincount(operator.pattern.col.numpy(), minlength=n_sources).astype(np.int32)

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        """As `CsrProduct.addmm`, in place only (``out`` is ``y``)."""
        sources = h.numpy()[:, 0]
        count = self.kernels.collect(sources, self.fan_out, self.active, MOST * self.pattern.nnz)
        if count < 0:
            super().addmm(y, h, beta=beta, alpha=alpha, out=out)
            return
        if self.columns is None:
            self.columns = by_column(self.pattern, self.values)
        scalar = sources.dtype.type
        active, target = self.active[:count], out.numpy()[:, 0]
        multiply = self.kernels.multiply_columns.of(self.pattern.nnz)
        multiply(*self.columns, active, sources, target, scalar(beta), scalar(alpha))


def events_pay(pattern: Pattern, batch: int, device: torch.device) -> bool:
    """Whether `EventDrivenProduct` is available for a product and could make it faster."""
    fits = pattern.nnz >= FEWEST and pattern.col.dtype == torch.int32
    return fits and batch == 1 and device.type == "cpu" and kernels.load("products") is not None


def by_column(pattern: Pattern, values: Tensor) -> tuple[Any, ...]:
    """(band limits, column pointers per band, rows within the band, values): one CSC matrix per band."""
    rows, columns = pattern.shape
    bands = max(2, torch.get_num_threads())
    limits = np.linspace(0, rows, bands + 1).astype(np.int64)
    narrow = int(np.diff(limits).max()) <= NARROW
    crow, col, value = pattern.crow.numpy(), pattern.col.numpy(), values.numpy()
    pointers = np.zeros((bands, columns + 1), dtype=np.int64)
    row_of = np.empty(len(col), dtype=np.uint16 if narrow else np.int32)
    sorted_values = np.empty(len(col), dtype=value.dtype)
    kernels.load("products").by_column(limits, crow, col, value, pointers, row_of, sorted_values)
    return limits, pointers, row_of, sorted_values
