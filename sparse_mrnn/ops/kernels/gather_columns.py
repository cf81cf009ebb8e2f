"""Gathers states of several steps by unit, as an SDDMM reads them."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence

from numba import prange
from torch import Tensor

from sparse_mrnn.ops.kernels.loop import loop

TILE = 256
"""Units of a tile."""
TOGETHER = 4
"""Steps that `put` takes at most: four trials of four steps, in float32, fill a cache line, which is then
written once and not four times."""


def put(steps: Sequence[Tensor], columns: Tensor, k: int) -> None:
    """columns[:, k + n] = steps[n], for one to `TOGETHER` steps of shape (units, batch).

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
