"""SDDMM: sum_k g[i, k] h[j, k] for every entry (i, j) of a CSR pattern.

A training step spends much of its time here. Rows of h are asked for before they are needed, so that it
matters little where they are read from (docs/decisions/0001).
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence

from numba import prange
from torch import Tensor

from sparse_mrnn.ops.kernels.loop import PARTS, loop, row_of_work
from sparse_mrnn.ops.kernels.vectors import row_products

TILE = 256
"""Units of a tile."""
TOGETHER = 4
"""Steps that `put` takes at most: four trials of four steps, in float32, fill a cache line, which is then
written once and not four times."""


products_128, products_64, products_32 = (row_products(width, 16) for width in (128, 64, 32))
products_8, products_fewer = row_products(8, 8), row_products(8, 8, some=True)


@loop()
def accumulate(crow, col, g, h, grad):  # pragma: no cover - compiled
    """Add sum_k g[i, k] h[j, k] to ``grad`` for each entry (i, j). Repeated entries each get the full sum.

    g has shape (rows, width), h (columns, width), col and grad (entries,).

    Examples
    --------
    >>> import torch
    >>> crow, col, grad = torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.zeros(2)
    >>> accumulate(crow, col, torch.ones(2, 3), torch.ones(2, 3), grad)
    >>> grad.tolist()
    [3.0, 3.0]
    """
    width, work = g.shape[1], len(col) + len(g)
    for part in prange(PARTS):
        first = row_of_work(crow, work * part // PARTS)
        for i in range(first, row_of_work(crow, work * (part + 1) // PARTS)):
            e, stop, c = crow[i], crow[i + 1], 0
            while c + 128 <= width:
                products_128(col, g, h, grad, i, e, stop, c)
                c += 128
            if c + 64 <= width:
                products_64(col, g, h, grad, i, e, stop, c)
                c += 64
            if c + 32 <= width:
                products_32(col, g, h, grad, i, e, stop, c)
                c += 32
            while c + 8 <= width:
                products_8(col, g, h, grad, i, e, stop, c)
                c += 8
            if c < width:
                products_fewer(col, g, h, grad, i, e, stop, c)


def put(steps: Sequence[Tensor], columns: Tensor, k: int) -> None:
    """Gather states by unit, as an SDDMM reads them: columns[:, k + n] = steps[n].

    One to `TOGETHER` steps of shape (units, batch) are put at a time.

    Examples
    --------
    >>> import torch
    >>> columns = torch.zeros(2, 3, 1)
    >>> put([torch.ones(2, 1), torch.full((2, 1), 2.0)], columns, 1)
    >>> columns[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]
    """
    given = [states.contiguous().numpy() for states in steps]
    first, second, third, fourth = given + given[-1:] * (TOGETHER - len(given))
    _put.of(first.size * len(given))(first, second, third, fourth, columns.numpy(), k, len(given))


@loop()
def _put(first, second, third, fourth, columns, k, count):  # pragma: no cover - compiled
    units, batch = first.shape
    for tile in prange((units + TILE - 1) // TILE):
        for i in range(tile * TILE, min(units, (tile + 1) * TILE)):
            for b in range(batch):
                columns[i, k, b] = first[i, b]
            if count > 1:
                for b in range(batch):
                    columns[i, k + 1, b] = second[i, b]
            if count > 2:
                for b in range(batch):
                    columns[i, k + 2, b] = third[i, b]
            if count > 3:
                for b in range(batch):
                    columns[i, k + 3, b] = fourth[i, b]
