"""Which synapses of each group are the weakest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def weakest(magnitude: NDArray[Any], group: NDArray[np.int64], fraction: float, n_groups: int) -> NDArray[np.bool_]:
    """Mark ``fraction`` of each group, rounded to a whole number: the smallest magnitudes; of equal ones, the first.

    Parameters
    ----------
    magnitude : ndarray, shape (synapses,)
    group : ndarray of int, shape (synapses,)
        -1: in none.
    fraction : float
    n_groups : int

    Examples
    --------
    >>> weakest(np.array([3.0, 1, 2, 9]), np.array([0, 0, 1, 1]), 0.5, 2).tolist()
    [False, True, True, False]
    """
    marked = np.zeros(len(group), dtype=bool)
    members = np.flatnonzero(group >= 0)
    order = members[np.lexsort((magnitude[members], group[members]))]
    size = np.bincount(group[members], minlength=n_groups)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    count = np.floor(fraction * size + 0.5).astype(np.int64)
    marked[order[rank < np.repeat(count, size)]] = True
    return marked
