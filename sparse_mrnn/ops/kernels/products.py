"""Products: of a CSR matrix with many columns; with one column, of dense blocks and of active sources."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import njit, prange

from sparse_mrnn.ops.kernels.loop import PARTS, loop, row_of_work
from sparse_mrnn.ops.kernels.vectors import weighted_rows

SHARE = 256
"""Rows, or columns, of a block that one thread multiplies at a time: a large block is shared among
threads."""


@loop(fastmath={"reassoc", "contract", "nsz"})
def multiply(blocks, x, y):  # pragma: no cover - compiled
    """y[n] = blocks[n] x[n], for blocks (n, m, k), x (n, k) and y (n, m).

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 2)
    >>> multiply(torch.ones(1, 2, 3), torch.ones(1, 3), y)
    >>> y.tolist()
    [[3.0, 3.0]]
    """
    m, width = blocks.shape[1], blocks.shape[2]
    parts = (m + SHARE - 1) // SHARE
    zero = x.dtype.type(0)
    for task in prange(blocks.shape[0] * parts):
        n = task // parts
        r = SHARE * (task - n * parts)
        stop = min(m, r + SHARE)
        block, here, out = blocks[n], x[n], y[n]
        while r + 4 <= stop:
            b0, b1, b2, b3 = block[r], block[r + 1], block[r + 2], block[r + 3]
            s0 = s1 = s2 = s3 = zero
            for k in range(width):
                v = here[k]
                s0 += b0[k] * v
                s1 += b1[k] * v
                s2 += b2[k] * v
                s3 += b3[k] * v
            out[r], out[r + 1], out[r + 2], out[r + 3] = s0, s1, s2, s3
            r += 4
        while r < stop:
            b0 = block[r]
            s0 = zero
            for k in range(width):
                s0 += b0[k] * here[k]
            out[r] = s0
            r += 1


@loop(fastmath={"reassoc", "contract", "nsz"})
def multiply_transposed(blocks, y, x):  # pragma: no cover - compiled
    """x[n] = blocks[n]^T y[n], for blocks (n, m, k), y (n, m) and x (n, k)."""
    m, width = blocks.shape[1], blocks.shape[2]
    parts = (width + SHARE - 1) // SHARE
    for task in prange(blocks.shape[0] * parts):
        n = task // parts
        begin = SHARE * (task - n * parts)
        stop = min(width, begin + SHARE)
        # Slices, not offsets: the loops are twice as fast.
        block, here, out = blocks[n], y[n], x[n, begin:stop]
        out[:] = 0
        r = 0
        while r + 4 <= m:
            b0, b1 = block[r, begin:stop], block[r + 1, begin:stop]
            b2, b3 = block[r + 2, begin:stop], block[r + 3, begin:stop]
            g0, g1, g2, g3 = here[r], here[r + 1], here[r + 2], here[r + 3]
            for k in range(len(out)):
                out[k] += b0[k] * g0 + b1[k] * g1 + b2[k] * g2 + b3[k] * g3
            r += 4
        while r < m:
            b0, g0 = block[r, begin:stop], here[r]
            for k in range(len(out)):
                out[k] += b0[k] * g0
            r += 1


rows_64, rows_32, rows_16 = weighted_rows(64, 1), weighted_rows(32, 2), weighted_rows(16, 4)
rows_8, rows_fewer = weighted_rows(8, 4), weighted_rows(8, 4, some=True)


@loop()
def multiply_rows(crow, col, values, h, y, beta, alpha):  # pragma: no cover - compiled
    """y = beta y + alpha W h, for a CSR matrix W; ``beta`` and ``alpha`` have the dtype of the arrays.

    Each row of y is added up in registers, up to 64 columns at a time.

    Examples
    --------
    >>> import numpy as np
    >>> y, one = np.ones((1, 2)), np.float64(1)
    >>> arrays = np.array([0, 2]), np.array([0, 1]), np.array([2.0, 3.0]), np.ones((2, 2))
    >>> multiply_rows.of(1)(*arrays, y, one, one)
    >>> y.tolist()
    [[6.0, 6.0]]
    """
    width, work = y.shape[1], len(col) + len(y)
    for part in prange(PARTS):
        first = row_of_work(crow, work * part // PARTS)
        for i in range(first, row_of_work(crow, work * (part + 1) // PARTS)):
            e, stop, c = crow[i], crow[i + 1], 0
            while c + 64 <= width:
                rows_64(col, values, h, y, i, e, stop, c, beta, alpha)
                c += 64
            if c + 32 <= width:
                rows_32(col, values, h, y, i, e, stop, c, beta, alpha)
                c += 32
            if c + 16 <= width:
                rows_16(col, values, h, y, i, e, stop, c, beta, alpha)
                c += 16
            if c + 8 <= width:
                rows_8(col, values, h, y, i, e, stop, c, beta, alpha)
                c += 8
            if c < width:
                rows_fewer(col, values, h, y, i, e, stop, c, beta, alpha)


# ---------------------------------------------------------------- columns, in bands of rows


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
def multiply_columns(  # pragma: no cover - compiled
    limits, pointers, row_of, values, active, h, y, beta, alpha
):
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
def by_column(limits, crow, col, values, pointers, row_of, sorted_values):  # pragma: no cover - compiled
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
