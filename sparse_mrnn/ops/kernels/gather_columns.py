"""Gathers states of several steps by unit, as an SDDMM reads them."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import njit, prange

TILE = 256
"""Units of a tile."""


@njit(parallel=True, cache=True)
def put(states, columns, k):  # pragma: no cover - compiled
    """columns[:, k] = states.

    Parameters
    ----------
    states : ndarray, shape (units, batch)
    columns : ndarray, shape (units, steps, batch)
    k : int

    Examples
    --------
    >>> import numpy as np
    >>> columns = np.zeros((2, 2, 1))
    >>> put(np.ones((2, 1)), columns, 1)
    >>> columns[:, :, 0].tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    units, batch = states.shape
    for tile in prange((units + TILE - 1) // TILE):
        for i in range(tile * TILE, min(units, (tile + 1) * TILE)):
            for b in range(batch):
                columns[i, k, b] = states[i, b]
