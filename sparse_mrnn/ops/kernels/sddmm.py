"""SDDMM: sum_k g[i, k] h[j, k] for every entry (i, j) of a CSR pattern, eight entries of a row at a time.

A training step spends most of its time here. Columns are taken in bands whose rows of h stay in cache
(docs/decisions/0001).
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence

from numba import prange
from torch import Tensor, stack

from sparse_mrnn.ops.kernels.loop import loop

TILE = 256
"""Units of a tile."""
TOGETHER = 4
"""Steps that `put` takes at most: four trials of four steps, in float32, fill a cache line, which is then
written once and not four times."""


def accumulate(first: Tensor, col: Tensor, g: Tensor, h: Tensor, grad: Tensor) -> None:
    """Add sum_k g[i, k] h[j, k] to ``grad`` for each entry (i, j). Repeated entries each get the full sum.

    ``first`` is made by `bands`; g has shape (rows, width), h (columns, width), col and grad (entries,).

    Examples
    --------
    >>> import torch
    >>> crow, col, grad = torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.zeros(2)
    >>> accumulate(bands(crow, col, columns=2, height=2), col, torch.ones(2, 3), torch.ones(2, 3), grad)
    >>> grad.tolist()
    [3.0, 3.0]
    """
    _accumulate.of(len(col) * h.shape[1])(first.numpy(), col.numpy(), g.numpy(), h.numpy(), grad.numpy())


def bands(crow: Tensor, col: Tensor, *, columns: int, height: int) -> Tensor:
    """Where each row enters each band of ``height`` columns, shape (bands + 1, rows), the last being its end.

    Within a band the rows of h that are read stay in cache. An unsorted pattern has one band.

    Examples
    --------
    >>> import torch
    >>> bands(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), columns=4, height=4).tolist()
    [[0, 2], [2, 3]]
    """
    if columns > height:
        first = crow.new_empty(-(-columns // height) + 1, len(crow) - 1)
        if _split(crow, col, height, first):
            return first
    return stack([crow[:-1], crow[1:]])


@loop(fastmath={"reassoc", "contract", "nsz"})
def _accumulate(first, col, g, h, grad):  # pragma: no cover - compiled
    width = g.shape[1]
    zero = grad.dtype.type(0)
    for band in range(first.shape[0] - 1):
        for i in prange(first.shape[1]):
            e, stop = first[band, i], first[band + 1, i]
            row = g[i]
            while e + 8 <= stop:
                h0, h1, h2, h3 = h[col[e]], h[col[e + 1]], h[col[e + 2]], h[col[e + 3]]
                h4, h5, h6, h7 = h[col[e + 4]], h[col[e + 5]], h[col[e + 6]], h[col[e + 7]]
                s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
                for k in range(width):
                    v = row[k]
                    s0 += v * h0[k]
                    s1 += v * h1[k]
                    s2 += v * h2[k]
                    s3 += v * h3[k]
                    s4 += v * h4[k]
                    s5 += v * h5[k]
                    s6 += v * h6[k]
                    s7 += v * h7[k]
                grad[e] += s0
                grad[e + 1] += s1
                grad[e + 2] += s2
                grad[e + 3] += s3
                grad[e + 4] += s4
                grad[e + 5] += s5
                grad[e + 6] += s6
                grad[e + 7] += s7
                e += 8
            while e + 2 <= stop:
                h0, h1 = h[col[e]], h[col[e + 1]]
                s0 = s1 = zero
                for k in range(width):
                    v = row[k]
                    s0 += v * h0[k]
                    s1 += v * h1[k]
                grad[e] += s0
                grad[e + 1] += s1
                e += 2
            if e < stop:
                h0 = h[col[e]]
                s0 = zero
                for k in range(width):
                    s0 += row[k] * h0[k]
                grad[e] += s0


@loop()
def _split(crow, col, height, first):  # pragma: no cover - compiled
    backward = 0
    for i in prange(first.shape[1]):
        band = 0
        first[0, i] = crow[i]
        for e in range(crow[i], crow[i + 1]):
            backward += col[e] < band * height
            while col[e] >= (band + 1) * height:
                band += 1
                first[band, i] = e
        for later in range(band + 1, len(first)):
            first[later, i] = crow[i + 1]
    return backward == 0


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
