"""Columns of active source units, in bands of rows: what `products.event_driven` multiplies by."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import njit, prange

from sparse_mrnn.ops.kernels.loop import loop


@njit(cache=True)
def collect(h, fan_out, active, most):  # pragma: no cover - compiled
    """Write the active sources into ``active``; their number, or -1 where they have over ``most``
    synapses."""
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


@loop()
def multiply(limits, pointers, row_of, values, active, h, y, beta, alpha):  # pragma: no cover - compiled
    """y = beta y + alpha (the columns of the active sources times h); a thread a band."""
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


@njit(cache=True)
def build(limits, crow, col, values, pointers, row_of, sorted_values):  # pragma: no cover - compiled
    """One CSC matrix per band of rows."""
    start = 0
    for band in range(len(limits) - 1):
        pointer = pointers[band]
        first, last = limits[band], limits[band + 1]
        for e in range(crow[first], crow[last]):
            pointer[col[e] + 1] += 1
        pointer[0] = start
        for j in range(len(pointer) - 1):
            pointer[j + 1] += pointer[j]
        slot = pointer[:-1].copy()
        for i in range(first, last):
            for e in range(crow[i], crow[i + 1]):
                at = slot[col[e]]
                slot[col[e]] = at + 1
                row_of[at] = i - first
                sorted_values[at] = values[e]
        start = pointer[-1]
