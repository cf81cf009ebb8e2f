"""Currents of electrical synapses and their gradients, unit by unit; see `ops.electrical`."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import PARTS, loop, row_of_work
from sparse_mrnn.ops.kernels.vectors import row_products, weighted_rows

rows_64, rows_32 = (weighted_rows(width, 64 // width, differences=True) for width in (64, 32))
rows_8 = weighted_rows(8, 4, differences=True)
rows_fewer = weighted_rows(8, 4, some=True, differences=True)
products_64, products_32 = (row_products(width, 16, differences=True) for width in (64, 32))
products_8 = row_products(8, 8, differences=True)
products_fewer = row_products(8, 8, some=True, differences=True)


@loop()
def exchange(crow, col, values, x, y, beta, alpha):  # pragma: no cover - compiled
    """y[i] = beta y[i] + alpha sum_e values[e] (x[col[e]] - x[i]), over the entries e of each row i.

    ``beta`` and ``alpha`` have the dtype of the arrays.

    Examples
    --------
    >>> import numpy as np
    >>> y, one = np.ones((2, 1)), np.float64(1)
    >>> arrays = np.array([0, 1, 2]), np.array([1, 0]), np.array([0.5, 0.5]), np.array([[3.0], [1.0]])
    >>> exchange.of(1)(*arrays, y, one, one)
    >>> y.tolist()
    [[0.0], [2.0]]
    """
    width, work = y.shape[1], len(col) + len(y)
    for part in prange(PARTS):
        first = row_of_work(crow, work * part // PARTS)
        for i in range(first, row_of_work(crow, work * (part + 1) // PARTS)):
            e, stop, c = crow[i], crow[i + 1], 0
            while c + 64 <= width:
                rows_64(col, values, x, y, i, e, stop, c, beta, alpha)
                c += 64
            if c + 32 <= width:
                rows_32(col, values, x, y, i, e, stop, c, beta, alpha)
                c += 32
            while c + 8 <= width:
                rows_8(col, values, x, y, i, e, stop, c, beta, alpha)
                c += 8
            if c < width:
                rows_fewer(col, values, x, y, i, e, stop, c, beta, alpha)


@loop()
def accumulate(crow, col, grad, x, total):  # pragma: no cover - compiled
    """Add sum_k (grad[i, k] - grad[j, k]) (x[j, k] - x[i, k]) to ``total`` for each entry (i, j).

    Examples
    --------
    >>> import torch
    >>> crow, col, total = torch.tensor([0, 0, 1]), torch.tensor([0]), torch.zeros(1)
    >>> accumulate(crow, col, torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [1.0]]), total)
    >>> total.tolist()
    [2.0]
    """
    width, work = x.shape[1], len(col) + len(x)
    for part in prange(PARTS):
        first = row_of_work(crow, work * part // PARTS)
        for i in range(first, row_of_work(crow, work * (part + 1) // PARTS)):
            e, stop, c = crow[i], crow[i + 1], 0
            while c + 64 <= width:
                products_64(col, grad, x, total, i, e, stop, c)
                c += 64
            if c + 32 <= width:
                products_32(col, grad, x, total, i, e, stop, c)
                c += 32
            while c + 8 <= width:
                products_8(col, grad, x, total, i, e, stop, c)
                c += 8
            if c < width:
                products_fewer(col, grad, x, total, i, e, stop, c)
